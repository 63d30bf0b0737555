"""A shorter run that goes on from a longer one's state is the run that began anew, to the bit."""

import json
from pathlib import Path

import pytest
import torch

from tasks.common.budgets import same_so_far
from tasks.common.errors import CheckpointError
from tasks.common.optimisation import rate_factor
from train import train

LONG = (
    "experiment=imagenet1k_lcaam",
    "scale=smoke",
    "logger=csv",
    "floors.enabled=false",
    "task.schedule=wsd",
    "seed=2",
)
LONG = (*LONG, "task.warmup=0.1", "trainer.max_steps=20", "trainer.val_check_interval=10")
SHORT = ("task.warmup=0.2", "trainer.max_steps=10")


def test_the_rate_is_constant_between_warm_up_and_the_last_fifth():
    rates = [rate_factor(step, 110, 10 / 110, "wsd") for step in range(110)]
    assert rates[:10] == [(step + 1) / 10 for step in range(10)]
    assert rates[10:91] == pytest.approx([1.0] * 81)
    assert rates[91:] == pytest.approx([1 - step / 20 for step in range(1, 20)])


@pytest.mark.parametrize(
    "change, step, same",
    [
        ({}, 40, True),
        ({}, 42, True),  # the rate of 50 steps falls from step 42 on: 10 of warm-up, and four fifths of 40
        ({}, 43, False),
        ({"warmup": 0.1}, 40, False),
        ({"schedule": "cosine"}, 40, False),
        ({"schedule": None}, 40, False),
        ({"max_steps": -1}, 40, False),
        ({"max_steps": None}, 40, False),
    ],
)
def test_two_lengths_are_the_same_as_long_as_their_rates_are(change: dict, step: int, same: bool):
    def settings(max_steps: int, warmup: float, schedule: str = "wsd") -> dict:
        return {"trainer": {"max_steps": max_steps}, "task": {"warmup": warmup, "schedule": schedule}}

    short = {"max_steps": 50, "warmup": 0.2} | change
    assert same_so_far(settings(100, 0.1), settings(**short), step) is same


def weights_of(run: Path) -> dict:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_shorter_run_from_a_branch_is_the_run_that_began_anew(compose_run, tmp_path: Path):
    def run(name: str, *overrides: str) -> Path:
        cfg = compose_run(*LONG, *overrides, f"paths.run_dir={tmp_path}/runs/{name}")
        train(cfg)
        return Path(cfg.paths.run_dir)

    with pytest.raises(
        CheckpointError, match="no run below .* has a checkpoints/branch.ckpt whose steps would be this"
    ):
        run("early", *SHORT, "resume=branch")
    long = run("long", "callbacks=budgets")
    with pytest.raises(CheckpointError, match="no run below"):  # its warm-up is of two steps, this one's of one
        run("other", "trainer.max_steps=10", "resume=branch")
    anew, branched = run("anew", *SHORT), run("branched", *SHORT, "resume=branch")

    records = [json.loads((folder / "results.json").read_text()) for folder in (long, anew, branched)]
    assert records[2]["resumed_from"] == str(long / "checkpoints" / "branch.ckpt")
    assert records[2]["metrics"] == records[1]["metrics"] != records[0]["metrics"]
    assert records[2]["identity"] == records[1]["identity"] != records[0]["identity"]
    first, second = weights_of(anew), weights_of(branched)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_settings_than_the_length_are_refused(compose_run, tmp_path: Path):
    train(compose_run(*LONG, "callbacks=budgets", f"paths.run_dir={tmp_path}/runs/long"))
    for setting in ("task.lr=0.1", "mask.lr_scale=3"):
        cfg = compose_run(*LONG, *SHORT, setting, "resume=branch", f"paths.run_dir={tmp_path}/runs/other")
        with pytest.raises(CheckpointError, match="no run below"):
            train(cfg)
