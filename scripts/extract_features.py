"""Extracts features of clips, so that a captioner trains without decoding: of Video Swin, of CLIP or of VideoMAE.

    python -m scripts.extract_features data/msrvtt/frames data/msrvtt/features
    python -m scripts.extract_features data/msrvtt/videos data/msrvtt/features --weights swin_k600.pth --batch-size 8
    python -m scripts.extract_features data/msrvtt/videos data/msrvtt/clip --model clip --rotation ignore
    python -m scripts.extract_features videos rows --model videomae --weights path/to/videomae --pool places

Reads a folder of video files, or of the frame folders that scripts/extract_frames.py writes; the central square of
every clip, no augmentation. Writes FEATURES/<clip>.npy, (rows, width) float16; data.source=features reads them with
data.features.dim=<width>, also packed (scripts/pack_features.py).

    --model swin        (784, 1024) for 32 frames of 224 pixels and Swin-B: 1.6 MB; 16 GB for MSR-VTT
    --model clip        (32, 512): a row per frame, of ViT-B/32
    --model videomae    (1568, 768) for 16 frames of 224 pixels; --pool places: (8, 768)

--pool places keeps one row per time, the mean over all places of the picture. --weights is torchvision's name or a file
(swin), or a folder that transformers wrote or a name on its hub (clip, videomae). A file is complete or absent, so a
run that was stopped can be started again and goes on. A clip that cannot be read is listed in FEATURES/failures.txt,
and the exit status is 1. --rotation is as in scripts/extract_frames.py.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from datamodules.errors import DataError
from datamodules.formats.video_files import is_video
from datamodules.loading import whole
from datamodules.video_captioning.captions import LAYOUTS, Clip
from datamodules.video_captioning.clips import Input
from datamodules.video_captioning.feature_files import write_features
from datamodules.video_captioning.sources import FrameFolders, VideoFiles
from scripts import feature_models
from scripts.arguments import parser_for
from scripts.extracting import (
    add_rotation,
    clips_of,
    finish,
    keep_failures,
    keep_settings,
    only_run,
    progress,
    rotation_of,
    say_others,
    split_ids,
)
from scripts.feature_models import DEFAULTS, FRAMES, FeatureModel

SIZES = ("tiny", "small", "base")
POOLS = ("none", "places")
OWN = {"size": "base", "image_size": 224}  # options of --model swin


class Readable(Dataset):
    """Batches of the clips that can be read, and what is wrong with the others."""

    def __init__(self, clips: list[Clip], pixels: Input):
        self.clips, self.pixels = clips, pixels

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, indices: list[int]) -> tuple[list[str], torch.Tensor | None, dict[str, str]]:
        names, values, failed = [], [], {}
        for clip in (self.clips[index] for index in indices):
            try:
                values.append(self.pixels.read(clip, None))
                names.append(clip.id)
            except DataError as error:
                failed[clip.id] = str(error)
        return names, self.pixels.batch(values) if values else None, failed


def build(chosen: argparse.Namespace, source: VideoFiles | FrameFolders) -> FeatureModel:
    """The chosen model. Raises CheckpointError as those of scripts/feature_models.py."""
    if chosen.model == "videomae":
        return feature_models.videomae(chosen.weights, source, chosen.frames)
    frames = chosen.frames or FRAMES
    if chosen.model == "clip":
        return feature_models.clip(chosen.weights, source, frames)
    return feature_models.swin(chosen.weights, source, frames, chosen.size, chosen.image_size)


def settings_of(chosen: argparse.Namespace, model: FeatureModel | None) -> dict[str, object]:
    """What the features depend on, plain. model: None for a Video Swin that was not built."""
    common = {"model": chosen.model, "pool": chosen.pool}
    if chosen.model == "swin":
        sizes = {"size": chosen.size, "image_size": chosen.image_size, "frames": chosen.frames or FRAMES}
        return common | sizes | {"weights": named(chosen.weights)}
    return common | {"frames": model.frames, "weights": model.weights}


@torch.inference_mode()
def extract_all(model: FeatureModel, clips: list[Clip], out: Path, chosen, console: Console) -> dict[str, str]:
    """id -> what is wrong, of the clips that failed."""
    failed: dict[str, str] = {}
    try:
        write_all(model.to(chosen.device), clips, out, chosen, console, failed)
    except BaseException:
        keep_failures(out, failed)
        raise
    return failed


def write_all(model: FeatureModel, clips: list[Clip], out: Path, chosen, console: Console, failed: dict) -> None:
    """Writes the clips' files, and what is wrong with the others into `failed`."""
    batches = DataLoader(Readable(clips, model.pixels), chosen.batch_size, num_workers=chosen.workers, collate_fn=whole)
    with progress(console) as bar:
        task = bar.add_task("clips", total=len(clips))
        for names, frames, wrong in batches:
            failed |= wrong
            grids = [] if frames is None else model(frames.to(chosen.device)).float()  # (B, T, P, D)
            for name, grid in zip(names, grids, strict=True):
                rows = grid.mean(1) if chosen.pool == "places" else grid.flatten(0, 1)
                try:
                    write_features(out, name, rows.cpu().numpy())
                except DataError as error:
                    failed[name] = str(error)
            bar.advance(task, len(names) + len(wrong))


