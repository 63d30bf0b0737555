"""What a test was of: how many samples, of which split, and what was left out, for the run's record and its reader.

    told = Evaluated("clips", "split names in MSRVTT_data.json", {"train": 6513, "val": 497, "test": 2990})
    told.lines(2990)     # ["tested on 2,990 clips (train 6,513, val 497); the split: split names in MSRVTT_data.json"]

A reader that leaves out anything counts it here, whatever it says in the log: a score of another set is another score.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Counts = Mapping[str, Mapping[str, int]]  # split -> reason -> how many


@dataclass(frozen=True)
class Evaluated:
    """unit: what is counted, in the plural ("clips"). origin: where the split comes from, in words; "" if it is not
    known. sizes: split -> how many are left. left_out: split -> reason -> how many. notes: what else a reader of the
    scores should know.
    """

    unit: str
    sizes: Mapping[str, int]
    origin: str = ""
    left_out: Counts = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def record(self, tested: int) -> dict[str, Any]:
        """The field `evaluation` of results.json. tested: how many samples the test scored."""
        left_out = {split: dict(reasons) for split, reasons in self.left_out.items() if reasons}
        about = {"unit": self.unit, "split": self.origin, "sizes": dict(self.sizes), "tested": tested}
        return about | {"left_out": left_out, "notes": list(self.notes)}

    def lines(self, tested: int) -> list[str]:
        """What stands under the closing table."""
        size = self.sizes.get("test", tested)
        some = f"{tested:,}" if tested == size else f"{tested:,} of the {size:,}"
        others = ", ".join(f"{split} {count:,}" for split, count in self.sizes.items() if split != "test")
        origin = f"; the split: {self.origin}" if self.origin else ""
        lines = [f"tested on {some} {self.unit}{others and f' ({others})'}{origin}"]
        reasons = self.left_out.get("test", {})
        if reasons:
            lines.append(f"left out of the test split: {in_words(reasons)}")
        return [*lines, *self.notes]


def in_words(reasons: Mapping[str, int]) -> str:
    """Counts by reason: "3 x clip without a video file, 1 x empty caption"."""
    return ", ".join(f"{count:,} x {reason}" for reason, count in reasons.items())


def added(*counts: Counts) -> dict[str, dict[str, int]]:
    """The sums of several counts, without those that are 0."""
    total: dict[str, dict[str, int]] = {}
    for split, reason, count in ((s, r, n) for one in counts for s, reasons in one.items() for r, n in reasons.items()):
        if count:
            own = total.setdefault(split, {})
            own[reason] = own.get(reason, 0) + count
    return total
