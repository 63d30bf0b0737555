"""Mean and deviation of the training tokens, computed once and kept beside the features.

mean, std = training_statistics(track, Path("CLIP_L14_frames_features_5fps.h5"), ("segment_pad", 25, 5.0))
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.audio_description.tracks import Track
from datamodules.formats.kept import read_kept, write_kept


def training_statistics(track: Track, path: Path, about: tuple) -> tuple[Tensor, Tensor]:
    """Mean and softened deviation of a track's tokens, (width,) float32 each; kept under a hash of all they depend on.

    path: file or folder of the track's features; about: whatever else chose the tokens.
    """
    key = hashlib.sha256(repr((*track.features.version(), *about)).encode())
    key.update(repr(track.movies).encode())
    key.update(track.rows.numpy().tobytes())
    kept = path.with_name(f".{path.stem}-statistics-{key.hexdigest()[:12]}.json")

    def fits(value: Any) -> bool:
        return isinstance(value, list) and [len(part) for part in value] == 2 * [track.features.width]

    if (found := read_kept(kept, fits)) is not None:
        mean, std = torch.tensor(found, dtype=torch.float32)
        return mean, std
    mean, std = track.statistics()
    write_kept(kept, [mean.tolist(), std.tolist()])  # a float32 comes back from JSON as it was
    return mean, std
