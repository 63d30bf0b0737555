"""Random numbers of their own, so that two models that differ in their masks start from the same other weights.

>>> with drawn_apart("masks"):
...     masks = LayerMasks("per_layer", 2, dim=64, num_keys=50)
>>> encoder = Encoder(64, 2, heads=4, masks=masks)  # draws what it draws without any masks
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_apart(purpose: str) -> Iterator[None]:
    """What is drawn inside from torch's global generator leaves no trace in what is drawn afterwards.

    The numbers follow from the generator's state and from `purpose`: from the seed, and from what was drawn before.
    Two blocks with nothing drawn between them need different purposes, or they draw the same numbers. This holds for
    the CPU's generator, and for that of a GPU if it is the default device (`torch.set_default_device`).
    """
    seed = int.from_bytes(hashlib.sha256(purpose.encode() + _state()).digest()[:8], "big") >> 1
    devices = [torch.cuda.current_device()] if _on_gpu() else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield


def _state() -> bytes:
    state = torch.cuda.get_rng_state() if _on_gpu() else torch.get_rng_state()
    return state.numpy().tobytes()


def _on_gpu() -> bool:
    return torch.get_default_device().type == "cuda"
