"""DeiT's recipe: mixing, what decays, layer-wise rates, the moving average and resumed runs."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tasks.image_classification.mixing import Mixing
from tasks.image_classification.optimisation import adamw_by_layer
from tests.tasks.image_classification.small import CLASSES, Pictures, build, fit, pictures

MODES = ["batch", "pair", "elem"]


def share_of(image, one, other):
    """The share of `other` in `image`, if both pictures have one value each: 0 = `one`, 1 = `other`."""
    return ((image - one) / (other - one)).mean().item()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 0.5}])
@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_targets_are_the_shares_of_the_pixels(mode, how, size):
    """Picture i is i + 1 everywhere, so a mixture's pixels say how much of which picture is in it."""
    images = (torch.arange(size) + 1.0)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()
    labels = torch.arange(size)
    mixed, targets = Mixing(size + 3, mode=mode, smoothing=0.0, **({"mixup": 0.0, "cutmix": 0.0} | how))(
        images, labels, (size,)
    )
    assert torch.equal(images[:, 0, 0, 0], torch.arange(size) + 1.0), "the batch itself stays as it is"
    torch.testing.assert_close(targets.sum(1), torch.ones(size))
    for i in range(size):
        partner = size // 2 * 2 - 1 - i
        if i == size - 1 and size % 2:
            assert torch.equal(mixed[i], images[i]) and targets[i, i] == 1, "the odd one out is not mixed"
            continue
        share = share_of(mixed[i], images[i], images[partner])
        assert targets[i, partner].item() == pytest.approx(share, abs=1e-4)
        assert targets[i, i].item() == pytest.approx(1 - share, abs=1e-4)


def test_cutmix_pastes_a_rectangle_and_mixup_blends():
    images = torch.tensor([1.0, 2.0])[:, None, None, None].expand(-1, 3, 16, 16)
    cut, _ = Mixing(2, mixup=0.0, cutmix=1.0)(images, torch.arange(2), (1, 0))
    assert set(cut.unique().tolist()) == {1.0, 2.0}
    inside = (cut[0, 0] == 2).nonzero()
    low, high = inside.min(0).values, inside.max(0).values
    assert len(inside) == (high - low + 1).prod()
    blended, _ = Mixing(2, mixup=1.0, cutmix=0.0)(images, torch.arange(2), (1, 0))
    assert len(blended[0].unique()) == 1 and 1 < blended[0, 0, 0, 0] < 2


def test_a_mixture_depends_on_its_draw_alone_and_disturbs_no_random_number():
    batch, mixing = pictures(6), Mixing(CLASSES, mixup=0.8, cutmix=1.0)
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    first = [mixing(batch["image"], batch["label"], (2**63, 0, draw))[0] for draw in range(4)]
    assert (np.random.rand(3) == expected).all()
    again = [mixing(batch["image"], batch["label"], (2**63, 0, draw))[0] for draw in range(4)]
    assert all(map(torch.equal, first, again))
    assert not any(torch.equal(first[0], other) for other in first[1:])


