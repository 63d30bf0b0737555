"""Binary cross-entropy, training the head alone, and tests among the tested classes."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from configs.errors import ConfigError
from tests.tasks.image_classification.small import CLASSES, Pictures, build, fit, pictures


def loss_of(**changes) -> torch.Tensor:
    return build(**changes).training_loss(pictures(), 0)


def test_bce_asks_of_every_class():
    module, batch = build(loss="bce"), pictures()
    expected = binary_cross_entropy_with_logits(module.vit(batch["image"]), one_hot(batch["label"], CLASSES).float())
    torch.testing.assert_close(module.training_loss(batch, 0), expected)


def test_a_threshold_makes_hard_targets_of_smoothed_ones():
    from timm.loss import BinaryCrossEntropy

    module, batch = build(loss="bce", smoothing=0.1, bce_threshold=0.2), pictures()
    timms = BinaryCrossEntropy(smoothing=0.1, target_threshold=0.2)
    torch.testing.assert_close(module.training_loss(batch, 0), timms(module.vit(batch["image"]), batch["label"]))
    assert not torch.equal(loss_of(loss="bce", smoothing=0.1), loss_of(loss="bce", smoothing=0.1, bce_threshold=0.2))
    with pytest.raises(ConfigError, match=r"bce_threshold=0\.2 does nothing with task\.loss=cross_entropy"):
        build(bce_threshold=0.2)


@pytest.mark.parametrize(("part", "moves"), [("head", ("head.",)), ("head_and_masks", ("head.", "lcaam."))])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_only_the_named_part_is_trained(tmp_path, part, moves, layer_decay):
    module = build("per_layer", trains=part, layer_decay=layer_decay, lr=0.05, ema=0.5)
    before = {name: value.clone() for name, value in module.vit.state_dict().items()}
    fit(module, tmp_path, steps=3)
    moved = {name for name, value in module.vit.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all(name.startswith(moves) for name in moved)
    assert {name.split(".")[0] + "." for name in moved} == set(moves)


def test_masks_that_are_not_there_cannot_be_trained():
    with pytest.raises(ConfigError, match=r"task\.trains: head_and_masks, but mask=none"):
        build(trains="head_and_masks")


class Few(Pictures):
    """Test images of classes 2 and 5 alone."""

    def test_dataloader(self):
        batch = pictures(20)
        batch["label"] = torch.tensor([2, 5])[torch.arange(20) % 2]
        return torch.utils.data.DataLoader([batch], batch_size=None)

    def tested_classes(self):
        return torch.tensor([2, 5])


def test_a_test_may_choose_among_the_tested_classes_alone(tmp_path):
    module = build(among="tested")
    trainer = fit(module, tmp_path, steps=2)
    trainer.test(module, Few(), verbose=False)
    assert {row["predicted"] for row in module.predictions} <= {2, 5}
    logits = module.eval()(pictures(20)["image"])[:, [2, 5]]
    labels = torch.arange(20) % 2
    assert module.test_metrics["top1"] == pytest.approx(
        100 * (logits.argmax(1) == labels).double().mean().item(), abs=1e-4
    )
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert module.test_metrics["test_loss"] == pytest.approx(loss, rel=1e-5)
