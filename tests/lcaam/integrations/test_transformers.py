"""transformers models with lcaam's attention: themselves without a mask, the equation with one."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, DynamicCache, LlamaConfig

from lcaam import ContextAwareMask, LayerMasks
from lcaam.analysis import record
from lcaam.integrations.transformers import IMPLEMENTATION, masked_attention
from tests.lcaam.loop import equation
from tests.lcaam.names import FUSIONS

SIZES = dict(vocab_size=37, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4)
IDS = torch.randint(3, 37, (3, 7), generator=torch.Generator().manual_seed(0))


def bert(implementation, **changes):
    torch.manual_seed(0)
    config = BertConfig(**SIZES, initializer_range=0.3, **changes)
    return AutoModel.from_config(config, attn_implementation=implementation).eval()


def llama(implementation, key_value_heads=4):
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_key_value_heads=key_value_heads, initializer_range=0.3, pad_token_id=0)
    return AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def padded(*lengths, left=False):
    place = torch.arange(IDS.shape[1])
    keep = place < torch.tensor(lengths)[:, None]
    return keep.flip(1) if left else keep


def test_bert_without_a_mask_is_transformers_own():
    keep = padded(7, 1, 4)
    expected, found = (
        bert(name)(IDS, attention_mask=keep.long()).last_hidden_state for name in ("eager", IMPLEMENTATION)
    )
    torch.testing.assert_close(found[keep], expected[keep], rtol=0, atol=1e-5)


@pytest.mark.parametrize("key_value_heads", [4, 2, 1])
@pytest.mark.parametrize("left", [False, True])
def test_a_decoder_stays_causal_padded_or_not(key_value_heads, left):
    keep = padded(7, 2, 5, left=left)
    options = [{}, {"attention_mask": keep.long()}]
    for option in options:
        expected, found = (llama(name, key_value_heads)(IDS, **option).logits for name in ("eager", IMPLEMENTATION))
        real = keep if option else torch.ones_like(keep)
        torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-5)
    changed = IDS.clone()
    changed[:, 4:] = 1
    model = llama(IMPLEMENTATION, key_value_heads)
    torch.testing.assert_close(model(IDS).logits[:, :4], model(changed).logits[:, :4], rtol=0, atol=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_a_cache_is_transformers_own(beams):
    keep = padded(7, 2, 5, left=True).long()
    options = dict(attention_mask=keep, max_new_tokens=6, do_sample=False, num_beams=beams)
    expected, cached = (llama(name).generate(IDS, **options) for name in ("eager", IMPLEMENTATION))
    assert torch.equal(cached, expected)
    assert torch.equal(llama(IMPLEMENTATION).generate(IDS, use_cache=False, **options), expected)


def random_mask(groups=1, fusion="mul"):
    torch.manual_seed(3)
    net = ContextAwareMask(24, 7, depth=2, groups=groups, init="default", fusion=fusion)
    torch.nn.init.normal_(net.last.weight, std=0.5)
    return net


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_soft_mask_changes_the_scores_of_every_layer_by_the_equation(fusion, groups):
    model = bert(IMPLEMENTATION)
    x = model.embeddings(IDS)
    mask = random_mask(groups, fusion)(x)
    keep = padded(7, 3, 4)
    found = model(IDS, attention_mask=keep.long(), soft_mask=mask, fusion=fusion).last_hidden_state
    for layer in model.encoder.layer:
        a = layer.attention
        q, k, v = (p(x).unflatten(-1, (4, -1)).transpose(1, 2) for p in (a.self.query, a.self.key, a.self.value))
        score = equation(fusion)(q @ k.transpose(2, 3) / 6**0.5, mask.dense())
        weight = score.masked_fill(~keep[:, None, None], -torch.inf).softmax(-1)
        attended = a.output((weight @ v).transpose(1, 2).flatten(2), x)
        x = layer.output(layer.intermediate(attended), attended)
    torch.testing.assert_close(found[keep], x[keep], rtol=0, atol=1e-5)
    plain = model(IDS, attention_mask=keep.long()).last_hidden_state
    assert (found - plain)[keep].abs().max() > 1e-2


def test_a_layer_by_itself_can_have_a_mask_of_its_own():
    """Multi-LCAAM, by a hook on each attention; gradients reach every mask, with checkpointing too."""
    model = bert(IMPLEMENTATION, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    masks = LayerMasks("per_layer", 2, dim=24, num_keys=7, depth=1, init="default", fusion="add")
    for number, layer in enumerate(model.encoder.layer):

        def give(module, arguments, options, number=number):
            return arguments, options | {"soft_mask": masks(arguments[0], layer=number)}

        layer.attention.self.register_forward_pre_hook(give, with_kwargs=True)
    with record(model) as records:
        model(IDS)
    assert [r.mask.shape for r in records] == [(3, 1, 7, 7)] * 2
    assert not torch.equal(records[0].mask, records[1].mask)
    grads = []
    for checkpointing in (False, True):
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        model.train().zero_grad()
        masks.zero_grad()
        model(IDS).last_hidden_state.square().mean().backward()
        model(IDS).last_hidden_state.pow(3).mean().backward()
        grads.append([p.grad.clone() for p in masks.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, checkpointed)


def test_it_survives_saving(tmp_path):
    bert(IMPLEMENTATION).save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, attn_implementation=IMPLEMENTATION)
    assert torch.equal(again(IDS).last_hidden_state, bert(IMPLEMENTATION)(IDS).last_hidden_state)


def test_masks_of_numbers_and_options_of_other_attentions_are_refused():
    model, (q, k, v) = bert(IMPLEMENTATION), torch.randn(3, 1, 4, 7, 6)
    layer = model.encoder.layer[0]
    with pytest.raises(ValueError, match=r"takes a bool attention_mask \(True = attend\), got torch.float32"):
        layer(torch.randn(1, 7, 24), torch.zeros(1, 1, 7, 7))
    for name in ("softcap", "position_bias", "s_aux"):
        with pytest.raises(ValueError, match=f"attention 'lcaam' has no {name}: BertLayer cannot use it"):
            masked_attention(layer, q, k, v, None, **{name: torch.ones(1)})
    with pytest.raises(ValueError, match=r"attention 'lcaam' has no Paged: use generate\(\)"):
        masked_attention(layer, q, k, v, None, cache=type("Paged", (), {})())
    masked_attention(layer, q, k, v, None, cache=DynamicCache())  # a layer that hands its cache on has read it before
    out, weights = masked_attention(layer, q, k, v, None, softcap=None, output_attentions=False, cache=None)
    assert out.shape == (1, 7, 4, 6) and weights is None
