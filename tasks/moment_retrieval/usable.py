"""Which queries of a ground truth are scored: defects cut away or left out, queries that match nothing, no prediction.

    submission, truth, left_out = usable(submission, truth, Policy(2.0, defects="clip", unmatched="skip"))
    # left_out: {"cut": 3, "defective": 1, "unmatched": 2}, how many queries of the ground truth

Everything is strict unless it is asked for otherwise, and what is left out is counted. The data module has the same
defects (datamodules/moment_retrieval/defects.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from datamodules.formats.json_text import is_number
from datamodules.moment_retrieval.defects import POLICIES, SALIENCY, repaired, saliency_defects, window_defects
from datamodules.moment_retrieval.legal import Tolerance
from tasks.common.files import JsonLines

SKIPPED = ("stop", "skip")
WORDS = {
    "cut": "were cut at the ends of their video",
    "defective": "have defects and are left out",
    "unmatched": "match nothing and are left out",
    "missing": "have no prediction and are left out",
}


@dataclass(frozen=True)
class Policy:
    """What is done about a ground truth that cannot be scored as it is.

    window_slack: seconds by which a true window may lie outside its video; None is a clip.
    defects: "stop", "clip" (at the ends of the video; what cannot be cut is left out) or "drop".
    unmatched, missing: "stop" or "skip", for queries without a true window and for queries without a prediction.
    """

    clip_length: float = 2.0
    window_slack: float | None = None
    defects: str = "stop"
    unmatched: str = "stop"
    missing: str = "stop"

    @property
    def tolerance(self) -> Tolerance:
        slack = self.clip_length if self.window_slack is None else self.window_slack
        return Tolerance(slack, slack, empty=True)

    def check(self) -> None:
        """Raises ValueError for a setting out of its range."""
        if self.window_slack is not None and not self.window_slack >= 0:
            raise ValueError(f"window_slack must be seconds from 0, got {self.window_slack!r}")
        for name, allowed in (("defects", POLICIES), ("unmatched", SKIPPED), ("missing", SKIPPED)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")


def usable(
    submission: Sequence[Mapping], ground_truth: Sequence[Mapping], policy: Policy
) -> tuple[Sequence[Mapping], Sequence[Mapping], dict[str, int]]:
    """Both with the queries that are scored, and what was cut or left out (without entries of 0)."""
    if (policy.defects, policy.unmatched, policy.missing) == ("stop",) * 3:
        return submission, ground_truth, {}
    predicted = {_name(row) for row in submission}
    counts = dict.fromkeys(WORDS, 0)
    kept: list[tuple[int, Mapping]] = []
    for number, row in enumerate(ground_truth):
        found = row if policy.defects == "stop" else _without_defects(row, policy)
        if found is None:
            counts["defective"] += 1
        elif policy.unmatched == "skip" and found.get("relevant_windows") == []:
            counts["unmatched"] += 1
        elif policy.missing == "skip" and _name(row) not in predicted:
            counts["missing"] += 1
        else:
            counts["cut"] += found is not row
            kept.append((number, found))
    gone = {_name(row) for row in ground_truth} - {_name(row) for _, row in kept}
    those = [(number, row) for number, row in enumerate(submission) if _name(row) not in gone]
    return _chosen(submission, those), _chosen(ground_truth, kept), {key: n for key, n in counts.items() if n}


def told(left_out: Mapping[str, int], total: int) -> str:
    """What `usable` left out, in words; empty if nothing."""
    return "; ".join(f"{count:,} of {total:,} queries {WORDS[key]}" for key, count in left_out.items())


def _without_defects(row: Mapping[str, Any], policy: Policy) -> Mapping[str, Any] | None:
    """The row, cut or as it is; None if it has to be left out. `pair` names a malformed one."""
    if not is_number(row.get("duration")) or row["duration"] <= 0 or "relevant_windows" not in row:
        return row
    rated = all(key in row for key in SALIENCY)
    found = list(
        chain(window_defects(row, policy.tolerance), saliency_defects(row, policy.clip_length) if rated else ())
    )
    if not found:
        return row
    return repaired(row, found, policy.tolerance, policy.clip_length) if policy.defects == "clip" else None


def _name(row: Mapping[str, Any]) -> Any:
    qid = row.get("qid")
    return qid if isinstance(qid, (int, str)) else repr(qid)


def _chosen(rows: Sequence[Mapping], chosen: list[tuple[int, Mapping]]) -> Sequence[Mapping]:
    """The chosen rows, which still know their lines."""
    if isinstance(rows, JsonLines):
        return JsonLines([row for _, row in chosen], rows.path, [rows.lines[number] for number, _ in chosen])
    return [row for _, row in chosen]
