"""A Vision Transformer from timm with lcaam's masks in it, built by name, with weights or without.

>>> vit = build_vit("vit_base_patch16_224", classes=1000, image_size=224, mask={"scope": "none", "fusion": "none"})
>>> vit(images)  # (B, classes); the same bits as timm's own model with the same weights
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import timm
import torch
from timm.models import split_model_name_tag
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from configs.errors import ConfigError, nearest
from lcaam.controls import count
from lcaam.integrations.timm import graft, graft_options
from lcaam.plan import mask_parameters
from tasks.common.errors import CheckpointError
from tasks.image_classification.weights import Weights

log = logging.getLogger(__name__)

SOURCES = ("hf-hub", "local-dir")
ELSEWHERE = {  # keywords of timm's models that have a setting of their own, or none
    "num_classes": "the data say how many",
    "img_size": "data.image_size",
    "drop_path_rate": "task.drop_path",
    "in_chans": "images have three channels",
}


def build_vit(
    name: str,
    *,
    classes: int,
    image_size: int,
    mask: dict[str, Any],
    pretrained: bool = False,
    weights: str | None = None,
    weights_masks: Literal["keep", "anew"] = "keep",
    facts: Mapping[str, Any] | None = None,
    drop_path: float = 0.0,
    grad_checkpointing: bool = False,
    backend: str = "auto",
    options: dict[str, Any] | None = None,
) -> VisionTransformer:
    """timm's model `name` for images (B, 3, image_size, image_size), then lcaam.integrations.timm.graft.

    mask:       the configuration's mask node; its num_keys, if given, must be the model's number of tokens.
    pretrained: whether to load the weights that timm has for the name. weights: a file instead, either one that timm
                reads (.pth, .safetensors, .npz) or a checkpoint of this task. Either way timm fits the position
                embedding to the image size, and a head for another number of classes starts anew; that of a checkpoint
                of this task is taken by the names of the classes (`facts`), or starts anew if it lacks one of them.
    weights_masks: "keep" takes the file's masks if they fit the model's, "anew" never; the log says what was done.
    options:    keywords of timm's model, e.g. {"patch_size": 8, "embed_dim": 64}.

    Raises ConfigError for a name or an option that timm does not have, for both `pretrained` and `weights`, for a model
    that cannot be grafted and for masks that do not go with it; CheckpointError for weights that are not available or
    do not fit.
    """
    check_name(name)
    for option in ELSEWHERE.keys() & (options or {}):
        raise ConfigError(f"task.model_options.{option}: {options[option]} is not set here: {ELSEWHERE[option]}")
    if pretrained and weights is not None:
        raise ConfigError(f"task.pretrained=true and task.weights={weights}: the weights come from one place; choose")
    keywords = {"num_classes": classes, "img_size": image_size, "drop_path_rate": drop_path, **(options or {})}
    file = None if weights is None else Weights.read(weights)
    if file is not None:
        keywords |= {"pretrained_cfg_overlay": file.overlay({**(facts or {}), "classes": classes})}
    try:
        vit = timm.create_model(name, pretrained=pretrained or weights is not None, **keywords)
    except TypeError as error:
        raise ConfigError(
            f"timm's {name} does not take img_size, drop_path_rate and task.model_options={options or {}}: {error}"
        ) from error
    except Exception as error:  # of many kinds, by what a file of weights lacks
        if not (pretrained or weights):
            raise ConfigError(
                f"timm cannot build task.model_name={name} with task.model_options={options or {}} for images of "
                f"{image_size} pixels: {first_line(error)}"
            ) from error
        source = f"task.weights={weights}" if weights else f"task.pretrained=true, task.model_name={name}"
        hint = "" if file is None else file.hint(name)
        raise CheckpointError(f"{source}: {first_line(error)}{hint}") from error
    vit.pretrained_cfg.pop("state_dict", None)  # it would be copied with the model
    if file is not None and not str(weights).endswith(".npz"):
        file.check_taken(vit)

    try:
        graft(vit, backend=backend, **graft_options(mask))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"task.model_name={name}: {error}") from error
    if file is not None:
        file.take_masks(vit, mask, keep=weights_masks == "keep")
    check_patches(vit, image_size)
    tokens, wanted = vit.patch_embed.num_patches + vit.num_prefix_tokens, mask.get("num_keys")
    if wanted is not None and mask["scope"] != "none" and wanted != tokens:
        raise ConfigError(
            f"mask.num_keys: {wanted} is not the {tokens} tokens that {name} makes of an image of {image_size} pixels; "
            "leave mask.num_keys=null"
        )
    vit.set_grad_checkpointing(grad_checkpointing)
    return vit


def check_name(name: str) -> None:
    """Raises ConfigError if timm has no model of that name. Names on a hub or of a folder are left to timm to check."""
    source, colon, _ = name.partition(":")
    if colon and source in SOURCES:
        return
    if colon or "/" in name:
        raise ConfigError(
            f"task.model_name: {name} is not a model name of timm; from a hub: hf-hub:<owner>/<model>, from a folder: "
            "local-dir:<path>"
        )
    known, base = timm.list_models(), split_model_name_tag(name)[0]
    if base not in known:
        raise ConfigError(
            f"task.model_name: timm {timm.__version__} has no model '{base}'{nearest(base, known)} "
            "(allowed: the Vision Transformers of timm.list_models('*vit*'), hf-hub:<id>, local-dir:<path>)"
        )


def check_patches(vit: VisionTransformer, image_size: int) -> None:
    """ConfigError for an image without a patch. Warns of a rim at the right and lower edge that no patch holds, which
    some of timm's models have."""
    embed = vit.patch_embed
    seen = embed.dynamic_feat_size((image_size, image_size))[0] * embed.feat_ratio()
    if seen == 0:
        raise ConfigError(f"data.image_size: {image_size} is smaller than a patch, {embed.feat_ratio()} pixels")
    if seen < image_size:
        log.warning(
            "data.image_size=%d is not a multiple of the patches' %d pixels: the last %d rows and columns are not seen",
            image_size, embed.feat_ratio(), image_size - seen,
        )  # fmt: skip


def train_only(vit: VisionTransformer, part: Literal["all", "head", "head_and_masks"]) -> None:
    """Freezes what is not to be trained. Raises ConfigError if there are no masks to train."""
    if part == "all":
        return
    classifier = vit.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    masks = list(vit.lcaam.parameters())
    if part == "head_and_masks" and not masks:
        raise ConfigError("task.trains: head_and_masks, but mask=none has none to train; allowed: all, head")
    vit.requires_grad_(False)
    for head in heads:
        head.requires_grad_(True)
    for parameter in masks if part == "head_and_masks" else ():
        parameter.requires_grad_(True)


def first_line(error: Exception) -> str:
    """The error's kind and first line, and the second line if the first ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
    return f"{type(error).__name__}: {' '.join(lines[: 2 if lines[0].endswith(':') else 1])}"


def parts(vit: VisionTransformer) -> dict[str, int]:
    """Parameters of the encoder (with what makes tokens), the classifier, the masks and a control."""
    head = vit.get_classifier()
    head = count(*head) if isinstance(head, tuple) else count(head)  # a distilled model has two
    masks, controls = mask_parameters(vit.lcaam)
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
