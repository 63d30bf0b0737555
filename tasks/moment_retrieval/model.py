"""QD-DETR: query-dependent moment retrieval and highlight detection (Moon et al., CVPR 2023), with LCAAM.

    model = QDDETR(video_dim=2818, text_dim=512)
    out = model(video, video_keep, text, text_keep)     # out["spans"] (B, 10, 2), out["saliency"] (B, T)

video (B, T, D_v) -> projection -> TextToVideo: clips attend to the text (paper section 4.2: the masks are here)
  -> ClipEncoder over [global token; clips] -> SpanDecoder -> spans and logits; clips x global token -> saliency
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lcaam.drawing import drawn_apart
from lcaam.plan import mask_parameters
from tasks.moment_retrieval.decoder import SpanDecoder
from tasks.moment_retrieval.layers import ClipEncoder, TextToVideo, mlp, project
from tasks.moment_retrieval.positions import of_clips
from tasks.moment_retrieval.spans import inverse_sigmoid

FOREGROUND, BACKGROUND = 0, 1  # the two classes of `logits`
PLACES = ("text_to_video", "encoder", "decoder")  # attentions that can have masks


class QDDETR(nn.Module):
    """The model; its defaults are QD-DETR's on QVHighlights.

    video_dim, text_dim: widths of the features. width: width inside the model. queries: spans predicted per video.
    dropout: rate inside the layers; input_dropout: rate on the features.
    first_spans: where the decoder's spans are before training. "normal": centre and width are sigmoid(N(0, 1)), as
        published; "grid": side by side over the whole video, so that a short training need not spread them first.
    masked: place in PLACES -> the keywords that lcaam.plan.mask_options gives; a missing place has no mask.
    """

    def __init__(
        self,
        video_dim: int,
        text_dim: int,
        width: int = 256,
        heads: int = 8,
        feedforward: int = 1024,
        text_to_video_layers: int = 2,
        encoder_layers: int = 2,
        decoder_layers: int = 2,
        queries: int = 10,
        dropout: float = 0.1,
        input_dropout: float = 0.5,
        backend: str = "auto",
        masked: dict[str, dict[str, Any]] | None = None,
        first_spans: Literal["normal", "grid"] = "normal",
    ):
        super().__init__()
        masked = masked or {}
        common = (heads, feedforward, dropout)
        self.width = width
        self.project_video = project(video_dim, width, input_dropout)
        self.project_text = project(text_dim, width, input_dropout)
        self.text_to_video = TextToVideo(width, text_to_video_layers, *common, backend, masked.get("text_to_video"))
        self.encoder = ClipEncoder(width, encoder_layers, *common, backend, masked.get("encoder"))
        self.decoder = SpanDecoder(width, decoder_layers, *common, queries, backend, masked.get("decoder"))
        self.global_token, self.global_position = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))
        self.classify, self.span = nn.Linear(width, 2), mlp(width, width, width, 2)
        self.saliency_clip, self.saliency_global = nn.Linear(width, width), nn.Linear(width, width)
        self.reset_parameters()
        if first_spans == "grid":
            centre = (torch.arange(queries) + 0.5) / queries
            grid = torch.stack([centre, torch.full_like(centre, 1 / queries)], 1)
            self.decoder.spans.weight.data.copy_(inverse_sigmoid(grid))

    def reset_parameters(self) -> None:
        """Xavier inside the transformer as in the original, whose attentions draw query, key and value as one matrix.

        The original sets the last layer of `decoder.refine` to zero, and its Xavier overwrites that; so it is here.
        Masks and controls have their own initialisation.
        """

        def start(*layers: Any) -> None:
            for layer in layers:
                for linear in (layer.attention.query, layer.attention.key, layer.attention.value):
                    nn.init.xavier_uniform_(linear.weight, gain=math.sqrt(0.5))
                for linear in (layer.attention.out, layer.expand, layer.contract):
                    nn.init.xavier_uniform_(linear.weight)

        stacks = self.text_to_video, self.encoder
        start(*(layer for stack in stacks for layer in stack.own_layers()))
        with drawn_apart("extra layers, Xavier's initialisation"):
            start(*(layer for stack in stacks for layer in stack.extra_layers()))
        decoder = self.decoder
        parts = [decoder.position, decoder.scale, decoder.width, decoder.refine]
        for layer in decoder.layers:
            parts += [layer.own, layer.cross, layer.expand, layer.contract]
            nn.init.zeros_(layer.own["out"].bias)
            nn.init.zeros_(layer.cross["out"].bias)
        for part in parts:
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        nn.init.zeros_(decoder.refine[-1].bias)

    def forward(
        self, video: Tensor, video_keep: Tensor, text: Tensor, text_keep: Tensor, wrong: Tensor | None = None
    ) -> dict[str, Any]:
        """video (B, T, D_v), video_keep (B, T) bool, text (B, N, D_t), text_keep (B, N) bool, True = real ->

        logits    (B, Q, 2)   foreground, background
        spans     (B, Q, 2)   centre, width in [0, 1], shares of the video
        saliency  (B, T)      any real number; of no meaning where video_keep is False
        aux       a dict of logits and spans for every decoder layer but the last
        saliency_negative (B, T): the saliency with the text of sample `wrong` (B,); only with `wrong`
        """
        clips, words = self.project_video(video), self.project_text(text)
        position = of_clips(video_keep, self.width).to(clips.dtype)
        clips = self.text_to_video(clips, position, words, text_keep, wrong)  # (B or 2B, T, D)

        half = (len(clips), 1, -1)
        x = torch.cat([self.global_token.expand(half), clips], 1)  # (B or 2B, 1 + T, D)
        placed = torch.cat([self.global_position.expand(len(video), 1, -1), position], 1)
        keep = torch.cat([video_keep.new_ones(len(video), 1), video_keep], 1)
        if wrong is not None:
            placed, keep = placed.repeat(2, 1, 1), keep.repeat(2, 1)
        x = self.encoder(x, placed, keep)
        saliency = self.saliency(x[:, 0], x[:, 1:])

        # The original decodes the wrong texts as well and drops the result.
        features, references = self.decoder(x[: len(video), 1:], position, video_keep)
        logits, spans = self.classify(features), (self.span(features) + inverse_sigmoid(references)).sigmoid()
        layers = [{"logits": a, "spans": b} for a, b in zip(logits, spans, strict=True)]
        out = layers[-1] | {"saliency": saliency[: len(video)], "aux": layers[:-1]}
        return out if wrong is None else out | {"saliency_negative": saliency[len(video) :]}

    def saliency(self, whole: Tensor, clips: Tensor) -> Tensor:
        """The global token (B, D) and the clips (B, T, D) -> how well each clip fits (B, T)."""
        return (self.saliency_clip(clips) @ self.saliency_global(whole)[..., None])[..., 0] / math.sqrt(self.width)

    def masked(self) -> dict[str, nn.Module]:
        """The three stacks that can have masks, by name."""
        return {name: getattr(self, name) for name in PLACES}

    def parts(self) -> dict[str, int]:
        """Parameter counts by part; `controls` counts what replaces the masks."""
        count = {name: sum(p.numel() for p in module.parameters()) for name, module in self.named_children()}
        heads = ("classify", "span", "saliency_clip", "saliency_global")
        masks = controls = 0
        for name, stack in self.masked().items():
            of_masks, of_controls = mask_parameters(stack)
            count[name] -= of_masks + of_controls
            masks, controls = masks + of_masks, controls + of_controls
        return {
            "projections": count["project_video"] + count["project_text"],
            "encoders": count["text_to_video"] + count["encoder"] + 2 * self.width,  # and the global token
            "decoder": count["decoder"],
            "heads": sum(count[name] for name in heads),
            "masks": masks,
            "controls": controls,
        }
