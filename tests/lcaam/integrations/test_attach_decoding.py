"""Masks of a transformers model in decoding: with a cache, in batches with padding, with beams."""

import copy
import inspect

import pytest
import torch
import transformers as hf

from lcaam import LayerMasks
from lcaam.analysis import record
from lcaam.integrations.transformers import attach, detach
from tests.lcaam.integrations.small_transformers import LAYERS, LENGTH, inputs, layer_masks, padded, small, with_masks
from tests.tiers import slow

ROOM = 20  # key positions
IDS = inputs("Llama")["input_ids"]
CACHE = "cache" if "cache" in inspect.signature(hf.LlamaForCausalLM.forward).parameters else "past_key_values"  # older


def generate(model, given, **options):
    out = model.generate(
        **given,
        max_new_tokens=4,
        min_new_tokens=4,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )
    return out.sequences[:, given["input_ids"].shape[1] :], torch.stack(out.logits)


def check_each_alone(model, atol: float) -> None:
    """Texts of a padded batch are generated as each of them alone, with a cache and without."""
    texts = padded(7, 2, 5)
    for use_cache in (True, False):
        found, logits = generate(model, texts, use_cache=use_cache)
        for row, count in enumerate((7, 2, 5)):
            alone = {key: value[row : row + 1, LENGTH - count :] for key, value in texts.items()}
            sequence, expected = generate(model, alone)
            assert torch.equal(found[row], sequence[0])
            torch.testing.assert_close(logits[:, row], expected[:, 0], rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["Llama", "Mistral", "GPT2"])
@pytest.mark.parametrize("length", ["fixed", "content"])
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_padding_at_the_left_changes_nothing(name, length, scope):
    """A batch is generated as each of its texts alone, with a cache and without."""
    model = with_masks(name, scope, length=length)
    check_each_alone(model, atol=1e-9)


