"""The layers of QD-DETR: projection of features, text-to-video cross-attention, clip encoder."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lcaam.encoder import MaskedStack, MultiheadAttention
from lcaam.factors import Mask
from tasks.moment_retrieval.dropout import Dropout
from tasks.moment_retrieval.prelu import PReLU


def project(in_dim: int, dim: int, dropout: float) -> nn.Sequential:
    """Features (..., in_dim) -> (..., dim): LayerNorm, dropout and linear twice, with ReLU between them."""
    first = (nn.LayerNorm(in_dim), Dropout(dropout), nn.Linear(in_dim, dim), nn.ReLU(inplace=True))
    return nn.Sequential(*first, nn.LayerNorm(dim), Dropout(dropout), nn.Linear(dim, dim))


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for number, (inner, outer) in enumerate(pairwise(widths)):
        layers += [nn.ReLU(inplace=True)] * (number > 0) + [nn.Linear(inner, outer)]
    return nn.Sequential(*layers)


class Layer(nn.Module):
    """What both kinds of layer have: attention, a feed-forward network with PReLU, two LayerNorms, dropout.

    dropout: on attention weights, on the hidden feed-forward units and on both residual branches.
    after_attention: a module (B, T, dim) -> (B, T, dim) on the attention's output, for controls; None for none.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        feedforward: int,
        dropout: float,
        fusion: str,
        backend: str,
        after_attention: nn.Module | None,
    ):
        super().__init__()
        self.attention = MultiheadAttention(dim, heads, dropout=dropout, fusion=fusion, backend=backend)
        self.after_attention = nn.Identity() if after_attention is None else after_attention
        self.expand, self.contract = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.activation = PReLU()
        self.inner_norm, self.outer_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def feedforward(self, x: Tensor) -> Tensor:
        return self.contract(self.dropout(self.activation(self.expand(x))))


class TextToVideoLayer(Layer):
    """Clips attend to the text. The norm before the feed-forward network is off the residual path, as published."""

    def forward(
        self,
        video: Tensor,
        position: Tensor,
        text: Tensor,
        keep: Tensor,
        mask: Mask | None,
        wrong: Tensor | None,
    ) -> Tensor:
        """video, position (B, T, D), text (B, N, D), keep (B, N) -> (B, T, D).

        wrong (B,): for each sample, the sample whose text is its wrong one. Then the result is (2B, T, D), its second
        half the same videos with wrong texts, and keep is (2B, N); `video` is (B, T, D) before the first layer, while
        both halves are still the same, and (2B, T, D) from then on.
        """
        attention, halves = self.attention, 1 if wrong is None else 2
        query, key, value = attention.query(video + position), attention.key(text), attention.value(text)
        if wrong is not None:  # text is the same in all layers: it is projected once for both halves
            key, value = torch.cat([key, key[wrong]]), torch.cat([value, value[wrong]])
        if len(video) < halves * len(text):
            video, query = video.repeat(2, 1, 1), query.repeat(2, 1, 1)
        mask = None if mask is None else mask.of_batch(len(query))
        attended = self.after_attention(attention.attend(query, key, value, mask, keep))
        video = video + self.dropout(attended)
        return self.outer_norm(video + self.dropout(self.feedforward(self.inner_norm(video))))


class ClipLayer(Layer):
    """Clips attend to all clips; post-norm."""

    def forward(self, x: Tensor, position: Tensor, keep: Tensor, mask: Mask | None) -> Tensor:
        """x, position (B, N, D), keep (B, N) -> (B, N, D)."""
        attention, placed = self.attention, x + position
        query, key, value = attention.query(placed), attention.key(placed), attention.value(x)
        attended = self.after_attention(attention.attend(query, key, value, mask, keep))
        x = self.inner_norm(x + self.dropout(attended))
        return self.outer_norm(x + self.dropout(self.feedforward(x)))


class LayerStack(MaskedStack):
    """Layers of one kind, with masks or a control.

    masked: masks and fusion, or a control's after_attention or extra_feedforward, as lcaam.plan gives them.
    """

    layer = Layer

    def __init__(
        self,
        dim: int,
        num_layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        backend: str,
        masked: dict[str, Any] | None = None,
    ):
        masked = dict(masked or {})
        fusion = masked.pop("fusion", "none")

        def layer(width: int, after_attention: nn.Module | None) -> Layer:
            return self.layer(dim, heads, width, dropout, fusion, backend, after_attention)

        super().__init__(layer, num_layers, feedforward, **masked)


class TextToVideo(LayerStack):
    """Video clips, enriched with the text that they attend to."""

    layer = TextToVideoLayer

    def forward(
        self, video: Tensor, position: Tensor, text: Tensor, keep: Tensor, wrong: Tensor | None = None
    ) -> Tensor:
        """video, position (B, T, D), text (B, N, D), keep (B, N) -> (B, T, D), or (2B, T, D) with `wrong` (B,)."""
        keys = text  # what a mask may read of the text
        if wrong is not None:
            keep, keys = torch.cat([keep, keep[wrong]]), torch.cat([text, text[wrong]])
            position = position.repeat(2, 1, 1)
        shared = self.masks(video, keys=keys)
        for number, layer in enumerate(self.layers):
            mask = self.mask(number, video, shared, keys)
            video = layer(video, position[: len(video)], text, keep, mask, wrong)
        return video


class ClipEncoder(LayerStack):
    """Self-attention over the clips and the global token."""

    layer = ClipLayer

    def forward(self, x: Tensor, position: Tensor, keep: Tensor) -> Tensor:
        """x, position (B, N, D), keep (B, N) -> (B, N, D)."""
        shared = self.masks(x, keys=x)
        for number, layer in enumerate(self.layers):
            x = layer(x, position, keep, self.mask(number, x, shared, x))
        return x
