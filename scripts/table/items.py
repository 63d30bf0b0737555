"""How sure a difference is of other test items too: runs' predictions/test.jsonl, seeds and items resampled, crossed.

A task says which of its metrics are means over single items (`item_scores` in tasks/<task>/items.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from scripts.table.statistics import crossed_bootstrap
from tasks.common.files import read_jsonl

NEAR = 0.011  # metrics in percent may be rounded to two decimals

Scores = dict[str, float]  # by item
Scorer = Callable[[Sequence[Mapping[str, Any]]], dict[str, Scores]]


@dataclass
class Items:
    """Scores of single items, read once per run."""

    task: str
    read: dict[str, dict[str, Scores]] = field(default_factory=dict)

    def scorer(self) -> Scorer | None:
        """The task's function; None for a task that has none."""
        name = f"tasks.{self.task}.items"
        try:
            found = find_spec(name)
        except ModuleNotFoundError:  # a task from elsewhere
            found = None
        return None if found is None else import_module(name).item_scores

    def of(self, run: Mapping[str, Any], metric: str) -> Scores:
        """Empty: no scorer, no predictions, a metric that is not a mean over items, or predictions of another test."""
        scorer, folder = self.scorer(), run.get("folder")
        path = None if folder is None else folder / "predictions" / "test.jsonl"
        if scorer is None or path is None or not path.is_file():
            return {}
        if str(path) not in self.read:
            rows = read_jsonl(path)
            self.read[str(path)] = scorer(rows) if rows else {}
        found = self.read[str(path)].get(metric, {})
        value = run["metrics"].get(metric)
        fits = found and value is not None and abs(sum(found.values()) / len(found) - value) < NEAR
        return found if fits else {}

    def interval(
        self, runs: Mapping[int, Mapping], against: Mapping[int, Mapping], metric: str
    ) -> tuple[tuple[float, float], int, int] | None:
        """The 95 % interval of the mean difference, and the numbers of seeds and items; None with fewer than two seeds.

        Items that not all runs have are left out.
        """
        pairs = [(self.of(runs[seed], metric), self.of(against[seed], metric)) for seed in runs if seed in against]
        pairs = [pair for pair in pairs if all(pair)]
        if len(pairs) < 2:
            return None
        items = [name for name in pairs[0][0] if all(name in one for pair in pairs for one in pair)]
        if not items:
            return None
        differences = np.array([[first[name] - other[name] for name in items] for first, other in pairs])
        return crossed_bootstrap(differences), *differences.shape
