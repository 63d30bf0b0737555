"""Analysis: what is recorded is what was computed, and each number means what its docstring says."""

import numpy as np
import pytest
import torch

from lcaam import ContextAwareMask, Encoder, LayerMasks, Mask, attention
from lcaam.analysis import (
    attention_histogram,
    block_means,
    context_sensitivity,
    effective_rank,
    heat_map,
    kept,
    record,
    sign_flips,
    sparsity,
    token_deviation,
)


class Custom(torch.nn.Module):
    """Somebody's own model that calls `attention` itself."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Module()
        self.inner.forward = lambda q, k, v, mask: attention(q, k, v, mask, fusion="temper")

    def forward(self, q, k, v, mask):
        return self.inner(q, k, v, mask)


def test_record_sees_what_was_computed_in_any_model():
    q, k, v = torch.randn(3, 2, 4, 5, 8).unbind(0)
    mask = Mask.from_dense(torch.randn(2, 1, 5, 5))
    with record(model := Custom()) as records:
        out = model(q, k, v, mask)
        attention(q, k, v, mask)
    model(q, k, v, mask)
    (call,) = records  # nothing from outside the model, nothing from after the block
    assert call.name == "inner"
    torch.testing.assert_close(call.weights @ v, out)
    assert torch.equal(call.mask, mask.dense())


def test_record_names_layers_and_survives_an_error_inside_the_model():
    masks = LayerMasks(scope="per_layer", num_layers=2, dim=8, num_keys=5)
    encoder = Encoder(8, 2, heads=2, masks=masks)
    with record(encoder) as records:
        with pytest.raises(ValueError):
            encoder(torch.randn(1, 6, 8))
        encoder(torch.randn(1, 5, 8))
    assert [r.name for r in records] == ["layers.0.attention", "layers.1.attention"]
    assert not encoder._forward_hooks and not encoder._forward_pre_hooks


def test_records_know_which_pairs_count():
    masks = LayerMasks(scope="shared", num_layers=1, dim=8, num_keys=5)
    encoder = Encoder(8, 1, heads=2, masks=masks)
    keep = torch.tensor([[True] * 5, [True, True, False, False, False]])
    with record(encoder) as records:
        encoder(torch.randn(2, 5, 8), keep=keep)
    assert records[0].kept_weights().numel() == 2 * 5 * (5 + 2)
    assert records[0].kept_mask().numel() == 5 * (5 + 2)
    with record(plain := Encoder(8, 1, heads=2)) as records:
        plain(torch.randn(2, 5, 8))
    with pytest.raises(ValueError, match="used no mask"):
        records[0].kept_mask()


def test_kept_takes_a_keep_per_head():
    values, keep = torch.arange(8.0).view(1, 2, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    keep[0, 1] = True
    assert kept(values, keep).tolist() == [4, 5, 6, 7]
    assert kept(values[:, :1], keep).tolist() == [0, 1, 2, 3]


def test_context_sensitivity_is_one_number_between_static_and_context():
    torch.manual_seed(0)
    position = torch.randn(1, 1, 6, 6).expand(400, 1, 6, 6)
    sample = torch.randn(400, 1, 6, 6)
    assert context_sensitivity(position) == pytest.approx(0.0, abs=1e-12)
    assert context_sensitivity(sample) == pytest.approx(1.0, abs=0.02)
    assert context_sensitivity(position + sample) == pytest.approx(0.5, abs=0.15)
    assert context_sensitivity(torch.full((3, 1, 2, 2), 0.5413248546)) == 0.0, "0 / 0 is 0"


def test_context_sensitivity_by_hand():
    mask = torch.tensor([[[[0.0, 1.0]]], [[[2.0, 5.0]]]])
    within = ((0 - 1) ** 2 + (2 - 1) ** 2 + (1 - 3) ** 2 + (5 - 3) ** 2) / 4
    assert context_sensitivity(mask) == pytest.approx(within / np.var([0, 1, 2, 5]))
    centred = np.array([[-0.5, 0.5], [-1.5, 1.5]])
    assert context_sensitivity(mask, fusion="add") == pytest.approx(centred.var(0).mean() / centred.var())


def test_context_sensitivity_ignores_what_a_row_shift_does_for_add_only():
    mask = torch.randn(1, 1, 4, 4).expand(50, 1, 4, 4) + torch.randn(50, 1, 4, 1)
    assert context_sensitivity(mask, fusion="add") == pytest.approx(0.0, abs=1e-12)
    assert context_sensitivity(mask, fusion="mul") > 0.1


def test_context_sensitivity_ignores_padding():
    mask = torch.randn(1, 1, 4, 4).repeat(50, 1, 1, 1)
    mask[:, :, :, 3] = torch.randn(50, 1, 4)
    keep = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    for fusion in ("add", "mul"):
        assert context_sensitivity(mask, fusion, keep) == pytest.approx(0.0, abs=1e-12)


def test_a_dead_default_mask_is_not_context_sensitive_and_a_kaiming_one_is():
    torch.manual_seed(0)
    x = torch.randn(16, 12, 64)
    dead = ContextAwareMask(64, 12, depth=32, init="default")(x).dense()
    alive = ContextAwareMask(64, 12, depth=32, init="kaiming")(x).dense()
    assert context_sensitivity(dead) < 1e-6
    assert context_sensitivity(alive) > 0.05


def test_histogram_counts_every_weight_once():
    weights = torch.rand(2, 3, 7, 5).softmax(-1)
    counts, edges = attention_histogram(weights, bins=10)
    assert counts.sum() == weights.numel() and len(edges) == 11
    expected, _ = np.histogram(weights.flatten().numpy(), bins=10, range=(0, 1))
    assert counts.tolist() == expected.tolist()


def test_shares():
    assert sparsity(torch.tensor([0.001, 0.009, 0.01, 0.98])) == 0.5
    assert sign_flips(torch.tensor([-1.0, 0.0, 1.0, 2.0])) == 0.25
    assert sparsity(torch.tensor([])) == sign_flips(torch.tensor([])) == 0.0


def test_heat_map_is_a_mean_or_one_sample():
    mask = torch.randn(3, 2, 4, 5)
    torch.testing.assert_close(heat_map(mask), mask.mean((0, 1)))
    torch.testing.assert_close(heat_map(mask, sample=1), mask[1].mean(0))


def test_token_deviation_sees_whether_rows_differ():
    row = torch.randn(2, 1, 1, 6)
    assert token_deviation(row.expand(2, 1, 5, 6)) == pytest.approx(0.0, abs=1e-12)
    mask = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    assert token_deviation(mask) == pytest.approx((1 + 2) / 2)
    dead = ContextAwareMask(256, 75, depth=32, init="default")(torch.randn(2, 75, 256)).dense()
    assert token_deviation(dead) < 1e-7


def test_effective_rank_counts_patterns():
    outer = torch.randn(3, 1, 8, 1) @ torch.randn(3, 1, 1, 9)
    assert effective_rank(outer) == pytest.approx(1.0, abs=1e-4)
    assert effective_rank(torch.eye(7)[None, None]) == pytest.approx(7.0)
    assert effective_rank(torch.zeros(1, 1, 4, 4)) == 0.0
    low = ContextAwareMask(16, 20, rank=3, init="kaiming")(torch.randn(2, 20, 16)).dense()
    assert effective_rank(low) <= 3.01


def test_block_means_are_means_of_blocks():
    mask = torch.randn(3, 2, 5, 5)
    means = block_means(mask, [2])
    assert means.shape == (2, 2)
    assert means[0, 1].item() == pytest.approx(mask[:, :, :2, 2:].mean().item())
    keep = torch.ones(3, 1, 1, 5, dtype=torch.bool)
    keep[..., 4] = False
    assert block_means(mask, [2], keep)[1, 1].item() == pytest.approx(mask[:, :, 2:, 2:4].mean().item())
    assert block_means(mask, []).item() == pytest.approx(mask.mean().item())
    for boundaries in ([0], [5], [3, 2]):
        with pytest.raises(ValueError, match="do not divide 5 tokens"):
            block_means(mask, boundaries)


def test_padded_queries_can_be_left_out():
    masks = LayerMasks(scope="shared", num_layers=1, dim=8, num_keys=5)
    encoder = Encoder(8, 1, heads=2, masks=masks)
    keep = torch.tensor([[True] * 5, [True, True, False, False, False]])
    with record(encoder) as records:
        encoder(torch.randn(2, 5, 8), keep=keep)
    counted = records[0].of_queries(keep)
    assert counted.kept_weights().numel() == 2 * (5 * 5 + 2 * 2)
    assert counted.kept_mask().numel() == 5 * 5 + 2 * 2


def test_a_heat_map_counts_kept_pairs_only():
    mask, keep = torch.tensor([[[[1.0, 2.0]]], [[[3.0, 40.0]]]]), torch.tensor([[[[True, True]]], [[[True, False]]]])
    assert heat_map(mask, keep=keep).tolist() == [[2.0, 2.0]]
    assert heat_map(mask, keep=torch.zeros_like(keep)).tolist() == [[2.0, 21.0]]
