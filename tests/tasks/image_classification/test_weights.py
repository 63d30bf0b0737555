"""What becomes of the head, the masks and the names of a file of weights."""

import logging

import pytest
import torch

from configs.errors import ConfigError
from tasks.common.errors import CheckpointError
from tests.tasks.image_classification.small import FACTS, build, fit, pictures
from tests.tasks.image_classification.test_model import timms, vit

NAMES = list("abcdefg")
NAMED = {"class_names": NAMES, "class_folders": NAMES}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A masked model of seven named classes, and its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    module = build("shared", facts=NAMED, lr=0.05)
    fit(module, folder, steps=4).save_checkpoint(folder / "last.ckpt")
    return module.eval(), str(folder / "last.ckpt")


def again(path, scope="shared", names=NAMES, **changes):
    facts = {"classes": len(names), "class_names": names, "class_folders": names, "train_counts": [1] * len(names)}
    return build(scope, seed=1, facts=facts, weights=path, **changes).eval()


def test_masks_of_a_checkpoint_are_kept_and_that_is_said(trained, caplog):
    with caplog.at_level(logging.INFO):
        module = again(trained[1])
    assert torch.equal(module(pictures()["image"]), trained[0](pictures()["image"]))
    assert "its masks are kept" in caplog.text


@pytest.mark.parametrize(
    ("scope", "changes", "why"),
    [
        ("shared", {"weights_masks": "anew"}, "start anew: task.weights_masks=anew"),
        ("per_layer", {}, "start anew: mask.scope=per_layer, and theirs is shared"),
        ("none", {}, "left out, since the model has none"),
    ],
)
def test_masks_that_are_not_kept_are_named_with_the_reason(trained, caplog, scope, changes, why):
    with caplog.at_level(logging.WARNING):
        module = again(trained[1], scope, **changes)
    assert why in caplog.text
    images = pictures()["image"]
    assert not torch.allclose(module(images), trained[0](images), atol=1e-6)


@pytest.mark.parametrize("names", [NAMES[::-1], ["c", "a", "f"]])
def test_the_head_follows_the_names_of_the_classes(trained, names):
    order = [NAMES.index(name) for name in names]
    images = pictures()["image"]
    torch.testing.assert_close(again(trained[1], names=names)(images), trained[0](images)[:, order])


@pytest.mark.parametrize("names", [list("tuvwxyz"), list("abcdefz"), list("abcdefgh")])
def test_with_another_class_the_head_starts_anew_and_that_is_said(trained, caplog, names):
    with caplog.at_level(logging.WARNING):
        module = again(trained[1], names=names)
    assert "the head starts anew, since the file knows" in caplog.text
    assert not torch.equal(module.vit.head.weight[:7], trained[0].vit.head.weight)
    assert torch.equal(module.vit.blocks[1].mlp.fc1.weight, trained[0].vit.blocks[1].mlp.fc1.weight)


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "module.backbone.", "module._orig_mod."])
def test_prefixes_of_other_trainers_are_taken_off(tmp_path, prefix):
    state = {f"{prefix}{name}": value for name, value in timms().state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    images = pictures()["image"]
    torch.testing.assert_close(vit(weights=str(tmp_path / "other.pth"))(images), timms()(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("key", ["teacher", "net"])
def test_weights_within_another_key_are_found(tmp_path, key):
    state = {f"backbone.{name}": value for name, value in timms().state_dict().items() if "head" not in name}
    torch.save({key: state, "epoch": 3}, tmp_path / "dino.pth")
    ours = vit(weights=str(tmp_path / "dino.pth"))
    assert torch.equal(ours.blocks[0].attn.qkv.weight, state["backbone.blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("classes", [7, 3])
def test_weights_of_a_distilled_model_get_a_hint(tmp_path, classes):
    state = timms().state_dict()
    state["dist_token"] = torch.zeros(1, 1, 12)
    state["pos_embed"] = torch.zeros(1, 11, 12)
    torch.save(state, tmp_path / "distilled.pth")
    with pytest.raises(CheckpointError, match=r"distillation token: task\.model_name=deit_<size>_distilled_patch16"):
        vit(weights=str(tmp_path / "distilled.pth"), classes=classes)


def test_a_resumed_training_has_the_same_classes_in_the_same_order(caplog):
    module = build(facts=NAMED)
    module.same_data({**FACTS, **NAMED})
    with pytest.raises(ConfigError, match=r"not those that the checkpoint was trained on\. There: g, f, .*Here: a, b"):
        module.same_data({**FACTS, "class_names": NAMES[::-1]})
    with pytest.raises(ConfigError, match=r"There: a, b, c \(3\)"):
        module.same_data({"classes": 3, "class_names": list("abc"), "train_counts": [1] * 3})
    assert not caplog.records
    module.same_data({**FACTS, **NAMED, "train_counts": [1] * 7})
    assert "those of the checkpoint were 7" in caplog.text
