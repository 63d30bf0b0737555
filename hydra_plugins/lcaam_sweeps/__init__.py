"""Plugins of Hydra for sweeps: a launcher for one machine, and what lets any launcher go on with a sweep."""
