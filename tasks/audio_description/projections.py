"""Keys and values of a prefix by a layer's own weights, for every decoder of transformers that names them as usual.

    key, value = keys_and_values(attention, prompts)   # (B, P, D) -> (B, H_kv, P, d) each, without a rotary embedding
    check_projections(llm, layers=30)                  # they are what the layers' own code makes of the same prompts

Three kinds are known: k_proj and v_proj (LLaMA, Mistral, Qwen2, SmolLM3, Gemma, Granite), one qkv_proj (Phi-3), and
k_proj with a k_norm of each head (Qwen3, Gemma 3) or of all heads at once (OLMo 2). Whether a model is one of them is
not taken from its name: `check_projections` compares.
"""

import torch
from torch import Tensor, nn

from lcaam.integrations.transformers_layers import Place, find_stacks, gives

UNSUPPORTED = ("position_bias", "s_aux")  # what some models add to the scores or to the softmax
PROMPTS = 7  # other than any number of heads, so that no wrong shape fits by chance


class Taken:
    """What an attention was about to attend to; given as its `prefix` it makes the attention return zeros instead."""

    key: Tensor
    value: Tensor


def places(llm: nn.Module) -> tuple[Place, ...]:
    """The paths of each layer and its attention. ValueError for a model that is not one stack of layers with one."""
    stacks, count = find_stacks(llm), llm.config.num_hidden_layers
    if [*stacks] != ["self"] or len(stacks["self"].places) != count:
        found = ", ".join(f"{len(stack.places)} in {name!r}" for name, stack in stacks.items())
        raise ValueError(f"{count} layers, and attentions elsewhere than once in each of them ({found})")
    return stacks["self"].places


def attentions(llm: nn.Module) -> list[nn.Module]:
    """The attention of each layer, in order. ValueError if one has other projections than those known here."""
    found = [llm.get_submodule(place.attention) for place in places(llm)]
    for number, attention in enumerate(found):
        has, where = {name for name, _ in attention.named_children()}, f"the attention of layer {number}"
        if not ({"q_proj", "k_proj", "v_proj"} <= has or "qkv_proj" in has):
            raise ValueError(f"{where} has no q_proj, k_proj and v_proj (it has {', '.join(sorted(has)) or 'nothing'})")
        if others := [name for name in UNSUPPORTED if name in gives(attention)]:
            raise ValueError(f"{where} adds {', '.join(others)} to its scores, which a prefix has not")
        if getattr(attention, "layer_idx", None) != number or not hasattr(attention, "head_dim"):
            raise ValueError(f"{where} does not say its number and the width of its heads (layer_idx, head_dim)")
    return found


def keys_and_values(attention: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """x (B, P, D) -> keys and values (B, H_kv, P, d) by the layer's own weights."""
    fused = getattr(attention, "qkv_proj", None)
    weight = (attention.k_proj if fused is None else fused).weight
    if weight.is_floating_point():  # a quantised projection casts by itself
        x = x.to(weight.dtype)
    if fused is None:
        key, value = attention.k_proj(x), attention.v_proj(x)
    else:  # queries, keys, values
        width = attention.config.num_key_value_heads * attention.head_dim
        key, value = fused(x)[..., -2 * width :].chunk(2, -1)
    norm = getattr(attention, "k_norm", None)
    if norm is not None and norm.weight.shape == key.shape[-1:]:  # of all heads at once
        key, norm = norm(key), None
    key, value = (part.unflatten(-1, (-1, attention.head_dim)) for part in (key, value))  # (B, P, H_kv, d)
    return (key if norm is None else norm(key)).transpose(1, 2), value.transpose(1, 2)


@torch.no_grad()
def check_projections(llm: nn.Module, layers: int = 1) -> None:
    """Raises ValueError if the last `layers` layers make other keys and values of prompts than keys_and_values does.

    The first and the last of them run, with a rotary embedding that turns by no angle. This also finds out whether they
    hand the prefix down to their attention function. llm: one whose class has a prefix.
    """
    found, words = attentions(llm)[-layers:], llm.get_input_embeddings().weight  # never quantised
    for attention in {id(part): part for part in (found[0], found[-1])}.values():
        where = f"the attention of layer {attention.layer_idx}"
        x = torch.randn(1, PROMPTS, llm.config.hidden_size, generator=torch.Generator().manual_seed(0))
        x = x.to(words.device, words.dtype)
        angle = x.new_zeros(1, PROMPTS, attention.head_dim)
        taken = Taken()
        try:
            attention(x, position_embeddings=(angle.cos(), angle.sin()), attention_mask=None, prefix=taken)
            pairs = zip(keys_and_values(attention, x), (taken.key, taken.value), strict=True)
            same = [torch.allclose(ours.float(), own.float(), atol=1e-3, rtol=1e-2) for ours, own in pairs]
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{where} cannot be run on prompts alone ({error})") from error
        if not all(same):
            raise ValueError(f"{where} makes other keys or values of a prompt than its projections and its k_norm do")
