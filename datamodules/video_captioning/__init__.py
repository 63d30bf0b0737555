"""Videos with captions: MSR-VTT, other captioned videos, generated ones."""

from datamodules.video_captioning.datamodule import Captions

__all__ = ["Captions"]
