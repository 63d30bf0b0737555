"""The least task and data set that keep the frame's contract: a line through points, learned in milliseconds."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.errors import DataError
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


class TinyData(LightningDataModule):
    """y = 2 x0 - x1 + noise."""

    def __init__(self, tokens: int = 2, batch_size: int = 8, seed: int = 0, missing: bool = False) -> None:
        super().__init__()
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
        return DataLoader(TensorDataset(x, y), batch_size=self.batch_size, shuffle=shuffle)

    def train_dataloader(self) -> DataLoader:
        return self._loader(1, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(2)

    def test_dataloader(self) -> DataLoader:
        return self._loader(3)


class TinyTask(LightningModule):
    """A linear layer with dropout. `fail` breaks the training in a named way at step 3."""

    def __init__(
        self, mask: dict, facts: dict, width: int = 4, heads: int = 2, lr: float = 0.05, blind: bool = False,
        fail: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.layer, self.dropout = nn.Linear(facts["features"], 1), nn.Dropout(0.1)
        self.headline = ["error"]
        self.test_metrics: dict[str, float] = {}
        self.predictions: list[dict] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.dropout(x * 0 if self.hparams.blind else x)).squeeze(-1)

    def _loss(self, batch: list[Tensor], split: str) -> Tensor:
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log(f"{split}/loss", loss, on_step=split == "train", on_epoch=split != "train")
        return loss

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss = self._loss(batch, "train")
        if self.global_step == 3:
            loss = loss * FAILURES[self.hparams.fail]()
        return loss

    def validation_step(self, batch: list[Tensor], index: int) -> None:
        self._loss(batch, "val")

    def on_test_start(self) -> None:
        self.predictions = []

    def test_step(self, batch: list[Tensor], index: int) -> None:
        self._loss(batch, "test")
        self.predictions += [
            {"given": y.item(), "predicted": p.item()} for p, y in zip(self(batch[0]), batch[1], strict=True)
        ]

    def on_test_end(self) -> None:
        errors = [abs(row["given"] - row["predicted"]) for row in self.predictions]
        self.test_metrics = {"error": sum(errors) / len(errors)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    def parts(self) -> dict[str, int]:
        return {"layer": sum(p.numel() for p in self.layer.parameters())}

    def flops(self, batch: list[Tensor]) -> int:
        return 2 * batch[0].shape[-1]

    def reference_scores(self, datamodule: TinyData) -> dict[str, dict[str, float]]:
        return {"constant": {"error": 1.8}, "ceiling": {"error": 0.08}}

    def analyse(self, batch: list[Tensor]) -> dict:
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
