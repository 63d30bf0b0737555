"""Described movies: the MAD-v2 data set, or generated ones in its files. The data module is `Descriptions`."""

from datamodules.lazy import lazy

__getattr__ = lazy("datamodules.audio_description.datamodule", "Descriptions")
