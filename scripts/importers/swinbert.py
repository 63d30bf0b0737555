"""Released SwinBERT checkpoints (model.bin: Video Swin, projection, BERT and the learned mask) under our names.

    imported = convert(content, "model.bin", tokenizer="bert-base-uncased")
    imported.module.write(batch)        # the released model's captions

    options, backbone, state, remarks = released(content, "model.bin")
    model = SwinBert(**options, backbone=VideoSwin(**backbone))
    model.load_state_dict(state)        # strict: everything is there

Sizes come from the weights. What no weight tells is as in the published models: 64 features per head of BERT, windows
of 8 x 7 x 7, captions of 50 tokens, 784 video tokens if there is no learned mask to count them.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import OmegaConf

from configs.composing import composed
from scripts.importers.common import Imported, state_dict_of
from tasks.common.build import build
from tasks.common.errors import CheckpointError
from tasks.video_captioning.swin import INDEX, WINDOW, VideoSwin
from tasks.video_captioning.upstream import options_of, translated

HEAD_WIDTH, TEXT_TOKENS, VIDEO_TOKENS = 64, 50, 784
TABLE = "stack.masks.nets.0.table"
MASK = {"scope": "shared", "kind": "static", "fusion": "add", "hard": False}  # as published
PLAIN = {"scope": "none", "fusion": "none"}
DROP_PATH = 0.2
PIXELS, MOST_FRAMES = 224, 256
TOKENIZER = "bert-base-uncased"


def convert(content: Any, source: str, tokenizer: str = TOKENIZER) -> Imported:
    """The module with the weights of a released checkpoint, and the configuration that tests it on MSR-VTT.

    tokenizer: folder or hub id of the one it was trained with; no weight holds it. Videos are 224 pixels wide, and as
    many frames as give the learned mask's tokens. Raises CheckpointError as `released` does, and for a tokenizer that
    cannot be found or has another number of words.
    """
    options, backbone, state, remarks = released(content, source)
    frames = _frames(backbone, options["video_tokens"], source)
    own = ("text_tokens", "video_dim", "width", "layers", "heads", "feedforward", "positions")
    changes = {f"task.{name}": options[name] for name in own}
    changes |= {f"++task.backbone.{name}": value for name, value in backbone.items()}
    changes |= {"task.backbone.weights": None, "task.tokenizer": tokenizer, "data.frames": frames}
    changes |= {"name": "swinbert_released", "test_checkpoint": "last"}
    mask = "static_swinbert" if TABLE in state else "none"
    given = (f"{name}={'null' if value is None else value}" for name, value in changes.items())
    cfg = composed("experiment=msrvtt_baseline", f"mask={mask}", "scale=paper", *given)
    facts = {"frames": frames, "image_size": PIXELS, "grid": None, "feature_dim": None}
    module = build(cfg.task, mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=facts)
    if len(module.tokenizer) != options["vocab_size"]:
        raise CheckpointError(
            f"{source}: its BERT knows {options['vocab_size']} words, tokenizer {tokenizer!r} has "
            f"{len(module.tokenizer)}: give the one that it was trained with (--tokenizer)"
        )
    module.model.load_state_dict(state)
    return Imported(module.eval(), cfg, remarks)


def _frames(backbone: dict[str, Any], tokens: int, source: str) -> int:
    with torch.device("meta"):
        swin = VideoSwin(**backbone)
    for frames in range(2, MOST_FRAMES + 1, 2):
        if swin.tokens(frames, PIXELS, PIXELS) == tokens:
            return frames
    raise CheckpointError(f"{source}: no video of {PIXELS} pixels has the {tokens} tokens of its learned mask")


def released(content: Any, source: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, torch.Tensor], list[str]]:
    """Keywords of SwinBert, keywords of its VideoSwin, the state dict that fits them, and what to tell.

    content: what torch.load gave: the state dict itself, or a dict that holds it as "state_dict", "model" or "module".
    Raises CheckpointError for anything but a whole SwinBERT that this project's model can be.
    """
    weights, remarks = state_dict_of(content, source)
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
            f"{source}: its Video Swin gives {swin.dim} features per token, its fc takes {options['feature_dim']}"
        )
    remarks += [f"left out, as no caption depends on them: {', '.join(sorted(unused))}"] if unused else []
    if TABLE not in state:
        remarks.append(f"no learned mask in it: full attention between {VIDEO_TOKENS} video tokens")
    return options, backbone, state, remarks


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
