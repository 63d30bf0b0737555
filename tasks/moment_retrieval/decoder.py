"""The decoder of QD-DETR (DAB-DETR in one dimension): learned spans ask the clips and are refined layer by layer."""

from typing import Any

import torch
from torch import Tensor, nn

from lcaam import LayerMasks, attention
from lcaam.encoder import Masked
from lcaam.factors import Mask
from tasks.moment_retrieval.layers import mlp
from tasks.moment_retrieval.positions import of_spans
from tasks.moment_retrieval.spans import inverse_sigmoid


class DecoderLayer(nn.Module):
    """Self-attention among the queries, cross-attention on the clips, a feed-forward network; post-norm.

    In the cross-attention, content and position are separate features (2 D / heads per head). first: only the first
    layer also adds the query's position to its content.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feedforward: int,
        dropout: float,
        fusion: str,
        backend: str,
        first: bool,
        after_attention: nn.Module | None,
    ):
        super().__init__()
        self.heads, self.fusion, self.backend, self.attention_dropout = heads, fusion, backend, dropout
        names = ("query", "query_position", "key", "key_position", "value", "out")
        self.own = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        names = ("query", "query_sine", "key", "key_position", "value", "out") + ("query_position",) * first
        self.cross = nn.ModuleDict({name: nn.Linear(dim, dim) for name in names})
        self.after_attention = nn.Identity() if after_attention is None else after_attention
        self.expand, self.contract = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.activation = nn.PReLU()
        self.own_norm, self.cross_norm, self.outer_norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, D / H)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, **how) -> Tensor:
        """Heads (B, H, N, d) -> tokens (B, N, D)."""
        dropout = self.attention_dropout if self.training else 0.0
        out = attention(query, key, self.split(value), dropout=dropout, backend=self.backend, **how)
        return out.transpose(1, 2).flatten(2)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        position: Tensor,
        keep: Tensor,
        query_position: Tensor,
        query_sine: Tensor,
        mask: Mask | None,
    ) -> Tensor:
        """x, query_position, query_sine (B, Q, D); memory and its position (B, T, D); keep (B, T) -> (B, Q, D)."""
        own, cross = self.own, self.cross
        query = own["query"](x) + own["query_position"](query_position)
        key = own["key"](x) + own["key_position"](query_position)
        attended = own["out"](self.attend(self.split(query), self.split(key), own["value"](x)))
        x = self.own_norm(x + self.dropout(attended))

        query, key, key_position = cross["query"](x), cross["key"](memory), cross["key_position"](position)
        if "query_position" in cross:
            query, key = query + cross["query_position"](query_position), key + key_position
        query = torch.cat([self.split(query), self.split(cross["query_sine"](query_sine))], -1)  # (B, H, Q, 2d)
        key = torch.cat([self.split(key), self.split(key_position)], -1)  # (B, H, T, 2d)
        attended = self.attend(query, key, cross["value"](memory), mask=mask, fusion=self.fusion, keep=keep)
        x = self.cross_norm(x + self.dropout(self.after_attention(cross["out"](attended))))

        hidden = self.dropout(self.activation(self.expand(x)))
        return self.outer_norm(x + self.dropout(self.contract(hidden)))


class SpanDecoder(Masked):
    """`queries` learned spans -> features and spans after every layer.

    masked: masks and fusion of the cross-attention, or a control's after_attention (lcaam.plan).
    width_floor: least width that the attention to positions is divided by.
    """

    def __init__(
        self,
        dim: int,
        num_layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        queries: int,
        backend: str,
        masked: dict[str, Any] | None = None,
        width_floor: float = 1e-3,
    ):
        super().__init__()
        masked = dict(masked or {})
        fusion = masked.pop("fusion", "none")
        after = masked.pop("after_attention", None) or [None] * num_layers
        if masked.pop("extra_feedforward", None):
            raise ValueError("the decoder takes no additional layers as a control; compare with extra_linear")
        self.masks = masked.pop("masks", None) or LayerMasks(num_layers=num_layers)
        self.dim, self.width_floor = dim, width_floor
        self.layers = nn.ModuleList(
            DecoderLayer(dim, heads, feedforward, dropout, fusion, backend, number == 0, after[number])
            for number in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.spans = nn.Embedding(queries, 2)  # centre and width before the sigmoid
        self.position, self.scale = mlp(dim, dim, dim), mlp(dim, dim, dim)
        self.width, self.refine = mlp(dim, dim, 1), mlp(dim, dim, dim, 2)
        if num_layers == 1:  # both are for further layers; DDP needs to know what gets no gradient
            self.scale.requires_grad_(False)
            self.refine.requires_grad_(False)

    def controls(self) -> list[nn.Module]:
        """As in lcaam.encoder.Masked."""
        return [layer.after_attention for layer in self.layers]

    def forward(self, memory: Tensor, position: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """memory, position (B, T, D), keep (B, T) -> features (L, B, Q, D) and the spans they refine (L, B, Q, 2)."""
        span = self.spans.weight.sigmoid().expand(len(memory), -1, -1)
        x = memory.new_zeros(*span.shape[:2], self.dim)
        features, references, shared = [], [span], None
        for number, layer in enumerate(self.layers):
            sine = of_spans(span, self.dim).to(x.dtype)
            query_position = self.position(sine)
            # what a mask reads: content and place, since the content of the first layer is zero
            placed = x + query_position
            if number == 0:
                shared = self.masks(placed, keys=memory)
            mask = self.masks(placed, layer=number, shared=shared, keys=memory)
            # The original divides by the width itself, which may be 0. Only spans narrower than the floor differ.
            width = self.width(x).sigmoid() / span[..., 1:].clamp(min=self.width_floor)
            scale = 1.0 if number == 0 else self.scale(x)
            x = layer(x, memory, position, keep, query_position, sine * scale * width, mask)
            features.append(self.norm(x))
            if len(references) < len(self.layers):
                references.append((self.refine(x) + inverse_sigmoid(span)).sigmoid())
                span = references[-1].detach()  # the next layer's losses train `refine`, those behind it do not
        return torch.stack(features), torch.stack(references)
