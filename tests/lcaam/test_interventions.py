"""Masks frozen to their mean, of another sample, with shuffled rows: against values worked out by hand."""

import pytest
import torch

from lcaam import Encoder, LayerMasks, Memory
from lcaam.analysis import context_sensitivity, record
from lcaam.integrations.timm import graft
from lcaam.interventions import INTERVENTIONS, SingleSampleError, averaging, intervened
from tests.lcaam.integrations.small_vit import images, random_masks, small_vit
from tests.lcaam.names import FUSIONS, SCOPES

KINDS = {
    "context": dict(dim=16, num_keys=9, init="kaiming"),
    "content": dict(dim=16, length="content", init="kaiming"),
    "groups": dict(dim=16, num_keys=9, init="kaiming", groups=2),
}
STATIC = {
    "static": dict(num_queries=9, num_keys=9, fusion="gate"),
    "table": dict(num_keys=9),
    "columns": dict(num_keys=9, fusion="add"),
}


def encoder(scope="per_layer", kind="context", **options) -> Encoder:
    torch.manual_seed(0)
    masks = LayerMasks(scope, 2, kind if kind in STATIC else "context", **(KINDS | STATIC)[kind] | options)
    for parameter in masks.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Encoder(16, 2, 2, masks=masks).eval()


def tokens(batch=3, rows=9, seed=1):
    return torch.randn(batch, rows, 16, generator=torch.Generator().manual_seed(seed))


def masks_of(model, x, **options):
    with torch.no_grad(), record(model) as records:
        out = model(x, **options)
    return [r.mask for r in records], out


