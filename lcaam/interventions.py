"""Interventions: what a trained model does with masks that are not those of its input. No training, same weights.

>>> with averaging(model) as means:          # a pass over some inputs, without labels
...     for batch in batches: model(batch)
>>> with intervened(model, "frozen", means):  # then the same mask for every sample
...     model(batch)

If a model scores as well with "frozen" masks, what its masks do is static; if as well with "swapped" ones, they do not
need the sample at hand; if as well with "shuffled" ones, it does not matter which query has which row. Works wherever
LayerMasks makes the masks: Encoder, other stacks, grafted timm models, attached ones. Run a compiled model uncompiled.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.memory import Memory
from lcaam.stack import LayerMasks

INTERVENTIONS = {
    "frozen": "the mean of the masks over other inputs, the same for every sample",
    "swapped": "the mask of the batch's next sample",
    "shuffled": "the mask's rows in random order",
}
Real = tuple[Tensor | None, Tensor | None]  # bool, True = a real token: of queries (B, N_q) and of keys (B, N_k)


class SingleSampleError(ValueError):
    """A batch of one sample, which has no other sample's mask."""


@dataclass(frozen=True)
class Made:
    """A mask that was made, with as many columns as there are keys.

    place: the path of its LayerMasks in the model, and the layer (None for a mask of the whole stack). batch: of the
    input that it was made from. start: its first row's number in the sequence. beams: versions of each sample that
    stand side by side in the batch.
    """

    place: tuple[str, int | None]
    masks: LayerMasks
    mask: Mask
    batch: int
    start: int
    beams: int


class Batch:
    """What is known of the batch that runs; set it before each batch if it matters.

    size: the number of samples, if masks may see several versions of the whole batch one after the other (2 B, ...).
    real: for a LayerMasks of the model, which queries and keys are real tokens and not padding. None and a missing
          entry are all of them.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self.real: dict[LayerMasks, Real] = {}

    def real_tokens(self, made: Made) -> Real:
        """(batch, N_q) and (batch, N_k) for a mask; None if all are real, or nothing is known of so many tokens."""
        return self.real_of(made.masks, made.batch, (made.mask.num_queries, made.mask.num_keys))

    def real_of(self, masks: LayerMasks, batch: int, sizes: tuple[int, int]) -> Real:
        """The same for `sizes` (N_q, N_k) of a score matrix that `masks` makes a mask for, or would make one for."""
        keeps: list[Tensor | None] = []
        for keep, size in zip(self.real.get(masks, (None, None)), sizes, strict=True):
            fits = keep is not None and keep.shape[1] == size and batch % len(keep) == 0
            keeps.append(keep.repeat(batch // len(keep), 1) if keep is not None and fits else None)
        return keeps[0], keeps[1]


class MaskMeans(Batch):
    """The means of a model's masks over the samples of all batches that ran, in float64.

    The mean is that of the mask's values m, multiplied out, whatever the fusion. Each pair of positions has the mean
    over the samples in which both are real tokens; in decoding a pair counts once for each step that makes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[Any, Tensor] = {}  # by place, (G, N_q, N_k)
        self.counts: dict[Any, Tensor] = {}  # (1, N_q, N_k)

    def add(self, made: Made) -> Mask:
        """Counts a mask, and returns it as it is."""
        values = made.mask.dense().detach().double()  # (B or 1, G, N_q, N_k)
        queries, keys = self.real_tokens(made)
        weight = values.new_ones(made.batch, 1, *values.shape[2:])
        if queries is not None:
            weight = weight * queries[:, None, :, None]
        if keys is not None:
            weight = weight * keys[:, None, None, :]
        for kept, new in ((self.sums, (values * weight).sum(0)), (self.counts, weight.sum(0))):
            rows, columns = made.start + new.shape[1], new.shape[2]
            kept[made.place] = padded(kept.get(made.place, new[:, :0, :0]), rows, columns)
            kept[made.place][:, made.start : rows, :columns] += new
        return made.mask

    def mean(self, made: Made) -> Tensor:
        """The mean (G, N_q, N_k) in the place of a mask. A pair that no sample had is neutral.

        Raises ValueError for a layer that made no mask.
        """
        if made.place not in self.sums:
            path, layer = made.place
            raise ValueError(f"frozen masks: no mean for layer {layer} of {path or 'the model'}, which did not run")
        rows, columns = made.start + made.mask.num_queries, made.mask.num_keys
        total, count = (
            padded(kept[made.place], rows, columns)[:, made.start : rows, :columns] for kept in (self.sums, self.counts)
        )
        neutral = 0.0 if made.mask.fusion is None else made.mask.fusion.neutral
        return torch.where(count > 0, total / count.clamp(min=1), neutral)


def padded(values: Tensor, rows: int, columns: int) -> Tensor:
    """values (G, N_q, N_k) with zeros behind them, at least (G, rows, columns)."""
    return F.pad(values, (0, max(0, columns - values.shape[2]), 0, max(0, rows - values.shape[1])))


