"""Searches learning rates for the baseline and for each mask: `python -m scripts.tune`."""
