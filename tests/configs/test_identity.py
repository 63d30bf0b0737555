"""A run's identity: the same for what cannot change results, another for what can, and the same in every process."""

import pytest
from omegaconf import OmegaConf

from configs.identity import differences, identity

SMOKE = ("experiment=qvhighlights_lcaam", "scale=smoke")


@pytest.mark.parametrize(
    "change",
    [
        "seed=1",
        "task.lr=0.5",
        "mask.fusion=add",
        "data.batch_size=3",
        "trainer.max_steps=7",
        "trainer.accumulate_grad_batches=2",
        "test_checkpoint=best",
        "callbacks=early_stopping",
        "name=another",
    ],
)
def test_what_can_change_results_changes_the_identity(compose_run, change):
    run, other = compose_run(*SMOKE), compose_run(*SMOKE, change)
    assert identity(run) != identity(other)
    assert differences(run, other) and not differences(run, run)


@pytest.mark.parametrize(
    "change",
    [
        "paths.log_dir=elsewhere",
        "data.num_workers=3",
        "resume=some.ckpt",
        "floors.enabled=false",
        "logger=many",
        "callbacks.figures=null",
        "callbacks.checkpoint.monitor=train/loss",
        "trainer.log_every_n_steps=9",
        "trainer.gradient_clip_val=1",
    ],
)
def test_what_cannot_change_results_does_not_change_it(compose_run, change):
    assert identity(compose_run(*SMOKE)) == identity(compose_run(*SMOKE, change))


def test_the_checkpoint_rule_counts_where_the_best_weights_are_tested(compose_run):
    best = (*SMOKE, "test_checkpoint=best")
    assert identity(compose_run(*best)) != identity(compose_run(*best, "callbacks.checkpoint.mode=max"))


def test_real_data_may_be_moved_but_is_not_other_data(compose_run):
    real = ("experiment=qvhighlights_lcaam",)
    assert identity(compose_run(*real)) == identity(compose_run(*real, "paths.data_dir=/elsewhere"))
    assert identity(compose_run(*real)) != identity(compose_run(*real, "data.root=/elsewhere/other_features"))


def test_a_saved_configuration_gives_the_same(compose_run, tmp_path):
    cfg = compose_run(*SMOKE)
    saved = tmp_path / "config.yaml"
    saved.write_text(OmegaConf.to_yaml(cfg, resolve=True), encoding="utf-8")
    assert identity(OmegaConf.load(saved)) == identity(cfg) == identity(OmegaConf.to_container(cfg, resolve=True))


def test_a_difference_names_the_key_and_both_values(compose_run):
    run, other = compose_run(*SMOKE), compose_run(*SMOKE, "task.lr=0.5", "+task.unheard=1")
    assert differences(run, other) == [("task.lr", run.task.lr, 0.5), ("task.unheard", "-", 1)]


def test_a_setting_that_has_its_default_is_as_good_as_none(compose_run):
    """So that a run is recognised by later code, which has more settings, and by earlier, which has fewer."""
    run = compose_run(*SMOKE)
    older = OmegaConf.to_container(run, resolve=True)
    left_out = {"task": "aux_loss", "data": "val_split", "mask": "residual"}
    for node, key in left_out.items():
        if key in older[node]:
            older[node].pop(key)
    assert identity(older) == identity(run) and not differences(older, run)
    assert identity({**older, "mask": {**older["mask"], "residual": True}}) != identity(run)
    other = compose_run(*SMOKE, "mask.residual=true")
    assert differences(older, other) == [("mask.residual", "-", True)]
    assert differences(run, other) == [("mask.residual", False, True)]
