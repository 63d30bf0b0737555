"""What eval.py found about a run with other masks: the newest `<run>/eval/<time>-<intervention>/` of each intervention.

An evaluation counts if it is of the weights that the run itself tested, with no setting changed, so that its scores are
paired with the run's. Of "frozen" ones, those whose masks are the mean over most samples (mean_over) come first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.formats.json_text import read_json
from lcaam.interventions import INTERVENTIONS

FACTS = ("checkpoint", "changes", "evaluation", "intervention")  # of eval.py's metrics.json; the rest are metrics


def evaluations(folder: Path, record: Mapping[str, Any]) -> dict[str, tuple[Path, dict[str, float]]]:
    """By intervention: the evaluation's folder and its metrics. record: the run's results.json.

    Raises DataError for a file that is not JSON.
    """
    found: dict[str, tuple[Path, dict[str, float]]] = {}
    samples: dict[str, int] = {}
    for path in sorted(folder.glob("eval/*/metrics.json")):  # the time comes first in a name
        there = read_json(path)
        made = there.get("intervention") or {}
        name, over = made.get("name"), made.get("mean_over", 0)
        same = not there.get("changes") and Path(there.get("checkpoint", "")).name == f"{record['tested']}.ckpt"
        if name in INTERVENTIONS and same and over >= samples.get(name, 0):
            samples[name] = over
            metrics = {key: value for key, value in there.items() if key not in FACTS}
            found[name] = (path.parent, metrics)
    return found
