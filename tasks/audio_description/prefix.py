"""A gated, per-sample prefix for a LLaMA, after LLaMA-Adapter: how the language model reads what the encoder found.

In each of the last L layers, attention over the prefix has its own softmax and a learned gate per head:

    out = softmax(q k^T / sqrt(d)) v  +  tanh(g) softmax(q k_p^T / sqrt(d)) v_p

Prefix keys and values come from the layer's own projections, carry no rotary embedding and are never causally masked.
With all gates at zero the language model is unchanged.

    >>> prefix = gated_prefix(llm, prompts, gates)  # prompts (B, L, P, D), gates (L, H)
    >>> llm(input_ids=ids, attention_mask=keep, prefix=prefix).logits
    >>> llm.generate(input_ids=ids, attention_mask=keep, prefix=prefix)
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, LlamaForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

IMPLEMENTATION = "lcaam_gated_prefix"


def gated_prefix(llm: LlamaForCausalLM, prompts: Tensor, gates: Tensor) -> Tensor:
    """Keys and gated values of the prefix, projected once for all decoding steps.

    prompts: (B, L, P, D), what the last L layers read, in the language model's width. gates: (L, H), before tanh.
    Returns (B, L, 2, H, P, d). The gate does not depend on the query, so it is folded into the values.
    Raises ValueError where L, D or H do not fit the language model.
    """
    config = llm.config
    if prompts.dim() != 4 or prompts.shape[-1] != config.hidden_size:
        raise ValueError(f"prompts must be (B, L, P, D = {config.hidden_size}), got {tuple(prompts.shape)}")
    num_layers = prompts.shape[1]
    if num_layers > config.num_hidden_layers or gates.shape != (num_layers, config.num_attention_heads):
        raise ValueError(
            f"prompts for {num_layers} layers and gates {tuple(gates.shape)} do not fit a language model of "
            f"{config.num_hidden_layers} layers and {config.num_attention_heads} heads: gates must be (L, H)"
        )
    repeat = config.num_attention_heads // config.num_key_value_heads
    prefix = []
    for i, layer in enumerate(llm.model.layers[-num_layers:]):
        project = layer.self_attn
        x = prompts[:, i]
        if project.k_proj.weight.is_floating_point():  # a quantised projection casts by itself
            x = x.to(project.k_proj.weight.dtype)
        key, value = (
            linear(x).unflatten(-1, (-1, project.head_dim)).transpose(1, 2).repeat_interleave(repeat, 1)
            for linear in (project.k_proj, project.v_proj)
        )  # (B, H, P, d)
        gate = gates[i].tanh()[:, None, None]  # (H, 1, 1)
        prefix.append(torch.stack([key, value * gate.to(value.dtype)], 1))
    return torch.stack(prefix, 1)


def attention_with_prefix(module, query, key, value, attention_mask, prefix=None, prefix_keep=None, **options):
    """transformers' attention function: its own scaled dot-product attention plus the prefix term."""
    out, weights = sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # (B, T, H, d)
    if prefix is None:
        return out, weights
    layer = module.layer_idx - module.config.num_hidden_layers + prefix.shape[1]
    if layer < 0:  # only the last L layers have one
        return out, weights
    prefix_key, prefix_value = prefix[:, layer].to(query.dtype).unbind(1)  # (B, H, P, d)
    keep = None if prefix_keep is None else prefix_keep[:, None, None, :]
    extra = F.scaled_dot_product_attention(query, prefix_key, prefix_value, attn_mask=keep, scale=module.scaling)
    if keep is not None:
        extra = extra.masked_fill(~keep.any(-1, keepdim=True), 0.0)  # nothing to read: no term, never NaN
    return out + extra.transpose(1, 2), weights


AttentionInterface.register(IMPLEMENTATION, attention_with_prefix)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)  # without it transformers would silently drop causality


class PrefixLlama(LlamaForCausalLM):
    """LlamaForCausalLM that takes `prefix` (B, L, 2, H, P, d) and `prefix_keep` (B, P; bool, True = readable) in
    `forward` and `generate`; without them it is the LLaMA it inherits from.

    The parent's arguments are spelled out because `generate` reads this signature: were `position_ids` hidden in
    **options, left-padded batches would change silently, since the prefix term depends on absolute query positions.
    """

    def __init__(self, config):
        super().__init__(config)
        self.set_attn_implementation(IMPLEMENTATION)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        logits_to_keep=0,
        prefix=None,
        prefix_keep=None,
        **options,
    ):
        padding = attention_mask is not None and attention_mask.dim() == 2
        if position_ids is None and past_key_values is None and padding:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        return super().forward(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            labels,
            use_cache,
            logits_to_keep,
            prefix=prefix,
            prefix_keep=prefix_keep,
            **options,
        )
