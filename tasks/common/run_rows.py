"""Runs as rows of a csv file, which can be committed, and back: a sweep counts its rows as completed cells.

    python -m scripts.report logs --csv docs/results/table1a.csv          writes or extends the file
    python train.py sweep=table1a sweep.known=[docs/results/table1a.csv]  runs what is not in it

The settings of a run are not in its row: its identity stands for them, and the sweep knows them.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.common.files import write_text

PLAIN = ("identity", "experiment", "scale", "seed", "commit", "dirty", "started", "tested", "fit_seconds")
NESTED = ("optimized", "parameters", "floors")  # as JSON
LATER = (  # as JSON; older files lack them
    "interventions",  # metrics of the same weights with other masks
    "validations",  # [[step, val/loss], ...] over training
    "evaluation",  # what the test was of
)
FLOPS = "flops"  # a number, or nothing; older files lack it
METRIC = "metric "  # before the names of metrics


class RowsError(ValueError):
    """A csv file that is not one of runs; the message names the file."""


def row_of(record: Mapping[str, Any], identity: str) -> dict[str, Any]:
    """The row of a completed run's results.json."""
    git = record.get("git") or {}
    row = {"identity": identity, "commit": git.get("commit"), "dirty": git.get("dirty")}
    row |= {name: record[name] for name in ("experiment", "scale", "seed", "started", "tested")}
    row |= {"fit_seconds": record["seconds"]["fit"], FLOPS: record.get("flops")}
    row |= {name: json.dumps(record.get(name) or {}, sort_keys=True, ensure_ascii=False) for name in (*NESTED, *LATER)}
    return row | {METRIC + name: value for name, value in record["metrics"].items()}


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Writes rows; those of other identities that the file has already are kept. Returns the number of all rows."""
    kept = read_rows(path) if path.is_file() else {}
    for row in rows:
        kept[row["identity"]] = row
    metrics = dict.fromkeys(name for row in kept.values() for name in row if name.startswith(METRIC))
    names = [*PLAIN, *metrics, *NESTED, *LATER, FLOPS]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    ordered = sorted(kept.values(), key=lambda row: (row["experiment"], row["scale"], int(row["seed"]), row["started"]))
    writer.writerows(ordered)
    write_text(path, text.getvalue())
    return len(kept)


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """The rows by identity, as text. Raises RowsError: no such file, not csv, no identities."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RowsError(f"{path}: not a readable csv file ({error})") from error
    lacking = [name for name in (*PLAIN, *NESTED) if not rows or name not in rows[0]]
    if lacking:
        raise RowsError(
            f"{path}: {'has no rows' if not rows else 'lacks the columns ' + ', '.join(lacking)}; "
            "`python -m scripts.report logs --csv FILE` writes such a file"
        )
    return {row["identity"]: row for row in rows}


def record_of(row: Mapping[str, str], settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A record as results.json has it, of a row and of the settings that its identity stands for.

    Raises RowsError for a value that cannot be read.
    """
    try:
        nested = {name: json.loads(row[name]) for name in NESTED}
        nested |= {name: json.loads(row.get(name) or "{}") for name in LATER}
        metrics = {name[len(METRIC) :]: float(v) if v else None for name, v in row.items() if name.startswith(METRIC)}
        seed, fit = int(row["seed"]), float(row["fit_seconds"])
        flops = int(row[FLOPS]) if row.get(FLOPS) else None
    except (ValueError, TypeError) as error:
        raise RowsError(f"{path}, identity {row['identity']}: {error}") from error
    git = {"commit": row["commit"] or None, "dirty": {"True": True, "False": False}.get(row["dirty"])}
    plain = {name: row[name] for name in ("identity", "experiment", "scale", "started", "tested")}
    fields = {"format": 1, "status": "completed", "seed": seed, "metrics": metrics, "git": git, "source": path}
    fields |= {"seconds": {"fit": fit}, "flops": flops}
    return {**settings, **plain, **fields, **nested}
