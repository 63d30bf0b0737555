"""What ImageNet's validation images show, in the forms in which it is published.

labels_of(Path("ILSVRC2012_devkit_t12.tar.gz"))     # ["n01751748", ...], one per image, in the order of their names
labels_of(Path("LOC_val_solution.csv"))             # {"ILSVRC2012_val_00048981": "n03995372", ...}

The development kit numbers the classes in its own order (meta.mat says which), not in that of the sorted ids.
"""

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.names import file_name
from datamodules.formats.text import read_text

TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


def labels_of(path: Path) -> list[str] | dict[str, str]:
    """The class of each image: in the order of the images' names, or by name. DataError: another form."""
    if path.is_dir():
        found = {name: next(iter(sorted(path.rglob(name))), None) for name in (TRUTH, META)}
        if missing := [name for name, file in found.items() if file is None]:
            raise DataError(f"{path}: no {some(missing)} in it, which the development kit has in its folder data.")
        return of_kit(*(found[name].read_bytes() for name in (TRUTH, META)), str(path))
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder.")
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz")):
        with reading(f"{path} cannot be read as an archive"), tarfile.open(path) as archive:
            members = {Path(m.name).name: archive.extractfile(m).read() for m in archive
                       if m.isreg() and Path(m.name).name in (TRUTH, META)}  # fmt: skip
        if len(members) < 2:
            raise DataError(f"{path}: no {TRUTH} and {META} in it; is it the development kit?")
        return of_kit(members[TRUTH], members[META], str(path))
    text = read_text(path)
    return of_csv(text, path) if path.suffix == ".csv" else of_lines(text, path)


def of_kit(truth: bytes, meta: bytes, where: str) -> list[str]:
    """truth: a number per line; meta: MATLAB's table of synsets, whose first columns are the number and the id."""
    from scipy.io import loadmat

    with reading(f"{where}: {META} cannot be read"):
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        ids: dict[int, str] = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    with reading(f"{where}: {TRUTH} is not one number per line"):
        numbers = [int(line) for line in truth.decode().split()]
    if unknown := sorted({number for number in numbers if number not in ids}):
        raise DataError(f"{where}: {TRUTH} has {some(unknown)}, which {META} does not name.")
    return [ids[number] for number in numbers]


def of_csv(text: str, path: Path) -> dict[str, str]:
    """Kaggle's table: ImageId, PredictionString, whose first word is the id of the class."""
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text)))
    if not rows or not {"ImageId", "PredictionString"} <= rows[0].keys():
        columns = some(rows[0]) if rows else "no rows"
        raise DataError(f"{path}: has {columns}; expected the columns ImageId and PredictionString.")
    with reading(f"{path}: a row without a class"):
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}


def of_lines(text: str, path: Path) -> list[str]:
    """One class per line. The kit's ground truth alone has numbers, which mean nothing without its meta.mat."""
    lines = [line.split()[0] for line in text.splitlines() if line.strip()]
    if lines and all(line.isdigit() for line in lines):
        raise DataError(
            f"{path}: numbers in the development kit's own order; give --labels the kit, which has {META} too."
        )
    return [file_name(line, str(path)) for line in lines]
