"""The least task and data set that keep the frame's contract: a line through points, learned in milliseconds."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn
from torch.utils.data import DataLoader

from configs.knobs import Count, Positive
from datamodules.contract import Data
from datamodules.errors import DataError
from lcaam import LayerMasks
from tasks.common.task import Task
from tests.composing import composed


def _raise(error: BaseException) -> None:
    raise error


FAILURES: dict[str | None, Callable[[], float]] = {
    None: lambda: 1.0,
    "nan": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "error": lambda: _raise(RuntimeError("on purpose")),
    "interrupt": lambda: _raise(KeyboardInterrupt()),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM) or 1.0,
}


class TinyData(Data):
    """y = 2 x0 - x1 + noise. Batches: x (B, 2) and y (B,), float32."""

    weights_depend_on = ("tokens", "tef", "video_streams.*.dim")

    def __init__(self, tokens: Count = 2, batch_size: Count = 8, seed: int = 0, missing: bool = False) -> None:
        super().__init__()
        self.check_arguments(locals())
        self.tokens, self.batch_size, self.seed, self.missing = tokens, batch_size, seed, missing

    def prepare_data(self) -> None:
        if self.missing:
            raise DataError("points.h5 is missing; scale=mini runs on generated data")

    def facts(self) -> dict:
        return {"features": 2}

    def _loader(self, offset: int, shuffle: bool = False) -> DataLoader:
        generator = torch.Generator().manual_seed(self.seed + offset)
        x = torch.randn(32, 2, generator=generator)
        y = x @ torch.tensor([2.0, -1.0]) + 0.1 * torch.randn(32, generator=generator)
        points = [{"x": point, "y": value} for point, value in zip(x, y, strict=True)]
        return DataLoader(points, batch_size=self.batch_size, shuffle=shuffle)

    def train_dataloader(self) -> DataLoader:
        return self._loader(1, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(2)

    def test_dataloader(self) -> DataLoader:
        return self._loader(3)


class TinyTask(Task):
    """A linear layer with dropout. `fail` breaks the training in a named way at step 3."""

    headline = ("error",)
    logged = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss")
    row_id = "given"

    def __init__(
        self, mask: dict, facts: dict, width: Count = 4, heads: Count = 2, lr: Positive = 0.05, blind: bool = False,
        fail: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(logger=False)
        self.layer, self.dropout = nn.Linear(facts["features"], 1), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.dropout(x * 0 if self.hparams.blind else x)).squeeze(-1)

    def loss(self, batch: dict) -> Tensor:
        return (self(batch["x"]) - batch["y"]).square().mean()

    def training_loss(self, batch: dict, index: int) -> Tensor:
        loss = self.loss(batch)
        return loss * FAILURES[self.hparams.fail]() if self.global_step == 3 else loss

    def validation_step(self, batch: dict, index: int) -> None:
        self.log("val/loss", self.loss(batch))

    def test_step(self, batch: dict, index: int) -> None:
        self.log("test/loss", self.loss(batch))
        pairs = zip(batch["y"].tolist(), self(batch["x"]).tolist(), strict=True)
        self.predictions += [{"given": given, "predicted": predicted} for given, predicted in pairs]

    def on_test_epoch_end(self) -> None:
        errors = [abs(row["given"] - row["predicted"]) for row in self.gather_predictions()]
        self.report({"error": sum(errors) / len(errors)}, float(self.trainer.callback_metrics["test/loss"]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    def masks(self) -> list[LayerMasks]:
        return []

    def parts(self) -> dict[str, int]:
        return {"layer": sum(p.numel() for p in self.layer.parameters()), "masks": 0, "controls": 0}

    def flops(self, batch: dict) -> int:
        return 2 * batch["x"].shape[-1]

    def reference_scores(self, datamodule: TinyData) -> dict[str, dict[str, float]]:
        return {"constant": {"error": 1.8}, "ceiling": {"error": 0.08}}

    def analyse(self, batch: dict) -> dict:
        return {
            "masks": {"layer 1": torch.randn(4, 4).numpy()},
            "attention": {"layer 1": torch.rand(50).numpy(), "layer 2": torch.rand(50).numpy()},
            "tokens": {"boundaries": [2], "labels": ["visual", "audio"]},
            "statistics": {"layer 1/sign_flips": 0.25},
        }


def tiny_config(
    folder: Path, *overrides: str, task: dict | None = None, data: dict | None = None, max_steps: int = 8
) -> DictConfig:
    """The shipped configuration around the tiny task and data, with outputs and floors below `folder`."""
    cfg = composed(folder, "experiment=madv2_lcaam", "scale=smoke", "floors.max_steps=null", *overrides)
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    with open_dict(cfg):
        cfg.task = {"_target_": "tests.tasks.common.tiny.TinyTask"} | (task or {})
        cfg.data = {"_target_": "tests.tasks.common.tiny.TinyData"} | (data or {})
        cfg.num_keys = 4
        cfg.trainer.update(max_steps=max_steps, log_every_n_steps=2)
        cfg.trainer.pop("val_check_interval", None)  # the smoke scale's, which counts its own steps
        cfg.trainer.pop("check_val_every_n_epoch", None)
        cfg.paper = {"error": "0.07 ± 0.01"}
    return cfg
