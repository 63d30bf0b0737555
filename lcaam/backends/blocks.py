"""What blockwise attention works on: blocks of query rows, and the mask of one block."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import cast

import torch
from torch import Tensor

from lcaam.fusion import Fusion

ROWS = 256  # of a block at most: products of fewer waste the processor, and more leave the cache
CACHE = 2**18  # scores in one block of several heads or samples, a mebibyte of float32
LONG = 2  # times CACHE may be in a block of one head, so that long sequences have enough rows
FEWEST_ROWS = 16  # of a block, however long they are


# -- which pairs a block holds ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Some samples and query rows, the keys they may see, and the heads that share the mask, in slices to work on."""

    samples: slice
    rows: slice
    keys: slice
    heads: list[slice]
    diagonal: int | None  # causal: row r of the block sees its keys up to r + diagonal

    def rows_of(self, tensor: Tensor, heads: slice) -> Tensor:
        """(B, H, N_q, x) -> (samples x heads, rows, x), a view."""
        part = tensor[self.samples, heads, self.rows]
        return part.view(-1, *part.shape[2:])

    def keys_of(self, tensor: Tensor, heads: slice) -> Tensor:
        """(B, H, N_k, x) -> (samples x heads, keys, x), a view."""
        part = tensor[self.samples, heads, self.keys]
        return part.view(-1, *part.shape[2:])


