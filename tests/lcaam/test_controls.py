"""Parameter-matched controls: within half a percent of the mask they stand for, at the sizes of the four tasks."""

import pytest
import torch
from torch import nn

from lcaam import Encoder, EncoderLayer
from lcaam.controls import (
    ExtraLinear,
    count,
    encoder_layer_parameters,
    extra_layer_widths,
    extra_linear,
    extra_parameters,
)

TASKS = {
    "audio description": dict(num_layers=8, dim=768, num_keys=50, depth=31),
    "moment retrieval": dict(num_layers=2, dim=256, num_keys=32, depth=32),
    "image classification": dict(num_layers=12, dim=768, num_keys=197, depth=3),
    "video captioning": dict(num_layers=12, dim=768, num_keys=834, depth=3),
    "mini audio description": dict(num_layers=2, dim=64, num_keys=50, depth=3),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
@pytest.mark.parametrize("task", TASKS)
def test_extra_linear_layers_match_the_masks_parameters(task, scope, residual):
    sizes = TASKS[task]
    wanted = extra_parameters(scope=scope, **sizes)
    with torch.device("meta"):
        stacks = extra_linear(sizes["dim"], sizes["num_layers"], wanted, residual)
    assert len(stacks) == sizes["num_layers"]
    assert count(*stacks) == pytest.approx(wanted, rel=0.005)


@pytest.mark.parametrize("scope", ["shared", "per_layer"])
@pytest.mark.parametrize("task", TASKS)
def test_extra_encoder_layers_match_the_masks_parameters(task, scope):
    sizes = TASKS[task]
    wanted = extra_parameters(scope=scope, **sizes)
    dim = sizes["dim"]
    if wanted < encoder_layer_parameters(dim, 1):  # one shared mask of depth 3
        with pytest.raises(ValueError, match="compare with extra_linear"):
            extra_layer_widths(dim, wanted)
        return
    with torch.device("meta"):
        plain = Encoder(dim, 2, heads=4)
        deeper = Encoder(dim, 2, heads=4, extra_feedforward=extra_layer_widths(dim, wanted))
    assert count(deeper) - count(plain) == pytest.approx(wanted, rel=0.005)


def test_the_papers_audio_description_control_has_142_million():
    assert extra_parameters(scope="per_layer", **TASKS["audio description"]) == 142_049_680


@pytest.mark.parametrize("feedforward", [1, 7, 256])
def test_the_layer_count_is_an_encoder_layers(feedforward):
    assert encoder_layer_parameters(64, feedforward) == count(EncoderLayer(64, 4, feedforward))


@pytest.mark.parametrize("widths", [[8, 8], [8, 8, 8], [8, 8, 3, 8], [8, 3, 8]], ids=str)
def test_extra_linear_computes_what_it_says(widths):
    for residual in (False, True):
        stack, x = ExtraLinear(widths, residual), torch.randn(2, 5, 8)
        for layer in stack.layers:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        assert torch.equal(stack(x), x if residual else torch.zeros_like(x))
    stack, x = ExtraLinear(widths), torch.randn(2, 5, 8)
    expected = x
    for layer in stack.layers[:-1]:
        expected = torch.relu(expected @ layer.weight.T + layer.bias)
    expected = expected @ stack.layers[-1].weight.T + stack.layers[-1].bias
    torch.testing.assert_close(stack(x), expected)


@pytest.mark.parametrize("widths", [[8, 8], [8, 3, 8], [64] * 31, [64, 64, 64, 7, 64]], ids=len)
@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_linear_layers_begin_near_the_identity_however_small_the_tokens_are(widths, scale):
    torch.manual_seed(0)
    stack, x = ExtraLinear(widths, residual=True), scale * torch.randn(3, 50, widths[0])
    added = stack(x) - x
    assert added.norm() < 0.7 * x.norm()  # nn.Linear's start: 8 to 2,800 times at scale 0.02, 0.5 to 450 times at 1
    if len(widths) == 2 or widths[1] < widths[0]:
        assert not added.any()
    stack(x).square().sum().backward()
    assert stack.layers[-1].weight.grad.norm() > 0  # of a layer that gives 0 it is the first to learn


def test_an_encoder_with_controls_runs_and_learns():
    extra = extra_linear(16, 2, 3016, residual=True)
    encoder = Encoder(16, 2, heads=2, after_attention=extra, extra_feedforward=[5, 6])
    encoder(torch.randn(2, 7, 16)).square().sum().backward()
    assert len(encoder.layers) == 4
    assert all(p.grad is not None for p in encoder.parameters())
    with pytest.raises(ValueError, match="1 modules after attention given to a stack of 2"):
        Encoder(16, 2, heads=2, after_attention=extra[:1])


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(ValueError, match="too few"):
        extra_linear(64, 8, 100)
    with pytest.raises(ValueError, match="closest match"):
        extra_linear(64, 1, 300)
