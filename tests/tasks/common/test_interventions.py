"""eval.py intervention=...: the tasks at smoke, beside the run's own test, and what it refuses."""

import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.saved import open_run
from eval import evaluate
from lcaam.interventions import INTERVENTIONS
from lcaam.pruning import CRITERIA
from tasks.common.build import build
from tasks.common.interventions import MaskIntervention, asked_for
from tests.composing import CONFIGS, composed
from tests.tiers import slow
from train import train

EXPERIMENTS = {  # and a size of batches that leaves no sample alone
    "audio_description": ("madv2_multi_lcaam", "data.eval_batch_size=8"),
    "moment_retrieval": ("qvhighlights_multi_lcaam", "data.eval_batch_size=3"),
    "image_classification": ("imagenet1k_multi_lcaam", "data.eval_batch_size=8"),
    "video_captioning": ("msrvtt_multi_lcaam", "data.eval_batch_size=3"),
    "language_model": ("shakespeare_multi_lcaam", "data.eval_batch_size=5"),
}
LARGE = {  # steps large enough for masks to matter in what these start from
    "language_model": ("task.lr=0.05",),
    "image_classification": ("task.ema=0.1", "task.lr=0.05"),
    "video_captioning": ("task.lr=0.02",),
}
QUICK = ("scale=smoke", "floors.enabled=false", "logger=csv", "callbacks=checkpoint")


def trained(folder: Path, data: Path, task: str, *overrides: str):
    cfg = composed(folder, f"experiment={EXPERIMENTS[task][0]}", *QUICK, *overrides, data=data)
    train(cfg)
    return cfg


def evaluated(cfg, *arguments: str) -> tuple[dict, list[dict], Path]:
    output = evaluate(*open_run(OmegaConf.load(CONFIGS / "eval.yaml"), [f"run={cfg.paths.run_dir}", *arguments]))
    rows = [json.loads(line) for line in (output / "predictions" / "test.jsonl").read_text().splitlines()]
    return json.loads((output / "metrics.json").read_text()), rows, output


@pytest.mark.parametrize("task", [task if task == "moment_retrieval" else slow(task) for task in EXPERIMENTS])
def test_a_run_is_tested_with_other_masks_beside_its_own(task: str, tmp_path: Path, generated: Path) -> None:
    cfg = trained(tmp_path, generated, task, "mask.init=kaiming", "mask.fusion=add", *LARGE.get(task, ()))
    run, batches = Path(cfg.paths.run_dir), EXPERIMENTS[task][1]
    record = (run / "results.json").read_bytes()
    own = json.loads(record)["metrics"]
    losses = [own["test_loss"]]
    for name in INTERVENTIONS:
        found, rows, output = evaluated(cfg, batches, f"intervention={name}")
        more = {"frozen": {"mean_over": len(rows)}, "shuffled": {"seed": 0}}.get(name, {})
        assert found.pop("intervention") == {"name": name, **more}
        assert found.keys() == {"checkpoint", "changes", "evaluation", *own} - {"train_loss"}
        assert output.parent == run / "eval" and output.name.endswith(f"-{name}")
        assert len(rows) == len((run / "predictions" / "test.jsonl").read_text().splitlines())
        losses.append(found["test_loss"])
    for by in CRITERIA:
        found, _, _ = evaluated(cfg, batches, "intervention=pruned", "prune=0.6", f"prune_by={by}")
        assert found["intervention"] == {"name": "pruned", "share": 0.6, "by": by}
        losses.append(found["test_loss"])
    assert min(abs(one - other) for one, other in combinations(losses, 2)) > 1e-6  # rounding makes a tenth of that
    assert (run / "results.json").read_bytes() == record
    with pytest.raises(ConfigError, match=rf"{len(rows)} test samples in batches of {len(rows) - 1} leave one alone"):
        evaluated(cfg, f"data.eval_batch_size={len(rows) - 1}", "intervention=swapped")


