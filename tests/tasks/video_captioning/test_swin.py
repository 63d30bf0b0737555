"""Video Swin: the grid it gives, other people's weights under torchvision's names, what is refused."""

import copy
import re
from urllib.error import URLError

import pytest
import torch
from torchvision.models.video import Swin3D_T_Weights, SwinTransformer3d, swin3d_b

from tasks.common.errors import CheckpointError
from tasks.video_captioning.swin import SIZES, VideoSwin, load_backbone, torchvision_names

SMALL = dict(size=None, embed_dim=8, depths=(1, 2), heads=(2, 4), window=(4, 3, 3), drop_path=0.1)


def small(**changes) -> VideoSwin:
    torch.manual_seed(0)
    return VideoSwin(**SMALL | changes).eval()


def frames(batch=2, count=6, height=32, width=24) -> torch.Tensor:
    return torch.randn(batch, count, 3, height, width, generator=torch.Generator().manual_seed(1))


def published_names(state, prefix="", table=True):
    """torchvision's names turned into Video Swin's own: stages are layers, their blocks and merging apart."""
    out = {}
    for name, value in state.items():
        match = re.match(r"features\.(\d+)\.(.*)", name)
        if match and int(match[1]) % 2 == 0:
            rest = match[2].replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
            name = f"layers.{int(match[1]) // 2}.blocks.{rest}"
        elif match:
            name = f"layers.{int(match[1]) // 2}.downsample.{match[2]}"
        out[prefix + name] = value
    return out


def test_the_grid_is_what_torchvision_pools_before_its_head():
    whole = SwinTransformer3d([2, 4, 4], 8, [1, 2], [2, 4], [4, 3, 3], num_classes=5).eval()
    ours = small()
    ours.swin.load_state_dict({n: t for n, t in whole.state_dict().items() if not n.startswith("head.")})
    grid = ours(frames())
    assert grid.shape == (2, 3 * 4 * 3, 16)
    logits = whole.head(grid.mean(1))
    torch.testing.assert_close(logits, whole(frames().transpose(1, 2)), rtol=0, atol=1e-5)


def test_tokens_come_by_time_then_rows_then_columns():
    """A change of the last frames' lower right corner reaches the last token more than any other."""
    model, changed = small(window=(1, 1, 1)), frames()
    changed[:, 4:, :, 24:, 16:] += 1.0
    difference = (model(frames()) - model(changed)).abs().sum((0, 2)).view(3, 4, 3)
    assert difference[2, 3, 2] > 0 and (difference > 1e-6).sum() == 1


@pytest.mark.parametrize("sizes", [(6, 32, 24), (5, 30, 23), (1, 8, 8), (32, 64, 40)])
def test_the_number_of_tokens_is_known_before(sizes):
    model = small()
    assert model(frames(1, *sizes)).shape[1] == model.tokens(*sizes)


def test_published_sizes_give_784_tokens_of_1024_features_and_the_published_parameters():
    with torch.device("meta"):
        model = VideoSwin("base")
        assert model(torch.empty(1, 32, 3, 224, 224)).shape == (1, 784, 1024)
    assert sum(p.numel() for p in model.parameters()) == 87_638_984
    assert model.tokens(32, 224, 224) == 784 and model.dim == 1024


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.swin.backbone."])
def test_all_of_torchvision_s_base_model_comes_from_renamed_swinbert_keys(prefix):
    """Names and shapes, without memory: nothing is missing, nothing left over."""
    with torch.device("meta"):
        expected = {n: t for n, t in swin3d_b().state_dict().items() if not n.startswith("head.")}
        model = VideoSwin("base")
    published = published_names(expected, prefix)
    assert f"{prefix}layers.2.blocks.17.mlp.fc2.weight" in published
    assert f"{prefix}layers.2.downsample.reduction.weight" in published
    found = torchvision_names(published | {"cls_head.fc_cls.weight": torch.empty(600, 1024, device="meta")})
    index = {name for name in expected if name.endswith("relative_position_index")}
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items() if n not in index}
    load_backbone(model.swin, published)


