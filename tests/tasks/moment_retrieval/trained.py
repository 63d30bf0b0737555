"""A small moment-retrieval module with a mask, for the small set of tests/datamodules/moment_retrieval/small.py."""

import torch

from tasks.moment_retrieval.module import MomentRetrieval
from tests.datamodules.moment_retrieval.small import TEXT, WIDTHS

STREAMS = dict(WIDTHS)
FACTS = {
    "video_dim": sum(STREAMS.values()) + 2,
    "text_dim": TEXT,
    "clips": 12,
    "tokens": 6,
    "clip_length": 2.0,
    "duration": 24.0,
    "saliency": True,
}
KNOWN = {**FACTS, "streams": STREAMS, "tef": True}  # with what load() adds
MASK = {"scope": "shared", "kind": "context", "fusion": "add", "depth": 2, "init": "kaiming", "length": "fixed"}


def build(facts=None, **changes) -> MomentRetrieval:
    """Untrained, with masks that do something; the same weights every time."""
    torch.manual_seed(0)
    sizes = {"width": 16, "heads": 2, "feedforward": 24, "text_to_video_layers": 1, "encoder_layers": 1}
    sizes |= {"decoder_layers": 1, "queries": 4, "round_windows": True}
    return MomentRetrieval(mask=MASK, facts=facts or FACTS, lr=1e-3, **{**sizes, **changes})
