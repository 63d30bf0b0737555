"""A Vision Transformer of timm's with lcaam's masks in it: built by name, with weights or without.

>>> vit = build_vit("vit_base_patch16_224", classes=1000, image_size=224, mask={"scope": "none", "fusion": "none"})
>>> vit(images)  # (B, classes); the same bits as timm's own model with the same weights
"""

import pickle
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_state_dict, split_model_name_tag
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from configs.errors import ConfigError, nearest
from lcaam.controls import count
from lcaam.integrations.timm import graft
from tasks.common.errors import CheckpointError
from tasks.common.masks import OF_CONTEXT

OF_GRAFT = (*OF_CONTEXT, "scope", "kind", "hard", "control", "control_residual")  # of the configuration's mask node
SOURCES = ("hf-hub", "local-dir")
OWN_PREFIXES = ("average.module.", "vit.")  # of the model in our checkpoints; averaged weights win


def build_vit(
    name: str,
    *,
    classes: int,
    image_size: int,
    mask: dict[str, Any],
    pretrained: bool = False,
    weights: str | None = None,
    drop_path: float = 0.0,
    grad_checkpointing: bool = False,
    backend: str = "auto",
    options: dict[str, Any] | None = None,
) -> VisionTransformer:
    """timm's model `name` for images (B, 3, image_size, image_size), then lcaam.integrations.timm.graft.

    mask:       the configuration's mask node; its num_keys, where given, must be the model's number of tokens.
    pretrained: the weights that timm has for the name. weights: a file instead: what timm reads (.pth, .safetensors,
                .npz) or a checkpoint of this task, without its masks. Either way timm fits the position embedding to
                the image size, and a head for another number of classes starts anew.
    options:    keywords of timm's model, e.g. {"patch_size": 8, "embed_dim": 64}.

    Raises ConfigError for a name or an option that timm does not have, and for both `pretrained` and `weights`;
    CheckpointError for weights that cannot be had or do not fit; TypeError or ValueError of `graft`.
    """
    check_name(name)
    if pretrained and weights is not None:
        raise ConfigError(f"task.pretrained=true and task.weights={weights}: the weights come from one place; choose")
    keywords = {"num_classes": classes, "img_size": image_size, "drop_path_rate": drop_path, **(options or {})}
    if weights is not None:
        keywords |= {"pretrained_cfg_overlay": from_file(weights)}
    try:
        vit = timm.create_model(name, pretrained=pretrained or weights is not None, **keywords)
    except TypeError as error:
        raise ConfigError(
            f"timm's {name} does not take img_size, drop_path_rate and task.model_options={options or {}}: {error}"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        if not (pretrained or weights):
            raise
        source = f"task.weights={weights}" if weights else f"task.pretrained=true, task.model_name={name}"
        raise CheckpointError(f"{source}: {first_line(error)}") from error
    vit.pretrained_cfg.pop("state_dict", None)  # it would be copied with the model

    graft(vit, backend=backend, **{key: mask[key] for key in OF_GRAFT if key in mask})
    tokens, wanted = vit.patch_embed.num_patches + vit.num_prefix_tokens, mask.get("num_keys")
    if wanted is not None and mask["scope"] != "none" and wanted != tokens:
        raise ConfigError(
            f"mask.num_keys: {wanted} is not the {tokens} tokens that {name} makes of an image of {image_size} pixels; "
            "leave mask.num_keys=null"
        )
    vit.set_grad_checkpointing(grad_checkpointing)
    return vit


def check_name(name: str) -> None:
    """Raises ConfigError where timm has no model of that name; what lies on a hub or in a folder is timm's business."""
    source, colon, _ = name.partition(":")
    if colon and source in SOURCES:
        return
    if colon or "/" in name:
        raise ConfigError(
            f"task.model_name: {name} is no name of timm's; from a hub: hf-hub:<owner>/<model>, from a folder: "
            "local-dir:<path>"
        )
    known, base = timm.list_models(), split_model_name_tag(name)[0]
    if base not in known:
        raise ConfigError(
            f"task.model_name: timm {timm.__version__} has no model '{base}'{nearest(base, known)} "
            "(allowed: the Vision Transformers of timm.list_models('*vit*'), hf-hub:<id>, local-dir:<path>)"
        )


def from_file(path: str) -> dict[str, Any]:
    """What timm's pretrained_cfg_overlay says about weights in a file. Raises CheckpointError."""
    if not Path(path).is_file():
        raise CheckpointError(f"task.weights: there is no file {Path(path).resolve()}")
    if Path(path).suffix == ".npz":
        return {"file": path, "custom_load": True}
    try:
        state = load_state_dict(path)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"task.weights: {path} holds no weights that can be read ({first_line(error)})"
        ) from error
    for prefix in OWN_PREFIXES:
        if own := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            state = {key: value for key, value in own.items() if not key.startswith("lcaam.")}
            break
    overlay: dict[str, Any] = {"state_dict": state}
    if isinstance(head := state.get("head.weight"), Tensor):
        overlay["num_classes"] = len(head)  # as many as the model's: the head is kept
    return overlay


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def parts(vit: VisionTransformer) -> dict[str, int]:
    """Parameters of the encoder (with what makes tokens), the classifier, the masks and a control."""
    head = vit.get_classifier()
    head = count(*head) if isinstance(head, tuple) else count(head)  # a distilled model has two
    masks, controls = count(vit.lcaam.masks), count(vit.lcaam.after_attention, vit.lcaam.extra_layers)
    return {"encoder": count(vit) - head - masks - controls, "head": head, "masks": masks, "controls": controls}


@torch.no_grad()
def flops(vit: VisionTransformer, image: Tensor) -> int:
    """FLOPs of a forward pass over image (B, 3, S, S); attention is counted on backend "reference"."""
    from tasks.common.flops import count_flops

    part = vit.lcaam
    before, part.backend = part.backend, "reference"
    try:
        return count_flops(vit, lambda: vit(image))
    finally:
        part.backend = before
