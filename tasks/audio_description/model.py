"""From two feature tracks to a sentence (paper section 3 and figure 2): encoder, bridge, gated prefix, language model.

video (B, T, D_v), audio (B, T, D_a)
  -> AudioVisualEncoder: T visual then T audio tokens through lcaam.Encoder with masks   (B, 2T, D)
  -> Bridge: the prompts that the language model's last L layers read                    (B, L, P, D_lm)
  -> Prompts + a language model with a prefix: the sentence
"""

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lcaam import Encoder
from lcaam.encoder import EncoderLayer
from lcaam.plan import mask_parameters
from tasks.audio_description.lora import is_lora
from tasks.audio_description.prefix import Prompts
from tasks.audio_description.quantization import values_in


def sinusoids(length: int, dim: int, base: float) -> Tensor:
    """Sines and cosines of the position at wavelengths 2 pi to 2 pi base: (length, dim), values in [-1, 1]."""
    frequency = base ** (-torch.arange(0, dim, 2) / dim)
    angle = torch.arange(length)[:, None] * frequency  # (length, dim / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim]


class AudioVisualEncoder(nn.Module):
    """Visual then audio tokens, each with its modality's and its time step's embedding, through one masked encoder.

    Both tracks share the position embedding, so that what happens at the same time looks alike; it starts sinusoidal
    with wavelengths up to 2 pi `position_base` steps and amplitude `position_scale`, and is trained.
    """

    def __init__(
        self,
        encoder: Encoder,
        video_dim: int,
        audio_dim: int,
        tokens: int,
        position_base: float = 10_000.0,
        position_scale: float = 1.0,
    ):
        super().__init__()
        width = encoder.dim
        self.video, self.audio = nn.Linear(video_dim, width), nn.Linear(audio_dim, width)
        self.modality = nn.Parameter(0.2 * torch.randn(2, 1, width))
        self.position = nn.Parameter(position_scale * sinusoids(tokens, width, position_base))
        self.encoder = encoder

    def forward(self, video: Tensor, audio: Tensor, keep: Tensor) -> Tensor:
        """video (B, T, D_v), audio (B, T, D_a), keep (B, 2T; True = real token) -> (B, 2T, width)."""
        position = self.position[: video.shape[1]]
        x = torch.cat(
            [self.video(video) + self.modality[0] + position, self.audio(audio) + self.modality[1] + position], 1
        )
        return self.encoder(x, keep=keep)


class Bridge(nn.Module):
    """Encoder tokens -> prompts for the language model: per-layer learned prompts plus a part of the sample.

    kind: "queries" - learned queries go through `layers` Transformer layers together with the encoder's tokens, and
          their outputs are the sample's part of `prompts` prompts (LLaMA-Adapter V2's visual path);
          "tokens" - every encoder token is one prompt, and padding is kept out by the returned keep-mask.
    """

    def __init__(
        self,
        kind: Literal["queries", "tokens"],
        dim: int,
        llm_dim: int,
        llm_layers: int,
        prompts: int = 10,
        layers: int = 1,
        heads: int = 8,
        prompt_std: float = 1.0,
    ):
        super().__init__()
        if kind not in ("queries", "tokens"):
            raise ValueError(f"Bridge: unknown kind {kind!r}; allowed: queries, tokens")
        self.kind = kind
        if kind == "queries":
            self.queries = nn.Parameter(torch.randn(1, prompts, dim))
            self.layers = nn.ModuleList(EncoderLayer(dim, heads) for _ in range(layers))
            self.norm = nn.LayerNorm(dim)
        self.project = nn.Sequential(nn.Linear(dim, llm_dim), nn.LayerNorm(llm_dim))
        # one learned prompt per layer and query; encoder tokens share one per layer, since their number is the data's
        self.prompts = nn.Parameter(prompt_std * torch.randn(llm_layers, prompts if kind == "queries" else 1, llm_dim))

    def forward(self, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor | None]:
        """x (B, N, dim), keep (B, N) -> prompts (B, L, P, D_lm) and which of them are real (B, P), None for all."""
        if self.kind == "queries":
            queries = self.queries.expand(len(x), -1, -1)
            x = torch.cat([queries, x], 1)
            keep = torch.cat([keep.new_ones(queries.shape[:2]), keep], 1)
            for layer in self.layers:
                x = layer(x, keep=keep)
            x, keep = self.norm(x[:, : queries.shape[1]]), None
        return self.prompts + self.project(x)[:, None], keep


class Describer(nn.Module):
    """The whole model. Training and decoding share `prefix(...)`; the language model may be frozen."""

    def __init__(self, encoder: AudioVisualEncoder, bridge: Bridge, llm: PreTrainedModel, gate_init: float = 0.0):
        super().__init__()
        self.encoder, self.bridge, self.llm = encoder, bridge, llm
        layers = bridge.prompts.shape[0]
        self.gates = nn.Parameter(torch.full((layers, llm.config.num_attention_heads), gate_init))

    def prefix(
        self, video: Tensor, audio: Tensor, video_keep: Tensor, audio_keep: Tensor
    ) -> dict[str, Prompts | Tensor | None]:
        """Two tracks (B, T, D) with their keep-masks (B, T) -> the keyword arguments that the language model reads."""
        keep = torch.cat([video_keep, audio_keep], 1)  # (B, 2T)
        prompts, prompts_keep = self.bridge(self.encoder(video, audio, keep), keep)
        return {"prefix": Prompts(self.llm, prompts, self.gates), "prefix_keep": prompts_keep}

    def constant_prefix(self, size: int) -> dict[str, Prompts]:
        """The learned prompts alone, the same for each of `size` samples: LLaMA-Adapter without a visual input."""
        return {"prefix": Prompts(self.llm, self.bridge.prompts.expand(size, -1, -1, -1), self.gates)}

    def parts(self) -> dict[str, int]:
        """Parameter counts by part; `controls` counts what replaces the masks, `lora` exists only with adapters."""
        count = {name: sum(map(values_in, module.parameters())) for name, module in self.named_children()}
        lora = sum(p.numel() for name, p in self.llm.named_parameters() if is_lora(name))
        masks, controls = mask_parameters(self.encoder.encoder)
        return {
            "encoder": count["encoder"] - masks - controls,
            "masks": masks,
            "controls": controls,
            "bridge": count["bridge"] + self.gates.numel(),
            "language_model": count["llm"] - lora,
            **({"lora": lora} if lora else {}),
        }