def test_without_mixing_images_stay_and_smoothing_spreads_over_all_classes():
    batch = pictures(5)
    images, targets = Mixing(CLASSES, mixup=0.0, cutmix=0.0, smoothing=0.1)(batch["image"], batch["label"], (0,))
    assert torch.equal(images, batch["image"])
    expected = torch.full((5, CLASSES), 0.1 / CLASSES)
    expected[torch.arange(5), batch["label"]] += 0.9
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize("size", [1, 20, 21])
def test_a_batch_of_any_size_trains_with_everything_on(size, tmp_path):
    module = build("per_layer", mixup=0.8, cutmix=1.0, smoothing=0.1, drop_path=0.3, ema=0.9, layer_decay=0.7)
    fit(module, tmp_path, steps=3, data=Pictures(count=size + 8))
    assert np.isfinite(module.last_train_loss)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_each_parameter_gets_its_decay_and_its_rate_once(layer_decay):
    vit = build("per_layer").vit
    optimiser = adamw_by_layer(vit, 0.1, 0.05, (0.9, 0.99), 0.0, 10, layer_decay)["optimizer"]
    names = {id(parameter): name for name, parameter in vit.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    assert set(found) == set(names.values())
    assert sum(len(group["params"]) for group in optimiser.param_groups) == len(names)
    for name, parameter in vit.named_parameters():
        plain = parameter.dim() <= 1 or name in ("pos_embed", "cls_token")
        depth = 0 if name.startswith(("cls_token", "pos_embed", "patch_embed")) else 3
        depth = int(name.split(".")[1]) + 1 if name.startswith("blocks.") else depth
        rate, decay = found[name]
        assert decay == (0.0 if plain else 0.05), name
        if name.startswith("norm."):
            continue  # timm's version says whether it goes with the head or with the last block
        assert rate == pytest.approx(0.1 * layer_decay ** (3 - depth)), name


def test_the_rate_warms_up_and_follows_half_a_cosine():
    made = adamw_by_layer(build().vit, 1.0, 0.05, (0.9, 0.99), 0.2, 10, 0.5)
    optimiser, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    head, rates = max(range(len(optimiser.param_groups)), key=lambda i: optimiser.param_groups[i]["lr"]), []
    for _ in range(10):
        rates.append(optimiser.param_groups[head]["lr"])
        assert optimiser.param_groups[0]["lr"] == pytest.approx(rates[-1] * 0.5**3)
        optimiser.step()
        schedule.step()
    expected = [0.5, 1.0] + [0.5 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    assert rates == pytest.approx(expected)


class Weights(pl.Callback):
    """The trained weights after every optimiser step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        if trainer.global_step > len(self.seen):
            self.seen.append([parameter.detach().clone() for parameter in pl_module.vit.parameters()])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_average_is_the_recursion_over_optimiser_steps(accumulate, tmp_path):
    module, weights = build("per_layer", ema=0.8), Weights()
    fit(module, tmp_path, steps=5, callbacks=[weights], accumulate_grad_batches=accumulate)
    assert len(weights.seen) == 5
    expected = weights.seen[0]
    for step in weights.seen[1:]:
        expected = [0.8 * old + 0.2 * new for old, new in zip(expected, step, strict=True)]
    for found, wanted in zip(module.average.module.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
        assert not found.requires_grad


def test_the_average_is_what_is_tested_and_analysed(tmp_path):
    module = build("shared", ema=0.99)
    trainer = fit(module, tmp_path, steps=30)
    trainer.test(module, Pictures(), verbose=False)
    module.eval()
    image = pictures()["image"]
    assert not torch.equal(module.vit(image), module(image))
    assert torch.equal(module(image), module.average.module(image))
    found = module(image).argmax(-1).tolist()
    assert [row["predicted"] for row in module.predictions] == found
    mask = module.average.module.lcaam.masks.nets[0](module.average.module.patch_embed(image)[:, :1]).dense()
    assert torch.isfinite(mask).all()


@pytest.mark.parametrize("step", [4, 6])
def test_a_run_taken_up_again_is_bitwise_the_run_that_went_on(step, tmp_path):
    """At the end of an epoch and in the middle of one."""
    options = dict(ema=0.9, layer_decay=0.7, warmup=0.2, smoothing=0.1, mixup=0.8, cutmix=1.0)
    whole, again = (build("per_layer", seed=seed, **options) for seed in (0, 5))
    saver = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=step, save_top_k=-1, filename="{step}")
    pl.seed_everything(1, verbose=False)
    fit(whole, tmp_path, steps=11, data=Pictures(steps=4), callbacks=[saver])
    pl.seed_everything(1, verbose=False)
    fit(again, tmp_path, steps=11, data=Pictures(steps=4), ckpt_path=tmp_path / f"step={step}.ckpt")
    assert again.average.n_averaged == whole.average.n_averaged == 11
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
