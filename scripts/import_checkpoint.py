"""Makes a checkpoint of this project from one that others released; weights stay what they are, bit for bit.

    python -m scripts.import_checkpoint qd_detr model_best.ckpt logs/qd_detr_released/checkpoints/last.ckpt
    python eval.py run=logs/qd_detr_released            # once QVHighlights' features are in place
    python -m scripts.import_checkpoint qd_detr weights.pth OUT.ckpt --options opt.json dset_name=tacos
    python -m scripts.import_checkpoint swinbert model.bin logs/swinbert_released/checkpoints/last.ckpt
    python -m scripts.caption_videos VIDEO.mp4 --checkpoint logs/swinbert_released
    python -m scripts.import_checkpoint llama_adapter weights.pth OUT.ckpt --llm models/llama-7b
    python train.py experiment=madv2_multi_lcaam task.init_prefix=OUT.ckpt task.llm.pretrained=models/llama-7b

Reading runs no code of the file: anything in its pickle but tensors, plain values, argparse.Namespace and EasyDict (as
a plain mapping) is refused by name. OUT is read by eval.py, scripts/predict_moments.py, scripts/caption_videos.py,
load_from_checkpoint(weights_only=True) and task.init_from. If the weights say what features they take, a config.yaml
is written for eval.py: beside OUT, or above its folder `checkpoints`.

A model is a module of scripts/importers/ with convert(content, source, **options) -> Imported.
"""

import importlib
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from scripts.arguments import parser_for
from scripts.importers.common import Imported, read
from tasks.common.errors import CheckpointError
from tasks.common.files import write_text

MODELS = {
    "qd_detr": "QD-DETR (moment retrieval), as its authors released it, or trained by Lighthouse",
    "swinbert": "SwinBERT (video captioning), a whole model.bin with its Video Swin",
    "llama_adapter": "LLaMA-Adapter (audio description), the learned prompts and gates of its first version",
}


def import_checkpoint(model: str, source: Path, out: Path, *, overwrite: bool = False, **options: Any) -> list[str]:
    """Converts `source` to `out`; returns lines that say what was done. options: the model's own.

    Raises CheckpointError: an unreadable or unsafe source, another model's, a file in the way without `overwrite`.
    """
    config = out.absolute().parent / "config.yaml"
    if config.parent.name == "checkpoints":
        config = config.parent.parent / "config.yaml"
    if out.is_dir():
        raise CheckpointError(f"{out} is a folder; give the file to write")
    if out.exists() and source.exists() and out.samefile(source):
        raise CheckpointError(f"{out} is the file to import; give another one to write")
    _refuse_existing(out, overwrite)
    content = read(source)
    imported = importlib.import_module(f"scripts.importers.{model}").convert(content, str(source), **options)
    epoch = content.get("epoch")
    if imported.cfg is not None:
        _refuse_existing(config, overwrite)
        imported.cfg.paths.run_dir = str(config.parent)
    written = write_checkpoint(imported, out, epoch if isinstance(epoch, int) else 0)
    lines = [f"{out}: {written:,} parameters", *imported.remarks]
    if imported.cfg is None:
        return [*lines, "no config.yaml: what data the weights belong to is not known, so eval.py cannot test them"]
    write_text(config, OmegaConf.to_yaml(imported.cfg, resolve=True))
    return [*lines, f"{config}: python eval.py run={out} tests the weights on data.root={imported.cfg.data.root}"]


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise CheckpointError(f"{path} is there already; --overwrite replaces it, or give another folder")


def write_checkpoint(imported: Imported, out: Path, epoch: int) -> int:
    """Writes what Lightning's load_from_checkpoint needs, and returns its number of parameters; the file is complete or
    absent."""
    module = imported.module
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), "hparams_name": "kwargs"}
    content |= {"epoch": epoch, "global_step": 0, "pytorch-lightning_version": version("pytorch-lightning")}
    module.on_save_checkpoint(content)  # leaves out what the checkpoint does not hold
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        torch.save(content, draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return sum(p.numel() for name, p in module.named_parameters() if name in content["state_dict"])


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("import_checkpoint", __doc__)
    commands = parser.add_subparsers(required=True, metavar="MODEL")
    for name, summary in MODELS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(model=name)
        command.add_argument("source", metavar="IN.ckpt", type=Path, help="the released file")
        command.add_argument("out", metavar="OUT.ckpt", type=Path, help="the file to write")
        command.add_argument("--overwrite", action="store_true", help="replace OUT.ckpt (and its config.yaml)")
        if name == "qd_detr":
            say = "options of its training, for weights without them: its opt.json (or YAML) and KEY=VALUE"
            command.add_argument("--options", nargs="+", default=[], metavar="FILE|KEY=VALUE", help=say)
        if name == "swinbert":
            say = "folder or hub id of the tokenizer it was trained with (bert-base-uncased)"
            command.add_argument("--tokenizer", default="bert-base-uncased", help=say)
        if name == "llama_adapter":
            say = "folder or hub id of the LLaMA that it was trained on, as transformers saves it"
            command.add_argument("--llm", required=True, help=say)
    chosen = vars(parser.parse_args(arguments))
    try:
        lines = import_checkpoint(**chosen)
    except (CheckpointError, OSError) as error:
        sys.exit(str(error))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
