"""ESC-10: real sounds of ten kinds, five seconds each, split so that no recording is heard in two splits.

    files = sound_files("esc10", seed=0)         # files["test"]["rooster"]: paths
    wave = read_sound(path, rate=8000)           # (n,) float32, mono
    loud = excerpts(wave, 6400)                  # the parts of that length in which something sounds

A folder per class, in it <fold>-<Freesound id>-<take>.ogg (or .wav, .mp3, .flac). Takes of one Freesound id are parts
of one recording. Licences are per clip: the data set's README names them and the authors.
"""

import hashlib
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, near, some
from datamodules.formats.guard import reading

SOUNDS = {  # class folder -> one word for it
    "baby_cry": "baby",
    "chainsaw": "chainsaw",
    "clock_tick": "clock",
    "dog_bark": "dog",
    "fire_crackling": "fire",
    "helicopter": "helicopter",
    "person_sneeze": "sneeze",
    "rain": "rain",
    "rooster": "rooster",
    "sea_waves": "sea",
}
SHARES = {"test": 0.2, "val": 0.1}  # of the recordings of a class; at least one each
NAME = re.compile(r"\d+-(\d+)-\w+\.(?:ogg|wav|mp3|flac)", re.IGNORECASE)
GUIDE = "docs/datasets.md#environmental-sounds"
LOUD = 0.5  # an excerpt has at least this share of the RMS of the clip's loudest one

Files = dict[str, dict[str, list[Path]]]  # by split and class


def sound_files(folder: str | Path, seed: int) -> Files:
    """The clips of every split and class. Which recordings are in which split follows from `seed` and their ids.

    DataError: no such folder, a class without clips or with fewer than three recordings, a name of another form.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"ESC-10: '{folder}' is not a folder; it needs a folder for each class ({GUIDE}).")
    clips = {name: _clips(folder / name) for name in SOUNDS if (folder / name).is_dir()}
    if lacking := [name for name in SOUNDS if not clips.get(name)]:
        others = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name not in SOUNDS)
        raise DataError(f"ESC-10: '{folder}' has no clips of {some(lacking, 10)}.{near(lacking[0], others)} ({GUIDE})")
    splits: dict[str, str] = {}  # of every recording: one that is in two classes is in one split
    for name, found in clips.items():
        _deal(name, sorted({recording for recording, _ in found}), splits, seed)
    files: Files = {split: defaultdict(list) for split in ("train", "val", "test")}
    for name, found in clips.items():
        for recording, path in found:
            files[splits[recording]][name].append(path)
    for split, by_class in files.items():
        if lacking := [name for name in SOUNDS if not by_class[name]]:
            raise DataError(f"ESC-10: '{folder}' has no {split} recording of {some(lacking, 10)}.")
    return files


def _clips(folder: Path) -> list[tuple[str, Path]]:
    """(Freesound id, path) of every clip of a class."""
    found = []
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if (match := NAME.fullmatch(path.name)) is None:
            raise DataError(f"{path}: expected a name like 1-26806-A.ogg (<fold>-<Freesound id>-<take>.ogg).")
        found.append((match[1], path))
    return found


def _deal(name: str, recordings: list[str], splits: dict[str, str], seed: int) -> None:
    """Gives every recording of a class its split, in the order of a hash of (seed, id)."""
    if len(recordings) < 3:
        raise DataError(f"ESC-10: {name} has {len(recordings)} recording(s); train, val and test need one each.")
    order = sorted(recordings, key=lambda one: hashlib.blake2b(one.encode(), key=str(seed).encode()).digest())
    for split, share in SHARES.items():
        wanted = max(1, round(share * len(order)))
        there = sum(splits.get(one) == split for one in order)
        for one in [one for one in order if one not in splits][: max(0, wanted - there)]:
            splits[one] = split
    for one in order:
        splits.setdefault(one, "train")


def read_sound(path: Path, rate: int) -> np.ndarray:
    """A clip as (n,) float32 at `rate` samples a second, its channels mixed. DataError: undecodable, empty, silent."""
    import av  # imported here: a data set that exists needs no decoder

    with reading(f"{path} cannot be decoded as sound ({path.stat().st_size} bytes)"), av.open(str(path)) as container:
        if not container.streams.audio:
            raise DataError(f"{path}: no sound in it.")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        parts = [part.to_ndarray()[0] for part in [*frames, *resampler.resample(None)]]
    wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not wave.any():
        raise DataError(f"{path}: the clip is empty or silent.")
    return wave


def excerpts(wave: np.ndarray, samples: int) -> list[np.ndarray]:
    """Parts of `samples` samples, half overlapping, in which something sounds, each scaled to RMS 1.

    ESC-10 fills short sounds up with silence. A clip that is shorter than a part is filled up, too.
    """
    wave = np.pad(wave, (0, max(0, samples - len(wave))))
    parts = [wave[first : first + samples] for first in range(0, len(wave) - samples + 1, max(1, samples // 2))]
    loudness = np.array([float(np.sqrt(np.mean(np.square(part, dtype=np.float64)))) for part in parts])
    chosen = loudness >= max(LOUD * loudness.max(), np.finfo(np.float32).tiny)
    return [part / np.float32(level) for part, level, use in zip(parts, loudness, chosen, strict=True) if use]
