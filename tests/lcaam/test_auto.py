"""backend="auto" changes what a call costs, never what it can do."""

import pytest
import torch
from torch import nn

from lcaam import Fusion, Mask, attention, explain
from lcaam.choice import SEVERAL_BLOCKS
from tests.lcaam.names import FUSIONS

BELOW, ABOVE = 150, 182
assert BELOW**2 < SEVERAL_BLOCKS < ABOVE**2


@pytest.fixture(autouse=True)
def two_heads_are_many(monkeypatch):
    """Every sequence above SEVERAL_BLOCKS goes to blocks, however few its samples and heads are."""
    monkeypatch.setattr("lcaam.choice.ADDING", 0)
    monkeypatch.setattr("lcaam.choice.MULTIPLYING", 0)


def parts(n, dtype=torch.float32, **options):
    torch.manual_seed(0)
    leaves = [torch.randn(1, 2, n, 4, dtype=dtype) for _ in range(3)]
    leaves += [torch.randn(1, 1, n, 3, dtype=dtype) / 2, torch.randn(1, 1, n, 3, dtype=dtype) / 2]
    leaves.append(torch.randn(1, 1, 1, n, dtype=dtype) + 1)
    return [leaf.requires_grad_() for leaf in leaves]


def run(leaves, fusion="mul", **options):
    q, k, v, *factors = leaves
    return attention(q, k, v, Mask(*factors), fusion=fusion, **options)


@pytest.mark.parametrize("frozen", ["nothing", "mask", "rest"])
@pytest.mark.parametrize("n", [BELOW, ABOVE])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_second_derivatives_are_those_of_the_equation(n, fusion, frozen):
    found = []
    for backend in ("auto", "reference"):
        leaves = parts(n, torch.float64)
        wanted = {"nothing": leaves, "mask": leaves[:3], "rest": leaves[3:]}[frozen]
        for leaf in leaves:
            leaf.requires_grad_(any(leaf is one for one in wanted))
        out = run(leaves, fusion, backend=backend)
        first = torch.autograd.grad(out.square().sum(), wanted, create_graph=True)
        sum(grad.square().sum() for grad in first).backward()
        found.append([leaf.grad for leaf in wanted])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_second_derivatives_know_the_dropout_of_the_first():
    """By finite differences of the first ones, with the same seed."""
    leaves = parts(ABOVE, torch.float64)
    direction = torch.randn_like(leaves[0])

    def slope(q):
        torch.manual_seed(3)
        out = run([q, *leaves[1:]], dropout=0.3, backend="chunked")
        return torch.autograd.grad(out.square().sum(), q, create_graph=True)[0]

    (second,) = torch.autograd.grad((slope(leaves[0]) * direction).sum(), leaves[0])
    step = 1e-5
    with torch.no_grad():
        ahead, behind = (leaves[0] + sign * step * direction for sign in (1, -1))
    numeric = (slope(ahead.requires_grad_()) - slope(behind.requires_grad_())) / (2 * step)
    torch.testing.assert_close(second, numeric.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n", [BELOW, ABOVE])
def test_transforms_of_torch_func(n):
    leaves = [leaf.detach() for leaf in parts(n)]

    def loss(q):
        return run([q, *leaves[1:]]).square().sum()

    q = leaves[0].clone().requires_grad_()
    loss(q).backward()
    torch.testing.assert_close(torch.func.grad(loss)(leaves[0]), q.grad, rtol=0, atol=1e-4)
    _, tangent = torch.func.jvp(loss, (leaves[0],), (torch.ones_like(q),))
    torch.testing.assert_close(tangent, q.grad.sum(), rtol=1e-4, atol=1e-4)
    mapped = torch.vmap(lambda q: run([q, *leaves[1:]]))(torch.stack([leaves[0], leaves[1]]))
    torch.testing.assert_close(mapped[0], run(leaves), rtol=0, atol=1e-4)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(leaves[0], torch.ones_like(q))
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent
    torch.testing.assert_close(tangent, q.grad.sum(), rtol=1e-4, atol=1e-4)


class Attend(nn.Module):
    def forward(self, t):
        return attention(t, t, t, Mask(t[:, :1], t[:, :1]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [BELOW, ABOVE])
def test_tracing_and_exporting(n):
    t = torch.randn(1, 2, n, 8)
    expected = Attend()(t)
    torch.testing.assert_close(torch.jit.trace(Attend(), t)(t), expected)
    torch.testing.assert_close(torch.export.export(Attend(), (t,)).module()(t), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [BELOW, ABOVE])
def test_onnx(n, tmp_path):
    pytest.importorskip("onnx", reason="both exporters need onnx")
    torch.onnx.export(Attend(), (torch.randn(1, 2, n, 8),), tmp_path / "traced.onnx", dynamo=False)
    assert (tmp_path / "traced.onnx").stat().st_size > 1000


@pytest.mark.parametrize("n", [BELOW, ABOVE])
def test_the_output_may_be_changed_in_place(n):
    leaves, others = parts(n), parts(n)
    run(leaves).mul_(2).sum().backward()
    (run(others) * 2).sum().backward()
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("n", [BELOW, ABOVE])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_autocast_gives_the_dtype_that_torch_s_attention_gives(n, fusion):
    leaves = parts(n)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = run(leaves, fusion)
        assert out.dtype == nn.functional.scaled_dot_product_attention(*leaves[:3]).dtype == torch.bfloat16
        assert run([leaf.detach().double() for leaf in leaves], fusion).dtype == torch.float64
    out.float().sum().backward()
    assert all(leaf.grad.dtype == torch.float32 and leaf.grad.isfinite().all() for leaf in leaves)
    torch.testing.assert_close(out.float(), run(leaves, fusion), rtol=0, atol=0.05)


def test_explain_says_what_is_taken_and_why():
    q, k, v, *factors = parts(ABOVE)
    mask = Mask(*factors)
    assert explain(q, k, v).backend == "sdpa"
    assert explain(q, k, v, mask).backend == "chunked" and "182 x 182" in explain(q, k, v, mask).reason
    assert explain(q[:, :, :9], k[:, :, :9], v[:, :, :9], Mask(factors[0][:, :, :9], factors[1])).backend == "reference"
    assert explain(q, k, v, mask, fusion="add").backend == "chunked"
    with torch.no_grad():
        assert explain(q, k, v, mask, fusion="add").backend == explain(q, k, v, mask, fusion="gate").backend == "sdpa"
        assert explain(q, k, v, mask, fusion="add", dropout=0.1).backend == "chunked"
        assert explain(q, k, v, mask, fusion="add", return_lse=True).backend == "chunked"
    reasons = []
    torch.func.grad(lambda q: reasons.append(explain(q, k, v, mask)) or q.sum())(q)
    assert reasons[0].backend == "reference" and "transform" in reasons[0].reason
    with pytest.raises(ValueError, match="made for fusion 'add'"):
        explain(q, k, v, Mask(*factors, fusion=Fusion.add), fusion="mul")


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(mask=torch.ones(1)), "not a Mask"),
        (dict(dropout=2.0), "dropout is a probability"),
        (dict(softcap=0.0), "softcap is a finite number"),
        (dict(window=(-1, 0)), "window"),
        (dict(keep=torch.ones(7, 7, dtype=torch.bool)), "keep"),
        (dict(enable_gqa=False, mask=None), "need enable_gqa=True"),
    ],
)
def test_explain_takes_and_refuses_what_attention_does(change, message):
    own = dict(query=torch.zeros(1, 4, 5, 4), key=torch.zeros(1, 2, 5, 4), value=torch.zeros(1, 2, 5, 4))
    mask = Mask(torch.zeros(1, 2, 5, 1), torch.zeros(1, 2, 5, 1))  # a group for each head of the keys
    same = dict(mask=mask, fusion="mul", causal=True, window=(2, 0), scale=1.0, enable_gqa=True, softcap=30.0)
    assert explain(**own, **same).backend == "reference"
    changed = {**own, **same, **change}
    for function in (attention, explain):
        with pytest.raises(ValueError, match=message):
            function(**changed)


