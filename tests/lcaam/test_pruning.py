"""Attention without the keys that count least: against keys worked out by hand, and the places that are pruned."""

import pytest
import torch

from lcaam import Encoder, LayerMasks, attention
from lcaam.analysis import record
from lcaam.attention import restricting
from lcaam.pruning import CRITERIA, pruned
from tests.lcaam.names import FUSIONS


def encoder(scope="per_layer", fusion="mul", **options) -> Encoder:
    torch.manual_seed(0)
    masks = LayerMasks(scope, 2, dim=16, num_keys=9, init="kaiming", fusion=fusion, **options)
    return Encoder(16, 2, 2, masks=masks).eval()


def tokens(batch=3, rows=9, seed=1):
    return torch.randn(batch, rows, 16, generator=torch.Generator().manual_seed(seed))


def kept_keys(model, x, share, by, keep=None, real=None):
    """The numbers of the keys that have a weight in the first layer, a list for each sample; and what was recorded."""
    with torch.no_grad(), record(model) as records, pruned(model, share, by) as pruning:
        pruning.real = {} if real is None else {model.masks: (real, real)}
        model(x, keep=keep)
    return [row.nonzero().flatten().tolist() for row in records[0].weights.sum((1, 2)) > 0], records


@pytest.mark.parametrize("by", CRITERIA)
@pytest.mark.parametrize("share, dropped", [(0.0, 0), (0.1, 0), (0.12, 1), (0.4, 3), (2 / 3, 6), (0.99, 8)])
def test_the_keys_with_the_lowest_means_are_dropped_in_every_sample(by, share, dropped):
    model, x = encoder(), tokens()
    with torch.no_grad(), record(model) as own:
        model(x)
    values = own[0].mask if by == "mask" else own[0].weights
    order = values.mean((1, 2)).argsort(-1)  # (B, N_k)
    found, _ = kept_keys(model, x, share, by)
    assert found == [sorted(row.tolist()) for row in order[:, dropped:]]


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "none"])
def test_a_share_of_zero_and_the_time_after_are_the_model_itself(fusion):
    model, x = encoder(fusion=fusion), tokens()
    plain = model(x)
    with pruned(model, 0.0, "mask"):
        assert torch.equal(model(x), plain)
    with pruned(model, 0.5, "mask"):
        assert not torch.allclose(model(x), plain, atol=1e-4)
    assert torch.equal(model(x), plain) and not model.masks._forward_hooks


def test_padding_counts_neither_as_a_query_nor_as_a_key():
    """A padded sample keeps the keys that it keeps when it is alone."""
    model, x = encoder(), tokens(2)
    real = torch.arange(9) < torch.tensor([[9], [5]])
    padded = torch.where(real[..., None], x, 100.0)
    for by in CRITERIA:
        (whole, short), _ = kept_keys(model, padded, 0.4, by, keep=real, real=real)
        alone, _ = kept_keys(model, x[1:, :5], 0.4, by)
        assert [short] == alone and len(short) == 3 and len(whole) == 6


def test_plain_attention_is_pruned_where_its_masks_would_be():
    model, x = encoder("none"), tokens()
    other = Encoder(16, 1, 2).eval()

    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = model, other

        def forward(self, x):
            return self.second(self.first(x))

    with torch.no_grad(), record(both := Both()) as records, pruned(both, 0.4, "attention", [model.masks]):
        both(x)
    assert [(r.weights.sum((1, 2)) > 0).sum(-1).tolist() for r in records] == [[6] * 3, [6] * 3, [9] * 3]
    with pytest.raises(ValueError, match="has no masks to prune by"), pruned(model, 0.2, "mask"):
        pass


def test_only_the_masked_attention_of_a_layer_is_pruned():
    """A layer that attends to itself first, and then with its mask, as a decoder's does."""
    masks = encoder("shared").masks
    x, q = tokens(), tokens()[:, None]

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.masks = masks

        def forward(self, x):
            mask = self.masks(x, layer=0, shared=self.masks(x))
            return attention(q, q, attention(q, q, q), mask)

    with torch.no_grad(), record(layer := Layer()) as records, pruned(layer, 0.4, "mask"):
        layer(x)
    assert [(r.weights.sum((1, 2)) > 0).sum(-1).tolist() for r in records] == [[9] * 3, [6] * 3]


@pytest.mark.parametrize("backend", ["auto", "reference", "sdpa", "chunked"])
def test_restrictions_hold_in_every_backend_beside_padding_and_causality(backend):
    q, k, v = torch.randn(3, 2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    keep = torch.tensor([True, True, False, True, True, True]).expand(2, 6)
    drop = torch.tensor([True, False, True, True, True, True]).view(1, 1, 1, 6)
    expected = attention(q, k, v, keep=keep & drop[0, 0], causal=True, backend="reference")
    seen = []

    def restrict(call):
        seen.append(call.keep.shape)
        return call.keep & drop

    with restricting(restrict):
        found = attention(q, k, v, keep=keep, causal=True, backend=backend)
    torch.testing.assert_close(found, expected)
    assert seen == [(2, 1, 6, 6)]


@pytest.mark.parametrize(
    "given, message",
    [
        ((1.0, "mask"), "1.0 is out of range"),
        ((-0.1, "mask"), "out of range"),
        ((0.2, "masks"), "Did you mean 'mask'?"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(ValueError, match=message), pruned(encoder(), *given):
        pass
