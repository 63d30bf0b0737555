"""Labelled images: ImageNet-1K, any image folder, Parquet shards, generated ones."""

from datamodules.image_classification.datamodule import Images

__all__ = ["Images"]