def test_a_static_mask_moves_with_the_padding():
    model = small("Llama")
    attach(model, LayerMasks("shared", LAYERS, kind="static", num_queries=ROOM, num_keys=ROOM, fusion="gate"))
    texts = padded(7, 3, 4)
    found = model(**texts, position_ids=(texts["attention_mask"].cumsum(1) - 1).clamp(0)).logits
    for row, count in enumerate((7, 3, 4)):
        alone = model(texts["input_ids"][row : row + 1, LENGTH - count :]).logits
        torch.testing.assert_close(found[row, LENGTH - count :], alone[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("length", ["fixed", "content"])
def test_padding_at_the_left_of_an_encoder(length):
    model, texts = with_masks("Bert", length=length), padded(7, 2, 5)
    places = (texts["attention_mask"].cumsum(1) - 1).clamp(min=0)
    found = model(**texts, position_ids=places)[0]
    for row, count in enumerate((7, 2, 5)):
        alone = model(texts["input_ids"][row : row + 1, LENGTH - count :])[0]
        torch.testing.assert_close(found[row, LENGTH - count :], alone[0], rtol=0, atol=1e-9)


def test_a_mask_for_each_head_of_the_keys():
    model = with_masks("Llama", groups=2)
    with record(model) as records:
        model(IDS)
    made = records[0].mask
    assert made.shape[1] == 4 and torch.equal(made[:, 0], made[:, 1]) and not torch.equal(made[:, 1], made[:, 2])


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Bart"])
@pytest.mark.parametrize("length", ["fixed", "content"])
def test_beams_take_what_masks_keep_with_them(name, length):
    model = with_masks(name, where="decoder" if name == "Bart" else None, length=length)
    texts = padded(7, 2, 5)
    cached, other = (model.generate(**texts, num_beams=3, max_new_tokens=6, use_cache=use) for use in (True, False))
    assert torch.equal(cached, other)
    plain = small(name).double().generate(**texts, num_beams=3, max_new_tokens=6)
    assert plain.shape != cached.shape or not torch.equal(plain, cached)


@pytest.mark.parametrize("length", ["fixed", "content"])
def test_a_cache_with_room_for_more(length):
    model = with_masks("Llama", length=length)
    texts = padded(7, 2, 5)
    static = model.generate(**texts, max_new_tokens=4, cache_implementation="static", disable_compile=True)
    assert torch.equal(static, model.generate(**texts, max_new_tokens=4))


@torch.no_grad()
@pytest.mark.parametrize("length", ["fixed", "content"])
def test_a_cache_can_be_copied_cut_and_filled_in_parts(length):
    model = with_masks("Llama", length=length)
    whole = model(IDS).logits
    cache = hf.DynamicCache(config=model.config)
    model(IDS[:, :4], **{CACHE: cache})
    other = copy.deepcopy(cache)
    model(IDS[:, :2], **{CACHE: cache})
    parts = model(IDS[:, 4:], **{CACHE: other}).logits
    torch.testing.assert_close(parts, whole[:, 4:], rtol=0, atol=1e-9)
    cache.crop(-2)
    torch.testing.assert_close(model(IDS[:, 4:], **{CACHE: cache}).logits, whole[:, 4:], rtol=0, atol=1e-9)
    cache.batch_select_indices(torch.tensor([2, 0]))
    cache.batch_repeat_interleave(2)
    new, rows = torch.tensor([[5], [6], [7], [8]]), [2, 2, 0, 0]
    expected = model(torch.cat([IDS[rows], new], 1)).logits[:, -1:]
    torch.testing.assert_close(model(new, **{CACHE: cache}).logits, expected, rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_cache_that_is_used_again_forgets_the_padding():
    model = with_masks("Llama")
    cache = hf.DynamicCache(config=model.config)
    model(**padded(7, 2, 5), **{CACHE: cache})
    cache.reset()
    if cache.get_seq_length():
        pytest.skip("a cache of this transformers is not empty after its reset")
    found = torch.cat([model(part, **{CACHE: cache}).logits for part in (IDS[:, :4], IDS[:, 4:])], 1)
    torch.testing.assert_close(found, model(IDS).logits, rtol=0, atol=1e-9)


def test_decoding_that_would_be_another_function_is_refused():
    model = small("Llama")
    cache = hf.DynamicCache(config=model.config)
    model(IDS[:, :4], **{CACHE: cache})
    attach(model, layer_masks(length="content"))
    with pytest.raises(ValueError, match="cache has 4 tokens that were read without these masks"):
        model(IDS[:, 4:], **{CACHE: cache})
    attach(detach(model), layer_masks(length="interpolate"))
    with pytest.raises(ValueError, match="moves its columns whenever the sequence grows"):
        model.generate(IDS, max_new_tokens=2)
    with pytest.raises(ValueError, match="padding at the left: a mask of length='interpolate'"):
        model(**padded(7, 2, 5))
    attach(detach(model), layer_masks(num_keys=8))
    with pytest.raises(ValueError, match="the mask has 8 key columns and the sequence 9 keys"):
        model.generate(IDS, max_new_tokens=4, min_new_tokens=4)


@pytest.mark.parametrize("kind", ["blocks", slow("columns"), "offsets", slow("table"), slow("span")])
@pytest.mark.parametrize("scope", [slow("shared"), "per_layer"])
def test_a_mask_that_knows_places_alone_moves_with_the_padding_in_every_step(kind, scope):
    options = {"boundaries": (2, 4)} if kind == "blocks" else {"num_keys": ROOM}
    fusion = "add" if kind == "span" else "mul"
    model, masks = small("Llama"), LayerMasks(scope, LAYERS, kind, fusion=fusion, **options)
    attach(model, masks)
    for parameter in masks.parameters():
        torch.nn.init.normal_(parameter, mean=-0.5, std=0.5, generator=torch.Generator().manual_seed(3))
    check_each_alone(model, atol=1e-4)
