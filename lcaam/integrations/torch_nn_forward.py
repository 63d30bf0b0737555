"""The forward pass of a model with masks in its nn.MultiheadAttention (lcaam/integrations/torch_nn.py attaches them).

    model(x)                        Attached.forward opens a Run: what one forward pass of the model shares
      ... attention(q, k, v, ...)   MaskedMultiheadAttention: torch's projections around lcaam.attention
            its mask                made from the query input; the shared one when the first attention asks for it
    the end                         in the first forward: was every attention called?

A Run lives in a context variable for one forward, so nothing can be stale: not after an exception, not in another
thread or replica. The class of the attentions also says what makes nn.TransformerEncoderLayer take its ordinary path in
eval mode: its fused one reads the weights of the attention without calling it, and would silently lose the mask.
"""

from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam.attention import as_autocast, attention, without_autocast
from lcaam.backends.reference import weights
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.stack import LayerMasks


class Part(nn.Module):
    """What a model with masks has more than before, as `model.lcaam`.

    names:  the names of the attentions that have masks, in the order of the model.
    nested: the names of its encoders that would make nested tensors of padded input, which they must not do for now.
    """

    def __init__(self, masks: LayerMasks, names: list[str], nested: list[str], fusion: Fusion, backend: str):
        super().__init__()
        self.masks, self.names, self.nested = masks, names, nested
        self.fusion, self.backend, self.verified = fusion, backend, False
        self.traced: Run | None = None  # while a compiler traces a forward: it follows no change of a context variable

    def extra_repr(self) -> str:
        return (
            f"scope={self.masks.scope}, fusion={self.fusion.name}, backend={self.backend}, of {', '.join(self.names)}"
        )


class Run:
    """What one forward pass of a model shares between its attentions."""

    def __init__(self, model: nn.Module):
        part: Any = model.lcaam
        self.part: Part = part
        self.numbers = {model.get_submodule(name): number for number, name in enumerate(part.names)}
        self.shared: Mask | None = None
        self.called: set[int] = set()
        self.kept: list[tuple[Tensor, Tensor]] = []  # masks of numbers and what they keep: layers share them

    def check(self) -> None:
        """RuntimeError if an attention that has a mask was not called in the first forward."""
        if self.part.verified:
            return
        missing = [name for number, name in enumerate(self.part.names) if number not in self.called]
        if missing:
            raise RuntimeError(
                f"the first forward did not call {', '.join(missing)}, so what is attached there had no effect. Attach "
                "the masks only to attentions that are called (names=[...]); a layer that reads its attention's "
                "weights without calling it cannot have a mask"
            )
        if not torch.compiler.is_compiling():  # an exported graph should not change the model
            self.part.verified = True


RUNS: ContextVar[tuple[Run, ...]] = ContextVar("lcaam_torch_nn_runs", default=())


