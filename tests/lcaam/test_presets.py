"""Presets are the biases of the papers: compared with the libraries that have them, or with the papers' formulas."""

import pytest
import timm.layers
import torch
from timm.models.swin_transformer import get_relative_position_index
from torchvision.models.swin_transformer import _get_relative_position_bias
from transformers import T5Config
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from lcaam import Fusion, Mask, MultiheadAttention, attention
from lcaam.presets import alibi, alibi_slopes, sliding_window, swin_bias, t5_buckets

SIZES = [(1, 1), (7, 7), (3, 11), (1, 300), (9, 4)]  # queries and keys


@pytest.mark.parametrize("heads", [1, 2, 3, 7, 8, 12, 16, 20])
def test_slopes_are_bloom_s_for_any_number_of_heads(heads):
    bloom = build_alibi_tensor(torch.ones(1, 4), heads, torch.float64)  # (H, 1, N_k), slope x position
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads)), bloom[:, 0, 1].float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("heads", [4, 6])
def test_alibi_is_a_slope_times_the_distance(heads, queries, keys):
    mask = alibi(heads, queries, keys, dtype=torch.float64)
    assert mask.rank == 2 and mask.fusion is Fusion.add and mask.shape == (1, heads, queries, keys)
    expected = torch.tensor(
        [
            [[slope * (j - (i + keys - queries)) for j in range(keys)] for i in range(queries)]
            for slope in alibi_slopes(heads)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(mask.dense()[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(alibi(heads, queries, keys).dense()[0].double(), expected, rtol=1e-5, atol=1e-5)


def test_alibi_attention_is_mpt_s_which_counts_from_the_last_key():
    q, k, v = torch.randn(3, 2, 8, 13, 4).unbind()
    bias = build_mpt_alibi_tensor(8, 13)[None]  # (1, H, 1, N_k): a row's shift changes nothing
    out = attention(q, k, v, alibi(8, 13, 13), causal=True)
    theirs = attention(q, k, v, Mask.from_dense(bias.expand(1, 8, 13, 13)), fusion="add", causal=True)
    torch.testing.assert_close(out, theirs, rtol=0, atol=1e-5)
    last = attention(q[:, :, -2:], k, v, alibi(8, 2, 13), causal=True)
    torch.testing.assert_close(last, out[:, :, -2:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets, farthest", [(32, 128), (8, 20), (4, 3)])
def test_t5_buckets_are_transformers(bidirectional, buckets, farthest):
    config = T5Config(
        num_heads=3,
        d_model=12,
        d_kv=4,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=farthest,
        is_decoder=not bidirectional,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    table = theirs.relative_attention_bias.weight
    torch.nn.init.normal_(table)
    for queries, keys in [(1, 1), (150, 150), (37, 37)]:
        mask = t5_buckets(table, queries, keys, bidirectional, farthest)
        assert mask.fusion is Fusion.add
        torch.testing.assert_close(mask.dense(), theirs.compute_bias(queries, keys), rtol=0, atol=0)
    whole = t5_buckets(table, 150, 150, bidirectional, farthest).dense()
    assert torch.equal(t5_buckets(table, 2, 150, bidirectional, farthest).dense(), whole[:, :, -2:])


def test_t5_attention_is_transformers_and_the_table_learns():
    config = T5Config(num_heads=3, d_model=12, d_kv=4, dropout_rate=0.0)
    theirs = T5Attention(config, has_relative_attention_bias=True).eval()
    torch.nn.init.normal_(theirs.relative_attention_bias.weight)
    x, table = torch.randn(2, 9, 12), theirs.relative_attention_bias.weight
    q, k, v = (net(x).unflatten(-1, (3, 4)).transpose(1, 2) for net in (theirs.q, theirs.k, theirs.v))
    out = theirs.o(attention(q, k, v, t5_buckets(table, 9, 9), scale=1.0).transpose(1, 2).flatten(2))
    torch.testing.assert_close(out, theirs(x)[0], rtol=0, atol=1e-5)
    out.square().sum().backward()
    assert table.grad.abs().sum() > 0


@pytest.mark.parametrize("window", [(1, 1), (2, 3), (7, 7), (4, 1)])
def test_swin_bias_is_timm_s_and_torchvision_s(window):
    height, width = window
    table = torch.randn((2 * height - 1) * (2 * width - 1), 3, requires_grad=True)
    mask = swin_bias(table, window)
    assert mask.fusion is Fusion.add
    index = get_relative_position_index(height, width)
    theirs = _get_relative_position_bias(table, index.flatten(), list(window))
    assert torch.equal(mask.dense(), theirs)
    timms = timm.layers.RelPosBias(window_size=window, num_heads=3)
    timms.relative_position_bias_table.data.copy_(table)
    assert torch.equal(mask.dense()[0], timms.get_bias()[0])
    (gradient,) = torch.autograd.grad(mask.dense().square().sum(), table)
    assert gradient.shape == table.shape and gradient.abs().sum() > 0
    if height == width:
        assert torch.equal(swin_bias(table, height).dense(), mask.dense())


@pytest.mark.parametrize("queries, keys", SIZES)
@pytest.mark.parametrize("before, after", [(0, 0), (2, 0), (1, 3), (500, 500)])
def test_a_sliding_window_is_the_keys_around_the_query(queries, keys, before, after):
    keep = sliding_window(queries, keys, before, after)
    expected = [
        [i + keys - queries - before <= j <= i + keys - queries + after for j in range(keys)] for i in range(queries)
    ]
    assert keep.shape == (1, 1, queries, keys) and keep[0, 0].tolist() == expected


def test_a_sliding_window_is_no_padding_even_of_a_square_batch():
    x = torch.randn(5, 5, 8)
    module = MultiheadAttention(8, 2)
    keep = sliding_window(5, 5, before=1)
    alone = module(x[:1], keep=keep)
    torch.testing.assert_close(module(x, keep=keep)[:1], alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(alone[:, -1:], module(x[:1, -1:], keys=x[:1, -2:]), rtol=0, atol=1e-6)


TABLE = torch.zeros(32, 4)
REFUSED = {
    "heads must be at least 1, got 0": lambda: alibi(0, 3, 3),
    "num_keys must be at least 1, got 0": lambda: sliding_window(3, 0, 1),
    "dtype must be float32 or float64, .* got torch.bfloat16": lambda: alibi(2, 3, 3, dtype=torch.bfloat16),
    "before and after are at least 0, got -1 and 0": lambda: sliding_window(3, 3, -1),
    r"table must be \(buckets, H\) of floating point, got \(32,\)": lambda: t5_buckets(TABLE[:, 0], 3, 3),
    "needs an even number of at least 4 buckets, the table has 31": lambda: t5_buckets(TABLE[:31], 3, 3),
    "needs at least 2 buckets, the table has 1": lambda: t5_buckets(TABLE[:1], 3, 3, bidirectional=False),
    "max_distance must be above 8, the exact buckets, got 8": lambda: t5_buckets(TABLE, 3, 3, max_distance=8),
    "a window of 2 x 3 needs a table of 15 rows, got 32": lambda: swin_bias(TABLE, (2, 3)),
    r"table must be .* got \(9, 4\) torch.int64": lambda: swin_bias(torch.zeros(9, 4, dtype=torch.long), 2),
    "width must be at least 1, got 0": lambda: swin_bias(TABLE, (2, 0)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_presets_refuse(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
