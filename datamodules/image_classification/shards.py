"""A split as Parquet shards as on the Hugging Face hub: one row per image, with `image: {bytes, path}` and `label`.

The bytes may also be the column itself, and labels may be names instead of numbers.

    split = ImageShards(Path("data/imagenet1k"), "data/train-*.parquet")    # needs pyarrow
    split.names[0]       # b"data/train-00000-of-00294.parquet:00000000"
    split.read(0)        # the image's bytes

A shard is read one row group at a time (those of the hub hold 100 images), so that reading images at random costs a
hundred times the bytes. Training therefore shuffles groups, then rows within a window of groups (orders.py).
"""

import os
from collections import OrderedDict
from itertools import zip_longest
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, MissingLibraryError
from datamodules.formats.guard import reading
from datamodules.formats.json_text import parse_json
from datamodules.image_classification.in_files import InFiles
from datamodules.image_classification.layout import files

IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label")  # names of the columns; the hub's CIFAR sets differ
NEEDED = (
    "an image (a struct with the member bytes, or binary) and a label (an integer, or a string that names the class). "
    "Other names of the columns: data.image_column, data.label_column"
)


def parquet():
    """pyarrow's Parquet module. Raises ImportError that says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingLibraryError("data.format=parquet reads shards with pyarrow: pip install pyarrow.") from error
    return pyarrow.parquet


class ImageShards(InFiles):
    """The rows of all shards that match `pattern` below `root`, in the order of the files' names.

    names    (N,) bytes: "<file>:<row>", the file relative to `root`; sorted
    labels   (N,) int64: class numbers, or indices into `folders` if the labels are names
    folders  class names: those of the labels, sorted, or of the shards' metadata (the hub's ClassLabel), or None
    groups   (N,) int64: the row group that each image is stored in, numbered through all shards
    ignored, outside, empty    always empty

    image_column, label_column: names of the columns; None: the usual ones.
    Raises DataError: no shard; a file that is not Parquet, lacks the columns, or has a label that is null or below 0;
    shards that name other classes than the first one. Raises ImportError without pyarrow.
    """

    kind = "parquet"

    def __init__(
        self,
        root: Path,
        pattern: str,
        cached: int = 1,
        image_column: str | None = None,
        label_column: str | None = None,
    ):
        """cached: how many row groups each process keeps in memory."""
        parquet()
        self.root, self.path, self.cached = root, root / pattern, max(cached, 1)
        self.ignored, self.outside, self.empty = [], [], []
        self._asked = (image_column, label_column)
        self.files = files(root, pattern)
        if not self.files:
            raise DataError(f"no Parquet shard matches {root / pattern}.")
        names, labels, groups, told = [], [], [], []
        self._column: list[str] = []  # of each file
        self._places: list[tuple[int, int]] = []  # (file, row group within it) of each group
        for number, path in enumerate(self.files):
            file, label, named = self._labels(path)
            told.append(named)
            names += [os.fsencode(f"{path.relative_to(root).as_posix()}:{row:08d}") for row in range(len(label))]
            labels.append(label)
            for group in range(file.num_row_groups):
                groups.append(np.full(file.metadata.row_group(group).num_rows, len(self._places)))
                self._places.append((number, group))
        if not names:
            raise DataError(f"the {len(self.files)} Parquet shard(s) {root / pattern} hold no row.")
        kinds = {label.dtype.kind for label in labels if len(label)}
        if len(kinds) > 1:
            raise DataError(f"{root / pattern}: labels are numbers in some shards and names in others.")
        self.names, self.labels = np.array(names, dtype=bytes), np.concatenate([one for one in labels if len(one)])
        self.by_folder = kinds == {"O"}  # labels are names
        self.folders = self._same_names(told)
        if self.by_folder:
            folders, self.labels = np.unique(self.labels.astype(str), return_inverse=True)
            self.folders = folders.tolist()
        self.groups = np.concatenate(groups)
        self._first = np.searchsorted(self.groups, np.arange(len(self._places)))  # first row of each group
        self._forget()

    def _same_names(self, told: list[list[str] | None]) -> list[str] | None:
        """The class names of the metadata. DataError unless all shards that name them name the same, in one order."""
        named = [number for number, names in enumerate(told) if names is not None]
        for number in named[1:]:
            first, other = told[named[0]], told[number]
            if other != first:
                pairs = zip_longest(first, other, fillvalue="nothing")
                place = next(i for i, (one, two) in enumerate(pairs) if one != two)
                one, two = ((names[place] if place < len(names) else "nothing") for names in (first, other))
                raise DataError(
                    f"{self.files[number]} calls class {place} {two!r}, and {self.files[named[0]]} calls it {one!r} "
                    f"({len(other)} and {len(first)} classes); one split has one list of classes."
                )
        return told[named[0]] if named else None

    def _labels(self, path: Path):
        """The opened file, its labels (numbers, or names as objects) and the classes' names. Raises DataError."""
        import pyarrow as pa

        with reading(f"{path} cannot be read as Parquet"):
            file = parquet().ParquetFile(path)
            schema = file.schema_arrow
            column, label = (
                asked or next((name for name in usual if name in schema.names), None)
                for asked, usual in zip(self._asked, (IMAGE, LABEL), strict=True)
            )
            image, kind = (schema.field(name).type if name in schema.names else None for name in (column, label))
            struct = image is not None and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0
            if not struct and not (image is not None and _is_binary(image)):
                raise DataError(
                    f"{path} has the columns {', '.join(schema.names)}; needed are columns image: {NEEDED}."
                )
            kind = kind.value_type if kind is not None and pa.types.is_dictionary(kind) else kind
            words = kind is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind))
            if not words and not (kind is not None and pa.types.is_integer(kind)):
                raise DataError(
                    f"{path}: the column {label or 'label'} is {kind}, of the columns {', '.join(schema.names)}; "
                    f"needed are {NEEDED}."
                )
            self._column.append(f"{column}.bytes" if struct else column)
            labels = file.read(columns=[label], use_threads=False).column(label)
            if words:
                values = np.array(labels.to_pylist(), dtype=object)
                wrong = np.array([not value for value in values], dtype=bool)
            else:
                values = labels.to_numpy().astype(np.float64)  # null becomes NaN
                wrong = ~(values >= 0)
        if len(bad := np.flatnonzero(wrong)):
            raise DataError(
                f"{path}: label {labels[int(bad[0])]} in row {bad[0]} ({len(bad)} such rows). Class numbers start at "
                "0; the hub's test shards are unlabelled, its validation shards are what is tested on."
            )
        return file, values if words else values.astype(np.int64), class_names(schema, label)

    def _forget(self) -> None:
        self._process, self._open, self._held = os.getpid(), {}, OrderedDict()

    def __getstate__(self) -> dict:
        """What a data worker in a new process gets: no open files."""
        return {**self.__dict__, "_process": None, "_open": {}, "_held": OrderedDict()}

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """The name of the image in messages."""
        return str(self.root / os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """The image's bytes. Raises DataError if they are null or the shard is damaged."""
        group = int(self.groups[index])
        with reading(f"{self.where(index)} cannot be read"):
            value = self._group(group)[int(index - self._first[group])].as_py()
        if value is None:
            raise DataError(f"{self.where(index)} has no bytes (its image is null, or names a file outside the shard).")
        return value

    def _group(self, group: int):
        """The bytes column of a row group, from memory if it was read lately."""
        if self._process != os.getpid():
            self._forget()  # a forked worker shares no file position with its parent
        if group not in self._held:
            number, inside = self._places[group]
            path = self.files[number]
            with reading(f"{path}, row group {inside}, cannot be read"):
                if number not in self._open:
                    self._open = {number: parquet().ParquetFile(path)}
                self._held[group] = self._bytes(self._open[number], number, inside)
            while len(self._held) > self.cached:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return self._held[group]

    def _bytes(self, file, number: int, inside: int):
        """The bytes of a row group's images, an array of pyarrow's."""
        column, _, member = self._column[number].partition(".")
        table = file.read_row_group(inside, columns=[self._column[number]], use_threads=False)
        found = table.column(column).combine_chunks()
        return found.field(member) if member else found

    def sizes(self) -> np.ndarray:
        """Bytes of every image, (N,) int64; 0 if it has none. Reads all images."""
        import pyarrow.compute

        found = []
        for number, inside in self._places:
            path = self.files[number]
            with reading(f"{path}, row group {inside}, cannot be read"), parquet().ParquetFile(path) as file:
                lengths = pyarrow.compute.binary_length(self._bytes(file, number, inside))
                found.append(lengths.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
        return np.concatenate(found)


def _is_binary(kind) -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def class_names(schema, label: str = "label") -> list[str] | None:
    """Names of a ClassLabel column as the datasets library writes them into a shard's metadata, or None."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = parse_json(text, "the metadata of the datasets library")["info"]["features"][label]["names"]
        return [str(name) for name in names]
    except (DataError, KeyError, TypeError):
        return None  # another version's form; the class numbers are still there
