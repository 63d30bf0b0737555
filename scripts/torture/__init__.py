"""Breaks runs in every way that is promised to do no harm and writes what was found: `python -m scripts.torture`."""