class Intervention(Batch):
    """A running intervention. Arguments as in `intervened`."""

    def __init__(self, name: str, means: MaskMeans | None, seed: int) -> None:
        super().__init__()
        self.name, self.means, self.seed = name, means, seed

    def alter(self, made: Made) -> Mask:
        """The mask that is used in the place of the one that was made."""
        change: Callable[[Made], Mask] = {
            "frozen": self.frozen, "swapped": self.swapped, "shuffled": self.shuffled
        }[self.name]  # fmt: skip
        return change(made)

    def frozen(self, made: Made) -> Mask:
        assert self.means is not None
        mean = self.means.mean(made)[None].to(made.mask.device, made.mask.dtype)
        return Mask.from_dense(mean, made.mask.fusion)

    def swapped(self, made: Made) -> Mask:
        samples = made.batch // made.beams
        size = self.size if self.size and samples % self.size == 0 else samples
        order = torch.arange(made.batch, device=made.mask.device).view(-1, size, made.beams)
        if size == 1:
            raise SingleSampleError("a batch of one sample has no other one whose mask it could get")
        order = order.roll(-1, 1).flatten()
        return made.mask.map(lambda tensor: tensor if tensor.shape[0] == 1 else tensor[order])

    def shuffled(self, made: Made) -> Mask:
        values, rows = made.mask.dense(), made.mask.num_queries
        queries, _ = self.real_tokens(made)
        chance = torch.rand(rows, generator=torch.Generator().manual_seed(self.seed)).to(values.device)
        if queries is None:
            return Mask.from_dense(values[:, :, chance.argsort()], made.mask.fusion)
        padding = (~queries).to(chance.dtype)
        source = (chance + padding).argsort(1)  # real rows in random order, then the others
        target = padding.argsort(dim=1, stable=True)
        order = torch.empty_like(source).scatter_(1, target, source)[:, None, :, None]  # (B, 1, N_q, 1)
        values = values.expand(made.batch, -1, -1, -1)
        return Mask.from_dense(values.gather(2, order.expand_as(values)), made.mask.fusion)


@contextmanager
def averaging(model: nn.Module) -> Iterator[MaskMeans]:
    """Averages the masks that `model` makes inside the block; it runs as always.

    Set `real` of what it yields before each batch with padding. Raises ValueError for a model without masks.
    """
    means = MaskMeans()
    with altered(model, means.add):
        yield means


@contextmanager
def intervened(model: nn.Module, name: str, means: MaskMeans | None = None, seed: int = 0) -> Iterator[Intervention]:
    """Runs `model` inside the block with other masks than those that it makes.

    name:  "frozen" - every sample gets `means`, the mean over other inputs. A pair of positions that none of those had
           is neutral.
           "swapped" - sample i of a batch gets the mask of sample i + 1, the last one that of the first. Samples of a
           batch are padded to one length, so a sample that is longer than the next one gets the rows of its padding.
           SingleSampleError for a batch of one.
           "shuffled" - the mask's rows in a random order, the same in all layers and batches; real tokens exchange rows
           among themselves. In decoding with a Memory those that come in one step do.
    means: what `averaging` gave; for "frozen" only.
    seed:  decides the order of "shuffled".

    A mask that does not depend on the input is not changed by the first two. Attached transformers models need texts
    without padding at the left, which moves positions, and no beams. Yields the intervention, whose `size` and
    `real` may be set for each batch (see Batch). Raises ValueError for an unknown name, a model without masks, one
    that is in another intervention, and means that are missing or not asked for.
    """
    if name not in INTERVENTIONS:
        near = get_close_matches(str(name), INTERVENTIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown intervention {name!r}; allowed: {', '.join(INTERVENTIONS)}.{hint}")
    if (means is None) == (name == "frozen"):
        given = "needs the means of the masks: averaging(model)" if means is None else "takes no means"
        raise ValueError(f"intervention {name!r} {given}")
    intervention = Intervention(name, means, seed)
    with altered(model, intervention.alter):
        yield intervention


@contextmanager
def altered(model: nn.Module, alter: Callable[[Made], Mask]) -> Iterator[None]:
    """Hands every mask that a LayerMasks of `model` makes to `alter`, and uses what that returns."""
    found = {path: part for path, part in model.named_modules() if isinstance(part, LayerMasks) and len(part.nets)}
    if not found:
        raise ValueError(f"{type(model).__name__} has no masks to intervene in")
    if any(masks.alter is not None for masks in found.values()):
        raise ValueError(f"{type(model).__name__} is in another intervention already, or in averaging")
    try:
        for path, masks in found.items():
            masks.alter = partial(with_sizes, alter, path, masks)
        yield
    finally:
        for masks in found.values():
            masks.alter = None


def with_sizes(
    alter: Callable[[Made], Mask],
    path: str,
    masks: LayerMasks,
    mask: Mask,
    layer: int | None,
    x: Tensor,
    keys: Tensor | None,
    memory: Memory | None,
) -> Mask:
    """What `alter` makes of a mask; the last four arguments are those of LayerMasks.made."""
    kept = 0 if memory is None else memory.kept
    columns = kept + x.shape[1] if memory is not None or keys is None else keys.shape[1]
    start = 0 if memory is None else columns - mask.num_queries
    beams = getattr(memory, "beams", 1) if kept else 1  # the first rows are those of the samples themselves
    return alter(Made((path, layer), masks, mask.fit(columns), len(x), start, beams))
