"""Fusions and a kind of mask that are registered at run time are right everywhere, with no other file edited."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from configs.errors import ConfigError
from configs.schema import validate
from lcaam import Encoder, Fusion, LayerMasks, Mask, attention
from lcaam.analysis import record
from lcaam.choice import cheapest
from lcaam.controls import count
from lcaam.fusion import FUSIONS, register
from lcaam.integrations.timm import graft, graft_options
from lcaam.module import MaskModule
from lcaam.plan import mask_options
from lcaam.stack import KINDS
from tests.lcaam.integrations.small_vit import TOKENS, images, random_masks, small_vit, written_out
from tests.lcaam.loop import EXACT, attention_loop, gradients, inputs, padding

ADDED = {  # the record, and the equation in other words
    "bound": (
        Fusion("bound", "s + tanh(m)", torch.tanh, lambda m: 1 - m.tanh().square()),
        lambda s, m: s + (m.exp() - (-m).exp()) / (m.exp() + (-m).exp()),
    ),
    "swell": (
        Fusion("swell", "s * exp(m)", torch.exp, torch.exp, multiplies=True),
        lambda s, m: s * 2.718281828459045**m,
    ),
}


class Window(MaskModule):
    """A learned value for each distance between query and key, up to `reach`; 0 beyond."""

    def __init__(self, num_keys: int, reach: int = 2, start: float = 0.5):
        super().__init__()
        self.num_keys, self.reach = num_keys, reach
        self.table = nn.Parameter(torch.linspace(start, -start, 2 * reach + 1))

    def forward(self, x, keys=None):
        count = self.num_keys if keys is None else keys.shape[1]
        distance = torch.arange(count) - torch.arange(x.shape[1])[:, None]
        values = F.pad(self.table, (1, 1))[(distance.clamp(-self.reach - 1, self.reach + 1) + self.reach + 1)]
        return Mask.from_dense(values[None, None])


@pytest.fixture(params=ADDED)
def added(request, monkeypatch):
    """The name of a fusion that is registered for one test."""
    fusion, equation = ADDED[request.param]
    monkeypatch.setattr("tests.lcaam.loop.EQUATIONS", {fusion.name: equation})
    assert register(fusion) is fusion
    yield fusion.name
    del FUSIONS[fusion.name]


@pytest.fixture
def window(monkeypatch):
    monkeypatch.setitem(KINDS, "window", Window)


@pytest.mark.parametrize("dense", [False, True], ids=["factors", "dense"])
@pytest.mark.parametrize("backend", [*EXACT, "auto"])
def test_a_new_fusion_equals_the_loop_with_its_gradients_in_every_backend(added, backend, dense):
    n_q, n_k = 5, 7
    fusion, exact, leaves = Fusion.parse(added), inputs(n_q, n_k), inputs(n_q, n_k)
    keep = padding(2, n_k)
    q, k, v, left, right, bias = exact
    expected = attention_loop(q, k, v, Mask(left, right, bias).dense(), added, keep, causal=True)
    q, k, v, left, right, bias = leaves
    mask = Mask(left, right, bias)
    mask = Mask.from_dense(mask.dense()) if dense else mask
    if backend == "sdpa" and fusion.multiplies:
        with pytest.raises(ValueError, match=f"cannot compute fusion '{added}': it multiplies the score"):
            attention(q, k, v, mask, fusion=added, keep=keep, causal=True, backend=backend)
        return
    out = attention(q, k, v, mask, fusion=added, keep=keep, causal=True, backend=backend)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for ours, theirs in zip(gradients(out, leaves), gradients(expected, exact), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_a_new_fusion_is_computed_where_auto_sends_it(added, monkeypatch):
    """Many pairs go to blocks on a CPU, here 256 x 256; the gradient of every input is that of the equation."""
    for limit in ("ADDING", "MULTIPLYING"):
        monkeypatch.setattr(f"lcaam.choice.{limit}", 0)
    fusion, results = Fusion.parse(added), {}
    for backend in ("auto", "reference"):
        leaves = inputs(256, 256, h=1, b=1)
        q, k, v, left, right, bias = leaves
        assert cheapest(q, k, v, Mask(left, right, bias), fusion).backend == "chunked"
        out = attention(q, k, v, Mask(left, right, bias), fusion=added, backend=backend)
        results[backend] = [out, *gradients(out, leaves)]
    for found, expected in zip(*results.values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_a_new_fusion_is_neutral_and_listed_and_pickled_by_name(added):
    fusion = Fusion.parse(added)
    assert fusion in list(Fusion) and getattr(Fusion, added) is fusion and str(fusion) == fusion.value == added
    assert pickle.loads(pickle.dumps(fusion)) is fusion
    assert not fusion.ignores_row_shift and not fusion.adds_the_mask
    q, k, v, *_ = inputs(3, 4)
    neutral = Mask.from_dense(torch.full((1, 1, 3, 4), fusion.neutral, dtype=torch.float64))
    torch.testing.assert_close(attention(q, k, v, neutral, fusion=added), attention(q, k, v))
    with pytest.raises(ValueError, match=f"fusion '{added}': the name is taken"):
        register(fusion)
    with pytest.raises(ValueError, match="Did you mean"):
        Fusion.parse(added + "s")


def test_a_new_fusion_is_accepted_in_a_configuration(added, compose_run):
    multiplies = Fusion.parse(added).multiplies
    validate(compose_run("experiment=madv2_lcaam", "scale=mini", f"mask.fusion={added}"))
    with pytest.raises(ConfigError, match=f"one of none, add, mul, gate, temper, {added}; did you mean '{added}'"):
        validate(compose_run("experiment=madv2_lcaam", "scale=mini", f"mask.fusion={added}s"))
    with pytest.raises(ConfigError, match=f"choose mask.fusion=add, mul, gate, temper or {added}, or mask=none"):
        validate(compose_run("experiment=madv2_lcaam", "scale=mini", "mask.fusion=none"))
    with pytest.raises(ConfigError, match=f"mask.fusion: {added} with mask.kind=static; allowed: add"):
        validate(compose_run("experiment=madv2_lcaam", "scale=mini", "mask=static_swinbert", f"mask.fusion={added}"))
    on_sdpa = compose_run("experiment=qvhighlights_lcaam", "scale=mini", f"mask.fusion={added}", "task.backend=sdpa")
    if multiplies:
        with pytest.raises(ConfigError, match=f"sdpa cannot compute mask.fusion={added}, which multiplies scores"):
            validate(on_sdpa)
    else:
        validate(on_sdpa)


@pytest.mark.parametrize("scope", ["shared", "tied", "per_layer"])
def test_a_new_fusion_in_encoder_and_graft(added, scope):
    torch.manual_seed(0)
    masks = LayerMasks(scope, 2, dim=16, num_keys=9, fusion=added)
    encoder, x = Encoder(16, 2, heads=2, masks=masks, fusion=added).eval(), torch.randn(2, 9, 16)
    plain = Encoder(16, 2, heads=2).eval()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    torch.testing.assert_close(encoder(x), plain(x), rtol=0, atol=1e-5)  # masks start as identity
    vit = graft(small_vit(), scope, added)
    random_masks(vit)
    torch.testing.assert_close(vit(images()), written_out(vit, images(), scope, added), rtol=0, atol=1e-4)


def test_a_new_kind_in_layer_masks_and_encoder(window):
    options = mask_options(NODE | {"scope": "per_layer", "reach": 1, "start": 2.0}, 3, dim=16, num_keys=9)
    encoder, x = Encoder(16, 3, heads=2, **options).eval(), torch.randn(2, 9, 16)
    with record(encoder) as records:
        encoder(x)
    assert [type(net) for net in encoder.masks.nets] == [Window] * 3
    expected = torch.zeros(9, 9)
    for i in range(9):
        for j in range(9):
            expected[i, j] = {-1: 2.0, 0: 0.0, 1: -2.0}.get(j - i, 0.0)
    assert all(torch.equal(r.mask[0, 0], expected) for r in records)
    assert encoder.masks.sparsity_loss() == 0.0
    encoder(x).square().sum().backward()
    assert all(net.table.grad.abs().max() > 0 for net in encoder.masks.nets)
    control = mask_options(NODE | {"scope": "per_layer", "reach": 29, "control": "extra_linear"}, 3, 8, num_keys=9)
    assert count(*control["after_attention"]) == 3 * (2 * 29 + 1)
    with pytest.raises(ValueError, match="unknown kind 'windo'; allowed: context, static, .*window"):
        mask_options(NODE | {"kind": "windo"}, 3, dim=16, num_keys=9)


def test_a_new_kind_in_graft(window):
    settings = graft_options(NODE | {"reach": 3, "num_keys": None, "sparsity": 0.0, "hard": False})
    vit = graft(small_vit(), **settings)
    random_masks(vit)
    assert (vit.lcaam.masks.nets[0].reach, vit.lcaam.masks.nets[0].num_keys) == (3, TOKENS)
    torch.testing.assert_close(vit(images()), written_out(vit, images(), "shared", "add"), rtol=0, atol=1e-4)
    with pytest.raises(TypeError, match="unknown keyword reech; a mask of kind 'window' has the settings reach, start"):
        graft(small_vit(), kind="window", reech=3)
    with pytest.raises(ValueError, match="a window mask has length 'fixed', got 'content'"):
        graft(small_vit(), kind="window", length="content")


def test_a_new_kind_and_its_settings_are_accepted_in_a_configuration(window, compose_run):
    run = ("experiment=madv2_lcaam", "scale=mini", "mask.kind=window")
    validate(compose_run(*run))
    validate(compose_run(*run, "+mask.reach=4", "+mask.start=1.5"))
    for wrong, message in (
        ("+mask.reach=wide", "mask.reach: 'wide' is not an int"),
        ("+mask.reech=4", "mask.reech: unknown key; did you mean 'reach'"),
        ("mask.hard=true", "mask.hard: True with mask.kind=window; it belongs to mask.kind=static"),
    ):
        with pytest.raises(ConfigError, match=message):
            validate(compose_run(*run, wrong))
    with pytest.raises(ConfigError, match="mask.reach: unknown key"):
        validate(compose_run("experiment=madv2_lcaam", "scale=mini", "+mask.reach=4"))
    with pytest.raises(ConfigError, match="'windo' is not one of context, static, .*window; did you mean 'window'"):
        validate(compose_run("experiment=madv2_lcaam", "scale=mini", "mask.kind=windo"))


NODE = {"scope": "shared", "kind": "window", "fusion": "add", "control": "none", "control_residual": True}
