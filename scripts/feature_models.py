"""Models whose features of a clip a captioner reads: Video Swin, and CLIP and VideoMAE as transformers saves them.

    model = videomae("path/to/videomae", source, frames=None)
    model.pixels.read(clip, None)              # (F, 3, S, S) of a clip
    model(batch)                               # (B, T, P, D) float32: T times, P places

`pixels` is the Input (datamodules/video_captioning/clips.py) that prepares clips as the model wants them. Rows are

    swin        16 x 49 for 32 frames of 224 pixels; the captioner's own backbone
    clip        F x 1: a row per frame, its embedding after CLIP's projection, not normalised
    videomae    8 x 196 for 16 frames of 224 pixels: the encoder's last hidden states
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.errors import some
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.clips import Input, Pixels
from datamodules.video_captioning.sources import FrameFolders, VideoFiles
from tasks.common.clip_extractor import PICTURES, ClipExtractor
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import WEIGHTS, check_files, digest, from_pretrained
from tasks.video_captioning.swin import VideoSwin, load

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which Video Swin and VideoMAE were trained with
DEFAULTS = {
    "swin": "KINETICS400_IMAGENET22K_V1",
    "clip": "openai/clip-vit-base-patch32",
    "videomae": "MCG-NJU/videomae-base-finetuned-kinetics",
}
FRAMES, OPTION = 32, "--weights"


class FeatureModel(nn.Module):
    """Clips as `pixels` prepares them, (B, F, 3, S, S), -> (B, T, P, D).

    net: -> (B, T * P, D), times first. weights: what tells these weights from others.
    """

    def __init__(self, net: nn.Module, pixels: Input, frames: int, times: int, weights: str):
        super().__init__()
        self.net, self.pixels, self.frames, self.times, self.weights = net, pixels, frames, times, weights

    def forward(self, clips: Tensor) -> Tensor:
        return self.net(clips).unflatten(1, (self.times, -1))


def swin(weights: str, source: VideoFiles | FrameFolders, frames: int, size: str, image_size: int) -> FeatureModel:
    """weights: torchvision's name or a file. CheckpointError: neither, or they do not fit `size`."""
    net = VideoSwin(size)
    load(net.swin, weights, size, option=OPTION)
    pixels = Pixels(source, frames, image_size, image_size, MEAN, STD)
    return FeatureModel(net.eval(), pixels, frames, net.tokens(frames, 1, 1), weights)


def clip(weights: str, source: VideoFiles | FrameFolders, frames: int) -> FeatureModel:
    """weights: a folder that transformers wrote, or a name on the hub. CheckpointError as ClipExtractor.load."""
    extractor = ClipExtractor.load(weights, key=OPTION)
    pixels = ClipPixels(source, frames, extractor)
    return FeatureModel(Pictures(extractor.model), pixels, frames, frames, extractor.settings["weights"])


def videomae(weights: str, source: VideoFiles | FrameFolders, frames: int | None) -> FeatureModel:
    """weights: as `clip`. CheckpointError: no VideoMAE there, weights missing, or another number of frames than its."""
    from transformers import AutoConfig, AutoImageProcessor, VideoMAEModel

    check_files(OPTION, weights)
    with from_pretrained(OPTION, weights, "a VideoMAE model", "config.json"):
        config = AutoConfig.from_pretrained(weights)
    if config.model_type != "videomae":
        raise CheckpointError(f"{OPTION}: {weights!r} is a model of type {config.model_type!r}, expected 'videomae'")
    if frames not in (None, config.num_frames):
        raise CheckpointError(f"--frames {frames}: this VideoMAE reads {config.num_frames} frames, no other number")
    with from_pretrained(OPTION, weights, "VideoMAE's weights", "config.json", *WEIGHTS):
        model, found = VideoMAEModel.from_pretrained(weights, dtype=torch.float32, output_loading_info=True)
    if found["missing_keys"]:
        raise CheckpointError(f"{OPTION}: {weights!r} lacks weights: {some(sorted(found['missing_keys']), limit=3)}")
    mean, std = MEAN, STD
    if not Path(weights).is_dir() or any((Path(weights) / name).is_file() for name in PICTURES):
        with from_pretrained(OPTION, weights, "VideoMAE's image processor", *PICTURES):
            processor = AutoImageProcessor.from_pretrained(weights)
            mean, std = processor.image_mean, processor.image_std
    size, count = config.image_size, config.num_frames
    pixels = Pixels(source, count, size, size, mean, std)
    return FeatureModel(States(model.eval()), pixels, count, count // config.tubelet_size, digest(model))


class ClipPixels:
    """Frames as CLIP's image processor prepares them: (F, 3, S, S) float32 of a clip."""

    key = "frames"

    def __init__(self, source: VideoFiles | FrameFolders, frames: int, extractor: ClipExtractor):
        self.source, self.frames, self.extractor = source, frames, extractor

    def read(self, clip: Clip, rng: np.random.Generator | None) -> Tensor:
        return self.extractor.prepared(list(self.source.frames(clip, self.frames)))

    def batch(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values)


class Pictures(nn.Module):
    """CLIP's projected embedding of every frame: (B, F, 3, S, S) -> (B, F, D)."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=clips.flatten(0, 1)).pooler_output
        return self.model.visual_projection(pooled).unflatten(0, clips.shape[:2])


class States(nn.Module):
    """VideoMAE's last hidden states: (B, F, 3, S, S) -> (B, G, D), times first, then rows."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(pixel_values=clips).last_hidden_state
