"""Opens a checkpoint of audio description by itself, without the data that it was trained on.

module = opened("logs/madv2_lcaam/paper/seed0/<time>/checkpoints/last.ckpt")
module.hparams.facts["recipe"]        # how a segment becomes its input (datamodules/audio_description/recipe.py)
"""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.saved import check, open_run
from datamodules.errors import DataError
from datamodules.formats.kept import nothing_kept
from tasks.audio_description.module import AudioDescription
from tasks.common.build import build
from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.checkpoints import find_checkpoint, load_module
from tasks.common.errors import CheckpointError

FACTS = ("video_dim", "audio_dim", "tokens")


def opened(checkpoint: str | Path, llm: str | Path | None = None, decoding: dict[str, Any] | None = None) -> Any:
    """The module, in eval mode, on the CPU; its facts have a recipe.

    checkpoint: a file, or a run's folder. llm: another place of the language model. decoding: changes to it.
    Raises CheckpointError: no such file, damaged, of another task, a language model that is not the training's, wrong
    options of decoding; a checkpoint without a recipe whose training data are not there.
    """
    path = Path(checkpoint)
    path = find_checkpoint(path, "last") if path.is_dir() else path
    if not path.is_file():
        raise CheckpointError(f"no checkpoint {path}: there is no such file")
    content = read_checkpoint(path)
    settings = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if missing := [name for name in FACTS if name not in settings.get("facts", {})]:
        raise CheckpointError(
            f"{path} is not a checkpoint of audio description: it does not say its data's {', '.join(missing)}"
        )
    changes: dict[str, Any] = {}
    if decoding:
        changes["decoding"] = {**(settings.get("decoding") or {}), **decoding}
    if llm is not None:
        changes["llm"] = {**settings["llm"], "pretrained": str(llm)}
    try:
        module = load_module(AudioDescription, path, **changes)
    except ValueError as error:  # of the options of decoding
        raise CheckpointError(str(error)) from error
    if "recipe" not in module.hparams.facts:
        module.hparams.facts = {**module.hparams.facts, "recipe": recipe_of_data(path)}
    return module.eval()


def recipe_of_data(path: Path) -> dict[str, Any]:
    """The recipe of a checkpoint that was written before checkpoints had one, from the data of its run."""
    try:
        _, cfg, _ = open_run(OmegaConf.create({"run": "???"}), [f"run={path}"])
        check(cfg)
        with nothing_kept():
            data = build(cfg.data)
            data.prepare_data()
            return data.facts()["recipe"]
    except (ConfigError, DataError) as error:
        raise CheckpointError(
            f"{path} does not say how its features were scaled, as checkpoints do now, and its training data cannot "
            f"tell it either ({error}); train again, or restore config.yaml and the data"
        ) from error
