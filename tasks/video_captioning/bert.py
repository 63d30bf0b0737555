"""SwinBERT's encoder: transformers' BERT layers over [video; text] whose attention is lcaam's, with masks.

>>> stack = BertStack(BertConfig(num_hidden_layers=12), masks, fusion="mul")
>>> stack(torch.cat([video, text], 1), may_attend(text_keep, video.shape[1]))   # (B, 784 + 50, 768)

The original puts the text first. A mask's columns belong to positions, and while a caption is written there is less
text than in training: with the video first the columns stay those of the same tokens.
"""

import copy
from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor, nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention, BertSelfOutput

from lcaam import LayerMasks, Memory
from lcaam.attention import attention
from lcaam.encoder import MaskedStack
from lcaam.factors import Mask
from lcaam.fusion import Fusion


def may_attend(text_keep: Tensor, video: int) -> Tensor:
    """Which token may attend to which, (B, 1, V + T, V + T), True = may: all to the video, words to real words so far.

    text_keep (B, T) bool, True = a real word. Rows of padding may attend to what comes before them; no token attends to
    them.
    """
    batch, text = text_keep.shape
    may = text_keep.new_zeros(batch, 1, video + text, video + text)
    may[..., :video] = True
    past = torch.ones(text, text, dtype=torch.bool, device=text_keep.device).tril()
    may[:, 0, video:, video:] = past & text_keep[:, None, :]
    return may


class SelfAttention(nn.Module):
    """BERT's self-attention, by lcaam: it uses the projections of transformers' class, but not its `forward`.

    The arguments of `forward` and their names change between releases; the names of the projections are those of every
    published checkpoint.
    """

    def __init__(self, theirs: BertSelfAttention, config: BertConfig, number: int):
        super().__init__()
        self.query, self.key, self.value = theirs.query, theirs.key, theirs.value
        self.heads, self.dropout, self.number = config.num_attention_heads, config.attention_probs_dropout_prob, number

    def forward(
        self,
        x: Tensor,
        keep: Tensor | None,
        mask: Mask | None,
        memory: Memory | None,
        fusion: Fusion,
        backend: str,
    ) -> Tensor:
        """x (B, N, D) -> (B, N, D), not projected yet; arguments as in BertStack.forward."""
        query, key, value = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )  # (B, H, N, d)
        if memory is not None:
            key, value = memory.extend(("key", self.number), key), memory.extend(("value", self.number), value)
        dropout = self.dropout if self.training else 0.0
        out = attention(query, key, value, mask, fusion=fusion, keep=keep, dropout=dropout, backend=backend)
        return out.transpose(1, 2).flatten(2)


class SelfOutput(BertSelfOutput):
    """What follows attention, with a control's module between the projection and the dropout."""

    def __init__(self, config: BertConfig, after: nn.Module | None):
        super().__init__(config)
        self.after = nn.Identity() if after is None else after

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.after(self.dense(hidden_states))) + input_tensor)


class Layer(BertLayer):
    """A BERT layer of any feed-forward width, with lcaam's attention; parameter names are transformers'."""

    def __init__(self, config: BertConfig, number: int, feedforward: int, after: nn.Module | None = None):
        config = copy.copy(config)
        config.intermediate_size = feedforward
        super().__init__(config)
        self.attention.self = SelfAttention(self.attention.self, config, number)
        self.attention.output = SelfOutput(config, after)

    @property
    def after_attention(self) -> nn.Module:
        return self.attention.output.after

    def forward(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        mask: Mask | None = None,
        memory: Memory | None = None,
        fusion: Fusion = Fusion.none,
        backend: str = "auto",
    ) -> Tensor:
        """x (B, N, D) -> (B, N, D); arguments as in BertStack.forward."""
        x = self.attention.output(self.attention.self(x, keep, mask, memory, fusion, backend), x)
        return self.output(self.intermediate(x), x)


class BertStack(MaskedStack):
    """BERT's layers with a mask schedule. The mask of a layer reads the layer's input, the shared one the stack's.

    config: sizes and dropout. masks, after_attention, extra_feedforward: as in lcaam's MaskedStack; static masks cover
    only the video's tokens, (V, V). fusion, backend: as in lcaam.attention.
    """

    def __init__(
        self,
        config: BertConfig,
        masks: LayerMasks | None = None,
        fusion: str | Fusion = "none",
        backend: str = "auto",
        after_attention: Sequence[nn.Module] | None = None,
        extra_feedforward: Sequence[int] = (),
    ):
        number = count()

        def layer(width: int, after: nn.Module | None) -> Layer:
            return Layer(config, next(number), width, after)

        sizes = (config.num_hidden_layers, config.intermediate_size)
        super().__init__(layer, *sizes, masks, after_attention, extra_feedforward)
        self.fusion, self.backend = Fusion.parse(fusion), backend

    def forward(
        self, x: Tensor, keep: Tensor | None = None, memory: Memory | None = None, masks: LayerMasks | None = None
    ) -> Tensor:
        """x (B, N, D) -> (B, N, D).

        keep:   bool, True = attend, broadcastable to (B, H, N, N_k).
        memory: x are the rows after those that it has kept (N_k counts both): first the video, then words.
        masks:  used instead of the stack's own.
        """
        masks = self.masks if masks is None else masks
        shared = masks(x, keys=x, memory=memory)
        for number, layer in enumerate(self.layers):
            mask = masks(x, number, shared, keys=x, memory=memory) if number < masks.num_layers else None
            x = layer(x, keep, mask, memory, self.fusion, self.backend)
        return x
