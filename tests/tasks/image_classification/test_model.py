"""Where a model's weights come from, and the messages if they cannot be loaded."""

import pytest
import timm
import torch

from configs.errors import ConfigError
from lcaam.integrations.timm import graft, ungraft
from tasks.common.errors import CheckpointError
from tasks.image_classification.model import build_vit
from tests.tasks.image_classification.small import SIZES, build, fit, mask_node, pictures

SMALL = {"classes": 7, "image_size": 12, "options": SIZES}


def vit(mask=None, name="vit_tiny_patch16_224", **changes):
    return build_vit(name, mask=mask or mask_node(), **{**SMALL, **changes}).eval()


def timms(seed=3, **changes):
    torch.manual_seed(seed)
    return timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=12, **{**SIZES, **changes}).eval()


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="has no model 'vit_bse_patch16_224'; did you mean 'vit_base_patch16_224'"):
        vit(name="vit_bse_patch16_224")
    for name in ("timm/vit", "hub:vit"):
        with pytest.raises(ConfigError, match=f"{name} is not a model name of timm; from a hub: hf-hub:"):
            vit(name=name)


def test_an_option_that_timm_does_not_have_is_named():
    with pytest.raises(ConfigError, match=r"task\.model_options=.*embed_dims"):
        vit(options={**SIZES, "embed_dims": 16})


def test_a_model_that_is_no_vit_is_refused():
    with pytest.raises(ConfigError, match="beit_base_patch16_224: .*graft takes timm's VisionTransformer"):
        vit(mask_node("shared"), name="beit_base_patch16_224", options={"depth": 1, "embed_dim": 24}, image_size=32)
    with pytest.raises(ConfigError, match="timm's resnet18 does not take img_size.*'img_size'"):
        build_vit("resnet18", classes=7, image_size=32, mask=mask_node("shared"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "vit_tiny_patch16_224.nobody"}, r"cannot build task\.model_name=vit_tiny_patch16_224\.nobody"),
        ({"name": "local-dir:/nowhere"}, "cannot build task.model_name=local-dir:/nowhere"),
        ({"options": {**SIZES, "num_heads": 5}}, "cannot build .*divisible by num_heads"),
        ({"options": {**SIZES, "depth": 0}}, "no blocks"),
        ({"options": {**SIZES, "patch_size": 16}}, "image_size: 12 is smaller than a patch, 16 pixels"),
        ({"options": {**SIZES, "img_size": 24}}, r"model_options\.img_size: 24 is not set here: data\.image_size"),
        ({"options": {**SIZES, "num_classes": 3}}, r"model_options\.num_classes: 3"),
        ({"options": {**SIZES, "in_chans": 1}}, r"model_options\.in_chans: 1"),
        ({"mask": mask_node("shared", groups=2)}, "groups is 1 or the model's number of heads, 3; got 2"),
        ({"options": {**SIZES, "patch_drop_rate": 0.5}, "mask": mask_node("shared")}, "patch dropout removes tokens"),
        ({"mask": mask_node("shared", control="extra_layers")}, "extra_layers: .* at least"),
    ],
)
def test_what_cannot_be_built_is_an_error_of_the_configuration(changes, message):
    """So train.py prints it without a stack trace."""
    with pytest.raises(ConfigError, match=message):
        vit(**changes)


def test_pixels_that_no_patch_holds_are_warned_of(caplog):
    vit()
    assert not caplog.records
    vit(image_size=15)
    assert "is not a multiple of the patches' 4 pixels: the last 3 rows" in caplog.text
    caplog.clear()
    vit(image_size=15, options={**SIZES, "dynamic_img_pad": True})
    assert not caplog.records


def test_a_width_of_the_mask_is_the_number_of_tokens_or_an_error():
    assert vit(mask_node("shared", num_keys=10)).lcaam.masks.nets[0].num_keys == 10
    assert vit(mask_node("none", num_keys=50))
    with pytest.raises(ConfigError, match="mask.num_keys: 50 is not the 10 tokens"):
        vit(mask_node("shared", num_keys=50))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_of_timms_weights_is_loaded_head_included(wrapped, tmp_path):
    theirs = timms()
    torch.save({"state_dict": theirs.state_dict()} if wrapped else theirs.state_dict(), tmp_path / "vit.pth")
    ours = vit(mask_node("per_layer"), weights=str(tmp_path / "vit.pth"))
    torch.testing.assert_close(ours(pictures()["image"]), theirs(pictures()["image"]), rtol=0, atol=1e-5)
    assert "state_dict" not in ours.pretrained_cfg


