"""A gated, per-sample prefix for a language model, after LLaMA-Adapter: how it reads the encoder's output.

In each of the last L layers, attention over the prefix has its own softmax and a learned gate per head:

    out = softmax(q k^T / sqrt(d)) v  +  tanh(g) softmax(q k_p^T / sqrt(d)) v_p

Prefix keys and values come from the layer's own projections (projections.py), carry no rotary embedding, are never
causally masked and are in no sliding window. With all gates at zero the language model is unchanged.

    >>> prefix = gated_prefix(llm, prompts, gates)  # prompts (B, L, P, D), gates (L, H)
    >>> llm(input_ids=ids, attention_mask=keep, prefix=prefix).logits
    >>> llm.generate(input_ids=ids, attention_mask=keep, prefix=prefix)
    >>> llm.generate(input_ids=ids, attention_mask=keep, prefix=Prompts(llm, prompts, gates))  # sharded models as well

Either way the prefix is projected once per sample, however many words are written. `llm` is a PrefixLlama, or an object
of prefixed(Qwen3ForCausalLM) or of another decoder's class.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, Cache, LlamaForCausalLM, PreTrainedModel

from lcaam.attention import attention as attend
from tasks.audio_description.projections import UNSUPPORTED, Taken, attentions, keys_and_values

IMPLEMENTATION = "lcaam_gated_prefix"
# the cache's keyword and the field of its output: the name changes between releases
CACHE = "cache" if "cache" in inspect.signature(LlamaForCausalLM.forward).parameters else "past_key_values"
sdpa, sdpa_mask = AttentionInterface()["sdpa"], AttentionMaskInterface()["sdpa"]


def gated_prefix(llm: PreTrainedModel, prompts: Tensor, gates: Tensor) -> Tensor:
    """Keys and gated values of the prefix, projected once for all decoding steps.

    prompts: (B, L, P, D), what the last L layers read, in the language model's width. gates: (L, H), before tanh.
    Returns (B, L, 2, H, P, d). Raises ValueError if L, D or H do not fit the language model.

    It calls the layers' projections from outside, which a sharded model does not allow; `Prompts` works there, too.
    """
    check_fit(llm, prompts, gates)
    readers = attentions(llm)[-prompts.shape[1] :]
    return torch.stack([project(part, prompts[:, i], gates[i].tanh()) for i, part in enumerate(readers)], 1)


class Prompts:
    """The same prefix, projected by each layer itself the first time it reads it.

    A layer's weights may be sharded (FSDP): then they are whole only while the layer runs. Without gradients the keys
    and values are kept, so that `generate` projects once; with gradients, every forward pass projects anew.

    prompts, gates: as in `gated_prefix`, which raises the same ValueError. An object is for one batch and one state of
    the weights. The batch that reads it may have several rows per sample, next to each other (beams).
    """

    def __init__(self, llm: PreTrainedModel, prompts: Tensor, gates: Tensor):
        check_fit(llm, prompts, gates)
        self.prompts, self.gates = prompts, gates.tanh()
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """How many layers read it."""
        return self.prompts.shape[1]

    def read(self, attention: nn.Module, layer: int, rows: int) -> Tensor:
        """Keys and gated values (rows, 2, H, P, d) for one of the layers, counted from the first that reads."""
        if layer in self.kept and len(self.kept[layer]) == rows:
            return self.kept[layer]
        pair = project(attention, self.prompts[:, layer], self.gates[layer])
        pair = of_rows(pair, rows)
        if not torch.is_grad_enabled():
            self.kept[layer] = pair
        return pair


def project(attention: nn.Module, x: Tensor, gate: Tensor) -> Tensor:
    """x (B, P, D), gate (H,) after tanh -> keys and gated values (B, 2, H, P, d) by the layer's own weights.

    The gate does not depend on the query, so it is folded into the values.
    """
    repeat = attention.config.num_attention_heads // attention.config.num_key_value_heads
    key, value = (part.repeat_interleave(repeat, 1) for part in keys_and_values(attention, x))  # (B, H, P, d)
    return torch.stack([key.to(value.dtype), value * gate[:, None, None].to(value.dtype)], 1)


def check_fit(llm: PreTrainedModel, prompts: Tensor, gates: Tensor) -> None:
    """Raises ValueError if the prefix and the language model differ in width, layers or heads."""
    config = llm.config
    if prompts.dim() != 4 or prompts.shape[-1] != config.hidden_size:
        raise ValueError(f"prompts must be (B, L, P, D = {config.hidden_size}), got {tuple(prompts.shape)}")
    num_layers = prompts.shape[1]
    if num_layers > config.num_hidden_layers or gates.shape != (num_layers, config.num_attention_heads):
        raise ValueError(
            f"prompts for {num_layers} layers and gates {tuple(gates.shape)} do not fit a language model of "
            f"{config.num_hidden_layers} layers and {config.num_attention_heads} heads: gates must be (L, H)"
        )


class Receipt:
    """Which layers have read the prefix in one forward pass, activations that are computed again included."""

    def __init__(self) -> None:
        self.layers: set[int] = set()


def attention_with_prefix(
    module, query, key, value, attention_mask, prefix=None, prefix_keep=None, prefix_receipt=None, **options
):
    """transformers' attention function: its own scaled dot-product attention plus the prefix term.

    Raises ValueError for options of a model that would change the scores and that are not known here.
    """
    if isinstance(prefix, Taken):
        prefix.key, prefix.value = key, value
        return query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1]), None
    if others := [name for name in UNSUPPORTED if options.get(name) is not None]:
        raise ValueError(f"{type(module).__name__} attends with {', '.join(others)}, which the prefix does not know")
    softcap = options.get("softcap")
    if softcap is None:
        out, weights = sdpa(module, query, key, value, attention_mask, **options)  # (B, T, H, d)
    else:  # Gemma 2; transformers' function has none
        causal = attention_mask is None and query.shape[2] > 1
        options = {"scale": options["scaling"], "dropout": options["dropout"], "softcap": softcap}
        out = attend(query, key, value, keep=attention_mask, causal=causal, enable_gqa=True, **options)
        out, weights = out.transpose(1, 2), None
    if prefix is None:
        return out, weights
    lazy = isinstance(prefix, Prompts)
    layer = module.layer_idx - module.config.num_hidden_layers + (len(prefix) if lazy else prefix.shape[1])
    if layer < 0:  # only the last L layers have one
        return out, weights
    rows = len(query)
    pair = prefix.read(module, layer, rows) if lazy else of_rows(prefix[:, layer], rows)
    prefix_key, prefix_value = pair.to(query.dtype).unbind(1)  # (B, H, P, d)
    keep = None if prefix_keep is None else of_rows(prefix_keep, rows)[:, None, None, :]
    if softcap is None:
        extra = F.scaled_dot_product_attention(query, prefix_key, prefix_value, attn_mask=keep, scale=module.scaling)
    else:
        extra = attend(query, prefix_key, prefix_value, keep=keep, scale=module.scaling, softcap=softcap)
    if keep is not None:
        extra = extra.masked_fill(~keep.any(-1, keepdim=True), 0.0)  # nothing to read: no term, never NaN
    if prefix_receipt is not None:  # a layer may be called by itself
        prefix_receipt.layers.add(module.layer_idx)
    return out + extra.transpose(1, 2), weights


def of_rows(x: Tensor, rows: int) -> Tensor:
    """x (B, ...) -> (rows, ...): a batch may have several rows per sample, next to each other (beams).

    Raises ValueError for a number of rows that is not a multiple of B.
    """
    if rows % len(x):
        raise ValueError(f"a prefix of {len(x)} samples does not fit a batch of {rows} rows: allowed are multiples")
    return x if len(x) == rows else x.repeat_interleave(rows // len(x), 0)


AttentionInterface.register(IMPLEMENTATION, attention_with_prefix)
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)  # without it transformers would silently drop causality


class WithPrefix:
    """Mixed in before a causal language model's class: `forward` and `generate` also take `prefix` ((B, L, 2, H, P, d)
    or Prompts) and `prefix_keep` (B, P; bool, True = readable); without them it is the model it inherits from.

    The parent's arguments are bound by its own signature and handed on by keyword, so it does not matter how a release
    of transformers names or orders them. `generate` reads this method's signature, which is the parent's and two more.
    RuntimeError if another set of layers has read the prefix than should have.
    """

    def __init__(self, config, *arguments, **options):
        super().__init__(config, *arguments, **options)
        self.set_attn_implementation(IMPLEMENTATION)

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.forward = forward_of(super().forward)


def forward_of(parent: Callable) -> Callable:
    """The forward of WithPrefix for a class whose own is `parent`."""
    signature = inspect.signature(parent)
    *named, rest = signature.parameters.values()  # rest: **kwargs

    def forward(self, *args, prefix=None, prefix_keep=None, **options):
        given = signature.bind_partial(self, *args, **options).arguments
        given |= given.pop(rest.name, {})
        del given["self"]
        mask, cached = given.get("attention_mask"), any(isinstance(value, Cache) for value in given.values())
        if given.get("position_ids") is None and not cached and mask is not None and mask.dim() == 2:
            # the prefix term depends on absolute query positions: in a left-padded row they start at its first word
            given["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        if prefix is None:
            return parent(self, **given)
        receipt = Receipt()
        out = parent(self, **given, prefix=prefix, prefix_keep=prefix_keep, prefix_receipt=receipt)
        layers = self.config.num_hidden_layers
        check_read(receipt, range(layers - (len(prefix) if isinstance(prefix, Prompts) else prefix.shape[1]), layers))
        return out

    own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in ("prefix", "prefix_keep")]
    forward.__signature__ = signature.replace(parameters=[*named, *own, rest])
    return forward


def check_read(receipt: Receipt, wanted: range) -> None:
    """Raises RuntimeError if not exactly the layers `wanted` have read the prefix: the words would not depend on it."""
    if receipt.layers != {*wanted}:
        read = len(receipt.layers & {*wanted})
        raise RuntimeError(
            f"transformers {transformers.__version__} showed the prefix to {read} of {len(wanted)} layers: it "
            "does not hand unknown keywords down to the attention function; use a release of docs/versions.md"
        )


class PrefixLlama(WithPrefix, LlamaForCausalLM):
    """LlamaForCausalLM with a prefix."""


@cache
def prefixed(family: type[PreTrainedModel]) -> type[Any]:
    """The class of a causal language model with a prefix: prefixed(LlamaForCausalLM) is PrefixLlama."""
    if family is LlamaForCausalLM:
        return PrefixLlama
    # transformers reads the file of a class to know what the class supports
    own = {"__module__": family.__module__, "__doc__": f"{family.__name__} with a prefix."}
    return type(f"Prefix{family.__name__}", (WithPrefix, family), own)
