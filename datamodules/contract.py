"""What a data module owes the frame, and what the frame does for every data module.

A data module is a LightningDataModule that derives from `Data`: it sets the class attributes and answers the abstract
methods. A class that lacks one of them cannot be defined. docs/extending.md has the smallest whole example.

Its settings are the keywords of `__init__`, whose annotations say which values are allowed (configs/knobs.py). Batches
are dicts whose values have one entry per sample; the module's docstring says their keys, shapes and polarity. Bad or
missing data are a DataError that names the file, the key and the row.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from configs.knobs import out_of_range
from configs.targets import resolve
from datamodules.errors import DataError, some
from datamodules.evaluated import Evaluated
from datamodules.stand_in import StandIn


class Data(pl.LightningDataModule):
    """The base class of all data modules. Raises TypeError when a class is defined that lacks a part of the contract.

    places: settings that say where data lie and how they are read, not what they are: no result depends on them.
    rules: functions that find settings which do not go together (configs/contradictions.py: Rule).
    weights_depend_on: settings of the data's node that trained weights belong to; eval.py refuses to change them. `*`
        stands for any name: "video_streams.*.dim".
    name: what messages, tables and dashboards call the data set; a keyword of every data module.
    guide: the page that says how to get the files.
    maker: the command that makes them, if the project has one; then scale=mini has nothing generated in their place.
    generated: what runs without any files, in words.
    """

    places: ClassVar[tuple[str, ...]] = ("root", "num_workers")
    rules: ClassVar[tuple[Callable, ...]] = ()
    weights_depend_on: ClassVar[tuple[str, ...]] = ()
    name: str = "data"
    guide: str = "docs/datasets.md"
    maker: str | None = None
    generated: str = "scale=mini runs the same experiment on generated data"

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        if lacking := [name for name in dir(Data) if getattr(getattr(cls, name), "__isabstractmethod__", False)]:
            raise TypeError(f"{cls.__name__} lacks {', '.join(lacking)}; datamodules/contract.py says what it owes")

    @abstractmethod
    def prepare_data(self) -> None:
        """Finds or generates the files and checks them. Raises DataError for missing or bad data."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a task has to know of the data to build its model (widths, lengths, training texts, ...)."""

    @abstractmethod
    def train_dataloader(self) -> DataLoader: ...

    @abstractmethod
    def val_dataloader(self) -> DataLoader: ...

    @abstractmethod
    def test_dataloader(self) -> DataLoader: ...

    def evaluated(self) -> Evaluated:
        """What a test of this data is of, for the run's record, after `setup`: sizes, where the splits come from, what
        was left out. A data module whose reader leaves out anything, or chooses the test split, says so here."""
        loaders = {"train": self.train_dataloader, "val": self.val_dataloader, "test": self.test_dataloader}
        return Evaluated("samples", {split: len(loader().dataset) for split, loader in loaders.items()})

    def only_test(self, facts: Mapping[str, Any]) -> None:
        """Called before `prepare_data` if trained weights are only tested; `facts` are those of their training.

        A data module that can then compares with them what it reads, and needs no training file.
        """
        return

    def oracle(self) -> dict[Any, Any] | None:
        """The answers, per row of the test split, of a reader that is told more than any model may know. None if there
        are none, as for real data."""
        return None

    @classmethod
    def stand_in(cls, data: Mapping[str, Any]) -> StandIn | None:
        """What takes the place of data that are not there, for `python -m scripts.cost`: facts and batches of the right
        shapes, from the function stand_in of the file stand_in.py beside the data module; None without it.

        data: the data node of the configuration, as a dict.
        """
        name = f"{cls.__module__.rpartition('.')[0]}.stand_in"
        return None if find_spec(name) is None else import_module(name).stand_in(data)

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        """Raises DataError for arguments of `__init__` that its annotations do not allow."""
        if problems := out_of_range(type(self).__init__, given, "data"):
            raise DataError("\n".join(problems))

    def need(self, missing: list[str], folder: Path, note: str = "") -> None:
        """Raises DataError if files are missing. It names them and the folder that was searched, and says how to get
        them."""
        if missing:
            raise DataError(
                f"{self.name}: missing {some(missing)}{note}; looked in {folder.resolve()}. {self.advice()}"
            )

    def advice(self) -> str:
        """Tells how to get missing data."""
        made = f"`{self.maker}` makes them" if self.maker else self.generated
        return (
            f"How to get the files and where to put them: {self.guide}. Another place: data.root=... or "
            f"paths.data_dir=... . {made}."
        )


def only_places(data: Mapping[str, Any]) -> list[str]:
    """The settings of a checked data node that no result depends on: the `places` of its class.

    For real data `root` is not among them, since it says which files were read.
    """
    places = getattr(resolve("data", data["_target_"]), "places", Data.places)
    real = "mini" in data and data["mini"] is None
    return [place for place in places if not (real and place == "root")]
