"""Writes captions for videos of your own with a trained model.

    python -m scripts.caption_videos VIDEO.mp4 --checkpoint logs/.../checkpoints/last.ckpt
    python -m scripts.caption_videos VIDEO.mp4 --checkpoint logs/... --plot mask.png --num-beams 4

--checkpoint: a checkpoint, or the folder of a run (its last.ckpt). The run's config.yaml says how frames are read; a
model that was trained on precomputed features takes the video's .npy file (scripts/extract_features.py) instead. For
one video only its caption is printed; for several, each line begins with the file. --plot draws the masks that the
model makes for the video, one picture per layer: mask.png, or mask_layer_1.png and so on.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import configs  # noqa: F401  (registers the resolvers that a saved configuration may use)
from configs.errors import ConfigError
from datamodules.formats.kept import nothing_kept
from scripts.arguments import parser_for
from scripts.opened import opened
from tasks.common.build import build
from tasks.common.checkpoints import load_module
from tasks.common.errors import CheckpointError
from tasks.video_captioning.module import VideoCaptioning


def load(checkpoint: str | Path, **decoding: Any) -> tuple[VideoCaptioning, Any]:
    """The model of a run, in eval mode, and its data module, which has not looked for any data yet.

    decoding: changes to the run's decoding, e.g. num_beams=4.
    Raises as `opened`, and CheckpointError for a file that cannot be read or does not fit.
    """
    cfg, path, _ = opened(checkpoint, VideoCaptioning, "video captioning", weights="last")
    module = load_module(VideoCaptioning, path, decoding={**(cfg.task.get("decoding") or {}), **decoding})
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
    """Draws a heat map of every mask; returns the files (.png if `path` has no ending). ConfigError: no mask."""
    from tasks.common.mask_figures import mask_heat_map

    masks = found["masks"]
    if not masks:
        raise ConfigError("--plot: this model has no mask to draw")
    several = len(masks) > 1
    path = path if path.suffix else path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for layer, mask in masks.items():
        file = path.with_name(f"{path.stem}_{layer.replace(' ', '_')}{path.suffix}") if several else path
        mask_heat_map(mask, title=f"{title}, {layer}", **found["tokens"]).savefig(file, dpi=150, bbox_inches="tight")
        files.append(file)
    return files


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("caption_videos", __doc__)
    parser.add_argument("video", nargs="+", type=Path, help="a video file, or the .npy file of its features")
    parser.add_argument("--checkpoint", required=True, help="a checkpoint, or the folder of a run")
    parser.add_argument("--plot", type=Path, help="picture of the masks (.png, .pdf, .svg); for one video")
    parser.add_argument("--num-beams", type=int, help="captions followed at a time (1: greedy); default: the run's")
    parser.add_argument("--max-length", type=int, help="tokens of a caption, with two special ones; default: the run's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    if chosen.plot and len(chosen.video) > 1:
        parser.error("--plot is for one video")
    decoding = {name: getattr(chosen, name) for name in ("num_beams", "max_length")}
    try:
        module, datamodule = load(chosen.checkpoint, **{k: v for k, v in decoding.items() if v is not None})
        try:
            module.to(chosen.device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise ConfigError(f"--device {chosen.device}: {str(error).splitlines()[0]}") from error
        for path in chosen.video:
            with nothing_kept():
                batch = datamodule.example(path)
            try:
                text = caption(module, batch)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            print(text if len(chosen.video) == 1 else f"{path}\t{text}", flush=True)
            if chosen.plot:
                files = draw(masks_of(module, batch, text), chosen.plot, path.name)
                print(f"masks: {', '.join(map(str, files))}", file=sys.stderr)
    except (ConfigError, CheckpointError, ValueError, OSError) as error:  # the data module's errors are ValueErrors
        sys.exit(str(error))


if __name__ == "__main__":
    main()
