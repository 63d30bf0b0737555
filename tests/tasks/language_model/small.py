"""A small language model and texts for it."""

from pathlib import Path

import torch

from datamodules.language_model import Texts
from tasks.language_model.model import CharacterModel
from tasks.language_model.module import LanguageModel

CHARACTERS = " abcdefg"
CONTEXT = 6
SIZES = {"width": 12, "layers": 2, "heads": 3, "feedforward": 16}
TEXT = "abc gfe dab cab bad fee egg bee face cafe decaf " * 12


def mask_node(scope="none", fusion="mul", **changes):
    """The configuration's mask node."""
    node = {"scope": scope, "kind": "context", "fusion": fusion if scope != "none" else "none", "depth": 2, "hidden": 5}
    node |= {"rank": None, "groups": 1, "residual": False, "init": "identity", "length": "fixed", "num_keys": None}
    return node | {"hard": False, "sparsity": 0.0, "control": "none", "control_residual": True} | changes


# masks that differ in how they are made, none of them neutral at the start
MASKS = {
    "none": mask_node(),
    "fixed, shared": mask_node("shared", "add", init="kaiming"),
    "fixed": mask_node("per_layer", "mul", init="kaiming"),
    "content": mask_node("per_layer", "add", init="kaiming", length="content"),
    "interpolate": mask_node("per_layer", "add", init="kaiming", length="interpolate"),
    "temperature": mask_node("per_layer", "mul", kind="temperature"),
    "columns": mask_node("per_layer", "add", kind="columns", groups=3),
    "offsets": mask_node("per_layer", "add", kind="offsets"),
    "table": mask_node("shared", "mul", kind="table"),
    "span": mask_node("per_layer", "add", kind="span", ramp=2, start=0.5),
    "static": mask_node("shared", "gate", kind="static"),
    "extra linear": mask_node("per_layer", "mul", control="extra_linear", depth=12, hidden=None),
    "extra layers": mask_node("per_layer", "mul", control="extra_layers", depth=12, hidden=None),
}


def model(mask: str | dict = "none", seed: int = 0, context: int = CONTEXT, **changes) -> CharacterModel:
    """In eval mode; what starts neutral is drawn."""
    torch.manual_seed(seed)
    node = MASKS[mask] if isinstance(mask, str) else mask
    made = CharacterModel(len(CHARACTERS), context, mask=node, **{**SIZES, **changes})
    for name, parameter in made.encoder.masks.named_parameters():
        if name.endswith("change") and parameter.dim() > 1:
            torch.nn.init.normal_(parameter)
    return made.eval()


def module(mask: str | dict = "none", seed: int = 0, characters: str = CHARACTERS, **changes) -> LanguageModel:
    torch.manual_seed(seed)
    node = MASKS[mask] if isinstance(mask, str) else mask
    facts = {"context": CONTEXT, "characters": characters}
    return LanguageModel(mask=node, facts=facts, **{"lr": 1e-2, **SIZES, **changes})


def texts(folder: Path, text: str = TEXT, **changes) -> Texts:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    sizes = {"context": CONTEXT, "batch_size": 4, "eval_batch_size": 3}
    return Texts(**{"root": str(folder), "files": str(path), **sizes, **changes})


def batch_of(*windows: str) -> dict:
    """Windows of CONTEXT + 1 characters; shorter ones end with the text."""
    rows = [[*map(ord, window), *[-1] * (CONTEXT + 1 - len(window))] for window in windows]
    return {"characters": torch.tensor(rows), "name": [f"test {CONTEXT * number}" for number in range(len(rows))]}
