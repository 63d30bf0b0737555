"""What a trained classifier looks at, drawn on test images; with --beside next to another one, e.g. the baseline.

python -m scripts.attention_on_images logs/imagenet1k_multi_lcaam/mini/seed0/<time> --out attention.png
python -m scripts.attention_on_images logs/imagenet1k_multi_lcaam/mini/seed0/<time> --beside logs/<another run>
python -m scripts.attention_on_images logs/.../checkpoints/best.ckpt --images 8 --layer 0 data.root=/data/imagenet1k

One row per image; for each model the attention of the class token and, if it has masks, the class token's row of the
mask. The whole mask of the same layer goes to <out>_mask.png. Further `key=value` arguments change the first run's
settings.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from configs.errors import ConfigError
from datamodules.errors import DataError
from datamodules.formats.kept import nothing_kept
from datamodules.image_classification.matching import classes_of, shown
from scripts.arguments import parser_for, picture
from scripts.opened import opened
from tasks.common.build import build_datamodule
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.common.mask_figures import mask_heat_map
from tasks.image_classification.attention_figures import attention_on_pictures, looked_at
from tasks.image_classification.module import ImageClassification


def loaded(path: Path, changes: list[str]):
    """The settings of a run's folder (or of a checkpoint's run), the module that it trained, and the changed keys."""
    cfg, checkpoint, changed = opened(path, ImageClassification, "image classification", changes)
    return cfg, load_module(ImageClassification, checkpoint).eval(), changed


def draw(arguments: argparse.Namespace) -> list[Path]:
    """Writes the figures and returns their files."""
    cfg, module, changed = loaded(arguments.run, arguments.changes)
    modules = {"": module}
    if arguments.beside:
        other_cfg, other, _ = loaded(arguments.beside, [])
        own, others = (f"{c.name}\nseed {c.seed}, " for c in (cfg, other_cfg))
        modules = {others if others != own else f"{others}beside, ": other, own: module}
    with nothing_kept(unless=changed):
        datamodule = build_datamodule(cfg, module.hparams.facts)
        datamodule.setup()
    if arguments.images < 1:
        raise ConfigError(f"--images {arguments.images}: at least 1")
    names = shown(classes_of(module.hparams.facts))
    pictured = datamodule.test_dataloader().dataset
    chosen = np.linspace(0, len(pictured) - 1, min(arguments.images, len(pictured))).astype(int)  # sorted by class
    batch = pictured.__getitems__(chosen.tolist())
    images, labels = batch["image"], batch["label"].tolist()
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (datamodule.mean, datamodule.std))
    pictures = (images.numpy() * std + mean).clip(0, 1).transpose(0, 2, 3, 1)

    columns, answers, masks = {}, [], {}
    for title, model in modules.items():
        found = looked_at(model.evaluated, images, arguments.layer)
        columns[f"{title}attention"] = found.attention
        its = shown(classes_of(model.hparams.facts))  # each model has an order of classes of its own
        answers.append([f"predicted: {its[label]}" for label in found.logits.argmax(-1)])
        if found.mask is not None:
            columns[f"{title}mask"] = found.mask
            answers.append([""] * len(labels))
            masks[title] = found.whole_mask
    captions = [answer for row in zip(*answers, strict=True) for answer in row]
    figure = attention_on_pictures(pictures, columns, [names[label] for label in labels], captions)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, dpi=arguments.dpi)
    files = [arguments.out]
    for number, (title, mask) in enumerate(masks.items()):
        path = arguments.out.with_name(f"{arguments.out.stem}_mask{number + 1 if len(masks) > 1 else ''}.png")
        prefix = module.vit.num_prefix_tokens
        blocks = {"boundaries": [prefix], "labels": ["class", "patches"]} if prefix else {}
        mask_heat_map(mask, title=f"{title}mask, layer {arguments.layer}", **blocks).savefig(path, bbox_inches="tight")
        files.append(path)
    return files


def main() -> None:
    parser = parser_for("attention_on_images", __doc__)
    parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--beside", type=Path, help="another run on the same data")
    parser.add_argument("--images", type=int, default=6, help="how many, spread over the test images")
    parser.add_argument("--layer", type=int, default=-1, help="0 is the first, -1 the last")
    parser.add_argument("--out", type=picture, default=Path("attention.png"))
    parser.add_argument("--dpi", type=int, default=150)
    parser.add_argument("changes", nargs="*", help="key=value, e.g. data.root=...")
    try:
        files = draw(parser.parse_intermixed_args())
    except (ConfigError, DataError, CheckpointError, IndexError) as error:
        sys.exit(str(error))
    print(*files, sep="\n")


if __name__ == "__main__":
    main()
