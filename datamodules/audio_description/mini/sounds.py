"""Sounds of the mini data sets: telephone keypad tones or spoken digits, 8 kHz, through one log-mel front end.

A feature row is 0.2 s: 4 sub-frames of 50 ms x 16 mel bands.

    waves = keypad_tones(np.array([5, 3]), samples=3200, rng=rng)   # (2, 3200)
    rows = log_mel(waves)                                           # (4, 64)
"""

import wave
from collections import defaultdict
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.log_mel import LogMel

RATE = 8000  # samples per second
ROW = 1600  # samples per feature row: 5 rows per second
FRAME = 400  # samples per sub-frame
BANDS = 16
WIDTH = ROW // FRAME * BANDS  # features per row
FRONT_END = LogMel(rate=RATE, row=ROW, frame=FRAME, bands=BANDS, low=100.0, high=3800.0, size=FRAME)

# ITU-T Q.23: a key is one row frequency and one column frequency.
ROWS, COLUMNS = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0)
KEYS = {1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 0), 5: (1, 1), 6: (1, 2), 7: (2, 0), 8: (2, 1), 9: (2, 2), 0: (3, 1)}

TEST_RECORDINGS, VAL_RECORDINGS = range(0, 5), range(5, 10)  # by index; 0-4 is the data set's own test split


def keypad_tones(keys: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Tones of keys (n,) 0-9, (n, samples) float32: two sines of amplitude 1 each, every sine with a random phase."""
    pairs = np.array([(ROWS[KEYS[key][0]], COLUMNS[KEYS[key][1]]) for key in range(10)])  # (10, 2) Hz
    angles = 2 * np.pi * pairs[:, :, None] * np.arange(samples) / RATE
    sine, cosine = np.sin(angles).astype(np.float32), np.cos(angles).astype(np.float32)  # (10, 2, samples)
    phase = rng.uniform(0, 2 * np.pi, (len(keys), 2, 1)).astype(np.float32)
    return (sine[keys] * np.cos(phase) + cosine[keys] * np.sin(phase)).sum(1)


log_mel = FRONT_END.rows  # samples, R * ROW in all, float32 -> (R, WIDTH) float32


def speech_files(folder: str | Path) -> dict[str, dict[int, list[Path]]]:
    """Recordings `{digit}_{speaker}_{index}.wav` (Free Spoken Digit Dataset) by split and digit.

    Split by index: 0-4 test, 5-9 val, the rest train. DataError: no such folder, no recordings, a split lacks a digit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"sounds=speech: speech_dir '{folder}' is not a folder. Give the folder 'recordings' of a checkout of the "
            "Free Spoken Digit Dataset (docs/datasets.md#speech), or use sounds=tones, which needs no files."
        )
    found: dict[str, dict[int, list[Path]]] = {split: defaultdict(list) for split in ("train", "val", "test")}
    for path in sorted(folder.glob("*.wav")):
        digit, index = path.stem.partition("_")[0], path.stem.rpartition("_")[2]
        if not (digit in list("0123456789") and index.isdigit()):
            raise DataError(f"{path}: expected a name like 7_jackson_32.wav ({{digit}}_{{speaker}}_{{index}}.wav).")
        split = "test" if int(index) in TEST_RECORDINGS else "val" if int(index) in VAL_RECORDINGS else "train"
        found[split][int(digit)].append(path)
    if not any(found.values()):
        raise DataError(f"sounds=speech: no .wav files in '{folder}'. Is this the folder 'recordings'?")
    for split, by_digit in found.items():
        lacking = [digit for digit in range(10) if not by_digit[digit]]
        if lacking:
            raise DataError(
                f"sounds=speech: '{folder}' has no {split} recordings of the digits {some(lacking, 10)} "
                "(index 0-4 is test, 5-9 val, the rest train)."
            )
    return found


def read_word(path: Path, seconds: float) -> np.ndarray:
    """A recording cut at `seconds` and scaled to unit RMS, (n,) float32.

    DataError: wrong rate, channels or bits; truncated; silent.
    """
    with reading(f"{path}: not a readable wav file"), wave.open(str(path), "rb") as file:
        rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
        frames = file.getnframes()
        samples = file.readframes(frames)
    if rate != RATE:
        raise DataError(f"{path}: sample rate {rate} Hz, expected {RATE} Hz. Resample the recordings first.")
    if (channels, width) != (1, 2):
        raise DataError(f"{path}: expected mono 16-bit, found {channels} channels of {8 * width} bits.")
    if len(samples) != frames * width:
        raise DataError(
            f"{path}: truncated or not fully downloaded; it has {len(samples)} bytes of sound, its header says "
            f"{frames * width}."
        )
    samples = np.frombuffer(samples, "<i2")
    word = samples[: round(seconds * RATE)].astype(np.float32)
    rms = float(np.sqrt(np.mean(word**2))) if len(word) else 0.0
    if rms == 0:
        raise DataError(f"{path}: the recording is empty or silent.")
    return word / rms
