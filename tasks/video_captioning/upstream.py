"""SwinBERT's weights in this project's model: the names of its state dict, translated.

model = captioner_from_upstream(torch.load("model.bin"), num_heads=12)
logits = model(video_features, input_ids, text_keep, mask="static", static_logits=table)
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lcaam import LayerMasks
from tasks.video_captioning.bert import may_attend
from tasks.video_captioning.model import SwinBert
from tasks.video_captioning.swin import torchvision_names

STEM = "bert.embeddings.word_embeddings.weight"
NAMES = {  # the beginning of a name in the original -> in SwinBert
    "bert.embeddings.": "embeddings.",
    "bert.encoder.layer.": "stack.layers.",
    "bert.img_embedding.": "video_embedding.",
    "cls.predictions.bias": "head.decoder.bias",
    "cls.predictions.": "head.",
}
UNUSED = ("bert.pooler.", "cls_img_feat.", "cls.predictions.decoder.bias", "bert.embeddings.position_ids")
PROJECTION, TABLE = "fc.", "learn_vid_att.weight"  # beside the BERT in a whole model
BACKBONES = ("swin.", "backbone.")


def translated(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict of the BERT part, or of a whole released model, under the names of SwinBert; and the names that no
    caption depends on. The learned mask's logits, (V x V, 1) in the original, are `stack.masks.nets.0.table` (V, V).

    Raises ValueError for a name that SwinBERT does not have.
    """
    prefixes = [name.removesuffix(STEM) for name in state if name.endswith(STEM)]
    if len(prefixes) != 1:
        raise ValueError(f"these are not SwinBERT's weights: '{STEM}' is missing")
    (prefix,) = prefixes
    out: dict[str, Tensor] = {}
    unused, backbone = [], {}
    for name, value in state.items():
        inner = name.removeprefix(prefix)
        start = next((start for start in NAMES if inner.startswith(start)), None)
        if inner.startswith(UNUSED):
            unused.append(name)
        elif name.startswith(prefix) and start:
            out[NAMES[start] + inner.removeprefix(start)] = value
        elif name.startswith(PROJECTION):
            out["project." + name.removeprefix(PROJECTION)] = value
        elif name == TABLE:
            side = round(value.numel() ** 0.5)
            if side * side != value.numel():
                raise ValueError(f"'{name}' has {value.numel()} logits, not a square number: one per pair of tokens")
            out["stack.masks.nets.0.table"] = value.reshape(side, side)
        elif name.startswith(BACKBONES):
            backbone[name] = value
        else:
            raise ValueError(f"'{name}' is not a parameter of SwinBERT: these are not its weights")
    if backbone:
        out |= {f"backbone.swin.{name}": value for name, value in torchvision_names(backbone).items()}
    return out, unused


def options_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of the model that a translated state dict belongs to: keywords of SwinBert that weights show."""
    layers = {int(name.split(".")[2]) for name in state if name.startswith("stack.layers.")}
    try:
        vocab_size, width = state["embeddings.word_embeddings.weight"].shape
        inner = state["video_embedding.weight"].shape[1]
        projection = state.get("project.weight")
        return {
            "vocab_size": vocab_size,
            "width": width,
            "layers": len(layers),
            "feedforward": state["stack.layers.0.intermediate.dense.weight"].shape[0],
            "positions": state["embeddings.position_embeddings.weight"].shape[0],
            "feature_dim": inner if projection is None else projection.shape[1],
            "video_dim": None if projection is None else projection.shape[0],
        }
    except KeyError as error:
        raise ValueError(f"these are not SwinBERT's weights: {error} is missing") from None


class UpstreamCaptioner(nn.Module):
    """SwinBERT's BERT part with any number of video tokens, and the published mask given from outside."""

    def __init__(self, model: SwinBert):
        super().__init__()
        self.model = model

    def forward(
        self,
        video_features: Tensor,
        input_ids: Tensor,
        text_keep: Tensor,
        mask: Literal["static"] | None = None,
        static_logits: Tensor | None = None,
    ) -> Tensor:
        """video_features (B, V, 512), input_ids (B, T), text_keep (B, T) bool, True = real -> logits (B, T, vocabulary)

        mask: None - video tokens see each other; "static" - the published mask between them, static_logits (V, V)
        before the sigmoid. Rows of padding have no meaning.

        Raises ValueError for another mask, or logits of another shape.
        """
        if mask not in (None, "static"):
            raise ValueError(f"unknown mask {mask!r}; allowed: None, 'static'")
        model, video = self.model, video_features.shape[1]
        masks = None
        if mask == "static":
            if static_logits is None or static_logits.shape != (video, video):
                given = None if static_logits is None else tuple(static_logits.shape)
                raise ValueError(f"mask 'static' needs static_logits of shape {(video, video)}, got {given}")
            sizes = {"num_queries": video, "num_keys": video}
            masks = LayerMasks("shared", model.stack.masks.num_layers, "static", **sizes).to(video_features.device)
            masks.nets[0].table = nn.Parameter(static_logits)
        embedded = model.dropout(model.video_embedding(model.project(video_features)))
        x = torch.cat([embedded, model.embed_text(input_ids)], 1)
        return model.head(model.stack(x, may_attend(text_keep, video), masks=masks)[:, video:])


def captioner_from_upstream(state_dict: Mapping[str, Tensor], num_heads: int) -> UpstreamCaptioner:
    """The model in eval mode with these weights, named as in the original. No weight shows the number of heads.

    Raises ValueError for weights of another model.
    """
    state, _ = translated(state_dict)
    state = {name: value for name, value in state.items() if not name.startswith(("backbone.", "stack.masks."))}
    options = options_of(state)
    model = SwinBert(
        **options, heads=num_heads, text_tokens=options["positions"], mask={"scope": "none", "fusion": "add"}
    )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"these are not SwinBERT's weights: {error}") from None
    return UpstreamCaptioner(model).eval()
