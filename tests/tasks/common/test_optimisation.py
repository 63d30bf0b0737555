"""Learning rates: masks and controls have a factor of their own in every task's optimiser."""

from itertools import product
from types import SimpleNamespace

import pytest

from lcaam.plan import additions
from tasks.common.build import build_datamodule, build_module
from tests.tiers import slow

TASKS = ("madv2", "qvhighlights", "imagenet1k", "msrvtt", "shakespeare")
MASKS = ("multi_lcaam", "extra_linear")


def rates(compose_run, *overrides: str) -> tuple[dict[int, tuple[float, float]], set[int], int]:
    """Rate and weight decay by parameter, which parameters are a mask's or a control's, and the number of groups."""
    cfg = compose_run("scale=smoke", *overrides)
    module = build_module(cfg, build_datamodule(cfg))
    module._trainer = SimpleNamespace(estimated_stepping_batches=10, precision_plugin=None)
    groups = module.configure_optimizers()["optimizer"].param_groups
    found = {id(p): (group["initial_lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    names = {id(p): name for name, p in module.named_parameters()}
    own = {names[id(p)] for part in additions(module) for p in part.parameters() if id(p) in found}
    return {names[key]: value for key, value in found.items()}, own, len(groups)


PAIRS = [slow(task, mask) if (task, mask) == ("shakespeare", "extra_linear") else (task, mask)
         for task, mask in product(TASKS, MASKS)]  # fmt: skip


@pytest.mark.parametrize(("task", "mask"), PAIRS)
def test_masks_and_controls_learn_at_a_rate_of_their_own(task: str, mask: str, compose_run):
    choice = (f"experiment={task}_baseline", f"mask={mask}", "mask.depth=12")
    before, own, groups = rates(compose_run, *choice)
    after, _, split = rates(compose_run, *choice, "mask.lr_scale=0.1")

    assert own
    assert groups < split <= 2 * groups
    assert after.keys() == before.keys()
    for name, (rate, decay) in before.items():
        assert after[name] == (pytest.approx(rate * (0.1 if name in own else 1)), decay)


def test_without_a_mask_the_factor_changes_nothing(compose_run):
    before, own, groups = rates(compose_run, "experiment=qvhighlights_baseline")
    after, _, split = rates(compose_run, "experiment=qvhighlights_baseline", "mask.lr_scale=3")

    assert not own
    assert (after, split) == (before, groups)
