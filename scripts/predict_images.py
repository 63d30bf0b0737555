"""Classifies images of your own with a trained model: a table with the likeliest classes and their probabilities.

    python -m scripts.predict images FOLDER --checkpoint logs/image_folder_lcaam/paper/seed0/<time> --output answers.csv
    python -m scripts.predict images a.jpg b.png --checkpoint logs/.../checkpoints/best.ckpt --top 3
    python -m scripts.predict images FOLDER --checkpoint logs/... --output answers.jsonl data.crop_pct=1.0

FOLDER: images at any depth, with or without class folders; labels are not needed and not read. --checkpoint: a run's
folder (the weights that it tested) or a checkpoint in it; its config.yaml says how images are prepared, and `key=value`
changes that. Neither the training images nor a class index are needed.

--output: .csv (a row per image: image, class_1, probability_1, class_2, ...), .jsonl or .json (also numbers and folders
of the classes). Without it the first class of each image is printed. An image that cannot be decoded is named and left
out; the exit status is 1 if nothing could be classified.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console

from configs.errors import ConfigError
from datamodules.errors import DataError
from datamodules.formats.names import printable
from scripts.arguments import parser_for
from scripts.extracting import progress
from scripts.opened import opened
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.common.files import check_writable, write_text
from tasks.image_classification.module import ImageClassification
from tasks.image_classification.predictor import Found, ImagePredictor, images_below

ENDINGS = (".csv", ".jsonl", ".json")


def predictor_of(run: Path, changes: Sequence[str] = (), device: str = "cpu") -> ImagePredictor:
    """The predictor of a run's folder, or of a checkpoint in it. Raises as `opened`, and CheckpointError."""
    cfg, checkpoint, _ = opened(run, ImageClassification, "image classification", changes)
    settings = OmegaConf.to_container(cfg.data, resolve=True)
    return ImagePredictor(load_module(ImageClassification, checkpoint), settings, device)


def as_csv(found: Sequence[Found], top: int) -> str:
    """One row per image, best class first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *(f"{name}_{place}" for place in range(1, top + 1) for name in ("class", "probability"))])
    for one in found:
        cells = [cell for answer in one.answers for cell in (answer.name, f"{answer.probability:.6f}")]
        writer.writerow([printable(one.path), *cells])
    return text.getvalue()


def written(path: Path, found: Sequence[Found], top: int) -> None:
    """Writes the table in the form of the file's ending."""
    if path.suffix == ".csv":
        return write_text(path, as_csv(found, top))
    rows = [{"image": printable(one.path), "answers": [answer._asdict() for answer in one.answers]} for one in found]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(f"{line}\n" for line in lines) if path.suffix == ".jsonl" else f"[{', '.join(lines)}]\n")


def run(arguments: argparse.Namespace) -> int:
    """Classifies, writes and prints what was asked for; returns the exit status."""
    if arguments.output and arguments.output.suffix not in ENDINGS:
        raise ConfigError(f"--output {arguments.output}: a file that ends in {', '.join(ENDINGS)}")
    if arguments.output:
        check_writable(arguments.output)
    if arguments.top < 1 or arguments.batch_size < 1:
        raise ConfigError(f"--top {arguments.top}, --batch-size {arguments.batch_size}: each at least 1")
    changes = [word for word in arguments.images if "=" in word and not Path(word).exists()]
    places = [Path(word) for word in arguments.images if word not in changes]
    if not places:
        raise ConfigError("no image or folder is named")
    paths = list(dict.fromkeys(path for place in places for path in images_below(place)))
    predictor = predictor_of(arguments.checkpoint, changes, arguments.device)
    console, found, bad = Console(stderr=True), [], 0
    with progress(console) as bar:
        answers = predictor.predict(paths, arguments.top, arguments.batch_size)
        for one in bar.track(answers, total=len(paths), description="images"):
            if one.problem:
                bad += 1
                console.print(f"left out: {one.problem}", soft_wrap=True, markup=False, highlight=False)
                continue
            found.append(one)
    if arguments.output:
        written(arguments.output, found, min(arguments.top, len(predictor.names)))
        print(f"{arguments.output}: {len(found)} images, {bad} left out")
    else:
        for one in found:
            print(f"{one.path}\t{one.answers[0].name}\t{one.answers[0].probability:.4f}")
    return 0 if found else 1


def main(given: list[str] | None = None) -> int:
    """The command line; an error that explains itself is printed without a stack trace."""
    parser = parser_for("predict images", __doc__)
    parser.add_argument("images", nargs="+", metavar="FOLDER", help="folders or files of images; key=value of the data")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder, or a checkpoint in it")
    parser.add_argument("--top", type=int, default=5, help="classes per image (5)")
    parser.add_argument("--output", type=Path, help="the table: .csv, .jsonl or .json")
    parser.add_argument("--batch-size", type=int, default=64, help="images at a time (64)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    try:
        return run(parser.parse_intermixed_args(given))
    except (ConfigError, DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    sys.exit(main())
