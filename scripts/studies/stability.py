"""How large masks became in training, and whether their runs failed: a line per run, over the number of keys.

    python -m scripts.studies.stability logs --csv docs/results/stability_keys.csv

RUNS are run folders, or folders in which they lie. Of each run it reads results.json and analysis/layers.npz: the loss
of the test, the largest absolute value of the mask in each layer on the validation's first samples after training, and
the share of its values below zero. A run whose loss was not a number has no values and counts as failed. The table has
a row per setting; `python -m scripts.table keys` has the losses with their tests.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.records import Records
from scripts.sweep_runs import below
from scripts.sweep_runs import read as record_of
from scripts.table.markdown import markdown
from tasks.common.known_runs import DIVERGED, identity_of


@dataclass(frozen=True)
class Size:
    """A line of the csv. keys: the most keys that a query has; 0 if a diverged run does not say. largest, negative: of
    all layers, in their order, with blanks between them; empty without masks. loss: None if the run diverged."""

    identity: str
    experiment: str
    mask: str
    fusion: str
    keys: int
    seed: int
    steps: int
    loss: float | None
    largest: str
    negative: str
    commit: str

    @property
    def cell(self) -> str:
        return self.identity


def size_of(folder: Path) -> Size | None:
    """The line of one run; None if it neither ended nor diverged."""
    record = record_of(folder / "results.json")
    diverged = (record.get("error") or {}).get("type") == DIVERGED
    if record["status"] != "completed" and not diverged:
        return None
    mask, path = record["mask"], folder / "analysis" / "layers.npz"
    if diverged and not path.is_file():  # it did not come to the end of its training
        largest, negative, keys = [], [], int(record["data"].get("context") or 0)
    else:
        largest, negative, keys = layers_of(path)
    return Size(
        identity=identity_of(folder, record) or "",
        experiment=record["experiment"],
        mask="none" if mask["scope"] == "none" else f"{mask['kind']} {mask['scope']}",
        fusion=mask["fusion"],
        keys=keys,
        seed=record["seed"],
        steps=record["trainer"]["max_steps"],
        loss=None if diverged else record["metrics"]["test_loss"],
        largest=" ".join(f"{value:.4g}" for value in largest),
        negative=" ".join(f"{value:.4f}" for value in negative),
        commit=(record.get("git") or {}).get("commit") or "",
    )


def layers_of(path: Path) -> tuple[list[float], list[float], int]:
    """By layer, the largest |m| and the share of values below zero; and the number of keys. DataError without the file:
    the run was made without figures, or by an older version."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; runs with logged figures write it (callbacks.layer_data)")
    largest, negative = [], []
    with np.load(path) as file:
        keys = int(file["sizes"][:, 1].max())
        for name in sorted(file.files, key=lambda name: (len(name), name)):
            if not name.startswith("values "):
                continue
            counts, edges = file[name], file[f"edges {name.removeprefix('values ')}"]
            largest.append(float(np.abs(edges[[0, -1]]).max()))  # the edges lie at the least and at the largest value
            middles = (edges[1:] + edges[:-1]) / 2
            negative.append(float(counts[middles < 0].sum() / max(1, counts.sum())))
    return largest, negative, keys


def table(sizes: Iterable[Size]) -> str:
    """A row per setting: runs, how many of them diverged, the mean loss, and the largest |m| of any run by layer."""
    by_setting: dict[tuple[str, str, int], list[Size]] = {}
    for one in sizes:
        by_setting.setdefault((one.mask, one.fusion, one.keys), []).append(one)
    lines = []
    for (mask, fusion, keys), some in sorted(by_setting.items(), key=lambda item: (item[0][2], item[0][0])):
        losses = [one.loss for one in some if one.loss is not None]
        rows = [list(map(float, one.largest.split())) for one in some if one.largest]
        largest = ", ".join(f"{value:.3g}" for value in np.max(rows, axis=0)) if rows else "-"
        loss = f"{np.mean(losses):.3f}" if losses else "-"
        lines.append([f"{keys:,}", mask, fusion, str(len(some)), str(len(some) - len(losses)), loss, largest])
    return markdown(["keys", "mask", "fusion", "runs", "diverged", "mean loss", "largest mask value by layer"], lines)


def main(given: Sequence[str] | None = None) -> None:
    parser = parser_for("studies.stability", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS")
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="goes on with a file that is there")
    asked = parser.parse_args(given)
    try:
        known = Records(asked.csv, Size)
        for path in dict.fromkeys(one for place in asked.runs for one in below(place)):
            found = size_of(path)
            if found is not None and known.find(found.cell) is None:
                known.add(found)
    except (ConfigError, DataError, ValueError) as error:
        sys.exit(str(error))
    print(table(known.found.values()), end="")


if __name__ == "__main__":
    main()
