"""What run folders hold beside results.json: curves, masks, predictions. What is not there is None, with the reason.

A run that is known from a csv file has no folder (`run["folder"]` is None).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.formats.numpy_files import MissingArrayError, read_npz
from scripts.learning_curves import Points, logged
from scripts.table.summary import Row
from tasks.common.files import read_jsonl

POINTS = 200  # of a curve; longer ones are means over as many parts
Curve = tuple[list[int], list[float]]  # steps, values


@dataclass(frozen=True)
class Layers:
    """analysis/layers.npz (tasks/common/layer_data.py). Lists have one entry per layer; None for one without a mask."""

    names: list[str]
    fusion: str
    neutral: float
    sizes: list[tuple[int, int]]
    boundaries: list[int]
    labels: list[str]
    axes: tuple[str, str]
    means: list[np.ndarray | None]
    values: list[tuple[np.ndarray, np.ndarray] | None]
    weights: list[np.ndarray]


@dataclass(frozen=True)
class Samples:
    """analysis/samples.npz: masks of a few test samples, by sample and layer."""

    names: list[str]
    fusion: str
    neutral: float
    masks: dict[str, dict[str, np.ndarray]]


def folder_of(run: dict[str, Any]) -> Path | None:
    folder = run.get("folder")
    return None if folder is None else Path(folder)


def with_folders(row: Row) -> dict[int, Path]:
    """The folders of a row's runs by seed, smallest seed first."""
    found = {seed: folder_of(run) for seed, run in sorted(row.runs.items())}
    return {seed: folder for seed, folder in found.items() if folder is not None and folder.is_dir()}


def curves(folder: Path) -> dict[str, Curve]:
    """What the run logged, by name; empty if it logged nothing. Raises DataError for a damaged file."""
    return {name: shortened(points) for name, points in logged(folder).items()}


def shortened(points: Points) -> Curve:
    """At most POINTS points: each the last step and the mean value of a part of the curve."""
    parts = np.array_split(np.array(points, dtype=float), min(POINTS, len(points)))
    return [int(part[-1, 0]) for part in parts], [float(part[:, 1].mean()) for part in parts]


def layers(folder: Path) -> Layers | None:
    """None if the run did not save it. Raises DataError for a damaged file."""
    path = folder / "analysis" / "layers.npz"
    if not path.is_file():
        return None
    names = [str(name) for name in array(path, "layers")]
    fusion = str(array(path, "fusion"))
    each = range(len(names))
    counts = [optional(path, f"values {i}") for i in each]
    return Layers(
        names=names,
        fusion=fusion,
        neutral=float(array(path, "neutral")),
        sizes=[tuple(map(int, size)) for size in array(path, "sizes")],
        boundaries=[int(edge) for edge in array(path, "boundaries")],
        labels=[str(label) for label in array(path, "labels")],
        axes=tuple(str(name) for name in array(path, "axes")),
        means=[optional(path, f"mean {i}") for i in each],
        values=[None if c is None else (c, array(path, f"edges {i}")) for i, c in enumerate(counts)],
        weights=[array(path, f"weights {i}") for i in each],
    )


def samples(folder: Path) -> Samples | None:
    """None if the run did not save it, or has no mask. Raises DataError for a damaged file."""
    path = folder / "analysis" / "samples.npz"
    if not path.is_file():
        return None
    ids, names = ([str(name) for name in array(path, key)] for key in ("ids", "layers"))
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in ids}
    for number, layer in enumerate(names):
        masks = optional(path, f"mask {number}")
        for name, mask in zip(ids, () if masks is None else masks, strict=False):
            found[name][layer] = mask
    return Samples(ids, str(array(path, "fusion")), float(array(path, "neutral")), found)


def array(path: Path, key: str) -> np.ndarray:
    return read_npz(path, key, f"{path}: cannot be read")


def optional(path: Path, key: str) -> np.ndarray | None:
    """None if the file has no such array: a layer without a mask."""
    try:
        return array(path, key)
    except MissingArrayError:
        return None


def predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of predictions/test.jsonl; none if there is no such file. Raises DataError for a damaged one."""
    path = folder / "predictions" / "test.jsonl"
    return list(read_jsonl(path)) if path.is_file() else []
