"""Weights from a file for a Vision Transformer: which of them fit, and what becomes of the classes and the masks.

>>> weights = Weights.read("logs/.../checkpoints/last.ckpt")
>>> overlay = weights.overlay(facts)        # timm's pretrained_cfg_overlay
>>> weights.take_masks(vit, mask_node)      # after lcaam.integrations.timm.graft
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from timm.models import load_state_dict
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor

from configs.guard import reading
from datamodules.image_classification.matching import classes_of, matched
from tasks.common.checkpoint_files import verify
from tasks.common.errors import CheckpointError

log = logging.getLogger(__name__)

OWN_PREFIXES = ("average.module.", "vit.")  # of the model in this task's checkpoints; averaged weights win
OTHERS_PREFIXES = ("module.", "model.", "backbone.")  # of other trainers; perhaps several
WRAPPED = ("teacher", "net", "student")  # DINO's teacher is what is meant to be used
STARTS_ANEW = ("head.", "head_dist.", "fc_norm.", "norm.", "attn_pool.")  # output layers: a file may lack them
HEADS = ("head", "head_dist")
MASKS = "lcaam."
UNSEEN = ("lr_scale", "sparsity", "num_keys")  # settings of a mask that its weights do not depend on
PATCHES = "patch_embed.proj.weight"  # every Vision Transformer of timm's has it


@dataclass
class Weights:
    """state: the model's tensors by timm's names. masks: those of lcaam's part. settings: of the masks, if known.

    facts: those of the data that a checkpoint of this task was trained on, None for other files.
    """

    path: str
    state: dict[str, Any] = field(default_factory=dict)
    masks: dict[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] | None = None
    settings: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, path: str) -> "Weights":
        """Raises CheckpointError: no such file, damaged, not weights."""
        if not Path(path).is_file():
            raise CheckpointError(f"task.weights: there is no file {Path(path).resolve()}")
        if Path(path).suffix == ".npz":
            return cls(path)
        with reading(f"task.weights: {path} holds no weights that can be read", CheckpointError):
            verify(Path(path))
            state = dict(load_state_dict(path).items())
            state = unprefixed(
                next((dict(state[key]) for key in WRAPPED if isinstance(state.get(key), Mapping)), state)
            )
        about = hyper_parameters(path)
        masks = {key: value for key, value in state.items() if key.startswith(MASKS)}
        plain = {key: value for key, value in state.items() if not key.startswith(MASKS)}
        return cls(path, plain, masks, about.get("facts"), about.get("mask"))

    def overlay(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What timm's pretrained_cfg_overlay says about the file; facts: of the data that the model is built for."""
        if not self.state:
            return {"file": self.path, "custom_load": True} if self.path.endswith(".npz") else {"state_dict": {}}
        self._fit_head(facts)
        overlay: dict[str, Any] = {"state_dict": self.state, "num_classes": 0}
        if isinstance(head := self.state.get("head.weight"), Tensor):
            overlay["num_classes"] = len(head)  # as many as the model's: the head is kept
        return overlay

    def _fit_head(self, facts: Mapping[str, Any]) -> None:
        """Takes the head's rows by the names of the classes; without all of them the head starts anew."""
        there = [key for name in HEADS for key in (f"{name}.weight", f"{name}.bias") if key in self.state]
        if not there:
            return
        trained = None if self.facts is None else classes_of(self.facts)
        mine = classes_of(facts)
        if trained is None or trained.names is None or mine.names is None:
            same = len(self.state[there[0]]) == facts["classes"]
            say = "is kept, as it has as many classes; the file does not name them" if same else "starts anew"
            log.info("task.weights=%s: the head %s", self.path, say)
            return
        numbers = matched(mine, trained)
        if None in numbers:
            for key in there:
                del self.state[key]
            log.warning(
                "task.weights=%s: the head starts anew, since the file knows %d of the %d classes by name",
                self.path, len(numbers) - numbers.count(None), len(numbers),
            )  # fmt: skip
        elif numbers != list(range(len(trained))):
            for key in there:
                self.state[key] = self.state[key][numbers]
            log.info("task.weights=%s: the head's rows are taken by the names of the classes", self.path)

    def check_taken(self, vit: VisionTransformer) -> None:
        """CheckpointError if the file has no weights for a part of the model.

        If the head differs, timm loads only what has a fitting name: nothing of a file with other names.
        """
        taken = checkpoint_filter_fn(dict(self.state), vit, adapt_layer_scale=True)  # timm's own renaming
        wanted = [name for name in vit.state_dict() if not name.startswith(STARTS_ANEW)]
        if missing := [name for name in wanted if name not in taken]:
            raise CheckpointError(
                f"task.weights={self.path} has no weights for {len(missing)} of the model's {len(wanted)} tensors, "
                f"such as {missing[0]}; it holds {', '.join(list(self.state)[:3]) or 'nothing'}, ..."
            )

    def hint(self, name: str) -> str:
        """What to do about weights that did not fit the model `name`, if the file shows it."""
        if "dist_token" in self.state and "distilled" not in name:
            known = "deit_<size>_distilled_patch16_<pixels>"
            return f"; the file is of a model with a distillation token: task.model_name={known}"
        return ""

    def take_masks(self, vit: VisionTransformer, mask: Mapping[str, Any], keep: bool) -> None:
        """Loads the file's masks into a grafted model if they fit it; the log says what becomes of them and why."""
        if not self.masks:
            return
        own = {key: value for key, value in vit.state_dict().items() if key.startswith(MASKS)}
        if not own:
            log.warning("task.weights=%s: its masks are left out, since the model has none", self.path)
            return
        why = "task.weights_masks=anew" if not keep else self._misfit(own, mask)
        if why:
            log.warning("task.weights=%s: its masks are left out and start anew: %s", self.path, why)
            return
        vit.load_state_dict(self.masks, strict=False)
        log.info("task.weights=%s: its masks are kept (task.weights_masks=anew leaves them out)", self.path)

    def _misfit(self, own: Mapping[str, Tensor], mask: Mapping[str, Any]) -> str:
        """Why the file's masks are not the model's; "" if they are."""
        for name, value in (self.settings or {}).items():
            if name not in UNSEEN and name in mask and mask[name] != value:
                return f"mask.{name}={mask[name]}, and theirs is {value}"
        if other := sorted(own.keys() ^ self.masks.keys()):
            return f"only one of both has {other[0]}"
        shapes = ((name, tuple(own[name].shape), tuple(self.masks[name].shape)) for name in own)
        return next((f"{name} is {a} here and {b} in the file" for name, a, b in shapes if a != b), "")


def unprefixed(state: dict[str, Any]) -> dict[str, Any]:
    """The model's tensors under timm's names, of a checkpoint of this task or of another trainer."""
    for prefix in OWN_PREFIXES:
        if own := {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}:
            return own
    for prefix in OTHERS_PREFIXES:
        if PATCHES not in state and any(key.startswith(prefix) and key.endswith(PATCHES) for key in map(str, state)):
            inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            return unprefixed(inner)
    return state


def hyper_parameters(path: str) -> Mapping[str, Any]:
    """What a checkpoint of this task says of its training; empty for other files."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
    except Exception:  # of many kinds: safetensors, pickles of other trainers
        return {}
    found = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    return found if isinstance(found, Mapping) else {}
