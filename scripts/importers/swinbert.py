"""Released SwinBERT checkpoints (model.bin: Video Swin, projection, BERT and the learned mask) under our names.

    options, backbone, state, remarks = released(content, "model.bin")
    model = SwinBert(**options, backbone=VideoSwin(**backbone))
    model.load_state_dict(state)        # strict: everything is there

Sizes come from the weights. What no weight tells is the published models': 64 features a head of BERT, windows of
8 x 7 x 7, captions of 50 tokens, 784 video tokens where there is no learned mask to count them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch

from scripts.importers.common import tensors_of
from tasks.common.errors import CheckpointError
from tasks.video_captioning.swin import INDEX, WINDOW, VideoSwin
from tasks.video_captioning.upstream import options_of, translated

HEAD_WIDTH, TEXT_TOKENS, VIDEO_TOKENS = 64, 50, 784
TABLE = "stack.masks.nets.0.table"
MASK = {"scope": "shared", "kind": "static", "fusion": "add", "hard": False}  # as published
PLAIN = {"scope": "none", "fusion": "none"}
DROP_PATH = 0.2


def released(content: Any, source: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor], list[str]]:
    """Keywords of SwinBert, keywords of its VideoSwin, the state dict that fits them, and what to tell.

    content: what torch.load gave: the state dict itself, or a dict that holds it as "state_dict" or "model".
    Raises CheckpointError for anything but a whole SwinBERT that this project's model can be.
    """
    weights = _weights(content, source)
    try:
        state, unused = translated(weights)
        options = options_of(state)
    except ValueError as error:
        raise CheckpointError(f"{source}: {error}") from error
    for part, name in {"Video Swin": "backbone.swin.norm.weight", "projection fc": "project.weight"}.items():
        if name not in state:
            raise CheckpointError(f"{source}: a whole SwinBERT is expected, and its {part} is missing")
    if options["width"] % HEAD_WIDTH:
        raise CheckpointError(f"{source}: a width of {options['width']} is not made of heads of {HEAD_WIDTH} features")
    options |= {"heads": options["width"] // HEAD_WIDTH, "text_tokens": TEXT_TOKENS}
    options["video_tokens"] = len(state[TABLE]) if TABLE in state else VIDEO_TOKENS
    options["mask"] = MASK if TABLE in state else PLAIN
    backbone = _backbone(state, source)
    with torch.device("meta"):
        swin = VideoSwin(**backbone)
    state |= {f"backbone.{name}": _index() for name, _ in swin.named_buffers() if name.endswith(INDEX)}
    if swin.dim != options["feature_dim"]:
        raise CheckpointError(
            f"{source}: its Video Swin gives {swin.dim} features a token, its fc takes {options['feature_dim']}"
        )
    remarks = [f"left out, as no caption depends on them: {', '.join(sorted(unused))}"] if unused else []
    if TABLE not in state:
        remarks.append(f"no learned mask in it: full attention between {VIDEO_TOKENS} video tokens")
    return options, backbone, state, remarks


def _weights(content: Any, source: str) -> dict[str, torch.Tensor]:
    key = next((k for k in ("state_dict", "model") if isinstance(content, Mapping) and k in content), None)
    if key is None and isinstance(content, Mapping) and any(torch.is_tensor(value) for value in content.values()):
        content, key = {"model": content}, "model"
    return tensors_of(content, key or "model", source)


def _backbone(state: Mapping[str, torch.Tensor], source: str) -> dict[str, Any]:
    """Keywords of VideoSwin. CheckpointError for windows that are not the published ones'."""
    blocks: dict[int, set[int]] = {}
    heads: dict[int, int] = {}
    for name, value in state.items():
        if match := re.fullmatch(r"backbone\.swin\.features\.(\d+)\.(\d+)\.attn\.relative_position_bias_table", name):
            stage = int(match[1]) // 2
            blocks.setdefault(stage, set()).add(int(match[2]))
            heads[stage] = value.shape[1]
            expected = (2 * WINDOW[0] - 1) * (2 * WINDOW[1] - 1) * (2 * WINDOW[2] - 1)
            if len(value) != expected:
                raise CheckpointError(
                    f"{source}: '{name}' has {len(value)} entries; windows of {WINDOW} have {expected}"
                )
    embed_dim = state["backbone.swin.patch_embed.proj.weight"].shape[0]
    stages = sorted(blocks)
    sizes = {"embed_dim": embed_dim, "depths": [len(blocks[stage]) for stage in stages]}
    return {"size": None, **sizes, "heads": [heads[stage] for stage in stages], "drop_path": DROP_PATH}


def _index() -> torch.Tensor:
    """A window's buffer of relative positions, which files may lack."""
    places = torch.cartesian_prod(*(torch.arange(side) for side in WINDOW))  # (tokens, 3)
    steps = places[:, None] - places[None] + torch.tensor(WINDOW) - 1
    _, rows, columns = (2 * side - 1 for side in WINDOW)
    return (steps * torch.tensor([rows * columns, columns, 1])).sum(-1)
