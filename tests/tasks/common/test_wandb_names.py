"""Names that W&B can filter by: all tasks' names, without two that become one."""

import re
from importlib import import_module

import pytest

from tasks.common.wandb_names import clashes, wandb_name
from tasks.common.wandb_runs import best_of, leaves, summary

TASKS = {
    "audio_description": "AudioDescription",
    "moment_retrieval": "MomentRetrieval",
    "image_classification": "ImageClassification",
    "video_captioning": "VideoCaptioning",
    "language_model": "LanguageModel",
}
STATISTICS = ("attention_below_0.01", "context_sensitivity", "sign_flips", "token_deviation", "effective_rank")


def names_of(task: str) -> list[str]:
    """Everything that a run of the task may log."""
    module = import_module(f"tasks.{task}.module")
    cls = getattr(module, TASKS[task])
    found = [*cls.logged, *(f"test/{name}" for name in (*cls.headline, "loss"))]
    found += [
        f"floors/{kind}/{name}" for kind in ("constant", "input_blind", "linear", "ceiling") for name in cls.headline
    ]
    found += [f"paper/{name}" for name in cls.headline]
    return [*found, *(f"analysis/layer {n}/{kind}" for n in (1, 11) for kind in STATISTICS)]


@pytest.mark.parametrize("task", TASKS)
def test_no_two_names_of_a_task_become_one_and_all_can_be_filtered(task: str) -> None:
    names = names_of(task)
    assert len(set(names)) > 35
    assert clashes(names) == []
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_/]+", wandb_name(name)), name
        assert wandb_name(wandb_name(name)) == wandb_name(name)
        assert wandb_name(name).split("/")[0] == name.split("/")[0]  # the section that W&B puts it into


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val/loss", "val/loss"),
        ("test/R1@0.5", "test/R1_at_0_5"),
        ("test/mAP@0.75", "test/mAP_at_0_75"),
        ("test/HD mAP", "test/HD_mAP"),
        ("test/R@5/16[rougeL]", "test/R_at_5_of_16_rougeL"),
        ("figures/mask_layer 1", "figures/mask_layer_1"),
        ("lr-AdamW/pg1", "lr_AdamW/pg1"),
        ("trainer/global_step", "trainer/global_step"),
    ],
)
def test_names_that_users_look_for(name: str, expected: str) -> None:
    assert wandb_name(name) == expected


def test_two_names_that_would_become_one_are_found() -> None:
    assert clashes(["a b", "c", "a_b", "a b", "c/1/2", "c/1_of_2"]) == [("a b", "a_b"), ("c/1/2", "c/1_of_2")]


def test_scores_are_best_at_their_largest_and_losses_at_their_smallest() -> None:
    from tasks.language_model.module import LanguageModel
    from tasks.moment_retrieval.module import MomentRetrieval
    from tasks.video_captioning.module import VideoCaptioning

    best = best_of(MomentRetrieval)
    assert all(name.startswith("val/") for name in best)
    assert best["val/mAP"] == best["val/R1@0.5"] == best["val/HIT@1"] == "max"
    assert best["val/loss"] == best["val/giou"] == best["val/class_error"] == "min"
    assert best_of(VideoCaptioning)["val/cider"] == "max" and best_of(VideoCaptioning)["val/loss"] == "min"
    assert set(best_of(LanguageModel).values()) == {"min"}


def test_the_summary_holds_floors_costs_and_published_figures_as_numbers() -> None:
    record = {
        "metrics": {"R1@0.5": 40.0, "test_loss": 5.0, "mAP long": None},
        "floors": {"constant": {"R1@0.5": 12.5}, "ceiling": {}},
        "paper": {"R1@0.5": "62.40 ± 0.3", "mAP": "not recorded"},
        "analysis": {"layer 1/sign_flips": 0.25},
        "parameters": {"encoder": 100, "masks": 7},
        "flops": None,
        "seconds": {"fit": 3.5},
        "peak_memory": {"process": 1000},
    }
    assert summary(record) == {
        "test/R1_at_0_5": 40.0,
        "test/loss": 5.0,
        "floors/constant/R1_at_0_5": 12.5,
        "paper/R1_at_0_5": 62.4,
        "paper/mAP": "not recorded",
        "analysis/layer_1/sign_flips": 0.25,
        "parameters/encoder": 100,
        "parameters/masks": 7,
        "parameters/total": 107,
        "seconds/fit": 3.5,
        "peak_memory/process": 1000,
    }
    assert list(leaves({"a": {"b": {"c": 0}}, "d": None})) == [("a/b/c", 0)]
