"""Mean and deviation of the training tokens, computed once and kept beside the features.

mean, std = training_statistics(track, Path("CLIP_L14_frames_features_5fps.h5"), ("segment_pad", 25, 5.0))
"""

import contextlib
import hashlib
import logging
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.audio_description.tracks import Track

log = logging.getLogger(__name__)


def training_statistics(track: Track, path: Path, about: tuple) -> tuple[Tensor, Tensor]:
    """Mean and softened deviation of a track's tokens, (width,) float32 each; kept under a hash of all they depend on.

    path: file or folder of the track's features; about: whatever else chose the tokens.
    """
    key = hashlib.sha256(repr((*track.features.version(), *about)).encode())
    key.update(repr(track.movies).encode())
    key.update(track.rows.numpy().tobytes())
    kept = path.with_name(f".{path.stem}-statistics-{key.hexdigest()[:12]}.npy")
    if kept.is_file():
        mean, std = torch.from_numpy(np.load(kept))
        return mean, std
    mean, std = track.statistics()
    draft = kept.with_suffix(f".{os.getpid()}.npy")
    try:
        np.save(draft, torch.stack([mean, std]).numpy())
        draft.replace(kept)
    except OSError as error:  # read-only folder (PermissionError) or mount (EROFS), full disk
        with contextlib.suppress(OSError):
            draft.unlink()
        log.info("the feature statistics cannot be kept (%s): the next run computes them again", error)
    return mean, std
