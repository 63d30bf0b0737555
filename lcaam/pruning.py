"""Pruning: what a trained model does without the keys that count least. No training, same weights.

>>> with pruned(model, 0.2, by="mask"):   # each masked attention without the fifth of its keys with the lowest values
...     model(batch)

In every sample and layer, keys are ordered by their mean mask value or mean attention weight over queries and heads. If
a mask "prunes redundant connections", a masked model loses less than plain attention when as many keys are dropped.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from lcaam.attention import Call, restricting
from lcaam.interventions import Batch
from lcaam.stack import LayerMasks

CRITERIA = {
    "mask": "the key's mean mask value over queries and groups; only for attention that has a mask",
    "attention": "the key's mean attention weight over queries and heads",
}


class Pruning(Batch):
    """A running pruning. Arguments as in `pruned`; `real` may be set for each batch, so that padded queries do not
    count (see Batch)."""

    def __init__(self, share: float, by: str) -> None:
        super().__init__()
        self.share, self.by = share, by
        self.awaited: LayerMasks | None = None  # a layer has asked for its mask; its attention comes next

    def note(self, masks: LayerMasks, args: tuple, keywords: dict[str, Any], mask: Any) -> None:
        """Hook on a LayerMasks: which layer's attention is the next one. Without `layer` it is the stack's mask."""
        layer = keywords.get("layer", args[1] if len(args) > 1 else None)
        if layer is not None and (mask is not None or masks.scope == "none"):
            self.awaited = masks

    def restrict(self, call: Call) -> Tensor | None:
        """The pairs that may be attended to, after the lowest keys of a pruned place were dropped."""
        masks = self.awaited
        if masks is None or (call.mask is None and masks.scope != "none"):
            return call.keep  # another attention of the layer, which has no mask
        self.awaited = None
        if self.by == "mask" and call.mask is None:
            return call.keep
        chosen = ~self.lowest(call, masks)[:, :, None]  # (B, 1, 1, N_k)
        return chosen if call.keep is None else call.keep & chosen

    @torch.no_grad()
    def lowest(self, call: Call, masks: LayerMasks) -> Tensor:
        """(B, 1, N_k), True: one of the `share` of the keys that any query may attend to with the lowest values."""
        (batch, _, rows, _), columns = call.query.shape, call.key.shape[2]
        queries, _ = self.real_of(masks, batch, (rows, columns))
        pairs = call.query.new_ones(1, 1, 1, 1, dtype=torch.bool) if call.keep is None else call.keep.any(1, True)
        if queries is not None:
            pairs = pairs & queries[:, None, :, None]
        values = call.weights() if self.by == "attention" or call.mask is None else call.mask.dense()
        size = (batch, 1, rows, columns)
        values, pairs = values.double().mean(1, True).expand(size), pairs.expand(size)
        count = pairs.sum(2)  # (B, 1, N_k): queries that may attend to the key
        score = torch.where(count > 0, (values * pairs).sum(2) / count.clamp(min=1), torch.inf)
        place = score.argsort(dim=-1, stable=True).argsort(dim=-1)
        return place < (self.share * (count > 0).sum(-1, True) + 1e-6).floor()


@contextmanager
def pruned(
    model: nn.Module, share: float, by: str = "attention", places: Iterable[LayerMasks] | None = None
) -> Iterator[Pruning]:
    """Runs `model` inside the block without the lowest keys of every attention that has a mask, or could have one.

    share:  how many of a sample's keys are dropped, 0 <= share < 1, of those that any query may attend to; rounded
            down, so one is always left. Keys of one value are dropped from the first on.
    by:     a key of CRITERIA.
    places: the LayerMasks whose layers are pruned; None: all of the model. A LayerMasks of scope "none" stands for
            plain attention, of which the first call after a layer has asked for its mask is pruned.

    In decoding with a Memory the keys are chosen anew in every step. A query that is left without a key returns zeros.
    Yields the pruning, whose `real` may be set for each batch. Run a compiled model uncompiled. Raises ValueError for a
    share out of its range, an unknown criterion, and by="mask" if no place has a mask.
    """
    if not 0.0 <= share < 1.0:
        raise ValueError(f"share of the keys that are dropped: {share} is out of range; allowed: at least 0, below 1")
    if by not in CRITERIA:
        near = get_close_matches(str(by), CRITERIA, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown criterion {by!r}; allowed: {', '.join(CRITERIA)}.{hint}")
    found = [part for part in model.modules() if isinstance(part, LayerMasks)] if places is None else list(places)
    if not found or (by == "mask" and not any(len(part.nets) for part in found)):
        raise ValueError(f"{type(model).__name__} has no masks to prune by")
    pruning = Pruning(share, by)
    hooks = [part.register_forward_hook(pruning.note, with_kwargs=True) for part in found]
    try:
        with restricting(pruning.restrict) if share else nullcontext():
            yield pruning
    finally:
        for hook in hooks:
            hook.remove()
