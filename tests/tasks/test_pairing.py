"""With one seed, every mask and control, and none, start from the same backbone and see the same batches."""

from functools import cache
from itertools import islice, product
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from lcaam.plan import additions
from tasks.common.build import build_datamodule, build_module
from tasks.common.seeding import seed_run
from tests.composing import CONFIGS, composed
from tests.tiers import slow

TASKS = ("madv2", "qvhighlights", "imagenet1k", "msrvtt", "shakespeare")
MASKS = sorted(path.stem for path in (CONFIGS / "mask").glob("*.yaml") if path.stem != "none")
BATCHES = 3
# additional layers differ from plain attention at the start, as do two forms of SwinBERT's table, which starts closed
OTHER_START = ("extra_layers", "static_swinbert", "static_logsigmoid")
NEAR = {"extra_linear": 0.02}  # of the loss: only the last of its layers starts at 0
ALIKE = ("columns", "offsets", "temperature", "span", "static_logsigmoid")
ONE_MODALITY = {(task, "blocks") for task in ("imagenet1k", "qvhighlights", "shakespeare")}  # there are no blocks
DEEP = {name: ["mask.depth=12"] for name in ("extra_linear", "extra_layers")}  # small masks cannot be matched exactly


class Start:
    """A run before its first step: the parameters that it shares with the baseline, its first batches, its loss."""

    def __init__(self, folder: Path, task: str, mask: str, *overrides: str):
        cfg = composed(folder, f"experiment={task}_baseline", "scale=smoke", f"mask={mask}", "seed=3", *overrides)
        seed_run(cfg.seed)
        data = build_datamodule(cfg)
        module = build_module(cfg, data)
        self.after = torch.get_rng_state()
        data.setup("fit")
        loader = data.train_dataloader()
        self.batches = [tree_leaves(batch) for batch in islice(loader, BATCHES)]
        added = {id(parameter) for part in additions(module) for parameter in part.parameters()}
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]  # an average is not
        self.added = sum(parameter.numel() for parameter in trained if id(parameter) in added)
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters() if id(p) not in added}
        self.parts = module.parts()
        torch.manual_seed(1)  # of dropout and of hidden words
        # in float64: one step of float32 at a loss of 23 is 2e-6, and backends round apart
        first = tree_map(
            lambda t: t.double() if torch.is_tensor(t) and t.is_floating_point() else t, next(iter(loader))
        )
        self.loss = float(module.double().train().training_loss(first, 0).detach())


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("paired")
    return folder, cache(lambda task, *overrides: Start(folder, task, "none", *overrides))


def pairs():
    """Every task with every mask; in the slow tier those that are made like another one."""
    for task, mask in product(TASKS, MASKS):
        alike = mask in ALIKE and task != "qvhighlights"
        alike = alike or (task == "shakespeare" and mask != "multi_lcaam")
        if (task, mask) not in ONE_MODALITY:
            yield slow(task, mask) if alike else (task, mask)


@pytest.mark.parametrize(("task", "mask"), list(pairs()))
def test_every_mask_starts_from_the_baselines_weights_and_sees_its_batches(task: str, mask: str, baseline):
    folder, plain = baseline
    reference, found = plain(task), Start(folder, task, mask, *DEEP.get(mask, ()))

    assert found.added == found.parts["masks"] + found.parts["controls"] > 0
    assert found.weights.keys() == reference.weights.keys()
    unequal = [name for name, value in reference.weights.items() if not torch.equal(found.weights[name], value)]
    assert not unequal
    assert torch.equal(found.after, reference.after)  # what is drawn later, such as dropout, is the same
    for ours, theirs in zip(found.batches, reference.batches, strict=True):
        assert all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(ours, theirs, strict=True))
    if mask not in OTHER_START:
        assert found.loss == pytest.approx(reference.loss, abs=1e-6, rel=NEAR.get(mask, 0.0))


@pytest.mark.parametrize("task", TASKS)
def test_another_seed_is_another_start(task: str, tmp_path: Path):
    first, second = (Start(tmp_path, task, "multi_lcaam", f"seed={seed}") for seed in (3, 4))

    assert any(not torch.equal(first.weights[name], value) for name, value in second.weights.items())
