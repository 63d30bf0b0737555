"""Masks for any number of keys: interpolated columns and keys read by content."""

import pytest
import torch
import torch.nn.functional as F

from lcaam import ContextAwareMask, Encoder, LayerMasks, Mask, attention
from tests.lcaam.names import FUSIONS


def build(length, **options):
    torch.manual_seed(0)
    sizes = dict(dim=6, num_keys=12, init="kaiming")
    return ContextAwareMask(length=length, **{**sizes, **options})


@pytest.mark.parametrize("count", [1, 5, 12, 13, 24, 100])
@pytest.mark.parametrize("groups", [1, 3])
def test_interpolation_along_a_line_is_torchs(count, groups):
    net, x = build("interpolate", groups=groups), torch.randn(2, count, 6)
    fixed = build("fixed", groups=groups)
    fixed.load_state_dict(net.state_dict())
    full = fixed(x).dense()  # (B, G, N_q, 12)
    expected = F.interpolate(full.flatten(0, 1), size=count, mode="linear", align_corners=False).view(
        2, groups, count, -1
    )
    torch.testing.assert_close(net(x).dense(), expected, rtol=0, atol=1e-5)


def test_the_length_it_was_made_for_is_the_fixed_mask_exactly():
    net, fixed, x = build("interpolate"), build("fixed"), torch.randn(2, 12, 6)
    fixed.load_state_dict(net.state_dict())
    assert torch.equal(net(x).dense(), fixed(x).dense())


@pytest.mark.parametrize("new", [(3, 4), (6, 8), (2, 9), (1, 1)])
def test_interpolation_over_a_grid_is_torchs_and_leaves_prefix_tokens_alone(new):
    net = build("interpolate", num_keys=14, grid=(3, 4), prefix=2)
    count = 2 + new[0] * new[1]
    x = torch.randn(2, count, 6)
    out = net(x, grid=new).dense()[:, 0]  # (B, N_q, N_k)
    fixed = build("fixed", num_keys=14)
    fixed.load_state_dict(net.state_dict())
    full = fixed(x).dense()[:, 0]
    torch.testing.assert_close(out[..., :2], full[..., :2])
    image = full[..., 2:].unflatten(-1, (3, 4))
    expected = F.interpolate(image, size=new, mode="bilinear", align_corners=False).flatten(2)
    torch.testing.assert_close(out[..., 2:], expected, rtol=0, atol=1e-5)


def test_a_square_grid_is_inferred_and_anything_else_must_be_given():
    net = build("interpolate", num_keys=10, grid=(3, 3), prefix=1)
    assert net(torch.randn(1, 26, 6)).num_keys == 26
    with pytest.raises(ValueError, match=r"20 positions are not the grid \(3, 3\).*give grid="):
        net(torch.randn(1, 21, 6))
    with pytest.raises(ValueError, match=r"21 keys with 1 prefix tokens are not a grid of \(4, 6\)"):
        net(torch.randn(1, 21, 6), grid=(4, 6))
    with pytest.raises(ValueError, match=r"0 prefix tokens and a grid of \(3, 3\) are not 10 keys"):
        build("interpolate", num_keys=10, grid=(3, 3))
    with pytest.raises(ValueError, match="line of keys was given a grid"):
        build("interpolate")(torch.randn(1, 12, 6), grid=(3, 4))


def test_an_interpolated_mask_is_refused_in_cached_causal_decoding():
    net, x = build("interpolate"), torch.randn(1, 5, 6)
    q, k, v = torch.randn(3, 1, 2, 5, 4).unbind(0)
    attention(q, k, v, net(x), causal=True)  # a whole sequence is fine
    one = net(x[:, -1:], keys=x)
    with pytest.raises(ValueError, match=r"decoding with a cache would compute another function.*content"):
        attention(q[:, :, -1:], k, v, one, causal=True)
    with pytest.raises(ValueError, match="an interpolated mask of 5 key columns does not fit a sequence of 4"):
        attention(q, k[:, :, :4], v[:, :, :4], net(x))


