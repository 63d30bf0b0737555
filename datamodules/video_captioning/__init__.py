"""Videos with captions: MSR-VTT, other captioned videos, generated ones. The data module is `Captions`."""

from datamodules.lazy import lazy

__getattr__ = lazy("datamodules.video_captioning.datamodule", "Captions")
