"""Every shipped YAML builds what it names, at the paper's size on the meta device (no memory, no weights)."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from configs.errors import ConfigError
from configs.schema import validate
from tasks.common.build import build, build_all, build_trainer
from tasks.common.published import published
from tests.composing import facts_of
from tests.configs.test_every_yaml import SCALES, experiment_of, options
from tests.tiers import slow

Compose = Callable[..., DictConfig]

NEIGHBOURS = {  # data sets of moments and highlights beside QVHighlights, and the tokens of their queries
    "charades_sta": 32, "tacos": 100, "activitynet_captions": 32, "tvsum": 100, "youtube_highlights": 100,
    "clotho_moment": 32,
}  # fmt: skip
PAPER_MASKS = {  # parameters at the paper's scale
    "madv2_baseline": 0,
    "madv2_lcaam": 142_049_680 // 8,
    "madv2_multi_lcaam": 142_049_680,
    "imagenet1k_baseline": 0,
    "imagenet1k_lcaam": 222_725,
    "imagenet1k_multi_lcaam": 2_672_700,
    "imagenet1k_finetune": 222_725,
    "cifar10_baseline": 0,
    "cifar10_lcaam": 34_145,
    "cifar10_multi_lcaam": 12 * 34_145,
    "image_folder_baseline": 0,
    "image_folder_lcaam": 148_997,
    "image_folder_multi_lcaam": 12 * 148_997,
    "qvhighlights_baseline": 0,
    "qvhighlights_lcaam": 2_047_776,
    "qvhighlights_multi_lcaam": 2 * 2_047_776,
    **{f"{name}_baseline": 0 for name in NEIGHBOURS},
    **{f"{name}_lcaam": 31 * 256 * 257 + 257 * tokens for name, tokens in NEIGHBOURS.items()},
    **{f"{name}_multi_lcaam": 2 * (31 * 256 * 257 + 257 * tokens) for name, tokens in NEIGHBOURS.items()},
    "clip_moments_baseline": 0,
    "clip_moments_lcaam": 2_047_776,
    "clip_moments_multi_lcaam": 2 * 2_047_776,
    "msrvtt_baseline": 0,
    "msrvtt_lcaam": 345_666,
    "msrvtt_multi_lcaam": 12 * 345_666,
    "shakespeare_baseline": 0,
    "shakespeare_lcaam": 384 * 192 + 192 + 192 * 192 + 192 + 192 * 256 + 256,
    "shakespeare_multi_lcaam": 6 * (384 * 192 + 192 + 192 * 192 + 192 + 192 * 256 + 256),
}


def build_task(cfg: DictConfig):
    """What train.py would build, without data; a language model of LLaMA-7B's size has random weights."""
    if cfg.task.get("llm", {}).get("pretrained") is not None:
        cfg.task.llm = {"config": {}, "vocab_size": 128}  # LlamaConfig's defaults are LLaMA-7B
    if cfg.task.get("pretrained"):
        cfg.task.pretrained = False
    if cfg.task.get("tokenizer") is not None:
        cfg.task.tokenizer, cfg.task.backbone.weights = None, None
    mask = OmegaConf.to_container(cfg.mask, resolve=True)
    with torch.device("meta"):
        return build(cfg.task, mask=mask, facts=facts_of(cfg))


def check(cfg: DictConfig) -> None:
    """Valid, and every value is there."""
    validate(cfg)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


def tier(experiment: str, scale: str):
    """At the small scales one experiment per task with a mask and one without are enough for the fast tests, and one of
    a data set with a recipe of its own; of the language model, whose scales differ in sizes alone, one scale is."""
    fast = scale == "paper" or not experiment.endswith("_lcaam") or experiment.endswith("multi_lcaam")
    if experiment.startswith("image_folder_"):
        fast = (experiment, scale) == ("image_folder_multi_lcaam", "paper")
    if experiment.startswith("cifar10_"):
        fast = (experiment, scale) in (("cifar10_multi_lcaam", "mini"), ("cifar10_multi_lcaam", "paper"))
    if experiment.startswith("clip_moments_"):
        fast = experiment == "clip_moments_multi_lcaam"
    if experiment.startswith("shakespeare"):
        fast = experiment.endswith("multi_lcaam") and scale == "paper"
    if experiment.startswith(tuple(NEIGHBOURS)):  # they differ in their data alone
        fast = scale == "paper" and experiment.endswith("multi_lcaam")
    return (experiment, scale) if fast else slow(experiment, scale)


@pytest.mark.parametrize("experiment, scale", [tier(one, scale) for one in options("experiment") for scale in SCALES])
def test_every_experiment_builds_at_every_scale(compose_run: Compose, experiment: str, scale: str) -> None:
    cfg = compose_run(f"experiment={experiment}", f"scale={scale}")
    check(cfg)
    assert cfg.name == experiment
    assert cfg.scale_name == scale
    assert cfg.floors.enabled == (scale != "paper")
    assert published(cfg) == (dict(cfg.paper) if scale == "paper" else {})
    build(cfg.data)
    parts = build_task(cfg).parts()
    assert (parts["masks"] > 0) == (cfg.mask.scope != "none")
    if scale == "paper":
        assert parts["masks"] == PAPER_MASKS[experiment]


def pairs():
    """Every mask with every task; in the slow tier those that tests/tasks/test_pairing.py builds as well."""
    for mask, task in itertools.product(options("mask"), options("task")):
        yield slow(mask, task) if task == "language_model" and mask != "blocks" else (mask, task)


@pytest.mark.parametrize(("mask", "task"), list(pairs()))
def test_every_mask_builds_for_every_task(compose_run: Compose, mask: str, task: str) -> None:
    cfg = compose_run(f"experiment={experiment_of('task', task)}", "scale=mini")
    cfg.mask = compose_run(f"mask={mask}", "scale=mini").mask
    if mask == "blocks" and not get_class(cfg.task._target_).modalities:
        with pytest.raises(ConfigError, match="mask.kind: blocks is not applicable: .* are of one modality"):
            check(cfg)
        with pytest.raises(ValueError, match="tokens are of one modality, so there are no blocks"):
            build_task(cfg)
        return
    check(cfg)
    build_task(cfg)


@pytest.mark.parametrize("group", ["callbacks", "debug"])
def test_every_callback_and_debug_setting_builds(compose_run: Compose, group: str) -> None:
    for option in options(group):
        cfg = compose_run(f"{group}={option}", "scale=mini", "logger=csv")
        build_trainer(cfg)


@pytest.mark.parametrize("option", options("logger"))
def test_every_logger_builds(compose_run: Compose, option: str) -> None:
    if option == "tensorboard":
        pytest.importorskip("tensorboard", reason="TensorBoard is optional")
    cfg = compose_run(f"logger={option}", "scale=mini")
    check(cfg)
    assert build_all(cfg.logger)


@pytest.mark.parametrize("option", options("trainer"))
def test_every_trainer_builds(compose_run: Compose, option: str) -> None:
    cfg = compose_run(f"trainer={option}", "logger=csv", "callbacks=none")
    check(cfg)
    if not torch.cuda.is_available():
        cfg.trainer.accelerator, cfg.trainer.devices, cfg.trainer.precision = "cpu", 1, "32-true"
    build_trainer(cfg)
