"""Text as characters: files of the user's, or a generated text.

Batch contract (B windows of T = `context` characters):

    characters  (B, T + 1) int64    Unicode code points; a model reads the first T, and the target at each place is the
                                    next one; -1 behind the end of the text
    name        list of B str       "<part> <place of the first character in its part>", unique in an epoch

    data = Texts(files="input.txt", context=64, ...)   # configs/data/text.yaml explains every keyword
    data.prepare_data()                                # DataError says what is missing or wrong
    data.facts()                                       # context, characters: those of the training part

Files are joined in their order. The text's first share is for training, what follows for validation, the end for the
test (`parts`). A vocabulary is a model's own: that of the characters in its training part, whatever it is tested on.

With the same seed of seed_everything the training windows repeat bit for bit, for any `num_workers`; they depend on
(seed, epoch) alone, so a run that stopped within an epoch goes on with the windows it would have had.
"""

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from configs.knobs import Count, Natural, Range, Seed
from datamodules.contract import Data
from datamodules.errors import DataError
from datamodules.evaluated import Evaluated
from datamodules.formats.numpy_files import read_npy
from datamodules.language_model.files import found, read, text_of
from datamodules.language_model.mini import generator as mini_text
from datamodules.language_model.windows import Windows
from datamodules.loading import Draws, loader, ranks
from datamodules.mini.store import settings_from

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")


def _are_parts(shares: list[float]) -> bool:
    return len(shares) == 3 and min(shares[:2]) > 0 and shares[2] >= 0 and abs(sum(shares) - 1) < 1e-6


Parts = Annotated[
    list[float],
    Range(_are_parts, "three shares that add up to 1: training and validation above 0, test at least 0"),
]


class Texts(Data):
    """Text files, or the generated text."""

    guide = "docs/language_model.md"

    def __init__(
        self,
        *,
        root: str,
        context: Count,
        batch_size: Count,
        eval_batch_size: Count,
        files: str | list[str] | None = None,
        parts: Parts = (0.9, 0.05, 0.05),
        num_workers: Natural = 0,
        seed: Seed = 0,
        mini: dict[str, int | float] | None = None,
        name: str = "text",
    ):
        """files: a path, a pattern, or a list of both; relative to the working directory. mini: sizes of the generated
        text (MiniSettings), which `files` replaces. Raises DataError: a number out of its range, wrong mini settings.
        """
        super().__init__()
        self.check_arguments(locals())
        self.root, self.context, self.files, self.shares = Path(root), context, files, tuple(parts)
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.name = seed, name
        self.windows: dict[str, Windows] = {}
        self.mini = None if mini is None or files is not None else settings_from(mini_text.MiniSettings, mini)
        if self.mini is not None:
            self.mini.check()

    # Files

    def prepare_data(self) -> None:
        """Generates the text unless it is there; for files checks and reads them. Raises DataError."""
        self.setup()

    def paths(self) -> list[Path]:
        """The files of the text."""
        if self.mini is not None:
            return [mini_text.write_mini(self.root, self.mini, seed=self.seed) / mini_text.TEXT]
        if self.files is None:
            raise DataError(
                f"{self.name}: data.files is not set; name a text file, such as data.files=input.txt ({self.guide}). "
                "scale=mini runs the same experiment on a generated text."
            )
        return found(self.files)

    def setup(self, stage: str | None = None) -> None:
        """Reads the text and cuts it into its parts; once, for any stage. Raises DataError for a text that is too short
        for them."""
        if self.windows:
            return
        text, what = read(self.paths()), "the generated text" if self.mini is not None else "data.files"
        ends = [round(sum(self.shares[: number + 1]) * len(text)) for number in range(2)]
        parts = dict(zip(SPLITS, np.split(text, ends), strict=True))
        if not self.shares[2]:
            log.warning("data.parts has no test part: the test is on the validation part, so choose nothing on it")
            parts["test"] = parts["val"]
        least = {"train": 2 * self.context, "val": 2, "test": 2}
        for split, part in parts.items():
            if len(part) < least[split]:
                raise DataError(
                    f"{what}: a text of {len(text):,} characters is too short: its part {split} (data.parts="
                    f"{[*self.shares]}) has {len(part):,}, and needs at least {least[split]:,} with "
                    f"data.context={self.context}"
                )
        self.windows = {split: Windows(part, self.context, split) for split, part in parts.items()}

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """context, and characters: those of the training part, sorted."""
        return {"context": self.context, "characters": text_of(np.unique(self.text("train")))}

    def evaluated(self) -> Evaluated:
        self.setup()
        sizes = {split: len(windows) for split, windows in self.windows.items()}
        note = "there is no test part: the test is on the validation part, on which the weights may have been chosen"
        origin = f"shares of the text (data.parts={[*self.shares]})"
        return Evaluated("windows", sizes, origin, notes=() if self.shares[2] else (note,))

    def text(self, split: str) -> np.ndarray:
        """The code points (N,) of a part."""
        self.setup()
        return self.windows[split].text

    def oracle(self) -> np.ndarray | None:
        """Nats of each character of the test part (N,), given all before it, by who knows the grammar. None for files.

        That of the part's first character is there too, which no window has as a target.
        """
        if self.mini is None:
            return None
        path = self.paths()[0].with_name(mini_text.ORACLE)
        nats = read_npy(path, f"{path}: cannot be read")
        return nats[len(nats) - len(self.text("test")) :]

    def train_dataloader(self) -> DataLoader:
        self.setup()
        windows = self.windows["train"]
        draws = Draws(windows, torch.initial_seed(), *ranks())
        return loader(windows, self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        self.setup()
        return loader(self.windows["val"], self.eval_batch_size, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        self.setup()
        return loader(self.windows["test"], self.eval_batch_size, workers=self.num_workers)
