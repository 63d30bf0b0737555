"""The classifier as a Lightning module: what it computes, learns, reports and keeps."""

import math

import pytest
import pytorch_lightning as pl
import timm
import torch
from torch.nn.functional import cross_entropy

from configs.errors import ConfigError
from tasks.image_classification.module import ImageClassification
from tests.lcaam.names import FUSIONS, SCOPES
from tests.tasks.image_classification.small import (
    CLASSES,
    FACTS,
    QUIET,
    SIZES,
    Pictures,
    build,
    fit,
    mask_node,
    pictures,
)

WIDE = SIZES | {"embed_dim": 48}  # wide enough for controls to match a mask


@pytest.mark.parametrize(
    "name", ["deit_small_patch16_224", pytest.param("vit_base_patch16_224", marks=pytest.mark.slow)]
)
def test_without_masks_logits_equal_timms_bit_for_bit(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    facts = {"classes": 1000, "image_size": 224, "class_names": None, "train_counts": [1] * 1000}
    module = ImageClassification(mask=mask_node(), facts=facts, lr=1e-3, model_name=name).eval()
    assert module.vit.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(module(images), theirs(images))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_identity_masks_leave_the_logits_of_the_same_weights(scope, fusion):
    plain, masked = build().eval(), build(scope, fusion).eval()
    loaded = masked.vit.load_state_dict(plain.vit.state_dict(), strict=False)
    assert loaded.missing_keys and all(key.startswith("lcaam.") for key in loaded.missing_keys)
    torch.testing.assert_close(masked(pictures()["image"]), plain(pictures()["image"]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scope", ["none", *SCOPES])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_parameter_gets_a_gradient_from_the_second_step_on(scope, fusion):
    module = build(scope, fusion)
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        module.log = lambda *args, **kwargs: None
        module.training_step(pictures(), 0).backward()
        optimiser.step()
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


@pytest.mark.parametrize("changes", [{"control": "extra_linear"}, {"control": "extra_layers"}, {"kind": "static"}])
def test_controls_and_static_masks_get_gradients_everywhere(changes):
    """A static mask leaves the class token alone, so a last layer's own table would decide nothing: scope shared."""
    scope = "shared" if changes.get("kind") == "static" else "per_layer"
    module = build(scope, "gate", model_options=WIDE, mask_changes={"hidden": None, **changes})
    module.log = lambda *args, **kwargs: None
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        module.training_step(pictures(), 0).backward()
        optimiser.step()
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_it_learns_a_batch_by_heart_and_reports_everything(tmp_path):
    module = build("per_layer")
    trainer = fit(module, tmp_path, steps=150)
    trainer.test(module, Pictures(), verbose=False)
    batch = pictures()
    logits = module.eval()(batch["image"])

    right = (logits.argmax(-1) == batch["label"]).double().mean().item()
    assert right > 0.9
    assert module.test_metrics["top1"] == pytest.approx(100 * right, abs=1e-4)
    among = (logits.topk(5).indices == batch["label"][:, None]).any(1).double().mean().item()
    assert module.test_metrics["top5"] == pytest.approx(100 * among, abs=1e-4)
    assert module.test_metrics["test_loss"] == pytest.approx(cross_entropy(logits, batch["label"]).item(), rel=1e-5)
    assert module.test_metrics["train_loss"] > 0
    assert [row["name"] for row in module.predictions] == batch["name"]
    for row, its in zip(module.predictions, logits.softmax(-1), strict=True):
        assert row["top5"] == its.argsort(descending=True)[:5].tolist()
        assert row["predicted"] == row["top5"][0]
        assert row["probability"] == pytest.approx(its.max().item(), rel=1e-5)

    scores = module.reference_scores(Pictures())
    assert scores["constant"]["top1"] == pytest.approx(100 * 3 / 21), "class 4 is the most frequent in training"
    assert scores["constant"]["top5"] == pytest.approx(100 * 15 / 21), "and 4, 0, 1, 2, 3 are the first five"
    assert scores["linear"] == {"top1": 25.0}
    assert scores["ceiling"]["top1"] == pytest.approx(100 * 18 / 21)

    path = tmp_path / "whole.ckpt"
    trainer.save_checkpoint(path)
    again = ImageClassification.load_from_checkpoint(path, weights_only=True, map_location="cpu").eval()
    assert torch.equal(again(batch["image"]), logits)


@pytest.mark.parametrize("classes", [2, 5, 6])
def test_top5_is_reported_only_where_five_of_the_classes_are_not_all(classes, tmp_path):
    module = build(facts={"classes": classes, "train_counts": [1] * classes})

    class Few(Pictures):
        def test_dataloader(self):
            return torch.utils.data.DataLoader([pictures(11, classes=classes)], batch_size=None)

    pl.Trainer(default_root_dir=tmp_path, **QUIET).test(module, Few(), verbose=False)
    assert ("top5" in module.test_metrics) == (classes > 5)
    assert all(len(row["top5"]) == min(5, classes) for row in module.predictions)


def test_a_blind_model_reads_nothing(tmp_path):
    module = build(blind=True)
    trainer = fit(module, tmp_path, steps=3)
    trainer.test(module, Pictures(), verbose=False)
    assert len({(row["predicted"], row["probability"]) for row in module.predictions}) == 1
    seen = build(seed=0)
    pl.Trainer(default_root_dir=tmp_path, **QUIET).test(seen, Pictures(), verbose=False)
    assert len({row["probability"] for row in seen.predictions}) > 1


def test_the_seed_and_nothing_else_decides(tmp_path):
    def trained(seed):
        pl.seed_everything(seed, verbose=False)
        module = build("shared", seed=seed, mixup=0.8, cutmix=1.0, drop_path=0.2)
        fit(module, tmp_path, steps=5)
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])

    first = trained(1)
    assert torch.equal(trained(1), first)
    assert not torch.equal(trained(2), first)


def test_smoothing_is_of_the_training_loss_alone(tmp_path):
    module = build(smoothing=0.3).eval()
    module.log = lambda *args, **kwargs: None
    batch = pictures()
    log_odds = module(batch["image"]).log_softmax(-1)
    right = log_odds[torch.arange(21), batch["label"]]
    expected = -(0.7 * right + 0.3 * log_odds.mean(-1)).mean()
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    del module.log
    trainer = pl.Trainer(default_root_dir=tmp_path, **QUIET)
    trainer.validate(module, Pictures(), verbose=False)
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(-right.mean().item(), rel=1e-5)


def test_gradient_checkpointing_changes_no_gradient():
    found = []
    for checkpointing in (False, True):
        module = build("per_layer", grad_checkpointing=checkpointing, mask_changes={"init": "default"})
        module.log = lambda *args, **kwargs: None
        module.training_step(pictures(), 0).backward()
        found.append([parameter.grad for parameter in module.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_static_masks_train_with_their_sparsity_loss(tmp_path):
    module = build("shared", "gate", mask_changes={"kind": "static", "sparsity": 10.0})
    before = module.vit.lcaam.masks.sparsity_loss().item()
    fit(module, tmp_path, steps=20)
    assert module.vit.lcaam.masks.sparsity_loss().item() < before


def test_parts_add_up():
    module = build("per_layer", ema=0.9)
    counts = module.parts()
    assert sum(counts.values()) == sum(p.numel() for p in module.vit.parameters())
    assert counts["head"] == 12 * CLASSES + CLASSES
    assert counts["masks"] == 2 * ((12 * 5 + 5) + (5 * 5 + 5) + (5 * 10 + 10))
    assert build().parts()["masks"] == 0


@pytest.mark.parametrize("control", ["extra_linear", "extra_layers"])
def test_controls_take_the_masks_place_with_as_many_parameters(control):
    masked, module = (
        build("per_layer", model_options=WIDE, mask_changes={"hidden": None, "control": instead})
        for instead in ("none", control)
    )
    assert module.parts()["masks"] == 0
    assert module.parts()["controls"] == pytest.approx(masked.parts()["masks"], rel=0.005)
    assert {**module.parts(), "controls": 0} == {**masked.parts(), "masks": 0}


def test_flops_are_those_of_the_products_written_out():
    """2 per multiply-add: patches, blocks (qkv, scores, values, output, feed-forward), head; then the masks."""
    tokens, dim, patch = 10, 12, 4 * 4 * 3
    block = tokens * dim * 3 * dim + 2 * tokens * tokens * dim + tokens * dim * dim + 2 * tokens * dim * 2 * dim
    plain = 2 * (9 * patch * dim + 2 * block + dim * CLASSES)
    assert build().flops(pictures()) == plain
    mask = 2 * tokens * (dim * 5 + 5 * 5 + 5 * tokens)
    assert build("per_layer").flops(pictures()) == plain + 2 * mask
    assert build().vit.lcaam.backend == "auto"


def test_analysis_holds_every_layers_mask_and_attention():
    found = build("per_layer").eval().analyse(pictures())
    assert list(found["masks"]) == list(found["attention"]) == ["layer 1", "layer 2"]
    assert found["masks"]["layer 1"].shape == (10, 10)
    assert found["attention"]["layer 2"].shape == (21 * 3 * 10 * 10,)
    assert found["tokens"] == {"boundaries": [1], "labels": ["class", "patches"]}
    assert found["statistics"]["layer 2/sign_flips"] == 0.0, "the identity starts at 1 everywhere"
    assert build().eval().analyse(pictures())["masks"] == {}


RANGES = {
    "drop_path": [1.0, -0.1],
    "layer_decay": [0.0, 1.1],
    "mixup": [-1.0, math.inf],
    "cutmix": [-0.5],
    "mix_probability": [1.5],
    "mix_switch": [-0.5],
    "smoothing": [1.0],
    "ema": [1.0, 0.0],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in RANGES.items() for value in values])
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"task\.{name}: {value} is out of range; allowed: "):
        build(**{name: value})


def test_facts_are_kept_with_the_weights():
    assert build().hparams["facts"] == FACTS