def named(weights: str) -> str:
    """What the weights are: torchvision's name, or a file's contents."""
    path = Path(weights)
    if not path.is_file():
        return weights
    with path.open("rb") as file:
        return f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}" if sys.version_info >= (3, 11) else path.name


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("extract_features", __doc__)
    parser.add_argument("clips", type=Path, help="folder of video files, or of frame folders")
    parser.add_argument("out", type=Path, help="folder of feature files; made if need be")
    parser.add_argument("--model", choices=DEFAULTS, default="swin", help="whose features (swin)")
    told = ", ".join(f"{model}: {name}" for model, name in DEFAULTS.items())
    parser.add_argument("--weights", help=f"see above; default: {told}")
    parser.add_argument("--size", choices=SIZES, help="size of the Video Swin (base)")
    parser.add_argument("--frames", type=int, help="frames per clip (32; videomae: as many as the model reads)")
    parser.add_argument("--image-size", type=int, help="pixels, of the Video Swin (224)")
    parser.add_argument("--pool", choices=POOLS, default="none", help="places: one row per time (none)")
    parser.add_argument("--batch-size", type=int, default=4, help="clips at a time (4)")
    parser.add_argument("--pattern", default="{video}.*", help="name of a video's file ({video}.*: any ending)")
    parser.add_argument("--annotations", type=Path, nargs="+", default=[], help="json files: the clips in them")
    parser.add_argument("--layout", choices=LAYOUTS, default="msrvtt", help="layout of the annotations (msrvtt)")
    add_rotation(parser)
    parser.add_argument("--workers", type=int, default=4, help="processes that read clips; 0: this one reads them (4)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    for name, least in (("frames", 1), ("image_size", 32), ("batch_size", 1), ("workers", 0)):
        if (given := getattr(chosen, name)) is not None and given < least:
            parser.error(f"--{name.replace('_', '-')} {given}: the least is {least}")
    for name, default in OWN.items():
        if chosen.model != "swin" and getattr(chosen, name) is not None:
            parser.error(f"--{name.replace('_', '-')} is for --model swin; {chosen.model} has its own")
        setattr(chosen, name, default if getattr(chosen, name) is None else getattr(chosen, name))
    chosen.weights = chosen.weights or DEFAULTS[chosen.model]
    console = Console()
    try:
        clips = clips_of(chosen.clips, chosen.annotations, chosen.layout)
        pictures = not any(is_video(entry) and entry.is_file() for entry in chosen.clips.iterdir())
        rotation = rotation_of(chosen)
        source = FrameFolders(chosen.clips) if pictures else VideoFiles(chosen.clips, chosen.pattern, rotation)
        if not chosen.annotations:
            say_others(chosen.clips, console)
        with only_run(chosen.out):
            named_clips, refused = split_ids(clips)
            todo = [clip for clip in named_clips if not (chosen.out / f"{clip.id}.npy").is_file()]
            model = build(chosen, source) if todo or chosen.model != "swin" else None
            turning = {} if pictures else {"rotation": rotation}
            keep_settings(chosen.out, settings_of(chosen, model) | turning)
            failed = extract_all(model, todo, chosen.out, chosen, console) if todo else {}
            done, there = len(todo) - len(failed), len(named_clips) - len(todo)
            finish(chosen.out, console, done=done, there=there, failed=refused | failed)
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on.")
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        sys.exit(
            "a process that read clips died: FFmpeg crashed, or there was not enough memory. What is done stays; run "
            "again with fewer --workers, or with --workers 0 and --batch-size 1 to see at which clip."
        )
    except (ValueError, OSError) as error:  # DataError, CheckpointError
        sys.exit(str(error))


if __name__ == "__main__":
    main()
