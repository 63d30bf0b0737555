"""Which figures of moment retrieval a run computes and shows: `task.metrics`.

    settings = MetricSettings(thresholds=[0.3, 0.5, 0.7], recall_at=[1, 5], miou=True)
    evaluate(rows, rows, clip_length=1.0, **settings.options())
    settings.figures()          # {"R1@0.3": "MR-full-R1@0.3", ..., "mIoU": "MR-full-mIoU", "mAP long": "MR-long-mAP"}

The defaults are those of QVHighlights. Charades-STA, TACoS and ActivityNet Captions are reported with R1 at 0.3 and
mIoU (2D-TAN, UniVTG, CG-DETR). tasks/moment_retrieval/scores.py defines every figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from configs.knobs import Count, Counts, Natural, Range
from tasks.moment_retrieval.scores import LENGTHS, SHOWN, check_options

Overlaps = Annotated[
    list[float],
    Range(lambda values: bool(values) and all(0 < value <= 1 for value in values), "numbers above 0 and at most 1"),
]
Lengths = dict[str, list[float | None] | None]
HIGHLIGHTS = {"HIT@1": "HL-min-VeryGood-Hit1", "HD mAP": "HL-min-VeryGood-mAP"}


@dataclass
class MetricSettings:
    """A range of `lengths` that is null is left out; one whose end is null has no end.

    Raises ValueError for options that `evaluate` refuses.
    """

    thresholds: Overlaps = field(default_factory=lambda: list(SHOWN))  # IoU from which a window counts as found
    recall_at: Counts = field(
        default_factory=lambda: [1]
    )  # 1: R1, the first listed window; 5: R5, one of the first five
    miou: bool = False  # mean IoU of the first listed window
    lengths: Lengths = field(default_factory=lambda: {name: list(ends) for name, ends in LENGTHS.items()})
    by_length: list[Literal["mAP", "R", "mIoU"]] = field(default_factory=lambda: ["mAP"])
    max_windows: Count = 10  # listed windows that count towards mAP
    decimals: Natural | None = 2  # of every figure, in percent; null: not rounded

    def __post_init__(self) -> None:
        for name, ends in self.lengths.items():
            if ends is not None and (len(ends) != 2 or ends[0] is None):
                raise ValueError(f"lengths.{name}: {ends} is not [above, up to] in seconds; up to may be null: no end")
        check_options(
            1.0, self.max_windows, self.ranges, self.decimals, self.thresholds, self.recall_at, self.by_length
        )

    @property
    def ranges(self) -> dict[str, tuple[float, float | None]]:
        """Length ranges without those that are null."""
        return {name: (ends[0], ends[1]) for name, ends in self.lengths.items() if ends is not None}

    def options(self) -> dict[str, Any]:
        """Keywords of `evaluate` and MomentMetrics."""
        names = ("thresholds", "recall_at", "miou", "by_length", "max_windows", "decimals")
        return {name: getattr(self, name) for name in names} | {"lengths": self.ranges}

    def figures(self) -> dict[str, str]:
        """Short name -> key of the metrics' "brief", in the order of a table."""
        found = self._recalls("full", "")
        found |= {"mIoU": "MR-full-mIoU"} if self.miou else {}
        found |= {"mAP@0.5": "MR-full-mAP@0.5", "mAP@0.75": "MR-full-mAP@0.75", "mAP": "MR-full-mAP", **HIGHLIGHTS}
        for name in self.ranges:
            found |= {f"mAP {name}": f"MR-{name}-mAP"} if "mAP" in self.by_length else {}
            found |= self._recalls(name, f" {name}") if "R" in self.by_length else {}
            found |= {f"mIoU {name}": f"MR-{name}-mIoU"} if self.miou and "mIoU" in self.by_length else {}
        return found

    def _recalls(self, name: str, suffix: str) -> Mapping[str, str]:
        pairs = [(most, threshold) for most in self.recall_at for threshold in self.thresholds]
        return {f"R{most}@{threshold}{suffix}": f"MR-{name}-R{most}@{threshold}" for most, threshold in pairs}
