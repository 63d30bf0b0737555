"""What masks keep beside transformers' key-value cache, and which of a mask's columns belong to the keys in it.

A mask of length content reads a column from each token once; the columns stay in the cache object, so that they follow
it: when beams are put in another order, when it is cropped, copied, or used again for another text.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, EncoderDecoderCache

from lcaam.factors import Mask

ROWS = "lcaam_rows"  # the attribute of a cache that holds them, by name: (B, G, n, d)
BATCH = {  # methods of a cache that change its batch, and what they do to a tensor (B, ...)
    "reorder_cache": lambda rows, order: rows.index_select(0, order.to(rows.device)),
    "batch_repeat_interleave": lambda rows, times: rows.repeat_interleave(times, 0),
    "batch_select_indices": lambda rows, chosen: rows[chosen],
}


class Memory:
    """What lcaam.Memory is to a mask, for one stack in one step: `kept` tokens are in the cache.

    padded: True if samples begin with padding, so that their rows stand at other places than the sequence's.
    """

    def __init__(self, cache: Cache, kept: int, stack: str):
        self.cache, self.kept, self.stack, self.padded = cache, kept, stack, False

    def extend(self, name: Any, rows: Tensor) -> Tensor:
        """rows (B, G, n, d) -> those of the kept tokens and `rows` behind them.

        ValueError if the cache was filled without the masks.
        """
        if self.kept:
            old = self.read(name)
            if old is None or old.shape[2] < self.kept:
                raise ValueError(
                    f"the cache has {self.kept} tokens that were read without these masks: fill it with the model that "
                    "has them, or start with an empty one"
                )
            rows = torch.cat([old[:, :, : self.kept], rows], 2)
        self.write(name, rows)
        return rows

    def read(self, name: Any) -> Tensor | None:
        return getattr(self.cache, ROWS, {}).get((self.stack, name))

    def forget(self, name: Any) -> None:
        getattr(self.cache, ROWS, {}).pop((self.stack, name), None)

    def write(self, name: Any, rows: Tensor) -> None:
        if not hasattr(self.cache, ROWS):
            setattr(self.cache, ROWS, {})
            for method in BATCH:
                if hasattr(self.cache, method):
                    setattr(self.cache, method, partial(with_rows, self.cache, method))
        getattr(self.cache, ROWS)[self.stack, name] = rows


def with_rows(cache: Cache, method: str, how: Any) -> None:
    """A method of a cache that changes its batch, for the rows beside it too."""
    getattr(type(cache), method)(cache, how)
    rows = getattr(cache, ROWS)
    for name, tensor in rows.items():
        rows[name] = BATCH[method](tensor, how)


def find_cache(values: Iterable[Any]) -> Cache | None:
    """The cache among the arguments of a layer, whatever its name is there; a decoder's own of an encoder-decoder's."""
    cache = next((value for value in values if isinstance(value, Cache)), None)
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


def left_padding(keep: Any, look: bool = True) -> Tensor | None:
    """How many tokens of padding each sample begins with, (B,); None if none does, or `keep` does not tell.

    keep: an attention_mask as the module that runs the layers gets it: (B, N); or made into bool (B, 1, 1 or N_q, N_k)
    already, perhaps one for each kind of layer, by name. A token that is none of the padding sees itself.
    look: False returns zeros instead of None if no sample begins with padding, without looking at the values.
    """
    if isinstance(keep, dict):
        keep = next(iter(keep.values()), None)
    if isinstance(keep, Tensor) and keep.dim() == 4 and keep.dtype == torch.bool:
        keep = keep[:, 0, 0] if keep.shape[2] == 1 else keep[:, 0].diagonal(dim1=1, dim2=2)
    if not isinstance(keep, Tensor) or keep.dim() != 2 or keep.shape[1] == 0:
        return None
    padding = keep.bool().long().argmax(1)
    return None if look and not padding.any() else padding


def aligned(mask: Mask, kept: int, rows: int, padding: Tensor | None, offset: int, count: int) -> Mask:
    """The mask of `rows` rows behind `kept` tokens, with a column for each of the `count` keys that the attention will
    have.

    Columns of `mask` are positions from 0 on. padding (B,): of each sample, or None; its first real token is position
    0. offset: the place of the first key, above 0 after a sliding window has dropped others; room that a cache has
    beyond the tokens gets zeros, and is never attended to.
    """
    total = kept + rows
    mask = mask.fit(total)
    if padding is not None:
        at = (torch.arange(total, device=padding.device) - padding[:, None]).clamp(min=0)  # (B, total)
        mask = moved(mask, at, at[:, kept:])
    if (offset, count) == (0, total):
        return mask
    stop, room = min(offset + count, total), max(offset + count - total, 0)
    right = F.pad(mask.right[..., offset:stop, :], (0, 0, 0, room))
    bias = None if mask.bias is None else F.pad(mask.bias[..., offset:stop], (0, room))
    return Mask(mask.left, right, bias, fusion=mask.fusion)


def moved(mask: Mask, columns: Tensor, rows: Tensor) -> Mask:
    """The mask that reads, for each sample, other columns (B, N_k) and, if it is dense, other rows (B, N_q)."""
    if mask.right.shape[0] != 1 or mask.whole:
        raise ValueError(
            "padding at the left: a mask of length='interpolate' cannot tell how many keys each sample has. Pad at the "
            "right, or use length='fixed' or length='content'"
        )
    if not mask.factored:
        values = mask.values[0][:, rows[:, :, None], columns[:, None, :]]  # (G, B, N_q, N_k)
        return Mask.from_dense(values.transpose(0, 1), mask.fusion)
    right = mask.right[0][:, columns].transpose(0, 1)  # (B, G, N_k, R)
    bias = None if mask.bias is None else mask.bias[0, :, 0][:, columns].transpose(0, 1).unsqueeze(2)
    return Mask(mask.left, right, bias, fusion=mask.fusion)