class Attached(nn.Module):
    """Mixed into the class of a model with masks."""

    plain_class: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run = Run(self)
        if torch.compiler.is_compiling():
            run.part.traced = run
            try:
                out = super().forward(*args, **kwargs)
            finally:
                run.part.traced = None
        else:
            token = RUNS.set((*RUNS.get(), run))
            try:
                out = super().forward(*args, **kwargs)
            finally:
                RUNS.reset(token)
        run.check()
        return out

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled and copied as its plain class, since the mixed one cannot be imported by name."""
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        return empty, (self.plain_class,), *reduced[2:]


ATTACHED: dict[type, type] = {}  # by what a model's class was before


def attached_class(plain: type[nn.Module]) -> type[nn.Module]:
    """The class of models with masks that were `plain` before, made once."""
    if plain not in ATTACHED:
        members = {"plain_class": plain, "__module__": __name__, "__doc__": plain.__doc__}
        ATTACHED[plain] = type(f"Attached{plain.__name__}", (Attached, plain), members)
    return ATTACHED[plain]


def empty(plain: type[nn.Module]) -> Any:
    """A model with masks, of that class, whose state is yet to come."""
    mixed: Any = attached_class(plain)
    return mixed.__new__(mixed)


class MaskedMultiheadAttention(nn.MultiheadAttention):
    """torch's MultiheadAttention with lcaam.attention inside; made from one, with its weights, by changing its class.

    owner: the Part that has its mask, and its number there.
    """

    owner: tuple[Part, int]

    # the answer that keeps nn.TransformerEncoderLayer from its fused path; the forward below does not ask it
    _qkv_same_embed_dim: Any = property(lambda self: False, lambda self, value: None)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results as in nn.MultiheadAttention; the weights are those before dropout."""
        check_inputs(query, key, value, attn_mask, is_causal)
        batched = query.dim() == 3
        tokens, keys, values = (self.batches_first(x, batched) for x in (query, key, value))  # (B, N, width)
        run, part, number = self.current_run()
        mask = own_mask(part, number, run, tokens, keys)
        q, k, v = self.project(tokens, keys, values)
        keep = merged(attn_mask, key_padding_mask, q, k, [] if run is None else run.kept)
        dropout = self.dropout if self.training else 0.0
        out = attention(q, k, v, mask, fusion=part.fusion, keep=keep, dropout=dropout, backend=part.backend)
        out = self.out_proj(out.transpose(1, 2).flatten(2))  # (B, N_q, D)
        weight = self.weights(q, k, mask, part.fusion, keep, average_attn_weights) if need_weights else None
        if not batched:
            return out[0], None if weight is None else weight[0]
        return out if self.batch_first else out.transpose(0, 1), weight

    def current_run(self) -> tuple[Run | None, Part, int]:
        """The forward pass that calls this attention, None outside of one; the Part that has its mask; its number."""
        part, number = self.owner
        if torch.compiler.is_compiling():
            return part.traced, part, number
        run = next((run for run in reversed(RUNS.get()) if self in run.numbers), None)
        return (None, part, number) if run is None else (run, run.part, run.numbers[self])

    def _reset_parameters(self) -> None:
        """Draws the weights again, by torch's code, which asks what the property above answers."""
        masked = type(self)
        self.__class__ = nn.MultiheadAttention  # type: ignore[assignment]
        try:
            self._reset_parameters()
        finally:
            self.__class__ = masked  # type: ignore[assignment]

    def batches_first(self, x: Tensor, batched: bool) -> Tensor:
        if not batched:
            return x[None]
        return x if self.batch_first else x.transpose(0, 1)

    def project(self, *tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of query, key and value, each (B, N, width) -> q, k, v (B, H, N, d)."""
        if self.in_proj_weight is not None:
            matrices = self.in_proj_weight.chunk(3)
        else:
            matrices = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        projected = (F.linear(*of_one) for of_one in zip(tokens, matrices, biases, strict=True))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected)
        return q, k, v

    def weights(
        self, q: Tensor, k: Tensor, mask: Mask | None, fusion: Fusion, keep: Tensor | None, average: bool
    ) -> Tensor:
        """Attention weights (B, H, N_q, N_k), or (B, N_q, N_k) if `average`, in the dtype of q."""
        q, k = as_autocast(q, k)
        mask = None if mask is None or fusion.ignores_mask else mask.fit(k.shape[2])
        with without_autocast(q.device.type):
            weight = weights(q, k, mask, fusion, keep, q.shape[-1] ** -0.5)
        return (weight.mean(1) if average else weight).to(q.dtype)


def own_mask(part: Part, number: int, run: Run | None, tokens: Tensor, keys: Tensor) -> Mask | None:
    """The mask of attention `number`. tokens (B, N_q, D), keys (B, N_k, kdim): its inputs, before any projection."""
    if run is not None:
        run.called.add(number)
    shared = None
    if part.masks.scope == "shared":
        if run is None:
            raise RuntimeError(
                f"{part.names[number]} was called outside the forward of the model that masks are attached to, and a "
                "shared mask is made only there (gradient checkpointing does that in backward): call the model, or use "
                "scope 'tied' or 'per_layer'"
            )
        if run.shared is None:
            if number != 0:
                raise RuntimeError(
                    f"{part.names[number]} was called before {part.names[0]}, whose input the shared mask reads: "
                    "attach the masks to attentions in the order in which the model calls them"
                )
            run.shared = part.masks(tokens, keys=keys)
        shared = run.shared
    return part.masks(tokens, layer=number, shared=shared, keys=keys)


def check_inputs(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, is_causal: bool) -> None:
    if query.is_nested or key.is_nested or value.is_nested:
        raise ValueError(
            "an attention with a mask takes no nested tensors: pad the sequences and use key_padding_mask; an "
            "nn.TransformerEncoder around the attached layer needs enable_nested_tensor=False"
        )
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if query.dim() not in (2, 3) or not query.dim() == key.dim() == value.dim():
        raise ValueError(f"query, key and value are all (N, width) or all of a batch with 3 dimensions; got {shapes}")
    if is_causal and attn_mask is None:
        raise ValueError("is_causal=True is a hint about attn_mask, as in torch: give attn_mask too")


def merged(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor, known: list[tuple[Tensor, Tensor]]
) -> Tensor | None:
    """torch's two structural masks (True = do not attend) as one `keep` that broadcasts to (B, H, N_q, N_k), or None.

    attn_mask (N_q, N_k) or (B H, N_q, N_k), key_padding_mask (B, N_k), or (N_k) if the input had no batch.
    """
    (b, h, n_q, _), n_k = q.shape, k.shape[2]
    keep = None
    if attn_mask is not None:
        if tuple(attn_mask.shape) not in ((n_q, n_k), (b * h, n_q, n_k)):
            raise ValueError(
                f"attn_mask must be (N_q, N_k) = {(n_q, n_k)} or (B H, N_q, N_k) = {(b * h, n_q, n_k)}, has shape "
                f"{tuple(attn_mask.shape)}"
            )
        keep = kept("attn_mask", attn_mask, known)
        keep = keep.unflatten(0, (b, h)) if keep.dim() == 3 else keep[None, None]
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) not in ((b, n_k), (n_k,)[: b == 1]):
            raise ValueError(
                f"key_padding_mask must be (B, N_k) = {(b, n_k)}, has shape {tuple(key_padding_mask.shape)}"
            )
        keys = kept("key_padding_mask", key_padding_mask, known).reshape(b, 1, 1, n_k)
        keep = keys if keep is None else keep & keys
    return keep


def kept(name: str, mask: Tensor, known: list[tuple[Tensor, Tensor]]) -> Tensor:
    """A structural mask of torch as bool, True = attend. Encoders hand bool masks down as numbers, 0 and -inf."""
    if mask.dtype == torch.bool:
        return ~mask
    if not mask.is_floating_point():
        raise ValueError(f"{name} must be bool (True = do not attend) or float, got {mask.dtype}")
    for numbers, keep in known:
        if numbers is mask:
            return keep
    keep = mask == 0
    only_structure = (keep | (mask == -torch.inf)).all()
    message = (
        f"a float {name} of an attention with a mask may hold 0 (attend) and -inf (do not attend) only: numbers on the "
        "scores come from the masks"
    )
    if torch.compiler.is_compiling():
        torch._assert_async(only_structure, message)
    elif not only_structure:
        raise ValueError(message)
    known.append((mask, keep))
    return keep
