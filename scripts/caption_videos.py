"""Writes captions for videos of your own with a trained model.

    python -m scripts.caption_videos VIDEO.mp4 --checkpoint logs/.../checkpoints/last.ckpt
    python -m scripts.caption_videos VIDEO.mp4 --checkpoint logs/... --plot mask.png --num-beams 4
    python -m scripts.caption_videos videos/ --checkpoint logs/... --csv captions.csv
    python -m scripts.caption_videos MOVIE.mp4 --checkpoint logs/... --every 10 --srt subtitles/

--checkpoint: a checkpoint, or the folder of a run (its last.ckpt). The run's config.yaml says how frames are read; a
video that is to be shown turned, as phones write them, is turned. A model that was trained on precomputed features
takes the video's .npy file (scripts/extract_features.py) instead. A folder stands for all videos in it.

For one video only its caption is printed; for several, each line begins with the file. --csv FILE writes video, start,
end, caption, --srt FOLDER a file of subtitles for each video, and progress is shown instead. --every captions parts of
so many seconds; the last part is longer or shorter by half. A file that cannot be read costs one file: the others are
captioned, the failures are named at the end, and the exit status is 1. --plot draws the masks that the model makes for
the video, one picture per layer: mask.png, or mask_layer_1.png and so on.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

import configs  # noqa: F401  (registers the resolvers that a saved configuration may use)
from configs.errors import ConfigError
from datamodules.errors import DataError, some
from datamodules.formats.kept import nothing_kept
from datamodules.formats.names import printable
from scripts.arguments import parser_for, picture
from scripts.extracting import progress
from scripts.opened import opened
from scripts.own_videos import Part, Table, captioned, parts_of, videos_in, write_subtitles
from tasks.common.build import build
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.video_captioning.module import VideoCaptioning


def load(checkpoint: str | Path, **decoding: Any) -> tuple[VideoCaptioning, Any]:
    """The model of a run, in eval mode, and its data module, which has not looked for any data yet.

    decoding: changes to the run's decoding, e.g. num_beams=4.
    Raises as `opened`, CheckpointError for a file that cannot be read or does not fit, and ConfigError for options
    of decoding that the model cannot follow.
    """
    cfg, path, _ = opened(checkpoint, VideoCaptioning, "video captioning", weights="last")
    module = load_module(VideoCaptioning, path, decoding={**(cfg.task.get("decoding") or {}), **decoding})
    if (length := module.decoding.max_length) > (most := module.model.text_tokens):
        raise ConfigError(f"max_length: {length} is more than this model's captions have; allowed: 2 to {most}")
    return module.eval(), build(cfg.data)


def caption(module: VideoCaptioning, batch: dict) -> str:
    """The caption of a batch of one video (the data module's `example`)."""
    return module.write(moved(module, batch))[0]


def masks_of(module: VideoCaptioning, batch: dict, text: str) -> dict[str, Any]:
    """`module.analyse` of the video and its caption."""
    return module.analyse({**moved(module, batch), "caption": [text]})


def moved(module: VideoCaptioning, batch: dict) -> dict:
    return {name: value.to(module.device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def draw(found: dict[str, Any], path: Path, title: str) -> list[Path]:
    """Draws a heat map of every mask; returns the files. ConfigError: no mask."""
    from tasks.common.mask_figures import mask_heat_map

    masks = found["masks"]
    if not masks:
        raise ConfigError("--plot: this model has no mask to draw")
    several = len(masks) > 1
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for layer, mask in masks.items():
        file = path.with_name(f"{path.stem}_{layer.replace(' ', '_')}{path.suffix}") if several else path
        mask_heat_map(mask, title=f"{title}, {layer}", **found["tokens"]).savefig(file, dpi=150, bbox_inches="tight")
        files.append(file)
    return files


def parts(paths: list[Path], chosen: argparse.Namespace, failed: dict[str, str]) -> list[Part]:
    """What is captioned; files that cannot be cut or timed go to `failed`."""
    found = []
    for path in paths:
        try:
            found += parts_of(path, chosen.every, timed=bool(chosen.csv or chosen.srt))
        except DataError as error:
            failed[str(path)] = str(error)
    return found


def run(chosen: argparse.Namespace, module: VideoCaptioning, datamodule: Any) -> None:
    """Captions every part, writes what was asked for, and ends with status 1 if something failed."""
    paths, others = videos_in(chosen.video)
    if others:
        names = some(printable(path) for path in others)
        print(f"left out {len(others)} that are neither videos nor features by their ending: {names}", file=sys.stderr)
    failed: dict[str, str] = {}
    todo, captions = parts(paths, chosen, failed), {}
    count, quiet = len(todo) + len(failed), bool(chosen.csv or chosen.srt)
    alone = count == 1
    if chosen.plot and not alone:
        raise ConfigError(f"--plot is for one video; {chosen.video[0]} has {count}")
    with ExitStack() as stack:
        table = stack.enter_context(Table(chosen.csv)) if chosen.csv else None
        bar = stack.enter_context(progress(Console(stderr=True, quiet=not quiet)))
        task = bar.add_task("captions", total=len(todo))
        for part, text, why in captioned(module, datamodule, todo, chosen.batch_size):
            bar.advance(task)
            if text is None:
                failed[str(part)] = why
                continue
            captions[part] = text
            if table:
                table.add(part, text)
            if not quiet:
                print(text if alone else f"{printable(part)}\t{text}", flush=True)
    if chosen.srt:
        write_subtitles(chosen.srt, captions)
    for part, text in captions.items() if chosen.plot else ():
        with nothing_kept():
            batch = datamodule.example(part.path, part.span)
        files = draw(masks_of(module, batch, text), chosen.plot, part.path.name)
        print(f"masks: {', '.join(map(str, files))}", file=sys.stderr)
    if failed:
        head = [] if alone else [f"{len(failed)} of {count} could not be captioned:"]
        sys.exit("\n".join(map(printable, [*head, *failed.values()])))


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("caption_videos", __doc__)
    parser.add_argument("video", nargs="+", type=Path, help="a video file, the .npy file of its features, or a folder")
    parser.add_argument("--checkpoint", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="table of captions")
    parser.add_argument("--srt", type=Path, metavar="FOLDER", help="subtitles, FOLDER/<video>.srt")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="a caption for each part of this length")
    parser.add_argument("--plot", type=picture, help="picture of the masks (.png, .pdf, .svg); for one video")
    parser.add_argument("--num-beams", type=int, help="captions followed at a time (1: greedy); default: the run's")
    parser.add_argument("--max-length", type=int, help="tokens of a caption, with two special ones; default: the run's")
    parser.add_argument("--batch-size", type=int, default=4, help="videos at a time (4)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    if chosen.plot and (len(chosen.video) > 1 or chosen.every is not None):
        parser.error("--plot is for one video, and for the whole of it")
    if chosen.batch_size < 1:
        parser.error(f"--batch-size {chosen.batch_size}: the least is 1")
    if chosen.every is not None and not 0 < chosen.every < float("inf"):
        parser.error(f"--every {chosen.every}: a part lasts more than 0 s")
    decoding = {name: getattr(chosen, name) for name in ("num_beams", "max_length")}
    try:
        module, datamodule = load(chosen.checkpoint, **{k: v for k, v in decoding.items() if v is not None})
        try:
            module.to(chosen.device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise ConfigError(f"--device {chosen.device}: {str(error).splitlines()[0]}") from error
        run(chosen, module, datamodule)
    except torch.OutOfMemoryError:
        sys.exit(f"--device {chosen.device}: not enough memory; try a smaller --batch-size than {chosen.batch_size}")
    except KeyboardInterrupt:
        sys.exit("stopped." if chosen.csv is None else f"stopped; the rows in {chosen.csv} stay.")
    except (ConfigError, CheckpointError, ValueError, OSError) as error:  # the data module's errors are ValueErrors
        sys.exit(str(error))


if __name__ == "__main__":
    main()
