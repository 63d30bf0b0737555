"""What `python train.py --help` prints: examples, the groups with their choices, and what a mask may be."""

import ast
import textwrap

from omegaconf import OmegaConf

from configs.resolvers import ROOT

CONFIGS = ROOT / "configs"
GROUPS = {  # in the order of their importance
    "experiment": "what is trained",
    "scale": "how much of it",
    "mask": "the mask",
    "trainer": "where it runs",
    "sweep": "many runs",
    "data": "data set",
    "task": "task",
    "logger": "where metrics go",
    "callbacks": "during training",
    "debug": "a short run",
    "paths": "where files lie",
    "hydra": "of Hydra",
}
FUSIONS = {  # a score s of attention and its mask value m
    "none": "s",
    "add": "s + m",
    "mul": "s * m",
    "gate": "s + log sigmoid(m)",
    "temper": "s * softplus(m)",
}
SCOPES = {
    "none": "no mask",
    "shared": "one mask for all layers (LCAAM)",
    "tied": "one module, a mask per layer",
    "per_layer": "a module per layer (Multi-LCAAM)",
}
ENDINGS = ("baseline", "lcaam", "multi_lcaam")  # of the experiments of a data set
WIDTH, NAMES = 118, 29


def help_text() -> str:
    """The text. Nothing is imported for it; `$` is doubled, as Hydra's template wants it."""
    docstring = ast.get_docstring(ast.parse((ROOT / "train.py").read_text(encoding="utf-8"))) or ""
    chosen = {name: choice for entry in defaults() for name, choice in entry.items()}
    lines = [docstring, "", "A setting is written key=value, without blanks. Files of configs/ (* is the default):", ""]
    for group, what in GROUPS.items():
        names = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
        marked = [f"{name}*" * (name == chosen.get(group)) or name for name in names]
        lines += entry(f"{group} ({what})", ", ".join(families(marked)))
    lines += entry("hydra/launcher", "basic*: one job of a sweep after the other, joblib: one process per core")
    lines += ["", "The mask, beside mask=<file>:", ""]
    lines += entry("mask.fusion", ", ".join(f"{name}: {equation}" for name, equation in FUSIONS.items()))
    lines += entry("mask.scope", ", ".join(f"{name}: {what}" for name, what in SCOPES.items()))
    lines += entry("mask.depth, .hidden, .rank", "linear layers, their width, the rank of the last one")
    lines += ["", "Often set: seed, resume, trainer.max_steps, data.root, data.batch_size, task.lr, paths.log_dir.", ""]
    lines += entry("experiment=... --cfg job", "shows every setting; add --resolve for the values of ${...}")
    lines += entry("-m key=a,b", "a run for each value; hydra/launcher=joblib runs them side by side")
    lines += entry("-sc install=bash", 'tab completion: eval "$(python train.py -sc install=bash)"; also zsh, fish')
    return "\n".join(lines).replace("$", "$$")


def families(names: list[str]) -> list[str]:
    """The names, in which those that exist with each of the endings of an experiment are one.

    >>> families(["a_baseline", "a_lcaam", "a_multi_lcaam", "a_more", "b_baseline", "b_lcaam", "b_multi_lcaam"])
    ['{a, b}_{baseline, lcaam, multi_lcaam}', 'a_more']
    """
    stems = [name.removesuffix("_baseline") for name in names if name.endswith("_baseline")]
    whole = [stem for stem in stems if all(f"{stem}_{ending}" in names for ending in ENDINGS)]
    if not whole:
        return names
    inside = {f"{stem}_{ending}" for stem in whole for ending in ENDINGS}
    return [f"{{{', '.join(whole)}}}_{{{', '.join(ENDINGS)}}}", *(name for name in names if name not in inside)]


def defaults() -> list[dict]:
    """The groups of configs/train.yaml that it chooses a file of."""
    entries = OmegaConf.to_container(OmegaConf.load(CONFIGS / "train.yaml").defaults, resolve=False)
    return [entry for entry in entries if isinstance(entry, dict)]


def entry(name: str, text: str) -> list[str]:
    """Name and text side by side."""
    lines = textwrap.wrap(text, WIDTH - NAMES - 4, break_long_words=False) or [""]
    return [f"  {name:<{NAMES}}  {lines[0]}", *(" " * (NAMES + 4) + line for line in lines[1:])]
