"""QD-DETR's released weights in this project's model: the names of its state dict, translated.

model = qd_detr_from_upstream(torch.load(...)["model"])
out = model(video, video_keep, text, text_keep)  # with saliency_negative, each text rolled by one
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tasks.moment_retrieval.model import QDDETR

HEAD_WIDTH = 32  # features per head in all released models: 256 features, 8 heads
UNUSED = "txt_position_embed."  # parameters that the original makes, never uses and never trains

# upstream name -> name in this project's model
LAYER = {
    "self_attn.out_proj": "attention.out",
    "linear1": "expand",
    "linear2": "contract",
    "norm1": "inner_norm",
    "norm2": "outer_norm",
    "activation": "activation",
}
DECODER_LAYER = {
    "sa_qcontent_proj": "own.query",
    "sa_qpos_proj": "own.query_position",
    "sa_kcontent_proj": "own.key",
    "sa_kpos_proj": "own.key_position",
    "sa_v_proj": "own.value",
    "self_attn.out_proj": "own.out",
    "ca_qcontent_proj": "cross.query",
    "ca_qpos_proj": "cross.query_position",
    "ca_qpos_sine_proj": "cross.query_sine",
    "ca_kcontent_proj": "cross.key",
    "ca_kpos_proj": "cross.key_position",
    "ca_v_proj": "cross.value",
    "cross_attn.out_proj": "cross.out",
    "linear1": "expand",
    "linear2": "contract",
    "norm1": "own_norm",
    "norm2": "cross_norm",
    "norm3": "outer_norm",
    "activation": "activation",
}
STACKS = {"t2v_encoder": ("text_to_video", LAYER), "encoder": ("encoder", LAYER), "decoder": ("decoder", DECODER_LAYER)}
MLPS = {
    "transformer.decoder.query_scale": "decoder.scale",
    "transformer.decoder.ref_point_head": "decoder.position",
    "transformer.decoder.bbox_embed": "decoder.refine",
    "transformer.decoder.ref_anchor_head": "decoder.width",
    "span_embed": "span",
}
PLAIN = {
    "global_rep_token": "global_token",
    "global_rep_pos": "global_position",
    "query_embed.weight": "decoder.spans.weight",
    **{
        f"{theirs}.{end}": f"{ours}.{end}"
        for theirs, ours in {
            "transformer.decoder.norm": "decoder.norm",
            "class_embed": "classify",
            "saliency_proj1": "saliency_clip",
            "saliency_proj2": "saliency_global",
        }.items()
        for end in ("weight", "bias")
    },
}
PROJECTIONS = {"input_vid_proj": "project_video", "input_txt_proj": "project_text"}
PARTS = {"LayerNorm": 0, "net.1": 2}  # of a projection: LayerNorm, dropout, linear, ReLU


def translate(name: str, value: Tensor) -> dict[str, Tensor]:
    """One upstream parameter under QDDETR's names (an input projection of attention becomes three).

    KeyError for another name.
    """
    if name in PLAIN:
        return {PLAIN[name]: value}
    body, _, end = name.rpartition(".")
    if match := re.fullmatch(r"(input_\w+_proj)\.(\d)\.(LayerNorm|net\.1)", body):
        module, number, part = match.groups()
        return {f"{PROJECTIONS[module]}.{4 * int(number) + PARTS[part]}.{end}": value}
    if match := re.fullmatch(r"(.+)\.layers\.(\d+)", body):
        return {f"{MLPS[match[1]]}.{2 * int(match[2])}.{end}": value}
    match = re.fullmatch(r"transformer\.(\w+)\.layers\.(\d+)\.(.+)", body)
    if match is None:
        raise KeyError(name)
    stack, names = STACKS[match[1]]
    layer = f"{stack}.layers.{match[2]}"
    if match[3] == "self_attn" and end.startswith("in_proj_"):
        ours = (f"{layer}.attention.{part}.{end.removeprefix('in_proj_')}" for part in ("query", "key", "value"))
        return dict(zip(ours, value.chunk(3), strict=True))
    return {f"{layer}.{names[match[3]]}.{end}": value}


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A whole state dict under QDDETR's names. Raises ValueError for a name that QD-DETR does not have."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith(UNUSED):
            continue
        try:
            out |= translate(name, value)
        except KeyError:
            raise ValueError(f"'{name}' is not a parameter of QD-DETR: these are not its weights") from None
    return out


def options_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of the model that a translated state dict belongs to: keywords of QDDETR."""

    def layers(stack: str) -> int:
        numbers = {int(name.split(".")[2]) for name in state if name.startswith(f"{stack}.layers.")}
        return len(numbers)

    try:
        width = state["global_token"].shape[0]
        return {
            "video_dim": state["project_video.0.weight"].shape[0],
            "text_dim": state["project_text.0.weight"].shape[0],
            "width": width,
            "heads": width // HEAD_WIDTH,
            "feedforward": state["encoder.layers.0.expand.weight"].shape[0],
            "text_to_video_layers": layers("text_to_video"),
            "encoder_layers": layers("encoder"),
            "decoder_layers": layers("decoder"),
            "queries": state["decoder.spans.weight"].shape[0],
        }
    except KeyError as error:
        raise ValueError(f"these are not QD-DETR's weights: {error} is missing") from None


class Published(QDDETR):
    """QD-DETR as published: each sample's wrong text is that of the next one in the batch."""

    def forward(self, video: Tensor, video_keep: Tensor, text: Tensor, text_keep: Tensor) -> dict[str, Any]:
        """As QDDETR, always with `saliency_negative`."""
        wrong = torch.arange(len(video), device=video.device).roll(-1)
        return super().forward(video, video_keep, text, text_keep, wrong)


def qd_detr_from_upstream(state_dict: Mapping[str, Tensor], **options) -> Published:
    """The model in eval mode with these weights; options: keywords of QDDETR that no weight shows (dropout, ...).

    Raises ValueError for weights of another model.
    """
    state = translated(state_dict)
    model = Published(**(options_of(state) | options))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"these are not QD-DETR's weights: {error}") from None
    return model.eval()
