"""The gated prefix: equal to LLaMA-Adapter, harmless at zero gates, the same with and without a cache."""

import json

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.audio_description.language_model import checkpoint_activations
from tasks.audio_description.prefix import CACHE, PrefixLlama, Prompts, gated_prefix
from tests.parity import PARITY, fill, needs_parity


def config(**options):
    sizes = dict(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
    return LlamaConfig(**{**sizes, "max_position_embeddings": 64, "pad_token_id": 0, **options})


@pytest.fixture
def llm():
    torch.manual_seed(0)
    return PrefixLlama(config()).eval()


def prompts(batch=2, layers=2, count=5, width=32):
    return torch.randn(batch, layers, count, width, generator=torch.Generator().manual_seed(1))


def gates(layers=2, heads=4):
    return torch.randn(layers, heads, generator=torch.Generator().manual_seed(2))


IDS = torch.tensor([[1, 5, 9, 4, 7], [1, 8, 3, 3, 6]])


@needs_parity
def test_equals_llama_adapter():
    """Logits with and without gates, and greedy decoding, of a left-padded batch."""
    case = json.loads((PARITY / "llama_adapter.json").read_text())
    golden = np.load(PARITY / "llama_adapter.npz")
    numbers, seed = fill(), case["seed"]
    sizes = dict(
        vocab_size=case["vocab"],
        hidden_size=case["hidden"],
        intermediate_size=case["intermediate"],
        num_hidden_layers=case["layers"],
        num_attention_heads=case["heads"],
        num_key_value_heads=case["kv_heads"],
        rms_norm_eps=case["rms_norm_eps"],
        pad_token_id=0,
        eos_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": case["rope_theta"]},
    )
    llm = PrefixLlama(LlamaConfig(**sizes)).eval()
    state = {name: torch.from_numpy(numbers.parameter(name, shape, seed)) for name, shape in case["shapes"].items()}
    llm.load_state_dict(state)
    layers, count, width = case["prefix_layers"], case["prefix_tokens"], case["hidden"]
    batch = len(case["input_ids"])
    prompt = torch.from_numpy(numbers.normal("prompt", (layers, count, width), seed))
    visual = torch.from_numpy(numbers.normal("visual", (batch, count, width), seed))
    gate = torch.from_numpy(numbers.normal("gate", (layers, case["heads"], 1, 1), seed)).view(layers, case["heads"])
    ids = torch.tensor(case["input_ids"])
    length = ids.shape[1]
    keep = (torch.arange(length) >= length - torch.tensor(case["lens_left_padded"])[:, None]).long()

    prefix = gated_prefix(llm, prompt[None] + visual[:, None], gate)
    for name, given in (("logits", prefix), ("logits_zero_gate", None)):
        with torch.no_grad():
            logits = llm(input_ids=ids, attention_mask=keep, prefix=given).logits
        for row, own in zip(range(batch), case["lens_left_padded"], strict=True):
            expected = torch.from_numpy(golden[name][row, -own:])
            torch.testing.assert_close(logits[row, -own:], expected, rtol=0, atol=2e-5)
    out = llm.generate(input_ids=ids, attention_mask=keep, prefix=prefix, max_new_tokens=8, do_sample=False)
    assert out[:, length:].tolist() == case["greedy_8"]


def test_it_chooses_its_attention_by_itself(llm, tmp_path):
    llm.save_pretrained(tmp_path)
    prefix = gated_prefix(llm, prompts(), gates())
    expected = llm(input_ids=IDS, prefix=prefix).logits
    assert torch.equal(PrefixLlama.from_pretrained(tmp_path)(input_ids=IDS, prefix=prefix).logits, expected)
    assert not torch.equal(llm(input_ids=IDS).logits, expected)


def test_without_a_prefix_or_with_zero_gates_it_is_a_llama(llm):
    plain = LlamaForCausalLM(config()).eval()
    plain.load_state_dict(llm.state_dict())
    expected = plain(input_ids=IDS).logits
    torch.testing.assert_close(llm(input_ids=IDS).logits, expected, rtol=0, atol=1e-6)
    closed = gated_prefix(llm, prompts(), torch.zeros(2, 4))
    torch.testing.assert_close(llm(input_ids=IDS, prefix=closed).logits, expected, rtol=0, atol=1e-6)
    opened = gated_prefix(llm, prompts(), gates())
    assert (llm(input_ids=IDS, prefix=opened).logits - expected).abs().max() > 1e-3


def test_it_stays_causal(llm):
    prefix = gated_prefix(llm, prompts(), gates())
    changed = IDS.clone()
    changed[:, 3:] = 2
    before, after = (llm(input_ids=ids, prefix=prefix).logits[:, :3] for ids in (IDS, changed))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("beams", [1, 3])
def test_decoding_with_a_cache_equals_decoding_without(llm, beams):
    prefix = gated_prefix(llm, prompts(), gates())
    keep = torch.ones_like(IDS)
    keep[0, :2] = 0  # left padding
    options = dict(attention_mask=keep, prefix=prefix, max_new_tokens=6, do_sample=False, num_beams=beams)
    cached, uncached = (llm.generate(input_ids=IDS, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, uncached)


def test_a_row_of_a_batch_equals_the_sample_alone(llm):
    prefix = gated_prefix(llm, prompts(), gates())
    keep = torch.ones_like(IDS)
    keep[0, :2] = 0
    batch = llm(input_ids=IDS, attention_mask=keep, prefix=prefix).logits
    alone = llm(input_ids=IDS[:1, 2:], prefix=prefix[:1]).logits
    torch.testing.assert_close(batch[:1, 2:], alone, rtol=0, atol=1e-5)


def test_arguments_by_place_are_those_by_name(llm):
    prefix, keep = gated_prefix(llm, prompts(), gates()), torch.ones_like(IDS)
    named = llm(input_ids=IDS, attention_mask=keep, prefix=prefix).logits
    assert torch.equal(llm(IDS, keep, prefix=prefix).logits, named)


def test_a_step_from_a_cache_continues_the_sequence(llm):
    prefix, keep = gated_prefix(llm, prompts(), gates()), torch.ones_like(IDS)
    whole = llm(input_ids=IDS, attention_mask=keep, prefix=prefix).logits[:, -1]
    past = llm(input_ids=IDS[:, :-1], attention_mask=keep[:, :-1], prefix=prefix, use_cache=True)[CACHE]
    step = llm(input_ids=IDS[:, -1:], attention_mask=keep, prefix=prefix, **{CACHE: past}).logits[:, -1]
    torch.testing.assert_close(step, whole, rtol=0, atol=1e-5)


def test_one_prefix_serves_several_rows_of_a_sample(llm):
    """As beams are: the rows of a sample stand side by side."""
    rows, keep = IDS.repeat_interleave(3, 0), torch.ones(2, 5, dtype=torch.bool)
    prefix = gated_prefix(llm, prompts(), gates())
    spread = llm(input_ids=rows, prefix=prefix, prefix_keep=keep).logits
    own = llm(input_ids=rows, prefix=prefix.repeat_interleave(3, 0)).logits
    assert torch.equal(spread, own)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_transformers_that_does_not_hand_the_prefix_down_stops(llm, lazy, monkeypatch):
    """Otherwise it would write descriptions that do not depend on the prefix."""
    prefix = Prompts(llm, prompts(), gates()) if lazy else gated_prefix(llm, prompts(), gates())
    own = llm.model.forward

    def forgetful(*args, **options):
        return own(*args, **{name: value for name, value in options.items() if not name.startswith("prefix")})

    monkeypatch.setattr(llm.model, "forward", forgetful)
    with pytest.raises(RuntimeError, match=r"transformers 5.* showed the prefix to 0 of 2 layers"):
        llm(input_ids=IDS, prefix=prefix)
    assert llm(input_ids=IDS).logits.isfinite().all(), "without a prefix there is nothing to hand down"


def test_masked_prompts_are_not_read(llm):
    whole = prompts(count=6)
    keep = (torch.arange(6) < 4).expand(2, 6)
    masked = llm(input_ids=IDS, prefix=gated_prefix(llm, whole, gates()), prefix_keep=keep).logits
    short = llm(input_ids=IDS, prefix=gated_prefix(llm, whole[:, :, :4], gates())).logits
    torch.testing.assert_close(masked, short, rtol=0, atol=1e-6)
    nothing = llm(input_ids=IDS, prefix=gated_prefix(llm, whole, gates()), prefix_keep=torch.zeros_like(keep)).logits
    torch.testing.assert_close(nothing, llm(input_ids=IDS).logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
def test_grouped_query_attention(key_value_heads):
    torch.manual_seed(0)
    llm = PrefixLlama(config(num_key_value_heads=key_value_heads)).eval()
    prefix = gated_prefix(llm, prompts(), gates())
    assert prefix.shape == (2, 2, 2, 4, 5, 8)
    assert torch.isfinite(llm(input_ids=IDS, prefix=prefix).logits).all()


def test_gradients_reach_prompts_and_gates_of_a_frozen_model_with_checkpointing(llm):
    llm.requires_grad_(False)
    llm.train()
    results = []
    for checkpointing in (False, True):
        if checkpointing:
            checkpoint_activations(llm)
        p, g = prompts().requires_grad_(), gates().requires_grad_()
        llm(input_ids=IDS, prefix=gated_prefix(llm, p, g), use_cache=False).logits.square().sum().backward()
        results.append((p.grad, g.grad))
        assert all(parameter.grad is None for parameter in llm.parameters())
    for plain, checkpointed in zip(*results, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, checkpointed)


def test_shapes_that_do_not_fit_are_named(llm):
    with pytest.raises(ValueError, match=r"prompts must be \(B, L, P, D = 32\)"):
        gated_prefix(llm, prompts(width=16), gates())
    with pytest.raises(ValueError, match="4 layers and gates"):
        gated_prefix(llm, prompts(layers=4), gates(layers=4))
    with pytest.raises(ValueError, match=r"gates \(2, 3\) do not fit"):
        gated_prefix(llm, prompts(), gates(heads=3))
