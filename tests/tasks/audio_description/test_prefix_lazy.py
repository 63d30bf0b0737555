"""Prompts, the prefix that layers project themselves: equal to gated_prefix, projected once, fit for FSDP."""

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.audio_description.language_model import checkpoint_activations
from tasks.audio_description.model import Describer
from tasks.audio_description.prefix import PrefixLlama, Prompts, gated_prefix
from tests.ranks import on_two_ranks
from tests.tasks.audio_description.test_prefix import IDS, config, gates, prompts

KEEP = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])  # padded on the left


@pytest.fixture
def llm():
    torch.manual_seed(0)
    return PrefixLlama(config()).eval()


def count_projections(llm):
    """A list that gets an entry for every call of the last layer's key projection, with the rows it was called for."""
    calls = []
    llm.model.layers[-1].self_attn.k_proj.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
def test_prompts_give_the_same_logits_and_gradients_as_the_projected_prefix(dtype, key_value_heads):
    torch.manual_seed(0)
    llm = PrefixLlama(config(num_key_value_heads=key_value_heads)).to(dtype).requires_grad_(False)
    found = []
    for make in (Prompts, gated_prefix):
        p, g = prompts().requires_grad_(), gates().requires_grad_()
        logits = llm(input_ids=IDS, attention_mask=KEEP, prefix=make(llm, p, g)).logits
        logits.float().square().sum().backward()
        found.append((logits, p.grad, g.grad))
    for lazy, projected in zip(*found, strict=True):
        assert lazy.abs().max() > 0
        torch.testing.assert_close(lazy, projected, rtol=0, atol=2e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
def test_prompts_are_generated_from_as_the_projected_prefix_is(llm, options):
    options = dict(attention_mask=KEEP, max_new_tokens=6, do_sample=False, **options)
    lazy, projected = (
        llm.generate(input_ids=IDS, prefix=make(llm, prompts(), gates()), **options) for make in (Prompts, gated_prefix)
    )
    assert torch.equal(lazy, projected)


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_projects_the_prefix_once(llm, beams):
    calls, prefix = count_projections(llm), prompts()
    options = dict(min_new_tokens=6, max_new_tokens=6, do_sample=False, num_beams=beams)
    llm.generate(input_ids=IDS, attention_mask=KEEP, prefix=Prompts(llm, prefix, gates()), **options)
    of_prompts = [shape for shape in calls if tuple(shape) == (2, 5, 32)]  # the ids are 5 long as well: the first step
    assert len(calls) == 6 + 1, "one call per step, and one for the prefix"
    assert len(of_prompts) == (2 if beams == 1 else 1)


def test_training_projects_anew_so_that_weights_may_change(llm):
    prefix = Prompts(llm, prompts().requires_grad_(), gates())
    before = llm(input_ids=IDS, prefix=prefix).logits
    with torch.no_grad():
        llm.model.layers[-1].self_attn.v_proj.weight.mul_(2)
    assert not prefix.kept
    assert not torch.equal(llm(input_ids=IDS, prefix=prefix).logits, before)


@pytest.mark.parametrize("make", [Prompts, gated_prefix])
@pytest.mark.parametrize("beams", [1, 2])
def test_zero_gates_are_the_plain_language_model_bit_for_bit(llm, make, beams):
    plain = LlamaForCausalLM(config(attn_implementation="sdpa")).eval()
    plain.load_state_dict(llm.state_dict())
    closed = make(llm, prompts(), torch.zeros(2, 4))
    positions = (KEEP.cumsum(-1) - 1).clamp(min=0)
    expected = plain(input_ids=IDS, attention_mask=KEEP, position_ids=positions).logits
    assert torch.equal(llm(input_ids=IDS, attention_mask=KEEP, prefix=closed).logits, expected)
    options = dict(input_ids=IDS, attention_mask=KEEP, max_new_tokens=6, do_sample=False, num_beams=beams)
    assert torch.equal(llm.generate(prefix=closed, **options), plain.generate(**options))


def test_prompts_that_do_not_fit_are_named(llm):
    with pytest.raises(ValueError, match=r"prompts must be \(B, L, P, D = 32\)"):
        Prompts(llm, prompts(width=16), gates())
    with pytest.raises(ValueError, match=r"gates \(2, 3\) do not fit"):
        Prompts(llm, prompts(), gates(heads=3))


class Tracks(torch.nn.Module):
    """Stands for the encoder and the bridge: a trained part before the language model."""

    def __init__(self):
        super().__init__()
        self.prompts, self.linear = torch.nn.Parameter(prompts()[0]), torch.nn.Linear(32, 32)

    def forward(self, x, keep=None):
        return self.linear(x)


class TinyDescriber(Describer):
    """The real `prefix`, over an encoder and a bridge of one layer each."""

    def __init__(self, llm):
        torch.nn.Module.__init__(self)
        self.encoder, self.bridge, self.llm = Tracks(), Tracks(), llm
        self.gates = torch.nn.Parameter(gates())

    def prefix(self, x):
        prompts = self.bridge.prompts + self.bridge(self.encoder(x))[:, None]
        return {"prefix": Prompts(self.llm, prompts, self.gates)}


def sharded_and_whole(mesh=None):
    """Loss, generated tokens and gradients of a describer with a frozen language model; sharded over `mesh`."""
    from tasks.audio_description.sharding import shard

    torch.manual_seed(0)
    llm = PrefixLlama(LlamaConfig(**config().to_dict())).requires_grad_(False)
    checkpoint_activations(llm)
    model = TinyDescriber(llm).train()
    if mesh is not None:
        shard(model, mesh)
        shard(model, mesh)  # a second time changes nothing
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    found = {}
    for step in range(2):  # the second step begins with what the first one's backward pass left behind
        model.zero_grad()
        loss = model.llm(input_ids=IDS, attention_mask=KEEP, use_cache=False, **model.prefix(x)).logits.square().mean()
        loss.backward()
        found[f"loss {step}"] = loss.item()
        for name in ("gates", "bridge.prompts", "encoder.linear.weight"):
            gradient = model.get_parameter(name).grad
            full = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            found[f"{name} {step}"] = full.tolist()
    assert all(p.grad is None for p in model.llm.parameters())
    model.eval()
    calls = count_projections(model.llm)
    with torch.no_grad():
        options = dict(min_new_tokens=4, max_new_tokens=4, do_sample=False, num_beams=2)
        out = model.llm.generate(input_ids=IDS, attention_mask=KEEP, **model.prefix(x), **options)
    found |= {"generated": out.tolist(), "projections": len(calls)}
    if mesh is not None:
        with pytest.raises((RuntimeError, AssertionError)):
            gated_prefix(model.llm, torch.randn(2, 2, 5, 32), gates())  # from outside: the weights are in pieces
    return found


def rank_main(rank, folder):
    from torch.distributed.device_mesh import init_device_mesh

    found = sharded_and_whole(init_device_mesh("cpu", (2,)))
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_a_sharded_language_model_gives_the_same_loss_gradients_and_words(tmp_path):
    """FSDP2 over two ranks with the same batch, whose mean gradient is that of one."""
    on_two_ranks(rank_main, tmp_path)
    whole = sharded_and_whole()
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found.keys() == whole.keys()
        assert found["generated"] == whole["generated"]
        assert found["projections"] == whole["projections"] == 4 + 1
        for name in whole.keys() - {"generated", "projections"}:
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(whole[name]), rtol=1e-4, atol=1e-6)