def frozen(model, *batches):
    with torch.no_grad(), averaging(model) as means:
        for x in batches:
            model(x)
    return means


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_masks_are_the_mean_over_the_samples_of_all_batches(kind, scope):
    model, (one, two) = encoder(scope, kind), (tokens(3), tokens(2, seed=2))
    means = frozen(model, one, two)
    expected = [torch.cat(pair).mean(0) for pair in zip(masks_of(model, one)[0], masks_of(model, two)[0], strict=True)]
    with intervened(model, "frozen", means):
        found, _ = masks_of(model, one)
    for mask, mean in zip(found, expected, strict=True):
        torch.testing.assert_close(mask, mean[None], rtol=1e-5, atol=1e-5)
        assert context_sensitivity(mask) == 0.0
    assert model.masks.alter is None
    torch.testing.assert_close(model(one), masks_of(model, one)[1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", STATIC)
@pytest.mark.parametrize("name", ["frozen", "swapped"])
def test_a_mask_that_reads_nothing_is_not_changed_but_by_shuffling(kind, name):
    model, x = encoder(kind=kind), tokens()
    with intervened(model, name, frozen(model, x) if name == "frozen" else None):
        torch.testing.assert_close(model(x), encoder(kind=kind)(x), rtol=0, atol=1e-5)
    with intervened(model, "shuffled"):
        assert torch.allclose(model(x), encoder(kind=kind)(x), atol=1e-4) == (kind == "columns")


def test_each_pair_has_the_mean_over_the_samples_that_have_it():
    """Lengths 4 and 2 in one batch, then one of 3 alone."""
    model, first, second = encoder("shared", "content"), tokens(2, 4), tokens(1, 3, seed=2)
    real = torch.arange(4) < torch.tensor([[4], [2]])
    with torch.no_grad(), averaging(model) as means:
        means.real = {model.masks: (real, real)}
        model(first)
        means.real = {}
        model(second)
    ours, other = masks_of(model, first)[0][0], masks_of(model, second)[0][0]
    expected = ours[:1, 0].clone()
    expected[0, :3, :3] += other[0, 0]
    expected[0, :2, :2] += ours[1, 0, :2, :2]
    expected[0] /= torch.tensor([[3, 3, 2, 1], [3, 3, 2, 1], [2, 2, 2, 1], [1, 1, 1, 1]])
    with intervened(model, "frozen", means):
        found = masks_of(model, tokens(5, 4))[0][0]
        torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-6)
        longer = masks_of(model, tokens(2, 6))[0][0]  # pairs that nobody had are neutral
    torch.testing.assert_close(longer[0, 0, :4, :4], expected[0], rtol=0, atol=1e-6)
    assert (longer[0, 0, 4:] == 1).all() and (longer[0, 0, :, 4:] == 1).all()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", KINDS)
def test_swapped_masks_are_those_of_the_next_sample(kind, scope):
    model, x = encoder(scope, kind), tokens(3)
    own, _ = masks_of(model, x)
    with intervened(model, "swapped"):
        found, _ = masks_of(model, x)
    torch.testing.assert_close(found[0], own[0].roll(-1, 0), rtol=1e-5, atol=1e-5)
    if scope == "shared":
        torch.testing.assert_close(found[1], own[1].roll(-1, 0), rtol=1e-5, atol=1e-5)


def test_swapping_twice_in_a_batch_of_two_is_the_identity(monkeypatch):
    model, x = encoder(kind="groups"), tokens(2)
    expected = model(x)
    with intervened(model, "swapped"):
        once, alter = model(x), model.masks.alter
        monkeypatch.setattr(model.masks, "alter", lambda mask, *given: alter(alter(mask, *given), *given))
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    assert not torch.allclose(once, expected, atol=1e-3)


def test_samples_that_come_in_two_versions_are_swapped_within_each():
    model, x = encoder("shared"), tokens(6)
    own = masks_of(model, x)[0][0]
    with intervened(model, "swapped") as running:
        running.size = 3
        found = masks_of(model, x)[0][0]
    torch.testing.assert_close(found, own[[1, 2, 0, 4, 5, 3]], rtol=1e-5, atol=1e-5)


def test_a_batch_of_one_has_no_other_sample():
    model = encoder()
    with pytest.raises(SingleSampleError, match="a batch of one sample has no other one"), intervened(model, "swapped"):
        model(tokens(1))
    assert model.masks.alter is None


@pytest.mark.parametrize("padded", [False, True])
def test_shuffled_rows_are_those_of_other_real_tokens(padded):
    model, x = encoder("shared"), tokens(3)
    own = masks_of(model, x)[0][0]
    real = torch.arange(9) < torch.tensor([[9], [4], [1]])
    with intervened(model, "shuffled", seed=5) as running:
        running.real = {model.masks: (real, real)} if padded else {}
        found = masks_of(model, x)[0][0]
        assert torch.equal(masks_of(model, x)[0][0], found)
    assert not torch.equal(found, own)
    for sample, length in enumerate(real.sum(1).tolist() if padded else [9] * 3):
        for rows in (slice(0, length), slice(length, 9)):
            ours, theirs = (part[sample, 0, rows].tolist() for part in (found, own))
            assert sorted(ours) == sorted(theirs)
    with intervened(model, "shuffled", seed=6):
        assert not torch.equal(masks_of(model, x)[0][0], found)


@pytest.mark.parametrize("name", ["frozen", "swapped"])
@pytest.mark.parametrize("kind", ["context", "content"])
@pytest.mark.parametrize("scope", SCOPES)
def test_cached_decoding_has_the_rows_of_the_whole_sequence(scope, kind, name):
    model, x = encoder(scope, kind), tokens(2)
    if name == "frozen":
        with torch.no_grad(), averaging(model) as means:
            model(x, causal=True)
    with torch.no_grad(), intervened(model, name, means if name == "frozen" else None):
        memory, parts = Memory(), []
        for part in x.split([4, 1, 3, 1], 1):
            parts.append(model(part, causal=True, memory=memory))
            memory.keep()
        torch.testing.assert_close(torch.cat(parts, 1), model(x, causal=True), rtol=0, atol=1e-5)


def test_the_mean_of_decoding_step_by_step_is_that_of_the_whole():
    model, x, memory = encoder("per_layer"), tokens(2), Memory()
    whole = frozen_causal(model, x)
    with torch.no_grad(), averaging(model) as means:
        for part in x.split([4, 1, 3, 1], 1):
            model(part, causal=True, memory=memory)
            memory.keep()
    for place, total in whole.sums.items():
        count = means.counts[place]
        assert torch.equal(
            count > 0, torch.arange(9)[None, None] < torch.tensor([4] * 4 + [5] + [8] * 3 + [9])[:, None]
        )
        torch.testing.assert_close(means.sums[place], total.where(count > 0, 0.0), rtol=0, atol=1e-5)


def frozen_causal(model, x):
    with torch.no_grad(), averaging(model) as means:
        model(x, causal=True)
    return means


def test_beams_of_a_sample_get_those_of_the_next_one():
    """Three samples with two beams each, all equal: as three samples without beams."""
    model, video, words, memory = encoder(kind="content"), tokens(3, 5), tokens(3, 1, seed=2), Memory(beams=2)
    with torch.no_grad(), intervened(model, "swapped"):
        model(video, memory=memory)
        memory.keep()
        found = model(words.repeat_interleave(2, 0), memory=memory)
        plain = Memory()
        model(video, memory=plain)
        plain.keep()
        torch.testing.assert_close(found, model(words, memory=plain).repeat_interleave(2, 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_in_a_grafted_vit(scope, fusion):
    vit, x = graft(small_vit(), scope, fusion), images(4)
    random_masks(vit)
    own, plain = masks_of(vit, x)
    with torch.no_grad(), averaging(vit) as means:
        vit(x)
    with intervened(vit, "frozen", means):
        found, out = masks_of(vit, x)
    assert found[0].shape[0] == 1 and not torch.allclose(out, plain, atol=1e-4)
    torch.testing.assert_close(found[0][0], own[0].mean(0), rtol=0, atol=1e-5)
    with intervened(vit, "swapped"):
        torch.testing.assert_close(masks_of(vit, x)[0][0], own[0].roll(-1, 0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(vit(x), plain, rtol=0, atol=1e-5)


REFUSED = {
    "unknown intervention 'frozn'; allowed: frozen, swapped, shuffled. Did you mean 'frozen'": lambda: dict(
        name="frozn"
    ),
    "intervention 'frozen' needs the means": lambda: dict(name="frozen"),
    "intervention 'swapped' takes no means": lambda: dict(name="swapped", means=frozen(encoder(), tokens())),
    "Encoder has no masks to intervene in": lambda: dict(name="swapped", model=Encoder(16, 1, 2)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises(ValueError, match=message), intervened(**{"model": encoder()} | REFUSED[message]()):
        pass


def test_interventions_do_not_nest_and_a_mean_needs_a_run():
    model = encoder()
    with (
        intervened(model, "swapped"),
        pytest.raises(ValueError, match="in another intervention already"),
        averaging(model),
    ):
        pass
    with averaging(model) as means:
        pass
    with intervened(model, "frozen", means), pytest.raises(ValueError, match="no mean for layer 0 of masks"):
        model(tokens())
    assert set(INTERVENTIONS) == {"frozen", "swapped", "shuffled"}