@pytest.mark.parametrize("task", [task if task == "image_classification" else slow(task) for task in EXPERIMENTS])
def test_a_table_trains_and_freezing_it_changes_nothing(task: str, tmp_path: Path, generated: Path) -> None:
    cfg = trained(tmp_path, generated, task, "mask=table", "mask.fusion=add")
    record = json.loads((Path(cfg.paths.run_dir) / "results.json").read_text())
    assert record["status"] == "completed" and record["mask"]["kind"] == "table"
    assert record["parameters"]["masks"] > 0
    state = torch.load(Path(cfg.paths.run_dir) / record["checkpoints"]["last"], weights_only=True)["state_dict"]
    tables = [tensor for name, tensor in state.items() if name.endswith("masks.nets.0.change")]
    assert tables and all(table.abs().max() > 0 for table in tables)
    frozen = evaluated(cfg, "intervention=frozen", "mean_over=5")[0]
    assert frozen["intervention"] == {"name": "frozen", "mean_over": 5}
    assert frozen["test_loss"] == pytest.approx(record["metrics"]["test_loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("experiment", "settings", "message"),
    [
        ("madv2_lcaam", {"intervention": "frozn"}, "intervention=frozn: unknown; did you mean 'frozen'"),
        ("madv2_lcaam", {"intervention": "frozen", "mean_over": "0"}, "mean_over=0: allowed: a number of test samples"),
        ("madv2_lcaam", {"intervention": "frozen", "mean_over": "x"}, "mean_over=x: allowed"),
        ("madv2_baseline", {"intervention": "swapped"}, "the run has no masks to change .mask.scope=none"),
        (
            "madv2_baseline",
            {"intervention": "pruned", "prune_by": "mask"},
            "the run has no masks to change .mask.scope",
        ),
        (
            "madv2_lcaam",
            {"intervention": "pruned", "prune_by": "masks"},
            "prune_by=masks: unknown; did you mean 'mask'",
        ),
        (
            "madv2_lcaam",
            {"intervention": "pruned", "prune": "1"},
            "prune=1: allowed: a share of the keys, at least 0 and",
        ),
        ("madv2_lcaam", {"intervention": "pruned", "prune": "x"}, "prune=x: allowed"),
    ],
)
def test_what_is_refused(experiment: str, settings: dict, message: str, tmp_path: Path) -> None:
    cfg = composed(tmp_path, f"experiment={experiment}", "scale=smoke")
    with pytest.raises(ConfigError, match=message):
        asked_for(OmegaConf.merge(OmegaConf.load(CONFIGS / "eval.yaml"), settings), cfg)


@pytest.mark.parametrize("experiment, by", [("madv2_baseline", "attention"), ("madv2_lcaam", "mask")])
def test_keys_are_dropped_by_masks_where_there_are_some(experiment: str, by: str, tmp_path: Path) -> None:
    settings = OmegaConf.merge(OmegaConf.load(CONFIGS / "eval.yaml"), {"intervention": "pruned"})
    found = asked_for(settings, composed(tmp_path, f"experiment={experiment}", "scale=smoke"))
    assert found.describe() == {"name": "pruned", "share": 0.2, "by": by}


@pytest.mark.slow
@pytest.mark.parametrize("task", EXPERIMENTS)
def test_plain_attention_is_pruned_in_every_task(task: str, tmp_path: Path, generated: Path) -> None:
    cfg = trained(tmp_path, generated, task, "mask=none", *LARGE.get(task, ()))
    losses = [evaluated(cfg, "intervention=pruned", f"prune={share}")[0]["test_loss"] for share in (0, 0.4, 0.8)]
    own = json.loads((Path(cfg.paths.run_dir) / "results.json").read_text())["metrics"]["test_loss"]
    assert losses[0] == pytest.approx(own, rel=1e-6)
    assert min(abs(one - other) for one, other in combinations(losses, 2)) > 1e-6


def test_which_attention_of_a_plain_decoder_is_meant_is_not_known(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=qvhighlights_baseline", "scale=smoke", "task.masked=[text_to_video,decoder]")
    facts = {"clips": 24, "tokens": 32, "clip_length": 2.0, "duration": 48.0, "video_dim": 138, "text_dim": 48}
    mask = OmegaConf.to_container(cfg.mask)
    with pytest.raises(ConfigError, match="a decoder without masks cannot be pruned; leave decoder out of task.masked"):
        build(cfg.task, mask=mask, facts=facts).masked_places()
    cfg.task.masked = ["text_to_video"]
    module = build(cfg.task, mask=mask, facts=facts)
    assert module.masked_places() == [module.model.masked()["text_to_video"].masks]


def test_a_mean_is_that_of_one_process() -> None:
    with pytest.raises(ConfigError, match="intervention=frozen: 2 processes would each take the mean over other"):
        MaskIntervention("frozen", 8, 0).on_test_start(SimpleNamespace(world_size=2), None)


def test_no_intervention_is_asked_for_by_default(tmp_path: Path) -> None:
    cfg = composed(tmp_path, "experiment=madv2_lcaam", "scale=smoke")
    assert asked_for(OmegaConf.load(CONFIGS / "eval.yaml"), cfg) is None
