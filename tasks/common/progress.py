"""Shows the model's parts at the start, and a progress bar on a terminal or a line per validation in a log file."""

import logging
import sys
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar, RichModelSummary, RichProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich import get_console
from rich.table import Table

log = logging.getLogger(__name__)


def progress_bar() -> ProgressBar:
    """Rich's bar on a terminal; lines that can be read and searched if the output is redirected."""
    return Bar() if sys.stdout.isatty() else ProgressLines()


class Bar(RichProgressBar):
    """Rich's bar, without "Epoch 3/-2" in a run whose steps are counted, not its epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Epoch {current_epoch}"


class ProgressLines(ProgressBar):
    """`step 400/1600  train/loss 1.2031  val/loss 1.3377`, once per validation."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True

    def disable(self) -> None:
        """Called on ranks other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Undoes `disable`."""
        self._enabled = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the line."""
        if not self._enabled or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        losses = {name: trainer.callback_metrics.get(name) for name in ("train/loss", "val/loss")}
        shown = "  ".join(f"{name} {float(value):.4f}" for name, value in losses.items() if value is not None)
        total = trainer.max_steps if trainer.max_steps > 0 else "?"
        log.info("step %s/%s  %s", trainer.global_step, total, shown)


class ModelSummary(RichModelSummary):
    """Name, type and parameters of the model's parts. Lightning's own table also counts FLOPs, and gets 0."""

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]], total_parameters: int, trainable_parameters: int, *_: Any, **__: Any
    ) -> None:
        """Prints it. Called once, on the first rank."""
        columns = {name: values for name, values in summary_data if name in ("Name", "Type", "Params")}
        table = Table("Name", "Type")
        table.add_column("Params", justify="right")
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        console = get_console()
        console.print(table)
        console.print(f"{total_parameters:,} parameters, {trainable_parameters:,} of them trained", highlight=False)
