"""A split as Parquet shards as on the Hugging Face hub: one row per image, with `image: {bytes, path}` and `label`.

    split = ImageShards(Path("data/imagenet1k"), "data/train-*.parquet")    # needs pyarrow
    split.names[0]       # b"data/train-00000-of-00294.parquet:00000000"
    split.read(0)        # the image's bytes

A shard is read one row group at a time (those of the hub hold 100 images), so that reading images at random costs a
hundred times the bytes. Training therefore shuffles groups, then rows within a window of groups (`GroupShuffle`).
"""

import os
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.json_text import parse_json
from datamodules.loading import Draw, Draws

NEEDED = "columns image or img (a struct with the member bytes) and label (an integer)"
IMAGE = ("image", "img")  # names of the column of images: the hub's CIFAR-10 has the second


def parquet():
    """pyarrow's Parquet module. Raises ImportError that says how to get it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("data.format=parquet reads shards with pyarrow: pip install pyarrow.") from error
    return pyarrow.parquet


def shards(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that match a pattern, in the order of the names of their rows. Raises DataError."""
    if not pattern or Path(pattern).is_absolute():
        raise DataError(f"{pattern!r} is not a pattern relative to data.root, such as data/train-*.parquet.")
    return sorted((path for path in root.glob(pattern) if path.is_file()), key=lambda path: f"{path.as_posix()}:")


class ImageShards:
    """The rows of all shards that match `pattern` below `root`, in the order of the files' names.

    names    (N,) bytes: "<file>:<row>", the file relative to `root`; sorted
    labels   (N,) int64: class numbers
    folders  class names that the shards' metadata gives (the hub's ClassLabel), or None
    groups   (N,) int64: the row group that each image is stored in, numbered through all shards
    ignored  always empty

    Raises DataError: no shard; a file that is not Parquet, lacks the columns, or has a label that is null or below 0.
    Raises ImportError without pyarrow.
    """

    by_folder = False  # labels are class numbers

    def __init__(self, root: Path, pattern: str, cached: int = 1):
        """cached: how many row groups each process keeps in memory."""
        parquet()
        self.root, self.cached, self.ignored = root, max(cached, 1), []
        self.files = shards(root, pattern)
        if not self.files:
            raise DataError(f"no Parquet shard matches {root / pattern}.")
        names, labels, groups, self.folders = [], [], [], None
        self._column: list[str] = []  # of each file
        self._places: list[tuple[int, int]] = []  # (file, row group within it) of each group
        for number, path in enumerate(self.files):
            file, label = self._labels(path)
            if number == 0:
                self.folders = class_names(file.schema_arrow)
            names += [os.fsencode(f"{path.relative_to(root).as_posix()}:{row:08d}") for row in range(len(label))]
            labels.append(label)
            for group in range(file.num_row_groups):
                groups.append(np.full(file.metadata.row_group(group).num_rows, len(self._places)))
                self._places.append((number, group))
        self.names, self.labels = np.array(names, dtype=bytes), np.concatenate(labels)
        if len(self.names) == 0:
            raise DataError(f"the {len(self.files)} Parquet shard(s) {root / pattern} hold no row.")
        self.groups = np.concatenate(groups)
        self._first = np.searchsorted(self.groups, np.arange(len(self._places)))  # first row of each group
        self._forget()

    def _labels(self, path: Path):
        """The opened file and its label column. Raises DataError."""
        import pyarrow as pa

        with reading(f"{path} cannot be read as Parquet"):
            file = parquet().ParquetFile(path)
            schema = file.schema_arrow
            column = next((name for name in IMAGE if name in schema.names), None)
            image, label = (None if name not in schema.names else schema.field(name).type for name in (column, "label"))
            if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
                raise DataError(f"{path} has the columns {', '.join(schema.names)}; needed are {NEEDED}.")
            if label is None or not pa.types.is_integer(label):
                raise DataError(f"{path}: the column label is {label}; needed are {NEEDED}.")
            self._column.append(column)
            labels = file.read(columns=["label"], use_threads=False).column("label")
            values = labels.to_numpy().astype(np.float64)  # null becomes NaN
        if len(bad := np.flatnonzero(~(values >= 0))):
            raise DataError(
                f"{path}: label {labels[int(bad[0])]} in row {bad[0]} ({len(bad)} such rows). Class numbers start at "
                "0; the hub's test shards are unlabelled, its validation shards are what is tested on."
            )
        return file, values.astype(np.int64)

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
                column = self._column[number]
                table = self._open[number].read_row_group(inside, columns=[f"{column}.bytes"], use_threads=False)
                self._held[group] = table.column(column).combine_chunks().field("bytes")
            while len(self._held) > self.cached:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return self._held[group]

    def stamps(self) -> Iterator[tuple[int, int]]:
        """Size and time of change of every shard, which show if one was replaced."""
        for path in self.files:
            about = path.stat()
            yield about.st_size, about.st_mtime_ns


def apart(train, other, setting: str) -> None:
    """DataError if the pattern of `setting` matches a shard that is trained on, too. Folders have no shards."""
    if shared := sorted(set(getattr(train, "files", ())) & set(getattr(other, "files", ()))):
        raise DataError(f"{setting} matches shards of data.train: {some([str(path) for path in shared])}.")


def class_names(schema) -> list[str] | None:
    """Names of a ClassLabel column `label` as the datasets library writes them into a shard's metadata, or None."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = parse_json(text, "the metadata of the datasets library")["info"]["features"]["label"]["names"]
        return [str(name) for name in names]
    except (DataError, KeyError, TypeError):
        return None  # another version's form; the class numbers are still there


class GroupShuffle(Draws):
    """Training order that reads every row group once: groups are shuffled, then rows within windows of groups.

    groups (N,): the row group of each sample; window: number of groups that are mixed. A rank gets a run of groups, and
    every rank the same number of samples (if they cannot be divided equally, the last ones are left out). The order
    depends on (seed, epoch) and the number of ranks alone.
    """

    def __init__(self, groups: np.ndarray, window: int, seed: int, num_replicas: int = 1, rank: int = 0):
        super().__init__(groups, seed, num_replicas, rank)
        self.groups, self.window = np.asarray(groups), window

    def order(self) -> np.ndarray:
        """This rank's samples of the epoch, (num_samples,)."""
        rng = np.random.default_rng([self.seed, self.epoch])
        present, number = np.unique(self.groups, return_inverse=True)
        turn = rng.permutation(len(present))[number]  # (N,) when each sample's group comes
        order = np.resize(np.argsort(turn, kind="stable"), self.total_size)
        order = order[self.rank * self.num_samples : (self.rank + 1) * self.num_samples]
        change = np.diff(turn[order], prepend=turn[order[:1]]) != 0
        window = np.cumsum(change) // self.window  # (num_samples,)
        return order[np.lexsort((rng.random(len(order)), window))]

    def __iter__(self) -> Iterator[Draw]:
        skip, self.skip = self.skip, 0
        return iter([Draw(index, self.epoch, self.seed) for index in self.order()[skip:].tolist()])