def test_content_is_a_product_of_features_of_query_and_key():
    net = build("content", num_keys=None, groups=2, key_dim=3, hidden=5)
    x, y = torch.randn(2, 7, 6), torch.randn(2, 4, 3)
    mask = net(x, keys=y)
    assert mask.dense().shape == (2, 2, 7, 4)
    h = net.hidden[1](net.hidden[0](x).relu()).relu()
    g = net.last(net.key_hidden(y).relu()).unflatten(-1, (2, 6))  # (B, N_k, G, R + 1)
    for group in range(2):
        expected = h @ g[:, :, group, :-1].transpose(1, 2) / 5**0.5 + g[:, None, :, group, -1]
        torch.testing.assert_close(mask.dense()[:, group], expected)


def test_content_follows_its_keys_wherever_they_stand():
    """Shuffling the keys shuffles the columns; a mask over positions cannot do that."""
    net, x = build("content"), torch.randn(2, 9, 6)
    order = torch.randperm(9)
    torch.testing.assert_close(net(x, keys=x[:, order]).dense(), net(x).dense()[..., order])
    fixed = build("fixed", num_keys=9)
    assert torch.equal(fixed(x, keys=x[:, order]).dense(), fixed(x).dense())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_content_is_the_same_function_in_cached_causal_decoding(fusion):
    net, x = build("content", fusion=fusion), torch.randn(1, 6, 6)
    q, k, v = torch.randn(3, 1, 2, 6, 4).unbind(0)
    whole = attention(q, k, v, net(x), fusion=fusion, causal=True)
    for step in range(1, 7):
        one = net(x[:, step - 1 : step], keys=x[:, :step])
        part = [t[:, :, :step] for t in (k, v)]
        out = attention(q[:, :, step - 1 : step], *part, one, fusion=fusion, causal=True)
        torch.testing.assert_close(out, whole[:, :, step - 1 : step], rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", ["interpolate", "content"])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"groups": 2}, {"depth": 1}], ids=str)
def test_identity_initialisation_is_plain_attention_and_every_parameter_learns(length, fusion, options):
    torch.manual_seed(0)
    net = ContextAwareMask(8, 9, fusion=fusion, length=length, **options)
    q, k, v, x = torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 2, 7, 8), torch.randn(3, 7, 8)
    plain = attention(q, k, v, backend="reference")
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(3):
        out = attention(q, k, v, net(x), fusion=fusion, backend="reference")
        if step == 0:
            torch.testing.assert_close(out, plain, rtol=0, atol=1e-6)
        optimiser.zero_grad()
        out.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
        optimiser.step()
    assert all(p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("length", ["interpolate", "content"])
@pytest.mark.parametrize("scope", ["shared", "tied", "per_layer"])
def test_an_encoder_runs_at_any_length(length, scope):
    masks = LayerMasks(scope, 2, dim=8, num_keys=5, length=length, init="kaiming")
    encoder = Encoder(8, 2, heads=2, masks=masks)
    for count in (1, 5, 11):
        assert encoder(torch.randn(2, count, 8)).shape == (2, count, 8)


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("length", ["interpolate", "content"])
def test_backends_agree_on_the_masks_of_any_length(length, backend):
    net, x = build(length, groups=2).double(), torch.randn(2, 15, 6, dtype=torch.float64)
    q, k, v = torch.randn(3, 2, 2, 15, 4, dtype=torch.float64).unbind(0)
    grads = []
    for mask in (net(x), Mask.from_dense(net(x).dense())):
        net.zero_grad()
        attention(q, k, v, mask, fusion="mul", backend=backend).square().sum().backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_num_keys_is_needed_where_positions_count():
    with pytest.raises(ValueError, match="length 'fixed' needs num_keys"):
        ContextAwareMask(4)
    ContextAwareMask(4, length="content")
