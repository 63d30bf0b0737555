"""Whole runs with a frozen language model: two ranks on gloo, and the mini path from its pretraining to eval.py."""

import json
import os
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import eval as evaluation
from scripts import pretrain_language_model
from tests.ranks import on_two_ranks
from tests.tasks.audio_description.test_frozen import folder_of
from tests.tasks.audio_description.test_module import FACTS, build, scenes
from train import train

ROOT = Path(__file__).resolve().parents[3]


def share(rank, ranks):
    """Every `ranks`-th scene of 16."""
    return {name: value[rank::ranks] for name, value in scenes().items()}


class Shares(pl.LightningDataModule):
    """Half of the scenes for each of two ranks, or the two halves one after the other for one."""

    def __init__(self, ranks):
        super().__init__()
        self.ranks = ranks

    def train_dataloader(self):
        mine = [self.trainer.global_rank] if self.ranks == 2 else [0, 1]
        return DataLoader([share(rank, 2) for _ in range(4) for rank in mine], batch_size=None)

    def facts(self):
        return FACTS


class Wrapped(pl.Callback):
    """Two ranks train what DDP wraps."""

    def on_train_batch_start(self, trainer, module, batch, index):
        assert isinstance(trainer.strategy.model, DistributedDataParallel)


def train_on(ranks, folder, base):
    llm = {"pretrained": str(base), "dtype": "bfloat16", "frozen": True, "gradient_checkpointing": True}
    module = build(llm=llm, bridge="queries", gate_init=0.5)
    options = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    options |= dict(default_root_dir=folder, max_steps=4, use_distributed_sampler=False, limit_val_batches=0)
    if ranks == 2:
        options |= dict(devices=2, strategy="ddp", callbacks=[Wrapped()])
    else:  # the same two batches per step, one after the other
        options |= dict(devices=1, accumulate_grad_batches=2)
    trainer = pl.Trainer(precision="bf16-mixed", gradient_clip_val=1.0, **options)
    trainer.fit(module, Shares(ranks))
    trainer.save_checkpoint(folder / "adapters.ckpt")
    return trainer, module


def rank_main(rank, folder, base):
    """Trains on one rank, with the environment variables that torchrun sets."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    _, module = train_on(2, folder, base)
    weights = {name: value for name, value in module.state_dict().items() if "llm" not in name}
    torch.save(weights, folder / f"rank{rank}.pt")


def test_two_ranks_with_a_bf16_language_model_are_one_with_accumulated_gradients(tmp_path):
    """bf16 language model, fp32 adapters, activation checkpointing, bf16-mixed, DDP on gloo."""
    base = folder_of(tmp_path / "base")
    (tmp_path / "two").mkdir()
    on_two_ranks(rank_main, tmp_path / "two", base)
    ranks = [torch.load(tmp_path / "two" / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    _, alone = train_on(1, tmp_path / "one", base)
    for name, value in ranks[0].items():
        assert value.dtype == torch.float32
        assert torch.equal(value, ranks[1][name]), name
        difference = (value - alone.state_dict()[name]).abs()
        assert difference.max() < 0.01, name  # Adam makes a step of the rate's size of any gradient but zero
        assert difference.mean() < 5e-4, name
    checkpoints = [torch.load(tmp_path / f"{run}/adapters.ckpt", weights_only=True) for run in ("one", "two")]
    assert checkpoints[0]["state_dict"].keys() == checkpoints[1]["state_dict"].keys() == ranks[0].keys()
    assert checkpoints[0]["base_model"] == checkpoints[1]["base_model"]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_the_frozen_path_runs_from_pretraining_to_eval(compose_run, tmp_path):
    """pretrain_language_model, train.py on what it saved, eval.py: the same words from the same weights."""
    chosen = ["experiment=madv2_multi_lcaam", "scale=smoke", "callbacks=checkpoint", "logger=csv"]
    loss = pretrain_language_model.pretrain(compose_run(*chosen), tmp_path / "base")
    assert 0 < loss < 10
    train(compose_run(*chosen, f"task.llm.pretrained={tmp_path}/base", "task.llm.frozen=true"))
    (run,) = (tmp_path / "logs" / "madv2_multi_lcaam" / "smoke" / "seed0").iterdir()
    record = json.loads((run / "results.json").read_text())
    assert record["status"] == "completed"
    assert "input_blind" in record["floors"]
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert not any("llm" in name for name in checkpoint["state_dict"])
    evaluation.main([f"run={run}", f"output={tmp_path}/again"])
    assert lines(tmp_path / "again" / "predictions" / "test.jsonl") == lines(run / "predictions" / "test.jsonl")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["scale=smoke"], "output=<a new folder> is missing"),
        (["experiment=madv2_lcaam", "output=x"], "huggyllama/llama-7b is pretrained already"),
        (["experiment=qvhighlights_lcaam", "scale=smoke", "output=x"], "the chosen task has no language model"),
        (["scale=smoke", "output=tests"], "output=tests: is there already"),
        (["scale=smoke", "task.widht=3", "output=x"], "did you mean 'width'"),
        (["experiment=madv3", "output=x"], "madv3"),
    ],
)
def test_a_pretraining_that_makes_no_sense_is_explained(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit, match=message):
        pretrain_language_model.main(arguments)