def blocks(query, key, left, right, bias, causal) -> Iterator[Block]:
    """Blocks of about CACHE scores that cover every pair once: many samples of short sequences, few rows of long."""
    b, h, n_q, _ = query.shape
    n_k = key.shape[2]
    rows = min(n_q, ROWS, max(FEWEST_ROWS, LONG * CACHE // max(n_k, 1)))
    rows = ceil(n_q / ceil(n_q / rows))  # as even as possible: a last block of few rows wastes the processor
    heads = max(1, min(h, CACHE // max(rows * n_k, 1)))
    samples = max(1, min(b, CACHE // max(heads * rows * n_k, 1))) if heads == h else 1  # keeps the parts views
    slices = [slice(head, min(head + heads, h)) for head in range(0, h, heads)]
    per_head = any(t is not None and t.shape[1] > 1 for t in (left, right, bias))
    for sample in range(0, b, samples):
        for row in range(0, n_q, rows):
            end = min(row + rows, n_q)
            keys = slice(0, max(1, end + n_k - n_q)) if causal else slice(0, n_k)
            diagonal = row + n_k - n_q if causal else None
            for group in [[s] for s in slices] if per_head else [slices]:
                yield Block(slice(sample, min(sample + samples, b)), slice(row, end), keys, group, diagonal)


# -- the mask of a block ----------------------------------------------------------------------------------------------


class BlockMask:
    """The mask of one block as what every fusion comes down to: a term added to the scores, or a factor on them.

    Pairs that must not be attended to get -inf, in the term if there is one.
    """

    def __init__(self, block: Block, left, right, bias, keep, fusion: Fusion, like: Tensor):
        self.block, self.dtype = block, like.dtype
        self.heads = slice(block.heads[0].start, block.heads[-1].stop)
        self.left, self.right = self.cut(left, block.rows), self.cut(right, block.keys)
        values = self.cut(bias, block.rows, block.keys)
        if self.left is not None and self.right is not None:
            product = self.left @ self.right.transpose(-2, -1)
            if values is None:
                values = product
            elif torch.broadcast_shapes(product.shape, values.shape) == product.shape:
                values = product.add_(values)
            else:  # the bias has more samples or groups than the factors
                values = product + values
        self.values = values  # (samples, G, rows, keys) or None
        self.slope = fusion.slope
        self.multiplies = values is not None and fusion.multiplies
        self.term = None if values is None or fusion.term is None else fusion.term(values)
        self.d_term = None if values is None else torch.zeros_like(values)
        self.allowed = self.cut(keep, block.rows, block.keys)
        if block.diagonal is not None:
            size = (block.rows.stop - block.rows.start, block.keys.stop)
            past = torch.ones(size, dtype=torch.bool, device=like.device).tril(block.diagonal)
            self.allowed = past[None, None] if self.allowed is None else self.allowed & past
        self.alone = None  # (samples, G, rows, 1): queries without any key, whose softmax would be NaN
        if self.allowed is not None:
            self.alone = ~self.allowed.any(-1, keepdim=True)
            self.allowed = self.allowed | self.alone
        if self.allowed is not None and not self.multiplies:  # once, for all heads
            self.term = torch.where(self.allowed, 0.0 if self.term is None else self.term, -torch.inf).to(self.dtype)
            self.allowed = None

    def cut(self, tensor: Tensor | None, *slices: slice) -> Tensor | None:
        """The block's part of a (B, G, ...) tensor; dimensions of size 1 are broadcast and stay."""
        if tensor is None:
            return None
        slices = (self.block.samples, self.heads, *slices)
        part = tensor[tuple(s if size > 1 else slice(None) for s, size in zip(slices, tensor.shape, strict=False))]
        return part if part.dtype == torch.bool else part.to(self.dtype)

    def of(self, heads: slice, tensor: Tensor) -> Tensor:
        """What of (samples, G, rows, keys) belongs to some of the block's heads."""
        if tensor.shape[1] == 1:
            return tensor
        return tensor[:, heads.start - self.heads.start : heads.stop - self.heads.start]

    def by_head(self, heads: slice, tensor: Tensor) -> Tensor:
        """(samples x heads, rows, keys) -> (samples, heads, rows, keys), a view."""
        return tensor.view(-1, heads.stop - heads.start, *tensor.shape[1:])

    def fuse(self, score: Tensor, heads: slice, out: Tensor) -> Tensor:
        """The fused score, written to `out`, which may be `score` itself."""
        if self.term is None:
            return score if out is score else out.copy_(score)
        operation = torch.mul if self.multiplies else torch.add
        operation(self.by_head(heads, score), self.of(heads, self.term), out=self.by_head(heads, out))
        if self.allowed is not None:
            self.by_head(heads, out).masked_fill_(~self.of(heads, self.allowed), -torch.inf)
        return out

    def without_keys(self, rows: Tensor, heads: slice, value: float) -> Tensor:
        """(samples x heads, rows, x) with `value` in the rows of queries that have no key; `rows` stays as it is."""
        if self.alone is None:
            return rows
        return self.by_head(heads, rows).masked_fill(self.of(heads, self.alone), value).view_as(rows)

    def unfuse(self, d_fused: Tensor, heads: slice) -> Tensor:
        """From the gradient of the fused score to that of the score, in its place."""
        if self.multiplies and self.term is not None:
            self.by_head(heads, d_fused).mul_(self.of(heads, self.term))
        return d_fused

    def collect(self, d_fused: Tensor, score: Tensor, heads: slice) -> None:
        """Adds these heads' part to the gradient of the term; overwrites `score`."""
        if self.d_term is None:
            return
        d_term, part = self.of(heads, self.d_term), self.by_head(heads, d_fused)
        if self.multiplies and d_term.shape == part.shape:
            d_term.addcmul_(part, self.by_head(heads, score))
        elif self.multiplies:
            d_term += self.by_head(heads, score.mul_(d_fused)).sum_to_size(d_term.shape)
        else:
            d_term += part.sum_to_size(d_term.shape)

    def spread(self, d_left: Tensor | None, d_right: Tensor | None, d_bias: Tensor | None) -> None:
        """Adds the block's part to the gradients of the whole mask's tensors."""
        if self.d_term is None or self.values is None:
            return
        d_values = self.d_term if self.slope is None else self.d_term.mul_(self.slope(self.values))
        rows, keys = self.block.rows, self.block.keys
        if self.left is not None and self.right is not None:
            self.add(d_left, d_values @ self.right, rows)
            self.add(d_right, d_values.transpose(-2, -1) @ self.left, keys)
        self.add(d_bias, d_values, rows, keys)

    def add(self, whole: Tensor | None, part: Tensor, *slices: slice) -> None:
        if whole is not None:
            view = cast(Tensor, self.cut(whole, *slices))
            view += part.sum_to_size(view.shape)
