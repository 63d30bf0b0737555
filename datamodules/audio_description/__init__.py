"""Described movies: the MAD-v2 data set, or generated ones in its files."""

from datamodules.audio_description.datamodule import Descriptions

__all__ = ["Descriptions"]
