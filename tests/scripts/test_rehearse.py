"""A rehearsal: what it measures equals what can be counted by hand, and its fake files are read by the real readers."""

import re
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from configs.composing import composed
from datamodules.fake import Fake, write_fake
from scripts.cost.hooks import batch_of, stand_in_of
from scripts.rehearse.command import main
from scripts.rehearse.plan import Device, planned
from scripts.rehearse.rehearsal import on_fake_files, rehearsed
from scripts.rehearse.shapes import different
from scripts.rehearse.step import Live, Step, followed
from tasks.common.build import build_datamodule
from tests.configs.test_every_yaml import options
from tests.tiers import slow

ONE = Device(number=1, gib=80.0, tflops=100.0, utilisation=0.5)
SIDE = 64


class Chain(nn.Module):
    """Two layers without biases, whose square is the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(SIDE, SIDE, bias=False), nn.Linear(SIDE, SIDE, bias=False)


def test_flops_and_peak_of_a_step_equal_a_count_by_hand() -> None:
    with torch.device("meta"):
        chain, x = Chain(), torch.randn(32, SIDE)
    peak, flops = followed(chain, {"x": x}, lambda: chain.two(chain.one(x)).sum())
    product = 2 * 32 * SIDE * SIDE
    assert flops == 2 * product + 3 * product  # forward; two gradients of weights, one of the hidden states
    hidden, weights = 4 * 32 * SIDE, 4 * SIDE * SIDE
    # both gradients of weights, and at most three tensors of hidden size that are alive together
    assert 2 * weights + hidden <= peak <= 2 * weights + 3 * hidden + 64


def test_freed_tensors_do_not_count() -> None:
    with Live([]) as live:
        for _ in range(5):
            kept = torch.zeros(1000, device="meta")
            del kept
        assert (live.now, live.peak) == (0, 4000)
        one, two = torch.zeros(1000, device="meta"), torch.zeros(500, device="meta")
        view = one[:10]
        assert (live.now, live.peak) == (6000, 6000)
        del one
        assert live.now == 6000  # the view holds it
        del view, two
    assert live.now == 0


class Saved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 10, bias=False)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        pass


def test_hours_and_checkpoints_equal_a_count_by_hand() -> None:
    cfg = OmegaConf.create(
        {
            "data": {"batch_size": 10},
            "trainer": {"max_steps": 600, "precision": "32-true", "accumulate_grad_batches": 2,
                        "val_check_interval": 300, "check_val_every_n_epoch": None},
        }
    )  # fmt: skip
    step = Step(400, 100, 400, 800, 0, flops=100 * 10**12, method="")  # 2 s at 50 TFLOPS
    plan = planned(cfg, Saved(), step, Fake(5, 1000, 0.0, ""), ONE)
    assert (plan.updates, plan.batches, plan.epochs, plan.validations) == (600, 1200, 12.0, 4)
    assert plan.hours == pytest.approx(1200 * 2 / 3600)
    assert plan.per_hour == pytest.approx(3600 / (300 * 2))
    assert plan.checkpoint == 10 * 10 * 4 + 800
    cfg.trainer.update(val_check_interval=None, check_val_every_n_epoch=3)
    assert planned(cfg, Saved(), step, Fake(5, 1000, 0.0, ""), ONE).validations == 4  # 1200 batches, every 3 x 100


EXPERIMENTS = {
    "madv2_lcaam": ["data.previous=ground_truth", "data.subtitles=subs.csv"],
    "qvhighlights_lcaam": [],
    "imagenet1k_lcaam": ["data.image_size=64"],
    "msrvtt_lcaam": ["data.image_size=64"],
}
OTHER_FILES = [
    ("msrvtt_lcaam", ["data.source=features"]),
    ("msrvtt_lcaam", ["data.source=video", "data.image_size=64"]),
    ("madv2_lcaam", ["data.audio_features=null", "data.val_split=V1-VAL"]),
    ("imagenet1k_lcaam", ["data.val_split=held_out", "data.image_size=64"]),
]


def test_a_fake_text_is_read_by_the_real_data_module(tmp_path: Path) -> None:
    cfg = composed("experiment=shakespeare_lcaam", "data.context=32")
    fake = write_fake(tmp_path, OmegaConf.to_container(cfg.data, resolve=True))
    datamodule = build_datamodule(on_fake_files(cfg, fake, tmp_path))
    assert different(next(iter(datamodule.train_dataloader())), batch_of(stand_in_of(cfg), 1)) == []
    assert fake.samples == len(datamodule.windows["train"]) and fake.training == (round(0.9 * 1_115_394) - 32) // 32


@pytest.mark.parametrize(("experiment", "overrides"), [*EXPERIMENTS.items(), *OTHER_FILES])
def test_fake_files_are_read_by_the_real_data_module(tmp_path: Path, experiment: str, overrides: list[str]) -> None:
    cfg = composed(f"experiment={experiment}", *overrides)
    fake = write_fake(tmp_path, OmegaConf.to_container(cfg.data, resolve=True))
    datamodule = build_datamodule(on_fake_files(cfg, fake, tmp_path))
    datamodule.setup()
    real, expected = next(iter(datamodule.train_dataloader())), batch_of(stand_in_of(cfg), 1)
    assert different(real, expected) == []
    assert fake.training > 1000 and fake.disk > 1e8
    wider = {name: value[..., :1] if torch.is_tensor(value) else value for name, value in expected.items()}
    assert different(real, wider) and different({}, expected)


def test_a_mistake_is_the_table_s_verdict() -> None:
    found = rehearsed("qvhighlights_lcaam", ["task.widht=3"], ONE)
    assert found.wrong[0].startswith("task.widht: unknown key; did you mean 'width'?")
    found = rehearsed("qvhighlights_lcaam", ["scale=mini"], ONE)
    assert found.wrong == ["scale=mini: it generates its own data, so run it instead of rehearsing it"]


@pytest.mark.parametrize("experiment", [slow(name) for name in options("experiment")])
def test_every_experiment_can_be_rehearsed(experiment: str) -> None:
    found = rehearsed(experiment, [], ONE)
    assert found.wrong == [] and len(found.rows) == 9


def test_a_small_rehearsal_writes_its_page_and_says_why_a_step_was_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    page = tmp_path / "page.md"
    small = ["data.max_clips=8", "task.width=32", "task.heads=4", "task.feedforward=32", "mask.depth=2"]
    given = ["experiment=qvhighlights_lcaam", *small, "--memory", "0.0001", "--out", str(page)]
    assert main(given) == 1  # a device of 100 kB is too small
    text = page.read_text(encoding="utf-8")
    assert "**memory: 0." in text and "first 3 steps, small model | loss" in text
    assert capsys.readouterr().out.strip() in text
    assert "on the CPU" in text  # matching predictions to windows needs values
    assert re.search(r"cannot be followed on the meta device: \w+Error: \w", caplog.text)


@pytest.mark.parametrize(
    ("given", "message"),
    [("--experiment=x", "unrecognized arguments"), ("experiment=madv2_lcam", "did you mean 'madv2_lcaam'?"),
     ("--utilisation 1.5", "more than 1"), ("madv2_lcaam", "write experiment=madv2_lcaam")],
)  # fmt: skip
def test_bad_arguments_are_named(given: str, message: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(given.split())
    assert message in capsys.readouterr().err
