"""What a run logged over its steps, read from its metrics.csv."""

import csv
import math
from pathlib import Path

from datamodules.errors import DataError

Points = list[tuple[int, float]]  # (step, value), steps rising


def logged(folder: Path) -> dict[str, Points]:
    """The columns of a run's metrics.csv by name; empty if there is no such file.

    Raises DataError for a file that is not csv. Values that are not finite are left out.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: not a readable csv file ({error})") from error
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, text in row.items():
            if name in (None, "", "step", "epoch") or not isinstance(text, str):
                continue
            value, step = finite(text), finite(row.get("step"))
            if value is not None and step is not None:
                found.setdefault(name, {})[int(step)] = value
    return {name: sorted(points.items()) for name, points in found.items()}


def finite(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