def test_another_number_of_classes_gets_a_new_head_and_another_size_new_positions(tmp_path):
    theirs = timms()
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = vit(weights=str(tmp_path / "vit.pth"), classes=3, image_size=20)
    assert ours.head.weight.shape == (3, 12)
    assert ours.pos_embed.shape == (1, 26, 12)
    assert torch.equal(ours.blocks[1].mlp.fc1.weight, theirs.blocks[1].mlp.fc1.weight)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_checkpoint_of_this_task_gives_its_tested_weights_without_its_masks(ema, tmp_path):
    module = build("shared", "add", ema=ema)
    fit(module, tmp_path, steps=4).save_checkpoint(tmp_path / "last.ckpt")
    ours = vit(mask_node("per_layer", "mul"), weights=str(tmp_path / "last.ckpt"))
    for name, value in module.evaluated.state_dict().items():
        if not name.startswith("lcaam."):
            assert torch.equal(ours.state_dict()[name], value), name
    torch.testing.assert_close(ours.lcaam.masks.nets[0](torch.randn(1, 10, 12)).dense(), torch.ones(1, 1, 10, 10))


def test_a_saved_module_needs_no_file_of_weights(tmp_path):
    torch.save(timms().state_dict(), tmp_path / "vit.pth")
    module = build(weights=str(tmp_path / "vit.pth"))
    fit(module, tmp_path, steps=1).save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "vit.pth").unlink()
    again = type(module).load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True).eval()
    assert torch.equal(again(pictures()["image"]), module.eval()(pictures()["image"]))


def test_weights_that_are_missing_broken_or_of_another_model_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"task\.weights: there is no file .*nowhere\.pth"):
        vit(weights=str(tmp_path / "nowhere.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"text\.pth holds no weights"):
        vit(weights=str(tmp_path / "text.pth"))
    torch.save(timms(embed_dim=24).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"wide\.pth: RuntimeError: Error.* in loading state_dict"):
        vit(weights=str(tmp_path / "wide.pth"))
    with pytest.raises(ConfigError, match="choose"):
        vit(weights=str(tmp_path / "wide.pth"), pretrained=True)


def test_the_error_says_what_does_not_fit(tmp_path):
    torch.save(timms(qkv_bias=False).state_dict(), tmp_path / "unbiased.pth")
    with pytest.raises(CheckpointError, match=r'Missing key.*"blocks\.0\.attn\.qkv\.bias"'):
        vit(weights=str(tmp_path / "unbiased.pth"))


@pytest.mark.parametrize("classes", [7, 3])
@pytest.mark.parametrize("prefix", ["encoder_q.", None])
def test_a_file_without_the_models_weights_is_not_taken_for_a_new_head(prefix, classes, tmp_path):
    """timm loads nothing of such a file and says so in a log message: training would start from random weights."""
    state = {f"{prefix}{name}": value for name, value in timms().state_dict().items()} if prefix else {"epoch": 3}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth has no weights for (\d+) of the model's \1 tensors"):
        vit(weights=str(tmp_path / "other.pth"), classes=classes)


def test_weights_without_one_block_are_refused_and_without_a_head_taken(tmp_path):
    whole = timms().state_dict()
    torch.save({name: value for name, value in whole.items() if not name.startswith("head")}, tmp_path / "headless.pth")
    assert torch.equal(
        vit(weights=str(tmp_path / "headless.pth")).blocks[1].mlp.fc1.weight, whole["blocks.1.mlp.fc1.weight"]
    )
    short = {name: value for name, value in whole.items() if not name.startswith(("blocks.1", "head"))}
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(CheckpointError, match=r"no weights for 12 of .* such as blocks\.1\.norm1\.weight"):
        vit(weights=str(tmp_path / "short.pth"))


def test_the_weights_of_a_grafted_model_are_taken_without_its_masks(tmp_path):
    theirs = graft(timms(), scope="shared", hidden=5)
    torch.save(theirs.state_dict(), tmp_path / "grafted.pth")
    ours = vit(weights=str(tmp_path / "grafted.pth"))
    assert torch.equal(ours(pictures()["image"]), ungraft(theirs)(pictures()["image"]))


def test_a_file_that_holds_something_else_is_named(tmp_path):
    for number, thing in enumerate(([1, 2], {3: torch.ones(1)}, torch.ones(2))):
        torch.save(thing, tmp_path / f"{number}.pth")
        with pytest.raises(CheckpointError, match=rf"{number}\.pth holds no weights"):
            vit(weights=str(tmp_path / f"{number}.pth"))


def test_a_name_without_weights_says_so():
    name = "vit_small_patch16_36x1_224"
    with pytest.raises(
        CheckpointError, match=rf"task\.pretrained=true, task\.model_name={name}: .*No pretrained weights"
    ):
        vit(name=name, pretrained=True)
