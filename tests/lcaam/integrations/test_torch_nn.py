"""Masks on torch.nn's attention: torch's own function without a mask, the equation with one."""

import pytest
import torch
from torch import nn

from lcaam.analysis import record
from lcaam.integrations.torch_nn import attach, detach
from tests.lcaam.integrations.small_torch_nn import (
    CAUSAL,
    LAYERS,
    PADDED,
    D,
    H,
    N,
    close,
    encoder,
    large_scores,
    mask_layers,
    random_masks,
    static,
    tokens,
    written_out,
)
from tests.lcaam.names import FUSIONS, SCOPES

# -- what a model computes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_identity_masks_leave_a_model_and_random_ones_are_the_equation(fusion, scope):
    model, x = encoder(), tokens()
    plain = model(x)
    attach(model, mask_layers(scope, fusion=fusion))
    close(model(x), plain)
    random_masks(model)
    close(model(x), written_out(model, x, scope, fusion))
    assert (model(x) - plain).abs().max() > 1e-2


@pytest.mark.parametrize("heads", [2, 4])
@pytest.mark.parametrize("padded", [None, PADDED], ids=["whole", "padded"])
def test_inference_without_gradients_uses_the_masks(heads, padded):
    """torch's fused paths (even heads, eval, no_grad; nested tensors for padding) read the weights and call nothing."""
    model, x = encoder(heads=heads).eval(), tokens()
    real = torch.ones(3, N, dtype=torch.bool) if padded is None else ~padded
    with torch.no_grad():
        plain = model(x, src_key_padding_mask=padded)
        assert model.use_nested_tensor
        attach(model, mask_layers(fusion="add"))
        close(model(x, src_key_padding_mask=padded)[real], plain[real])
        random_masks(model)
        found = model(x, src_key_padding_mask=padded)
        close(found[real], written_out(model, x, "per_layer", "add", padded)[real])
        assert (found - plain)[real].abs().max() > 1e-2
        detach(model)
        assert model.use_nested_tensor
        assert torch.equal(model(x, src_key_padding_mask=padded), plain)


@pytest.mark.parametrize("learner", ["content", *SCOPES])
def test_every_parameter_learns_within_two_steps(learner):
    options = dict(scope="per_layer", length="content") if learner == "content" else dict(scope=learner)
    model = attach(encoder(), mask_layers(**options))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    moving = set()
    for _ in range(3):
        optimizer.zero_grad()
        model(tokens()).pow(3).mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            if parameter.grad.any():
                moving.add(name)
        optimizer.step()
    assert moving == {name for name, _ in model.named_parameters()}


def test_static_masks_and_groups_fit_too():
    model = attach(encoder(), static())
    random_masks(model)
    with record(model) as calls:
        model(tokens())
    assert [call.mask.shape for call in calls] == [(1, 1, N, N)] * LAYERS
    model = random_masks(attach(encoder(), mask_layers(groups=H, rank=2)))
    with record(model) as calls:
        model(tokens(count=5))
    assert [call.mask.shape for call in calls] == [(3, H, 5, 5)] * LAYERS


# -- the arguments of nn.MultiheadAttention ---------------------------------------------------------------------------

STRUCTURES = {
    "none": dict(),
    "padding": dict(key_padding_mask=PADDED),
    "numbers": dict(key_padding_mask=torch.zeros(3, N).masked_fill(PADDED, -torch.inf)),
    "causal": dict(attn_mask=CAUSAL, is_causal=True),
    "bool causal": dict(attn_mask=CAUSAL.isinf()),
    "both": dict(attn_mask=CAUSAL, key_padding_mask=torch.zeros(3, N).masked_fill(PADDED, -torch.inf)),
    "of heads": dict(attn_mask=(torch.rand(9, N, N, generator=torch.Generator().manual_seed(0)) > 0.6).tril(-1)),
}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("batch_first", [True, False])
def test_an_attention_with_an_identity_mask_is_torchs_own(structure, batch_first):
    torch.manual_seed(0)
    for sizes in (dict(), dict(bias=False), dict(kdim=5, vdim=4)):
        module = nn.MultiheadAttention(D, H, batch_first=batch_first, **sizes)
        large_scores(module)
        inputs = [tokens(), tokens(seed=4, width=module.kdim), tokens(seed=5, width=module.vdim)]
        inputs = inputs if batch_first else [x.transpose(0, 1) for x in inputs]
        for average in (True, False):
            options = STRUCTURES[structure] | dict(average_attn_weights=average)
            expected = module(*inputs, **options)
            attach(module, mask_layers(layers=1, length="content", key_dim=module.kdim))
            found = module(*inputs, **options)
            close(found[0], expected[0])
            close(found[1], expected[1])
            assert module(*inputs, **options, need_weights=False)[1] is None
            random_masks(module)
            assert (module(*inputs, **options)[1] - expected[1]).abs().max() > 1e-3
            detach(module)


def test_inputs_without_a_batch_are_torchs_own():
    torch.manual_seed(0)
    for batch_first in (True, False):
        module = nn.MultiheadAttention(D, H, batch_first=batch_first)
        query, memory = tokens(1, 3)[0], tokens(1, seed=4)[0]
        options = dict(key_padding_mask=PADDED[1], attn_mask=torch.zeros(3, N, dtype=torch.bool))
        expected = module(query, memory, memory, **options)
        attach(module, mask_layers("shared", layers=1))
        for found, own in zip(module(query, memory, memory, **options), expected, strict=True):
            close(found, own)


def test_weights_and_outputs_agree_under_a_mask():
    module = nn.MultiheadAttention(D, H, batch_first=True)
    large_scores(module)
    random_masks(attach(module, mask_layers(layers=1, fusion="mul")))
    x = tokens()
    out, weight = module(x, x, x, key_padding_mask=PADDED, average_attn_weights=False)
    values = nn.functional.linear(x, module.in_proj_weight[2 * D :], module.in_proj_bias[2 * D :])
    values = values.unflatten(-1, (H, -1)).transpose(1, 2)
    close(out, module.out_proj((weight @ values).transpose(1, 2).flatten(2)))
    close(weight.sum(-1), torch.ones(3, H, N))
    assert weight.transpose(1, 3)[PADDED].abs().max() == 0


def test_a_query_without_keys_gets_zeros():
    module = attach(nn.MultiheadAttention(D, H, batch_first=True, bias=False), mask_layers(layers=1))
    x, nothing = tokens(), torch.ones(N, N, dtype=torch.bool)
    out, weight = module(x, x, x, attn_mask=nothing)
    assert not out.any() and not weight.any()


def test_dropout_is_on_the_attention_in_training_only():
    model = attach(encoder(dropout=0.5), mask_layers())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    x = tokens()
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
