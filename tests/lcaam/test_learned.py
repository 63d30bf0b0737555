"""Masks that read nothing: each is written out by loops over single pairs, in every place where masks are used."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from lcaam import Encoder, Fusion, LayerMasks, Memory, attention
from lcaam.controls import count
from lcaam.integrations.timm import graft
from lcaam.plan import mask_options
from lcaam.resize import resized_state
from lcaam.stack import KINDS
from tests.lcaam.integrations.small_vit import TOKENS, images, random_masks, small_vit, written_out
from tests.lcaam.loop import EXACT, attention_loop, gradients, inputs
from tests.lcaam.names import FUSIONS, SCOPES

N = 9
OPTIONS = {
    "temperature": {},
    "blocks": {"boundaries": (2, 5)},
    "columns": {"num_keys": N},
    "offsets": {"num_keys": N},
    "table": {"num_keys": N},
}
NUMBERS = {"temperature": 1, "blocks": 9, "columns": N, "offsets": 2 * N - 1, "table": N * N}
MULTIPLYING = [fusion for fusion in FUSIONS if Fusion.parse(fusion).multiplies]
FORMS = [(kind, fusion) for kind in OPTIONS for fusion in (MULTIPLYING if kind == "temperature" else FUSIONS)]


def net(kind: str, seed: int = 0, **options):
    """A mask of that kind with learned numbers that are anything."""
    made = KINDS[kind](**OPTIONS[kind] | options)
    torch.nn.init.normal_(made.change, generator=torch.Generator().manual_seed(seed))
    return made


def written(kind: str, made, group: int, i: int, j: int) -> float:
    """The value of one pair, from the stored numbers."""
    change = made.change[group]
    which = {
        "temperature": lambda: (),
        "blocks": lambda: ((i >= 2) + (i >= 5), (j >= 2) + (j >= 5)),
        "columns": lambda: (j,),
        "offsets": lambda: (j - i + N - 1,),
        "table": lambda: (i, j),
    }[kind]()
    return made.fusion.neutral + change[which].item()


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("rows, columns", [(N, N), (1, 1), (4, 7), (7, 4)])
@pytest.mark.parametrize("kind", OPTIONS)
def test_each_pair_has_its_number_and_shorter_sequences_the_upper_left_part(kind, rows, columns, groups):
    made = net(kind, groups=groups)
    assert count(made) == groups * NUMBERS[kind]
    found = made(torch.randn(2, rows, 4), keys=torch.randn(2, columns, 4))
    assert found.fusion is made.fusion and found.shape == (1, groups, rows, columns)
    for group in range(groups):
        for i in range(rows):
            for j in range(columns):
                assert found.dense()[0, group, i, j].item() == pytest.approx(written(kind, made, group, i, j))
    square = made(torch.randn(2, rows, 4)).dense()
    torch.testing.assert_close(square, made(torch.randn(2, rows, 4), keys=torch.randn(2, rows, 4)).dense())


@pytest.mark.parametrize("n_q, n_k", [(3, 5), (5, 3), (1, 4)])
def test_queries_and_keys_of_other_tokens(n_q, n_k):
    """Cross-attention: sizes of their own, all numbers used, plain attention at the start."""
    x, keys = torch.randn(2, n_q, 4), torch.randn(2, n_k, 4)
    for kind, fusion, numbers in (("table", "mul", n_q * n_k), ("offsets", "gate", n_q + n_k - 1), ("span", "add", 1)):
        made = KINDS[kind](n_k, n_q, fusion=fusion)
        assert count(made) == numbers and (made(x, keys=keys).dense() == made.fusion.neutral).all()
    made = KINDS["offsets"](n_k, n_q)
    torch.nn.init.normal_(made.change)
    found = made(x, keys=keys).dense()[0, 0]
    for i in range(n_q):
        for j in range(n_k):
            assert found[i, j].item() == pytest.approx(1 + made.change[0, j - i + n_q - 1].item())


def test_what_has_a_low_rank_keeps_its_factors():
    ranks = {kind: net(kind)(torch.randn(1, N, 4)).rank for kind in OPTIONS}
    assert ranks == {"temperature": 1, "blocks": 3, "columns": 1, "offsets": 0, "table": 0}


@pytest.mark.parametrize("kind, fusion", FORMS)
def test_every_backend_computes_it_and_every_number_learns(kind, fusion):
    made, rows = net(kind, fusion=fusion).double(), 4
    q, k, v, *_ = inputs(rows, rows, b=1)
    leaves, x = [made.change, q, k, v], torch.randn(1, rows, 4)
    expected = attention_loop(q, k, v, made(x).dense(), fusion, causal=True)
    slopes = gradients(expected, leaves)
    for backend in (*EXACT, "auto"):
        if backend == "sdpa" and made.fusion.multiplies:
            continue
        out = attention(q, k, v, made(x), causal=True, backend=backend)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
        for ours, theirs in zip(gradients(out, leaves), slopes, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    q, k, v, *_ = inputs(N, N, b=1)
    (learned,) = gradients(attention(q, k, v, made(torch.randn(1, N, 4))), [made.change])
    assert (learned != 0).all()


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind, fusion", [*FORMS, ("span", "add")])
def test_an_encoder_starts_as_the_plain_one(kind, fusion, scope):
    torch.manual_seed(0)
    options = OPTIONS.get(kind, {"num_keys": N}) | {"groups": 2}
    encoder = Encoder(16, 2, 2, masks=LayerMasks(scope, 2, kind, fusion=fusion, **options)).eval()
    plain = Encoder(16, 2, 2).eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    x = torch.randn(3, N, 16)
    torch.testing.assert_close(encoder(x), plain(x), rtol=0, atol=1e-6)
    assert count(encoder.masks) == len(encoder.masks.nets) * 2 * NUMBERS.get(kind, 1)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kind", [*OPTIONS, "span"])
def test_cached_decoding_has_the_rows_of_the_whole_sequence(kind, scope):
    options = OPTIONS.get(kind, {"num_keys": N, "start": 0.25, "ramp": 2})
    encoder = Encoder(16, 2, 2, masks=LayerMasks(scope, 2, kind, **options)).eval()
    for parameter in encoder.masks.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, memory, parts = torch.randn(2, N, 16), Memory(), []
    with torch.no_grad():
        for part in x.split([4, 1, 2, 1, 1], 1):
            parts.append(encoder(part, causal=True, memory=memory))
            memory.keep()
        torch.testing.assert_close(torch.cat(parts, 1), encoder(x, causal=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", [0, 2])
def test_offsets_of_patches_are_two_numbers_and_a_prefix_stays_neutral(prefix):
    made = KINDS["offsets"](prefix + 6, grid=(2, 3), prefix=prefix, fusion="temper")
    torch.nn.init.normal_(made.change)
    assert made.change.shape == (1, 3, 5)
    dense = made(torch.randn(1, prefix + 6, 4)).dense()[0, 0]
    for i in range(prefix + 6):
        for j in range(prefix + 6):
            expected = made.fusion.neutral
            if min(i, j) >= prefix:
                (y, x), (v, u) = divmod(i - prefix, 3), divmod(j - prefix, 3)
                expected += made.change[0, v - y + 1, u - x + 2].item()
            assert dense[i, j].item() == pytest.approx(expected)
    for rows in range(1, prefix + 6):  # a row at a time, as far as there are any
        part = made.checked(rows, 1, rows + 1).dense()[0, 0]
        torch.testing.assert_close(part, dense[rows : rows + 1, : rows + 1])


@pytest.mark.parametrize("kind", ["temperature", "columns", "offsets", "table", "span"])
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_in_a_grafted_vit(kind, scope):
    fusion, vit = {"span": "add"}.get(kind, "mul"), small_vit(reg_tokens=1)
    expected = vit(images())
    graft(vit, scope, fusion, kind=kind, groups=3)
    torch.testing.assert_close(vit(images()), expected, rtol=0, atol=1e-5)
    vit = graft(small_vit(), scope, fusion, kind=kind)
    if kind == "offsets":
        assert vit.lcaam.masks.nets[0].change.shape == (1, 5, 9)
    random_masks(vit)
    torch.testing.assert_close(vit(images()), written_out(vit, images(), scope, fusion), rtol=0, atol=1e-4)
    assert TOKENS in vit.lcaam.masks.nets[0].limits or kind == "temperature"


@pytest.mark.parametrize("kind", OPTIONS)
def test_copies_precisions_and_the_meta_device(kind):
    made = net(kind)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        torch.testing.assert_close(other(torch.randn(1, 5, 4)).dense(), made(torch.randn(1, 5, 4)).dense())
    x = torch.randn(1, 5, 4)
    assert copy.deepcopy(made).to(torch.bfloat16)(x.bfloat16()).dense().dtype == torch.bfloat16
    with torch.device("meta"):
        later = KINDS[kind](**OPTIONS[kind])
    later.to_empty(device="cpu").reset_parameters()
    assert (later(x).dense() == later.fusion.neutral).all()
    with torch.no_grad():
        assert not made(x).dense().requires_grad


@pytest.mark.parametrize("more", [4, 13])
@pytest.mark.parametrize("kind", ["columns", "offsets", "table"])
def test_a_checkpoint_of_another_length_keeps_its_first_numbers_and_adds_neutral_ones(kind, more):
    old, new = net(kind), KINDS[kind](num_keys=more)
    new.load_state_dict(resized_state(new, old.state_dict(), "first"))
    found = new(torch.randn(1, more, 4)).dense()[0, 0]
    for i in range(more):
        for j in range(more):
            there = {"columns": j < N, "offsets": abs(j - i) < N, "table": max(i, j) < N}[kind]
            expected = written(kind, old, 0, i, j) if there else 1.0
            assert found[i, j].item() == pytest.approx(expected)


@pytest.mark.parametrize("more", [4, 13])
@pytest.mark.parametrize("kind", ["columns", "offsets", "table"])
def test_a_checkpoint_of_another_length_is_stretched(kind, more):
    old, new = net(kind), KINDS[kind](num_keys=more)
    new.load_state_dict(resized_state(new, old.state_dict(), "interpolate"))
    before, after = old(torch.randn(1, N, 4)).dense(), new(torch.randn(1, more, 4)).dense()
    if kind == "offsets":  # offset 0 and the farthest ones keep their numbers
        for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
            torch.testing.assert_close(after[0, 0, i, j], before[0, 0, i, j])
    else:
        expected = F.interpolate(before, size=(more, more), mode="bilinear", align_corners=False)
        torch.testing.assert_close(after, expected)


def test_a_grid_and_its_prefix_are_resized_as_those_of_other_masks():
    for kind in ("columns", "table", "offsets"):
        old, new = (KINDS[kind](1 + h * w, grid=(h, w), prefix=1) for h, w in ((2, 2), (4, 4)))
        torch.nn.init.normal_(old.change)
        new.load_state_dict(resized_state(new, old.state_dict(), "interpolate"))
        before, after = (one(torch.randn(1, one.num_keys, 4)).dense()[0, 0] for one in (old, new))
        torch.testing.assert_close(after[0, 0], before[0, 0])  # the class token with itself
        if kind != "offsets":
            with pytest.raises(ValueError, match="2-D grid of keys is resized with how='interpolate'"):
                resized_state(new, old.state_dict(), "first")
        torch.testing.assert_close(after[1, 1], before[1, 1])  # corners
        torch.testing.assert_close(after[1, -1], before[1, -1])


REFUSED = {
    "fusion 'add' has no such form; allowed: mul": lambda: KINDS["temperature"](fusion="add"),
    "tokens are of one modality, so there are no blocks": lambda: KINDS["blocks"](),
    r"boundaries \(3, 3\) do not rise": lambda: KINDS["blocks"](boundaries=(3, 3)),
    r"boundaries \(0,\) do not rise": lambda: KINDS["blocks"](boundaries=(0,)),
    "sizes must be at least 1, got groups=0": lambda: KINDS["columns"](5, groups=0),
    r"queries and keys \(0, 0\)": lambda: KINDS["table"](0),
    "ColumnMask: a sequence of 10 keys, the mask was made for at most 9: build it with num_keys=10": lambda: net(
        "columns"
    )(torch.randn(1, 10, 4)),
    "TableMask: a sequence of 10 queries, .* at most 9": lambda: net("table")(torch.randn(1, 10, 4)),
    "OffsetMask: a sequence of 10 queries": lambda: net("offsets")(torch.randn(1, 10, 4)),
    r"1 prefix tokens and a grid of \(2, 2\) are not 6 keys": lambda: KINDS["offsets"](6, grid=(2, 2), prefix=1),
    r"OffsetMask: change of shape \(1, 12\) cannot be resized to \(1, 8\)": lambda: resized_state(
        KINDS["offsets"](4, 5), KINDS["offsets"](6, 7).state_dict()
    ),
    r"ColumnMask: change of shape \(1, 9\) cannot be resized to \(2, 9\)": lambda: resized_state(
        net("columns", groups=2), net("columns").state_dict()
    ),
    "unknown way to resize 'last'": lambda: resized_state(KINDS["columns"](4), net("columns").state_dict(), "last"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_a_mask_node_builds_each_of_them_and_a_control_has_as_many_numbers():
    sizes = dict(num_layers=2, dim=16, num_keys=N, boundaries=(2, 5))
    for kind, numbers in NUMBERS.items():
        node = {"scope": "per_layer", "kind": kind, "fusion": "mul", "groups": 1, "control": "none"}
        assert count(mask_options(node, **sizes)["masks"]) == 2 * numbers
    control, sizes["num_keys"] = {**node, "control": "extra_linear", "control_residual": True}, 50
    assert count(*mask_options(control, **sizes)["after_attention"]) == pytest.approx(2 * 50 * 50, rel=0.005)
