"""Recording: what every attention of a model computed, to be looked at (lcaam.analysis measures it).

>>> with record(model) as records:
...     model(batch)
>>> records[0].name, records[0].weights.shape, records[0].mask.shape
('encoder.layers.0.attention', (B, H, N_q, N_k), (B, G, N_q, N_k))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lcaam.attention import Call, watch
from lcaam.fusion import Fusion


@dataclass(frozen=True)
class Record:
    """One attention call, detached and on the CPU.

    name:    path of the innermost module that was running, "" for the model itself.
    weights: (B, H, N_q, N_k), attention weights after the softmax, before dropout; rows sum to 1, or to 0 without keys.
    mask:    (B or 1, G, N_q, N_k), the mask multiplied out, or None.
    keep:    bool, True = attended, broadcasts to (B, H, N_q, N_k), or None if every key was kept.
    plain:   (B, H, N_q, N_k), the weights that the same queries and keys have without the mask; None if not recorded.
    rank:    rank of the mask's factors, 0 for a dense mask, None without a mask.
    """

    name: str
    weights: Tensor
    mask: Tensor | None
    fusion: Fusion
    keep: Tensor | None
    plain: Tensor | None = None
    rank: int | None = None

    def of_queries(self, keep: Tensor) -> "Record":
        """The same record in which only some queries count. keep: (B, N_q) bool, True = a real token.

        Attention knows padding among the keys only; padded queries are computed like any other.
        """
        rows = keep.cpu()[:, None, :, None]
        return replace(self, keep=rows if self.keep is None else self.keep & rows)

    def kept_mask(self) -> Tensor:
        """Values of the mask at pairs that were attended to, in one dimension. Raises ValueError without a mask."""
        if self.mask is None:
            raise ValueError(f"{self.name or 'the model'} used no mask")
        return kept(self.mask, self.keep)

    def kept_weights(self) -> Tensor:
        """Attention weights at pairs that were attended to, in one dimension."""
        return kept(self.weights, self.keep)


@contextmanager
def record(model: nn.Module) -> Iterator[list[Record]]:
    """Record every attention that `model` computes inside the block, in order of execution.

    Works for any module that calls `lcaam.attention` in Python; run a model compiled by `torch.compile` uncompiled.
    Costs the memory of every N_q x N_k matrix: meant for a batch one looks at, not for training.
    """
    running: list[str] = []
    records: list[Record] = []

    def note(call: Call) -> None:
        if not running:  # somebody else's attention
            return
        with torch.no_grad():
            mask = None if call.mask is None else call.mask.dense().detach().float().cpu()
            keep = None if call.keep is None else call.keep.cpu()
            weights = call.weights().detach().cpu()
            plain = weights if call.mask is None else replace(call, mask=None).weights().detach().cpu()
            rank = None if call.mask is None else call.mask.rank
            records.append(Record(running[-1], weights, mask, call.fusion, keep, plain, rank))

    def leave(module, args, output) -> None:
        running.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda module, args, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with watch(note):
            yield records
    finally:
        for hook in hooks:
            hook.remove()


def kept(values: Tensor, keep: Tensor | None) -> Tensor:
    """`values` (B, G, N_q, N_k) where `keep` is True, in one dimension."""
    if keep is None:
        return values.flatten()
    if keep.shape[1] != 1:
        keep = keep.any(1, keepdim=True) if values.shape[1] == 1 else keep
    values, keep = torch.broadcast_tensors(values, keep)
    return values[keep]