@pytest.mark.parametrize("prefix, key", [("", None), ("backbone.", "state_dict"), ("swin.backbone.", "model")])
def test_weights_come_from_a_file_of_anybody_s(tmp_path, prefix, key):
    source = small()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_(std=0.3)
    state = published_names(source.swin.state_dict(), prefix) | {"fc.weight": torch.ones(2)}
    torch.save(state if key is None else {key: state, "meta": {"epoch": 3}}, tmp_path / "swin.pth")
    loaded = small(weights=str(tmp_path / "swin.pth"))
    assert torch.equal(loaded(frames()), source(frames()))
    assert not torch.equal(small()(frames()), source(frames()))


def test_torchvision_s_own_names_need_no_renaming():
    state = small().swin.state_dict()
    assert torchvision_names(state).keys() == {n for n in state if not n.endswith("relative_position_index")}


def test_checkpointing_computes_the_same_and_the_same_gradients():
    results = []
    for checkpointing in (False, True):
        model = small(checkpointing=checkpointing)
        x = frames().requires_grad_()
        out = model(x)
        out.square().sum().backward()
        results.append((out, x.grad, *(p.grad for p in model.parameters())))
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = published_names(small().swin.state_dict())
    wrong = {"norm.weight is missing": {n: t for n, t in state.items() if n != "norm.weight"}}
    wrong |= {r"norm\.bias is \(3,\), expected \(16,\)": state | {"norm.bias": torch.ones(3)}}
    wrong |= {"features.9.weight is unknown": state | {"features.9.weight": torch.ones(3)}}
    wrong |= {"no Video Swin: 0 parameters are called": {"a.weight": torch.ones(1)}}
    both = copy.copy(state) | published_names(small().swin.state_dict(), "other.")
    wrong |= {"no Video Swin: 2 parameters are called": both}
    for message, content in wrong.items():
        torch.save(content, tmp_path / "swin.pth")
        with pytest.raises(CheckpointError, match=message):
            small(weights=str(tmp_path / "swin.pth"))


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "swin.pth"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(CheckpointError, match="not a file of weights, or it is cut off"):
        small(weights=str(path))
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds list, expected weights by name"):
        small(weights=str(path))
    with pytest.raises(CheckpointError, match=r"Did you mean 'KINETICS400_V1'\?"):
        VideoSwin("tiny", weights="KINETICS400V1")
    with pytest.raises(CheckpointError, match="neither a file nor torchvision's for size None; those are none"):
        small(weights="KINETICS400_V1")


def test_published_weights_that_cannot_be_fetched_are_named(monkeypatch):
    def offline(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(type(Swin3D_T_Weights.KINETICS400_V1), "get_state_dict", offline)
    with pytest.raises(CheckpointError, match=r"'KINETICS400_V1' cannot be fetched from https://.*no network.*a file"):
        VideoSwin("tiny", weights="KINETICS400_V1")


REFUSED = {
    r"unknown size 'bsae'; allowed: tiny, small, base, null\. Did you mean 'base'\?": dict(size="bsae"),
    "give a size, or with size=null all of embed_dim": dict(SMALL, size="tiny"),
    "or with size=null all of embed_dim, depths and heads": dict(SMALL, heads=None),
    "a depth and a number of heads for each stage": dict(SMALL, heads=(2, 4, 8)),
    "3 heads do not divide the 16 features of stage 2": dict(SMALL, heads=(2, 3)),
    r"window is \(time, rows, columns\), got \(4, 3\)": dict(SMALL, window=(4, 3)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_sizes_that_do_not_fit_are_refused(message):
    with pytest.raises(ValueError, match=message):
        VideoSwin(**REFUSED[message])


def test_frames_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"frames must be \(B, F, 3, height, width\), got \(2, 3, 6, 32, 24\)"):
        small()(frames().transpose(1, 2))
    assert set(SIZES) == {"tiny", "small", "base"}
