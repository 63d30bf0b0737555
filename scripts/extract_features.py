"""Extracts a Video Swin's grid features of clips, so that a captioner with a frozen backbone trains without decoding.

    python -m scripts.extract_features data/msrvtt/frames data/msrvtt/features
    python -m scripts.extract_features data/msrvtt/videos data/msrvtt/features --weights swin_k600.pth --batch-size 8

Reads a folder of video files, or of the frame folders that scripts/extract_frames.py writes; the central square of
every clip, no augmentation. Writes FEATURES/<clip>.npy, (784, 1024) float16 for 32 frames of 224 pixels and Swin-B
(1.6 MB; 16 GB for MSR-VTT); data.source=features reads them, also packed (scripts/pack_features.py). A file is complete
or absent, so a run that was stopped can be started again and goes on. A clip that cannot be read is listed in
FEATURES/failures.txt, and the exit status is 1. --weights takes a name that torchvision has, or a file.
"""

import hashlib
import sys
from pathlib import Path

import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset

from datamodules.errors import DataError
from datamodules.loading import whole
from datamodules.video_captioning.captions import LAYOUTS, Clip
from datamodules.video_captioning.clips import Pixels
from datamodules.video_captioning.feature_files import write_features
from datamodules.video_captioning.sources import FrameFolders, VideoFiles
from scripts.arguments import parser_for
from scripts.extracting import clips_of, finish, keep_settings, only_run, progress, split_ids

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = ("tiny", "small", "base")
WEIGHTS = "KINETICS400_IMAGENET22K_V1"


class Readable(Dataset):
    """Batches of the clips that can be read, and what is wrong with the others."""

    def __init__(self, clips: list[Clip], pixels: Pixels):
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


def build(size: str, weights: str | None) -> torch.nn.Module:
    """The captioner's backbone, (B, F, 3, S, S) -> (B, G, D)."""
    from tasks.video_captioning.swin import VideoSwin

    return VideoSwin(size, weights=weights).eval()


@torch.inference_mode()
def extract_all(backbone, clips: list[Clip], pixels: Pixels, out: Path, chosen, console: Console) -> dict[str, str]:
    """id -> what is wrong, of the clips that failed."""
    failed = {}
    batches = DataLoader(Readable(clips, pixels), chosen.batch_size, num_workers=chosen.workers, collate_fn=whole)
    with progress(console) as bar:
        task = bar.add_task("clips", total=len(clips))
        for names, frames, wrong in batches:
            failed |= wrong
            grids = [] if frames is None else backbone(frames.to(chosen.device)).float().cpu().numpy()
            for name, grid in zip(names, grids, strict=True):
                try:
                    write_features(out, name, grid)
                except DataError as error:
                    failed[name] = str(error)
            bar.advance(task, len(names) + len(wrong))
    return failed


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
    parser.add_argument("--size", choices=SIZES, default="base", help="size of the Video Swin (base)")
    parser.add_argument("--weights", default=WEIGHTS, help=f"torchvision's name or a file ({WEIGHTS})")
    parser.add_argument("--frames", type=int, default=32, help="frames per clip (32)")
    parser.add_argument("--image-size", type=int, default=224, help="pixels (224)")
    parser.add_argument("--batch-size", type=int, default=4, help="clips at a time (4)")
    parser.add_argument("--pattern", default="{video}.*", help="name of a video's file ({video}.*: any ending)")
    parser.add_argument("--annotations", type=Path, nargs="+", default=[], help="json files: the clips in them")
    parser.add_argument("--layout", choices=LAYOUTS, default="msrvtt", help="layout of the annotations (msrvtt)")
    parser.add_argument("--workers", type=int, default=4, help="processes that read clips; 0: this one reads them (4)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args(arguments)
    for name, least in (("frames", 1), ("image_size", 32), ("batch_size", 1), ("workers", 0)):
        if getattr(chosen, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(chosen, name)}: the least is {least}")
    console = Console()
    try:
        clips = clips_of(chosen.clips, chosen.annotations, chosen.layout)
        pictures = any(entry.is_dir() for entry in chosen.clips.iterdir())
        source = FrameFolders(chosen.clips) if pictures else VideoFiles(chosen.clips, chosen.pattern)
        pixels = Pixels(source, chosen.frames, chosen.image_size, chosen.image_size, MEAN, STD)
        with only_run(chosen.out):
            settings = {key: getattr(chosen, key) for key in ("size", "frames", "image_size")}
            keep_settings(chosen.out, {**settings, "weights": named(chosen.weights)})
            named_clips, refused = split_ids(clips)
            todo = [clip for clip in named_clips if not (chosen.out / f"{clip.id}.npy").is_file()]
            backbone = build(chosen.size, chosen.weights).to(chosen.device) if todo else None
            failed = extract_all(backbone, todo, pixels, chosen.out, chosen, console)
            done, there = len(todo) - len(failed), len(named_clips) - len(todo)
            finish(chosen.out, console, done=done, there=there, failed=refused | failed)
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on.")
    except (ValueError, OSError) as error:  # DataError, CheckpointError
        sys.exit(str(error))


if __name__ == "__main__":
    main()
