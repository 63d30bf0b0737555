"""What recorded calls say about their masks: who took one, whether it works against itself, whether it runs off.

>>> with record(model) as records:
...     model(batch)
>>> print(report(records))
>>> promoted(records[0])  # share of demoting mask values whose pair gained weight
>>> for remark in remarks(records): log.warning(remark)
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lcaam.recording import Record, kept

GROWN = 1e-3  # a weight has grown if it gained more than this share; less may be rounding
FEW = 0.05  # share of pairs, or of rows: in some rows one key may rightly have all the weight
LARGEST = 20.0  # e^20 is 5e8, and float32 beside a weight of 1 knows nothing below 6e-8
NEGATIVE = 0.25  # share; trained masks that behave have a few percent, those that ran off more than half


def promoted(record: Record) -> float:
    """Share of the kept pairs with a demoting mask value whose weight grew, in [0, 1]; 0 of nothing is 0.

    A weight has grown if it is larger than the one that the same query and key have without the mask (by more than
    GROWN of it). Which values are demoting depends on the fusion:

    - It multiplies the score (mul, temper): values whose factor is below 1, the neutral one. They pull a score towards
      0, and below 0 turn its sign around. So a score under the others of its row gains: 0.5 x -2 is larger than -2.
    - It adds to the score (add, gate): it multiplies the weight by e^term, whatever the score, and the softmax divides
      by the row's mean of e^term (by the weights without the mask). Values below that mean are demoting. Their weights
      shrink without exception, so the share is 0.

    Raises ValueError for a record without a mask, or without the weights to compare with.
    """
    if record.mask is None or record.plain is None:
        raise ValueError(f"{record.name or 'the model'} used no mask, or its weights without the mask are not recorded")
    weights, plain = record.weights.double(), record.plain.double()
    term = term_of(record).double()
    level = 1.0 if record.fusion.multiplies else (term + plain.log()).logsumexp(-1, keepdim=True)
    demoting = term < level
    demoting, _ = torch.broadcast_tensors(demoting, weights)
    if record.keep is not None:
        demoting = demoting & record.keep
    grown = weights > plain * (1 + GROWN)
    return (grown & demoting).sum().item() / max(demoting.sum().item(), 1)


def remarks(records: Sequence[Record]) -> list[str]:
    """One sentence for each way in which masks run off, with the names of those that do; empty if all is well.

    - Values that are not finite.
    - More than FEW of the factors on scores above LARGEST, or, if the fusion adds, of the rows with a term that much
      above their mean: scores are of the order of 1, so one key takes all the weight, whatever it holds, and no
      gradient leads back.
    - A share of negative factors above NEGATIVE: there the keys that suit a query worst come first.
    """
    found: dict[str, list[str]] = {}
    for number, record in enumerate(records):
        for remark in remarks_on(record):
            found.setdefault(remark, []).append(record.name or f"attention {number}")
    return [f"{', '.join(names)}: {remark}" for remark, names in found.items()]


def remarks_on(record: Record) -> list[str]:
    if record.mask is None:
        return []
    values, fusion = record.kept_mask(), record.fusion.name
    if not values.numel():
        return []
    if not values.isfinite().all():
        return [f"{(~values.isfinite()).float().mean():.1%} of the mask values are not finite"]
    found, terms = [], kept(term_of(record), record.keep)
    reach = terms.abs() if record.fusion.multiplies else above_row_mean(term_of(record), record.keep)
    far = (reach > LARGEST).double().mean().item()
    if far > FEW:
        multiplied = f"{far:.0%} of the scores are multiplied by more than {LARGEST:g}, up to {reach.max():.3g}"
        lifted = f"{far:.0%} of the rows lift a key by more than {LARGEST:g} above their mean, up to {reach.max():.3g}"
        found.append(
            f"the mask runs off: {multiplied if record.fusion.multiplies else lifted} (fusion {fusion}, values from "
            f"{values.min():.3g} to {values.max():.3g}), so one key takes all the weight. Try a lower learning rate "
            "for the masks"
        )
    negative = (terms < 0).float().mean().item()
    if record.fusion.multiplies and negative > NEGATIVE:
        found.append(
            f"{negative:.0%} of the mask's factors are negative (more than {NEGATIVE:.0%}), and each turns the sign of "
            "its score around. Try a lower learning rate for the masks, or a fusion without negative factors"
        )
    return found


def term_of(record: Record) -> Tensor:
    """What the fusion makes of the mask, to multiply scores by or to add to them: (B or 1, G, N_q, N_k)."""
    assert record.mask is not None and record.fusion.term is not None, "a call whose fusion ignores masks has none"
    return record.fusion.term(record.mask)


def above_row_mean(term: Tensor, keep: Tensor | None) -> Tensor:
    """How far each row's largest term is above its mean, over kept keys, for rows that have any, in one dimension.

    term: (B, G, N_q, N_k).
    """
    if keep is None:
        return (term.amax(-1) - term.mean(-1)).flatten()
    if term.shape[1] == 1:
        keep = keep.any(1, keepdim=True)
    term, keep = torch.broadcast_tensors(term, keep)
    mean = term.masked_fill(~keep, 0.0).sum(-1) / keep.sum(-1).clamp(min=1)
    return (term.masked_fill(~keep, -torch.inf).amax(-1) - mean)[keep.any(-1)]


def report(records: Sequence[Record]) -> str:
    """A table of what every recorded attention took: its mask, its structural mask, and how many had a mask at all.

    Values are those at kept pairs. Attentions that do not go through lcaam are not in it.
    """
    if not records:
        return "no attention of lcaam was called"
    rows = [("attention", "heads", "queries x keys", "fusion", "mask", "kept pairs")]
    rows += [row_of(record) for record in records]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    masked = sum(record.mask is not None for record in records)
    return "\n".join([*lines, f"with a mask: {masked} of {len(records)}"])


def row_of(record: Record) -> tuple[str, str, str, str, str, str]:
    batch, heads, queries, keys = record.weights.shape
    fusion, mask = "-", "no mask"
    if record.mask is not None:
        values, groups = record.kept_mask(), record.mask.shape[1]
        fusion, mask = record.fusion.name, f"{groups} group{'s' * (groups > 1)}, "
        mask += f"rank {record.rank}" if record.rank else "dense"
        mask += f", {values.min():.3g} to {values.max():.3g}" if values.numel() else ", no values"
    pairs = "all"
    if record.keep is not None:
        pairs = f"{record.keep.expand(batch, heads, queries, keys).float().mean():.1%}"
    return record.name or "(the model)", str(heads), f"{queries} x {keys}", fusion, mask, pairs
