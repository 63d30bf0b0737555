"""The attention function that transformers models ask for under the name "lcaam": `lcaam.attention`.

    model.set_attn_implementation(IMPLEMENTATION)             the model that it was, until there is a mask
    model(ids, attention_mask=keep, soft_mask=mask_net(x))    the same mask in every layer

transformers hands keywords that a model does not know down to its attention; `soft_mask`, `fusion` and `backend` arrive
that way, if the model's code passes them on. Nothing can tell if it does not. `attach`, in
lcaam/integrations/transformers.py, gives each attention a mask and checks that it was used.

Two registrations belong together: for a name that AttentionInterface knows and AttentionMaskInterface does not know,
transformers makes no structural mask, and a decoder silently sees the future.
"""

from typing import Any

import torch
from torch import Tensor, nn

try:
    from transformers import AttentionInterface, AttentionMaskInterface, Cache
except ImportError as error:
    raise ImportError(
        "lcaam.integrations.transformers needs transformers 5.4 or newer: pip install 'transformers>=5.4', or all of "
        "the laboratory with pip install 'lcaam[lab]'"
    ) from error

from lcaam.attention import attention
from lcaam.factors import Mask
from lcaam.fusion import Fusion

IMPLEMENTATION = "lcaam"
UNSUPPORTED = ("softcap", "position_bias", "s_aux")  # that change what an attention function computes
sdpa_mask = AttentionMaskInterface()["sdpa"]


class Given:
    """A mask that `attach` sends to one attention, and whether it was taken there."""

    def __init__(self, mask: Mask | None):
        self.mask, self.used = mask, False

    def take(self) -> Mask | None:
        """The mask, which counts as used from now on."""
        self.used = True
        return self.mask


class Orders(dict):
    """What `attach` sends into a layer: by the name of a stack of attentions, what one of its masks is made from.

    An attention that finds them in place of a mask is none of those that are to have one.
    """


def masked_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    soft_mask: Mask | Given | Orders | None = None,
    fusion: str | Fusion | None = None,
    backend: str = "auto",
    **options: Any,
) -> tuple[Tensor, None]:
    """transformers' attention function: query (B, H, N_q, d), key, value (B, H or fewer, N_k, d) -> (B, N_q, H, d).

    attention_mask: bool, True = attend, broadcastable to (B, H, N_q, N_k); None is all keys, or the past of a causal
    `module`. soft_mask, fusion, backend: `mask`, `fusion` and `backend` of lcaam.attention, or what `attach` sends in
    the mask's place. Other keywords are ignored.

    Raises ValueError for a structural mask of numbers, and for options of other models that would change the scores.
    """
    for name in UNSUPPORTED:
        if options.get(name) is not None:
            raise ValueError(f"attention '{IMPLEMENTATION}' has no {name}: {type(module).__name__} cannot use it")
    if not isinstance(options.get("cache"), Cache | None):  # a model's own cache was read before, a paged one was not
        raise ValueError(f"attention '{IMPLEMENTATION}' has no {type(options['cache']).__name__}: use generate()")
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        raise ValueError(
            f"attention '{IMPLEMENTATION}' takes a bool attention_mask (True = attend), got {attention_mask.dtype}: "
            "numbers on the scores come from soft_mask"
        )
    if isinstance(soft_mask, Given):
        soft_mask = soft_mask.take()
    elif isinstance(soft_mask, Orders):
        soft_mask = None
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    out = attention(
        query,
        key,
        value,
        soft_mask,
        fusion=fusion,
        keep=attention_mask,
        causal=bool(causal) and attention_mask is None,
        dropout=dropout,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
        backend=backend,
    )
    return out.transpose(1, 2).contiguous(), None


def structural_mask(*arguments: Any, **options: Any) -> Tensor | None:
    """transformers' bool mask (B, 1, N_q, N_k), always written out if a model is causal."""
    return sdpa_mask(*arguments, **options | {"allow_is_causal_skip": False})


AttentionInterface.register(IMPLEMENTATION, masked_attention)
AttentionMaskInterface.register(IMPLEMENTATION, structural_mask)
