"""Which class folder has which number and name: a class index file, or the folders in sorted order.

    classes = read_class_index(Path("data/imagenet1k/imagenet_class_index.json"))
    classes.folders[0], classes.names[0]     # "n01440764", "tench"

The file is JSON, `{"0": ["n01440764", "tench"], ...}` (Keras, torchvision), or text with one line per class, in order
(datamodules/image_classification/class_lines.py).
"""

import difflib
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError, some
from datamodules.formats.json_text import parse_json
from datamodules.formats.text import last_byte, note_cut, read_text
from datamodules.image_classification.class_lines import pairs_of


@dataclass(frozen=True)
class Classes:
    """Class i has the folder `folders[i]` and the name `names[i]`; names is None if the names are not known."""

    folders: tuple[str, ...]
    names: tuple[str, ...] | None

    def __len__(self) -> int:
        return len(self.folders)


def read_class_index(path: Path, there: Collection[str] | None = None) -> Classes:
    """The classes of a class index file. there: the class folders of the images, which say how a line of text is meant;
    None: there are none, so a line is a name. Raises DataError: another form, a number left out, a folder named twice.
    """
    # some editors put a byte order mark before the text
    text = read_text(path, problem=f"class index {path} cannot be read")
    pairs = _from_json(path, text) if path.suffix.lower() == ".json" else _from_lines(path, text, there)
    if not pairs:
        raise DataError(f"class index {path} names no class.")
    folders = [folder for folder, _ in pairs]
    if len(set(folders)) < len(folders):
        twice = sorted({folder for folder in folders if folders.count(folder) > 1})
        raise DataError(f"class index {path}: {some(twice)} more than once.")
    return Classes(tuple(folders), tuple(name for _, name in pairs))


def _from_json(path: Path, text: str) -> list[tuple[str, str]]:
    form = 'expected {"0": ["folder", "name"], "1": ...} with the numbers 0 to n - 1'
    table = parse_json(text, f"class index {path} is not JSON")
    if not isinstance(table, dict):
        raise DataError(f"class index {path} holds a {type(table).__name__}; {form}.")
    wanted = {str(number) for number in range(len(table))}
    if set(table) != wanted:
        raise DataError(
            f"class index {path}: {len(table)} classes, but without the number(s) {some(sorted(wanted - set(table)))} "
            f"and with {some(sorted(set(table) - wanted))}; {form}."
        )
    pairs = []
    for number in range(len(table)):
        pair = table[str(number)]
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise DataError(f"class index {path}: class {number} is {json.dumps(pair)}; {form}.")
        pairs.append((pair[0], pair[1]))
    return pairs


def _from_lines(path: Path, text: str, there: Collection[str] | None) -> list[tuple[str, str]]:
    note_cut(path, last_byte(path))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return pairs_of([line for line in lines if not line.startswith("#")], there)


def agree(index: Path, classes: Classes, place: str, folders: list[str], may_be_empty: bool = False) -> None:
    """DataError unless the class index and the training split's class folders are the same set.

    may_be_empty: whether the index may list classes that have no folder.
    """
    lacking = sorted(set(classes.folders) - set(folders))
    if lacking and not (may_be_empty and len(lacking) < len(classes)):
        raise DataError(
            f"class index {index} lists {some(lacking)}, of which {place} has no folder ({len(lacking)} of "
            f"{len(classes)} classes). data.class_index=null takes the folders that are there; "
            "data.empty_classes=allow keeps the others as classes without images."
        )
    known(sorted(set(folders) - set(classes.folders)), place, f"class index {index}", classes.folders)


def known(unknown: list[str], place: str, source: str, folders) -> None:
    """DataError that names folders of `place` which `source` does not know, with the nearest name that it does."""
    if unknown:
        near = difflib.get_close_matches(unknown[0], folders, 1)
        hint = f" Did you mean {near[0]} by {unknown[0]}?" if near else ""
        raise DataError(f"{place} has {some(unknown)}, of which {source} has no such class.{hint}")
