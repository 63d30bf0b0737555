"""attach on the models that people use: the model itself at the start, masks that matter and learn, generation."""

import pytest
import torch
import transformers
from packaging.version import Version

from lcaam.integrations.transformers import attach, detach, load_masks, save_masks
from tests.lcaam.integrations.small_transformers import (
    DECODERS,
    MODELS,
    REFUSED,
    inputs,
    layer_masks,
    random_masks,
    small,
)
from tests.lcaam.names import SCOPES
from tests.tiers import slow

WHERE = {"Bart": ("encoder", "decoder", "cross")}
OLDER = Version(transformers.__version__) < Version("5.24")  # the other version that was tried is 5.4


def with_masks(name, scope="per_layer", **options):
    model = small(name)
    if OLDER and name in ("DINOv2", "Beit"):
        with pytest.raises(ValueError, match="no mask can be handed down|nothing would use the masks"):
            attach(model, layer_masks(scope, **options))
        pytest.skip("the layers of this model in this transformers do not hand a mask down, and attach says so")
    for where in WHERE.get(name, (None,)):
        attach(model, layer_masks(scope, **options), where)
    return model


@torch.no_grad()
def output(model, name):
    return model(**inputs(name))[0]


@pytest.mark.parametrize("name", MODELS)
def test_masks_start_as_the_model_then_matter_and_all_learn_and_come_off_again(name):
    scope = SCOPES[list(MODELS).index(name) % len(SCOPES)]
    plain = output(small(name), name)
    model = with_masks(name, scope)
    torch.testing.assert_close(output(model, name), plain, rtol=0, atol=1e-5)
    random_masks(model)
    out = model(**inputs(name))[0]
    assert (out - plain).abs().max() > 1e-2
    out.square().sum().backward()
    for parameter_name, parameter in model.lcaam.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name
    assert torch.equal(output(detach(model), name), plain)
    assert not hasattr(model, "lcaam") and not any(module._forward_pre_hooks for module in model.modules())
    assert model.config._attn_implementation == small(name).config._attn_implementation
    assert model.state_dict().keys() == small(name).state_dict().keys()


@pytest.mark.parametrize("name", MODELS)
def test_saved_beside_the_model_and_loaded_again(name, tmp_path):
    model = with_masks(name)
    random_masks(model)
    model.save_pretrained(tmp_path)
    save_masks(model, tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(output(again, name), output(small(name), name))
    for where in WHERE.get(name, (None,)):
        attach(again, layer_masks(), where)
    load_masks(again, tmp_path)
    assert torch.equal(output(again, name), output(model, name))


def generated(model, name, use_cache, beams=1, **options):
    given = {key: value for key, value in inputs(name).items() if key != "decoder_input_ids"}
    out = model.generate(
        **given | options,
        max_new_tokens=4,
        min_new_tokens=4,
        num_beams=beams,
        do_sample=False,
        use_cache=use_cache,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return out.sequences, torch.stack(out.logits)


COMBINATIONS = [("shared", "fixed"), ("tied", "content"), ("per_layer", "fixed")]
OTHERS = [("shared", "content"), ("tied", "fixed"), ("per_layer", "content")]


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("scope, length", [*COMBINATIONS, *(slow(*other) for other in OTHERS)])
def test_generation_with_a_cache_is_generation_without(name, scope, length):
    model = with_masks(name, scope, length=length).double()  # scores are large, so float32 differs in the fourth digit
    random_masks(model)
    plain = generated(small(name).double(), name, use_cache=True)[1]
    sequences, logits = generated(model, name, use_cache=False)
    cached_sequences, cached_logits = generated(model, name, use_cache=True)
    assert torch.equal(cached_sequences, sequences)
    torch.testing.assert_close(cached_logits, logits, rtol=0, atol=1e-9)
    assert (logits[0] - plain[0]).abs().max() > 1e-2


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_have_masks_are_refused_unchanged(name):
    model = small(name)
    before = model.config._attn_implementation, list(model.state_dict())
    for where in (None, "encoder", "0"):
        with pytest.raises(ValueError, match=f"{name}|attach"):
            attach(model, layer_masks(), where)
    assert before == (model.config._attn_implementation, list(model.state_dict()))
    assert not any(module._forward_pre_hooks for module in model.modules())
