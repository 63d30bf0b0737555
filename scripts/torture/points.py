"""Points of a run at which it can be killed: counted in an unbroken run, chosen at random in others."""

import os
import signal
from collections import Counter
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from tasks.common import checkpoint_files

KINDS = ("train", "validation", "epoch", "saving", "test")


class Points(Callback):
    """Counts the points by kind, and sends this process a signal at the n-th of one kind.

    train: before a batch, before its backward pass, before the gradients are zeroed, after the batch. epoch: its start
    and end. validation: its start, its batches, its end. saving: each write of a checkpoint's bytes. test: its batches.
    """

    def __init__(self, kind: str | None = None, number: int = 0, end: int = signal.SIGKILL) -> None:
        self.kind, self.number, self.end, self.counts = kind, number, end, Counter()
        write = checkpoint_files.Writer.write

        def counted(writer: checkpoint_files.Writer, data: bytes) -> int:
            half = len(data) // 2
            done = write(writer, data[:half])
            self.reach("saving")
            return done + write(writer, data[half:])

        checkpoint_files.Writer.write = counted

    def reach(self, kind: str) -> None:
        self.counts[kind] += 1
        if (kind, self.counts[kind]) == (self.kind, self.number):
            os.kill(os.getpid(), self.end)

    def on_train_batch_start(self, *_: Any) -> None:
        self.reach("train")

    def on_before_backward(self, *_: Any) -> None:
        self.reach("train")

    def on_before_zero_grad(self, *_: Any) -> None:
        self.reach("train")

    def on_train_batch_end(self, *_: Any) -> None:
        self.reach("train")

    def on_train_epoch_start(self, *_: Any) -> None:
        self.reach("epoch")

    def on_train_epoch_end(self, *_: Any) -> None:
        self.reach("epoch")

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:
        self.reach("validation")

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.reach("validation")

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self.reach("validation")

    def on_test_batch_start(self, *_: Any) -> None:
        self.reach("test")
