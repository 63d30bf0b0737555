"""The controls at the paper's size: 142 M parameters beside an encoder of 8 layers of width 768, on the meta device."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lcaam import Encoder, LayerMasks
from lcaam.controls import count, extra_layer_widths, extra_linear

LAYERS, WIDTH, HEADS, TOKENS, DEPTH = 8, 768, 12, 50, 31
FEEDFORWARD = 4 * WIDTH
MASKS = LAYERS * (30 * (768 * 768 + 768) + (768 * 50 + 50))  # the paper's 7.072 B - 6.930 B, Table 3
CONTROLS = ("extra_linear", "extra_linear_no_residual", "extra_layers")


def controlled(name: str) -> Encoder:
    if name == "extra_layers":
        return Encoder(WIDTH, LAYERS, HEADS, FEEDFORWARD, extra_feedforward=extra_layer_widths(WIDTH, MASKS))
    extra = extra_linear(WIDTH, LAYERS, MASKS, residual=name == "extra_linear")
    return Encoder(WIDTH, LAYERS, HEADS, FEEDFORWARD, after_attention=extra)


def flops(encoder: Encoder) -> int:
    x = torch.empty(1, TOKENS, WIDTH, device="meta")
    for layer in encoder.layers:
        layer.attention.backend = "reference"
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert encoder(x).shape == x.shape
    return counter.get_total_flops()


def flops_of_layer(feedforward: int) -> int:
    """Four projections, two products of attention, two of the feed-forward network."""
    return 2 * TOKENS * (4 * WIDTH**2 + 2 * WIDTH * feedforward) + 2 * 2 * TOKENS**2 * WIDTH


def test_multi_lcaams_masks_have_the_142_million_of_table_3():
    assert MASKS == 142_049_680
    with torch.device("meta"):
        masks = LayerMasks("per_layer", LAYERS, dim=WIDTH, num_keys=TOKENS, depth=DEPTH)
    assert count(masks) == MASKS


@pytest.mark.parametrize("name", CONTROLS)
def test_a_controls_encoder_has_as_many_parameters_as_the_masked_one(name):
    with torch.device("meta"):
        plain = Encoder(WIDTH, LAYERS, HEADS, FEEDFORWARD)
        encoder = controlled(name)
    assert all(weight.is_meta for weight in encoder.parameters())
    assert count(encoder) - count(plain) == pytest.approx(MASKS, rel=0.005)
    assert count(encoder) - count(plain) == pytest.approx(MASKS, abs=2 * WIDTH)  # in fact to within one unit


@pytest.mark.parametrize("name", CONTROLS[:2])
def test_extra_linear_layers_cost_two_flops_a_weight_and_token_with_or_without_residual(name):
    with torch.device("meta"):
        encoder = controlled(name)
    weights = sum(layer.weight.numel() for stack in encoder.layers for layer in stack.after_attention.layers)
    assert flops(encoder) == LAYERS * flops_of_layer(FEEDFORWARD) + 2 * TOKENS * weights


def test_extra_layers_are_twenty_more_layers_of_about_the_usual_width():
    widths = extra_layer_widths(WIDTH, MASKS)
    assert len(widths) == 20  # 142 M / 7.09 M
    assert all(abs(width - FEEDFORWARD) < 0.01 * FEEDFORWARD for width in widths)
    with torch.device("meta"):
        encoder = controlled("extra_layers")
    assert len(encoder.layers) == LAYERS + 20
    assert flops(encoder) == sum(flops_of_layer(width) for width in [FEEDFORWARD] * LAYERS + widths)


def test_a_linear_stack_is_as_deep_as_the_mask_network_it_stands_for():
    with torch.device("meta"):
        stacks = extra_linear(WIDTH, LAYERS, MASKS)
    square = WIDTH * WIDTH + WIDTH
    for stack in stacks:
        shapes = [tuple(layer.weight.shape) for layer in stack.layers]
        assert shapes.count((WIDTH, WIDTH)) == MASKS // LAYERS // square == DEPTH - 1
        assert len(shapes) - (DEPTH - 1) == 2  # the narrow pair in place of the mask's last layer


@torch.no_grad()
def test_only_with_residual_connections_do_tokens_get_through_thirty_linear_layers():
    """Why both are measured: at torch's initialisation the stack without them gives every token the same output."""
    x = torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    between = {}
    for residual in (True, False):
        torch.manual_seed(0)
        (stack,) = extra_linear(WIDTH, 1, MASKS // LAYERS, residual)
        between[residual] = stack(x).std(1).mean()  # over tokens
    assert between[True] > 0.5
    assert between[False] < 1e-6


def test_gradients_reach_every_layer_of_both_stacks_at_a_smaller_width():
    for residual in (True, False):
        torch.manual_seed(0)
        (stack,) = extra_linear(16, 1, 30 * (16 * 16 + 16) + 200, residual)
        for layer in stack.layers:
            nn.init.orthogonal_(layer.weight, 2**0.5)
        stack(torch.randn(3, 16)).square().sum().backward()
        assert len(stack.layers) == 32
        assert all(layer.weight.grad.abs().max() > 0 for layer in stack.layers)
