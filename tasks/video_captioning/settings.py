"""Groups of options of the captioning module, each a node of its configuration."""

from dataclasses import asdict, dataclass
from typing import Literal

from tasks.video_captioning.swin import WINDOW, VideoSwin


@dataclass
class Backbone:
    """Options of VideoSwin (swin.py), for data that are frames. lr: factor on the learning rate; 0: frozen."""

    size: Literal["tiny", "small", "base"] | None = "base"
    weights: str | None = None
    embed_dim: int | None = None
    depths: list[int] | None = None
    heads: list[int] | None = None
    window: list[int] = WINDOW
    drop_path: float = 0.2
    checkpointing: bool = False
    lr: float = 0.05


@dataclass
class Decoding:
    """Options of decoding.generate."""

    num_beams: int = 1
    max_length: int = 20
    length_penalty: float = 1.0


def build_backbone(settings: Backbone) -> tuple[VideoSwin, float]:
    """The Video Swin and the factor on its learning rate."""
    options = asdict(settings)
    lr = options.pop("lr")
    return VideoSwin(**options), lr
