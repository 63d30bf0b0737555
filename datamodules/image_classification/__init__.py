"""Labelled images: ImageNet-1K, any image folder, Parquet shards, generated ones. The data module is `Images`."""

from datamodules.lazy import lazy

__getattr__ = lazy("datamodules.image_classification.datamodule", "Images")
