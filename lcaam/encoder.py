"""The shared backbone: a Transformer encoder whose attention takes masks (paper section 3).

>>> masks = LayerMasks(scope="shared", num_layers=2, dim=64, num_keys=50)
>>> encoder = Encoder(dim=64, num_layers=2, heads=4, masks=masks)
>>> encoder(torch.randn(8, 50, 64)).shape
torch.Size([8, 50, 64])
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from lcaam.attention import as_autocast, attention, without_autocast
from lcaam.drawing import drawn_apart
from lcaam.factors import Mask
from lcaam.fusion import Fusion, agreed
from lcaam.memory import Memory
from lcaam.positions import positions_of
from lcaam.stack import LayerMasks

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class MultiheadAttention(nn.Module):
    """Multi-head attention with a soft mask on the scores.

    dim: width of queries and output; heads must divide it. key_dim: width of the keys' tokens, None is `dim`.
    dropout: on attention weights, in training only. fusion, backend: as in `attention`.
    positions: "rotary" or "alibi" (lcaam.positions), for self-attention; None leaves them to the tokens.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        key_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        fusion: str | Fusion | None = None,
        backend: str = "auto",
        positions: str | None = None,
    ):
        super().__init__()
        if dim % heads:
            raise ValueError(f"MultiheadAttention: {heads} heads do not divide dim={dim}")
        key_dim = dim if key_dim is None else key_dim
        self.heads, self.dropout, self.backend = heads, dropout, backend
        self.fusion = None if fusion is None else Fusion.parse(fusion)
        self.query, self.out = nn.Linear(dim, dim, bias=bias), nn.Linear(dim, dim, bias=bias)
        self.key, self.value = nn.Linear(key_dim, dim, bias=bias), nn.Linear(key_dim, dim, bias=bias)
        self.relation = positions_of(positions, heads, dim // heads)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the projections again: Xavier uniform weights, zero biases."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Tensor,
        keys: Tensor | None = None,
        mask: Mask | None = None,
        keep: Tensor | None = None,
        causal: bool = False,
        memory: Memory | None = None,
    ) -> Tensor:
        """x (B, N_q, dim), keys (B, N_k, key_dim) or None for self-attention -> (B, N_q, dim).

        mask, keep, causal: as in `attention`, but `keep` of two dimensions is always (B, N_k).
        memory: x are the rows behind those that it has kept, and N_k counts both; with causal=True a new row sees the
                kept ones and the new ones up to itself. For self-attention: ValueError with `keys`.
        """
        if memory is not None and keys is not None:
            raise ValueError("memory= is for self-attention, whose keys grow from step to step: it goes without keys=")
        if self.relation is not None and keys is not None and keys is not x:
            raise ValueError("positions= is for self-attention, in which queries and keys are of one sequence")
        keys = x if keys is None else keys
        return self.attend(self.query(x), self.key(keys), self.value(keys), mask, keep, causal, memory)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Mask | None = None,
        keep: Tensor | None = None,
        causal: bool = False,
        memory: Memory | None = None,
    ) -> Tensor:
        """The same from tokens that are projected already: query (B, N_q, dim), key and value (B, N_k, dim)."""
        keep = keep[:, None, None, :] if keep is not None and keep.dim() == 2 else keep
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))  # (B, H, N, d)
        if memory is not None:
            k, v = memory.extend((id(self), "key"), k), memory.extend((id(self), "value"), v)
        dropout = self.dropout if self.training else 0.0
        if self.relation is None:
            out = self.compute(q, k, v, mask, keep, causal, dropout)
        else:
            q, k, v = as_autocast(q, k, v)
            with without_autocast(q.device.type):  # the positions may need a wider type
                q, k = self.relation(q, k, causal)
                out = self.compute(q, k, v.to(q.dtype), mask, keep, causal, dropout).to(v.dtype)
        return self.out(out.transpose(1, 2).flatten(2))

    def compute(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, keep: Tensor | None, causal: bool, dropout: float
    ) -> Tensor:
        """Heads (B, H, N, d) -> (B, H, N_q, d); what lcaam.relatives replaces."""
        how: Any = {"fusion": self.fusion, "keep": keep, "causal": causal, "dropout": dropout, "backend": self.backend}
        return attention(q, k, v, mask, **how)


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each with a residual connection and a LayerNorm ("pre" or "post").

    dropout: on attention weights, on the hidden feed-forward units and on both residual branches.
    after_attention: a module (B, N_q, dim) -> (B, N_q, dim) on the attention's output, for controls; None for none.
    bias: False leaves out the biases of all linear layers and LayerNorms. positions: as in MultiheadAttention.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feedforward: int | None = None,
        key_dim: int | None = None,
        dropout: float = 0.0,
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        fusion: str | Fusion | None = None,
        backend: str = "auto",
        after_attention: nn.Module | None = None,
        bias: bool = True,
        positions: str | None = None,
    ):
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"EncoderLayer: unknown norm {norm!r}; allowed: pre, post")
        if activation not in ACTIVATIONS:
            raise ValueError(f"EncoderLayer: unknown activation {activation!r}; allowed: {', '.join(ACTIVATIONS)}")
        feedforward = 4 * dim if feedforward is None else feedforward
        self.pre, self.activation = norm == "pre", ACTIVATIONS[activation]
        how: Any = {"fusion": fusion, "backend": backend, "positions": positions}
        self.attention = MultiheadAttention(dim, heads, key_dim, dropout, bias, **how)
        self.after_attention = nn.Identity() if after_attention is None else after_attention
        self.expand, self.contract = nn.Linear(dim, feedforward, bias=bias), nn.Linear(feedforward, dim, bias=bias)
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim, bias=bias), nn.LayerNorm(dim, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def feedforward(self, x: Tensor) -> Tensor:
        return self.contract(self.dropout(self.activation(self.expand(x))))

    def forward(
        self,
        x: Tensor,
        keys: Tensor | None = None,
        mask: Mask | None = None,
        keep: Tensor | None = None,
        causal: bool = False,
        memory: Memory | None = None,
    ) -> Tensor:
        """x (B, N_q, dim) -> (B, N_q, dim); arguments as in MultiheadAttention. Norms act on x, never on `keys`."""
        if self.pre:
            attended = self.attention(self.attention_norm(x), keys, mask, keep, causal, memory)
            x = x + self.dropout(self.after_attention(attended))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        attended = self.after_attention(self.attention(x, keys, mask, keep, causal, memory))
        x = self.attention_norm(x + self.dropout(attended))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class Masked(nn.Module):
    """A part of a model that has masks, or what a control of lcaam.controls puts in their place."""

    masks: LayerMasks

    def controls(self) -> list[nn.Module]:
        """What a control has put in: modules after attention, additional layers."""
        raise NotImplementedError(f"{type(self).__name__} has no controls()")


class MaskedStack(Masked):
    """Layers of any kind with a mask schedule; what every backbone that uses masks is built on.

    layer: (feed-forward width or None, module after attention or None) -> a layer.
    masks: LayerMasks for `num_layers` layers, or None for plain attention.
    after_attention: a module for each layer; extra_feedforward: the feed-forward width of each additional layer at the
    end, which has no mask. Both are for the controls of lcaam.controls.

    Raises ValueError if `masks` or `after_attention` was made for another number of layers.
    """

    def __init__(
        self,
        layer: Callable[[int | None, nn.Module | None], nn.Module],
        num_layers: int,
        feedforward: int | None = None,
        masks: LayerMasks | None = None,
        after_attention: Sequence[nn.Module] | None = None,
        extra_feedforward: Sequence[int] = (),
    ):
        super().__init__()
        name = type(self).__name__
        self.masks = LayerMasks(num_layers=num_layers) if masks is None else masks
        if self.masks.num_layers != num_layers:
            raise ValueError(f"{name}: masks for {self.masks.num_layers} layers given to a stack of {num_layers}")
        after: list[nn.Module | None] = [None] * num_layers if after_attention is None else list(after_attention)
        if len(after) != num_layers:
            raise ValueError(f"{name}: {len(after)} modules after attention given to a stack of {num_layers}")
        own = [layer(feedforward, module) for module in after]
        with drawn_apart("extra layers"):
            extra = [layer(width, None) for width in extra_feedforward]
        self.layers = nn.ModuleList([*own, *extra])

    def own_layers(self) -> list[nn.Module]:
        """The layers that the stack has without a control, too."""
        return list(self.layers[: self.masks.num_layers])

    def extra_layers(self) -> list[nn.Module]:
        """The additional layers of a control."""
        return list(self.layers[self.masks.num_layers :])

    def controls(self) -> list[nn.Module]:
        """As in Masked."""
        own: list[Any] = self.own_layers()
        return [*(layer.after_attention for layer in own), *self.extra_layers()]

    def mask(
        self,
        number: int,
        x: Tensor,
        shared: Mask | None,
        keys: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Mask | None:
        """The mask of layer `number` with input x; None in additional layers. Arguments as in LayerMasks."""
        if number >= self.masks.num_layers:
            return None
        return self.masks(x, layer=number, shared=shared, keys=keys, memory=memory)


class Encoder(MaskedStack):
    """A stack of EncoderLayers with a mask schedule; pre-norm stacks end with a LayerNorm.

    masks: LayerMasks for `num_layers` layers, or None for plain attention. Layer l's mask reads layer l's input (before
    any norm), as queries and in self-attention as keys too; the shared one reads the stack's input.
    fusion: None is the one that the masks were made for. ValueError for another one.
    after_attention, extra_feedforward: as in MaskedStack. The other keywords are EncoderLayer's.
    """

    def __init__(
        self,
        dim: int,
        num_layers: int,
        heads: int,
        feedforward: int | None = None,
        key_dim: int | None = None,
        dropout: float = 0.0,
        norm: Literal["pre", "post"] = "pre",
        activation: Literal["gelu", "relu", "silu"] = "gelu",
        masks: LayerMasks | None = None,
        fusion: str | Fusion | None = None,
        backend: str = "auto",
        after_attention: Sequence[nn.Module] | None = None,
        extra_feedforward: Sequence[int] = (),
        bias: bool = True,
        positions: str | None = None,
    ):
        def layer(width: int | None, after: nn.Module | None) -> EncoderLayer:
            how: Any = {"bias": bias, "positions": positions}
            return EncoderLayer(dim, heads, width, key_dim, dropout, norm, activation, fusion, backend, after, **how)

        super().__init__(layer, num_layers, feedforward, masks, after_attention, extra_feedforward)
        agreed(fusion, self.masks.fusion)
        self.dim = dim
        self.norm = nn.LayerNorm(dim, bias=bias) if norm == "pre" else nn.Identity()

    def forward(
        self,
        x: Tensor,
        keys: Tensor | None = None,
        keep: Tensor | None = None,
        causal: bool = False,
        memory: Memory | None = None,
    ) -> Tensor:
        """x (B, N_q, dim) -> (B, N_q, dim); keys (B, N_k, key_dim) turns every layer into cross-attention on them.
        keep: bool, True = attend, (B, N_k) or broadcastable to (B, H, N_q, N_k).
        memory: for decoding step by step, as in MultiheadAttention: x are the new rows, and the masks grow with them.
        After each step call memory.keep(). ValueError for masks that cannot grow (length interpolate)."""
        if memory is not None and keys is not None:
            raise ValueError("memory= is for self-attention, whose keys grow from step to step: it goes without keys=")
        shared = self.masks(x, keys=x if keys is None else keys, memory=memory)
        for number, layer in enumerate(self.layers):
            mask = self.mask(number, x, shared, x if keys is None else keys, memory)
            x = layer(x, keys, mask, keep, causal, memory)
        return self.norm(x)