@pytest.mark.parametrize(
    ("batch", "n", "fusion", "training", "in_inference"),
    [
        (1, 128, "add", "reference", "sdpa"),
        (1, 128, "mul", "reference", "reference"),
        (8, 150, "gate", "reference", "sdpa"),
        (1, 197, "add", "reference", "sdpa"),
        (1, 197, "mul", "reference", "reference"),
        (8, 197, "gate", "reference", "sdpa"),
        (8, 197, "temper", "chunked", "chunked"),
        (1, 400, "mul", "reference", "reference"),
        (1, 400, "add", "reference", "sdpa"),
        (8, 300, "add", "chunked", "sdpa"),
        (1, 834, "gate", "chunked", "sdpa"),
        (8, 400, "mul", "chunked", "chunked"),
    ],
)
def test_the_choice_on_a_cpu_depends_on_sizes_fusion_and_gradients(
    batch, n, fusion, training, in_inference, monkeypatch
):
    monkeypatch.undo()  # the real thresholds
    q = torch.empty(batch, 12, n, 64, requires_grad=True)
    mask = Mask(torch.empty(batch, 1, n, 64, requires_grad=True), torch.empty(1, 1, n, 64))
    assert explain(q, q, q, mask, fusion=fusion).backend == training
    with torch.no_grad():
        assert explain(q, q, q, mask, fusion=fusion).backend == in_inference


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_long_sequence_keeps_its_memory_when_it_is_compiled(fusion, monkeypatch):
    """Blocks are one operation for the compiler, and give what they give without it."""
    monkeypatch.setattr("lcaam.choice.LARGE", 2**10)
    torch._dynamo.reset()
    leaves, others = parts(ABOVE), parts(ABOVE)
    graphs = []

    def keep_graph(graph, example):
        graphs.append(graph)
        return graph

    compiled = torch.compile(lambda *leaves: run(leaves, fusion, causal=True), fullgraph=True, backend=keep_graph)
    compiled(*leaves).square().sum().backward()
    run(others, fusion, causal=True).square().sum().backward()
    assert "lcaam.block_attention" in str(graphs[0].code)
    for leaf, other in zip(leaves, others, strict=True):
        torch.testing.assert_close(leaf.grad, other.grad)
