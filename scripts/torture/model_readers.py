"""The readers of models and runs, each with a small whole file: checkpoints, language models, config.yaml."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from configs.composing import composed
from configs.saved import check, open_run
from datamodules.formats.kept import checksum
from datamodules.moment_retrieval import Moments
from scripts.torture.judging import Reader
from scripts.torture.readers import DEEP, LETTERS, PAYLOAD
from tasks.audio_description.language_model import from_scratch, pretrained
from tasks.audio_description.tokenizer import train
from tasks.common import floors
from tasks.common.build import build
from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.checkpoints import load_module
from tasks.common.files import write_json
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.predict import load
from tasks.video_captioning.swin import read

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SAMPLE = "he opens the door"
SCORES = {"mAP": 12.5, "R1@0.5": 40.0, "test_loss": 3.25}


@cache
def small_run() -> DictConfig:
    """The configuration of a small run of moment retrieval."""
    cfg = composed("experiment=qvhighlights_lcaam", "scale=smoke")
    return OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint as training leaves it, beside the run's config.yaml."""
    torch.manual_seed(0)
    cfg = small_run()
    node = {name: value for name, value in OmegaConf.to_container(cfg.data).items() if name != "_target_"}
    module = build(cfg.task, mask=OmegaConf.to_container(cfg.mask), facts=Moments(**node).facts())
    content = {
        "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "global_step": 6, "epoch": 1,
        "pytorch-lightning_version": pl.__version__, "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    }  # fmt: skip
    torch.save(content, folder / "last.ckpt")
    return folder / "last.ckpt"


def everything_in(module: torch.nn.Module) -> dict[str, Any]:
    return {"weights": module.state_dict(), "settings": dict(module.hparams)}


def make_config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(small_run()), encoding="utf-8")
    return folder / "config.yaml"


def opened(path: Path) -> Any:
    _, cfg, _ = open_run(OmegaConf.create({"run": "???"}), [f"run={path.parent}"])
    check(cfg)
    return OmegaConf.to_container(cfg)


def aliases(whole: bytes) -> bytes:
    """Nine lines that stand for 10^9 texts."""
    names = "abcdefghi"
    bomb = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    bomb += [f"{one}: &{one} [{', '.join([f'*{before}'] * 10)}]" for before, one in pairwise(names)]
    return whole + "\n".join(bomb).encode()


def make_floor(folder: Path) -> Path:
    write_json(folder / "floor.json", {"metrics": SCORES, "sha256": checksum(SCORES), "format": floors.FORMAT})
    return folder / "floor.json"


def make_language_model(name: str, **options: Any) -> Callable[[Path], Path]:
    """Writes a small LLaMA and its tokenizer; the file to damage is `name`."""

    def made(folder: Path) -> Path:
        torch.manual_seed(0)
        tokenizer = train([SAMPLE, "she runs to the car", "a man looks at the window"], 64)
        tokenizer.save_pretrained(folder)
        model = from_scratch(SIZES, tokenizer)
        model.save_pretrained(folder)
        if name == "pytorch_model.bin":
            torch.save(model.state_dict(), folder / name)
            (folder / "model.safetensors").unlink()
        return folder / name

    return made


def language_model(path: Path) -> list:
    tokenizer, model = pretrained(str(path.parent), "float32", True)
    return [tokenizer(SAMPLE)["input_ids"], tokenizer.decode([5, 7, 9]), model.config.to_dict(), model.state_dict()]


def make_weights(folder: Path) -> Path:
    torch.save(
        {"state_dict": {"patch_embed.weight": torch.randn(8, 3), "norm.bias": torch.zeros(8)}}, folder / "swin.pth"
    )
    return folder / "swin.pth"


def pickle_that_asks(whole: bytes) -> bytes:
    """A pickle that would run a command."""
    import os
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (os.getenv, ("HOME",))

    return pickle.dumps(Evil(), protocol=2)


CODE = {"pickle": pickle_that_asks}
MODELS = [
    Reader("checkpoint, eval", make_checkpoint, lambda path: everything_in(load_module(MomentRetrieval, path)),
           asking=CODE),
    Reader("checkpoint, resume", make_checkpoint, lambda path: read_checkpoint(path, "cpu"), asking=CODE),
    Reader("checkpoint, predict", make_checkpoint, lambda path: everything_in(load(path)), asking=CODE),
    Reader("Swin weights", make_weights, read, asking=CODE),
    Reader("LM model.safetensors", make_language_model("model.safetensors"), language_model, PAYLOAD),
    Reader("LM pytorch_model.bin", make_language_model("pytorch_model.bin"), language_model, asking=CODE),
    Reader("LM tokenizer.json", make_language_model("tokenizer.json"), language_model, LETTERS, DEEP),
    Reader("LM tokenizer_config.json", make_language_model("tokenizer_config.json"), language_model, LETTERS, DEEP),
    Reader("LM config.json", make_language_model("config.json"), language_model, LETTERS, DEEP),
    Reader("config.yaml of a run", make_config, opened, LETTERS, DEEP | {"references": aliases}),
    Reader("cache: floors", make_floor, lambda path: floors.read(path) or SCORES),
]  # fmt: skip
