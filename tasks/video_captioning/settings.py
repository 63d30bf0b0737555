"""Groups of options of the captioning module, each a node of its configuration."""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from configs.knobs import Count, Counts, Finite, NotNegative, Range, Share, at_least, check_ranges
from tasks.video_captioning.swin import WINDOW, VideoSwin

Spoken = Annotated[int, at_least(3, "[CLS], a word, [SEP]")]
CaptionLength = Annotated[int, at_least(2, "[CLS] and [SEP]")]
Window = Annotated[
    list[int],
    Range(lambda sides: len(sides) == 3 and min(sides) >= 1, "three numbers of at least 1: time, rows, columns"),
]


@dataclass
class Backbone:
    """Options of VideoSwin (swin.py), for data that are frames. lr: factor on the learning rate; 0: frozen.

    Raises ValueError for values out of range.
    """

    size: Literal["tiny", "small", "base"] | None = "base"
    weights: str | None = None
    embed_dim: Count | None = None
    depths: Counts | None = None
    heads: Counts | None = None
    window: Window = WINDOW
    drop_path: Share = 0.2
    checkpointing: bool = False
    lr: NotNegative = 0.05

    def __post_init__(self):
        check_ranges(self)


@dataclass
class Decoding:
    """Options of beam_search.generate. Raises ValueError for values out of range."""

    num_beams: Count = 1
    max_length: CaptionLength = 20
    length_penalty: Finite = 1.0

    def __post_init__(self):
        check_ranges(self)


def build_backbone(settings: Backbone) -> tuple[VideoSwin, float]:
    """The Video Swin and the factor on its learning rate."""
    options = asdict(settings)
    lr = options.pop("lr")
    return VideoSwin(**options), lr
