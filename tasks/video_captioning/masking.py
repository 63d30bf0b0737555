"""Masked-language-model training as in SwinBERT: half of a caption's words are hidden, and predicted.

>>> inputs, labels = hide(ids, lengths, mask_id=103, vocab_size=30522)
"""

import torch
from torch import Tensor

IGNORED = -100  # the label of words that are not predicted


def hide(
    ids: Tensor,
    lengths: Tensor,
    mask_id: int,
    vocab_size: int,
    probability: float = 0.5,
    most: int = 45,
    generator: torch.Generator | None = None,
    first: int = 0,
    step: int = 1,
) -> tuple[Tensor, Tensor]:
    """Captions [CLS] words [SEP] padding -> what the model reads, and what it has to predict at the hidden places.

    ids (B, T), lengths (B,) with [CLS] and [SEP]. In each caption round(probability x length) words, at least 1 and at
    most `most`, are chosen among all but [CLS]. A chosen word becomes [MASK] with probability 0.8, a random entry of
    the vocabulary with 0.1, and stays with 0.1. Returns (B, T) ids and (B, T) labels, IGNORED at words not chosen.
    generator: on the device of `ids`; None is torch's own.
    first, step: these are the captions first, first + step, ... of a batch `step` times as large, such as that of all
        ranks, and get the choices that they would get in it from the same generator.

    Raises ValueError for lengths that are below 2 or do not fit `ids`, and for `probability` or `most` out of range.
    """
    batch, text = ids.shape
    if lengths.shape != (batch,) or lengths.min() < 2 or lengths.max() > text:
        raise ValueError(
            f"hide: lengths must be ({batch},), each from 2 ([CLS] and [SEP]) to {text}; got {lengths.tolist()}"
        )
    if not 0.0 < probability <= 1.0 or most < 1:
        raise ValueError(f"hide: probability is in (0, 1] and most at least 1, got {probability} and {most}")

    def mine(drawn: Tensor) -> Tensor:
        return drawn[first::step]

    def uniform() -> Tensor:
        return mine(torch.rand(step * batch, text, generator=generator, device=ids.device))

    place = torch.arange(text, device=ids.device)
    candidates = (place >= 1) & (place < lengths[:, None])
    rank = uniform().masked_fill(~candidates, 2.0).argsort(1).argsort(1)
    number = (probability * lengths).round().clamp(1, most)  # halves to the even number, as Python's round
    chosen = candidates & (rank < number[:, None])
    fate = uniform()
    words = mine(torch.randint(vocab_size, (step * batch, text), generator=generator, device=ids.device))
    inputs = torch.where(chosen & (fate < 0.8), mask_id, ids)
    inputs = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), words, inputs)
    return inputs, torch.where(chosen, ids, IGNORED)
