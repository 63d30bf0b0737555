"""The mini audio description data: movies of handwritten digits and sounds, in the files of MAD-v2.

A movie is a row of shots, each one handwritten digit, noisy; its sound track is noise. Each described segment holds two
cues, one in each half: a keypad tone (or a spoken digit, or an environmental sound). The description says which key
sounds and which digit is on the screen when the sound begins: "Key five sounds as seven shows, then nine as two shows."
Neither track tells it alone, and all other shots are distractors. A movie has a small cast of digits and keys, so that
neighbouring descriptions are alike. No picture (and no recording) of one split occurs in another.

    folder = write_mini(root, settings, files, sounds="tones", speech_dir=None, seed=0)

Written with the traps of the real files: ids with leading zeros, unsorted rows, a negative start, an empty caption,
reversed times, a byte that is not UTF-8, and another caption column in the evaluation file.
"""

import csv
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np

from datamodules.audio_description.annotations import annotation_id
from datamodules.audio_description.mini.kinds import KINDS, WORD_ROWS
from datamodules.audio_description.mini.oracle import Cue, read_cues
from datamodules.audio_description.mini.sounds import RATE, ROW, WIDTH, keypad_tones, log_mel
from datamodules.errors import DataError, some
from datamodules.mini.digits import SPLITS, WORDS, digit_images, digit_indices
from datamodules.mini.store import build_once

FORMAT = 1  # raise whenever the same settings would give other files
FPS = RATE / ROW  # 5 rows a second, the rate of the MAD features
PIXELS = 64
ORACLE, META = "oracle.csv", "meta.json"
BACKGROUND = 4096  # different rows of noise per split


@dataclass(frozen=True)
class MiniSettings:
    """Sizes and difficulty. Rows are feature rows of 0.2 s."""

    train_movies: int
    val_movies: int
    test_movies: int
    segments: int  # described segments per movie; a window of R@5/16 needs 16
    digits: int  # different digits in a movie's cast, 2..10
    keys: int  # different keys in a movie's cast, 2..10
    min_rows: int  # shortest segment
    max_rows: int  # longest segment
    min_shot: int  # shortest shot
    max_shot: int  # longest shot
    tone_rows: int  # length of a tone
    picture_noise: float  # standard deviation, pixels are in [0, 1]
    tone_noise: float  # standard deviation; a tone is two sines of amplitude 1
    speech_noise: float  # standard deviation; a word, or another recorded sound, has RMS 1

    def check(self, rows: int = WORD_ROWS) -> None:
        """DataError if no scene can be made; rows: length of a recorded sound."""
        half, longest = self.min_rows // 2, max(self.tone_rows, rows)
        if half < longest:
            raise DataError(f"mini: min_rows={self.min_rows} has no room for two sounds of {longest} rows.")
        if not 1 <= self.min_shot <= self.max_shot or not self.min_rows <= self.max_rows:
            raise DataError("mini: needs 1 <= min_shot <= max_shot and min_rows <= max_rows.")
        if not 2 <= self.digits <= 10 or not 2 <= self.keys <= 10:
            raise DataError(f"mini: digits={self.digits} and keys={self.keys} must be in 2..10.")
        if min(self.train_movies, self.test_movies, self.segments) < 1 or self.val_movies < 0:
            raise DataError("mini: needs at least one training movie, one test movie and one segment.")


@dataclass(frozen=True)
class Files:
    """File names inside the data folder, as they are given to the data module."""

    video: str
    audio: str | None  # None: only the pictures
    train: str
    eval: str
    split: str

    def check(self) -> None:
        """DataError for a name that leads out of the generated folder: writing there would replace another file."""
        names = [name for name in vars(self).values() if name is not None]
        for name in names:
            if not name or name == ".." or Path(name).name != name:
                raise DataError(
                    f"mini: {name!r} is not a plain file name. Generated data is written under data.root, by name "
                    "alone; real files belong to scale=paper (data.mini=null)."
                )
        names += [ORACLE, META]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DataError(
                f"mini: {some(twice)} would be written twice. Every generated file needs a name of its own, other than "
                f"{ORACLE} and {META}."
            )


@dataclass
class Movie:
    name: str
    video: np.ndarray  # (R, 64) float16
    audio: np.ndarray  # (R, 64) float16
    starts: np.ndarray  # (S,) first row of each segment
    lengths: np.ndarray  # (S,) rows
    cues: list[tuple[Cue, Cue]]  # two per segment


def write_mini(
    root: Path,
    settings: MiniSettings,
    files: Files,
    *,
    sounds: str,
    speech_dir: str | None,
    seed: int,
    esc10_dir: str | None = None,
) -> Path:
    """The folder with the files, generated unless it is there. The same arguments give the same bytes.

    Raises DataError, before anything is written: unknown sounds, settings without room for a scene, a file name that is
    a path, a folder of recordings that is missing or cannot be used.
    """
    if sounds not in KINDS:
        raise DataError(f"sounds is {sounds!r}, allowed: {', '.join(KINDS)}.")
    kind = KINDS[sounds]
    settings.check(kind.rows or WORD_ROWS)
    files.check()
    recordings = None
    if kind.files is not None:
        folder = {"speech": speech_dir, "esc10": esc10_dir}[sounds]
        if folder is None:
            raise DataError(f"sounds={sounds} needs {sounds}_dir, {kind.source}.")
        recordings = kind.files(folder, seed)
    key = {"format": FORMAT, "seed": seed, "sounds": sounds, "settings": asdict(settings), "files": asdict(files)}
    if recordings:
        key["recordings"] = _contents(
            path for split in recordings.values() for paths in split.values() for path in paths
        )
    return build_once(root, "madv2-mini", key, lambda folder: _write(folder, settings, files, sounds, recordings, seed))


def _contents(paths: Iterable[Path]) -> str:
    """One hash of the names and bytes of all files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _write(folder: Path, settings: MiniSettings, files: Files, sounds: str, recordings, seed: int) -> None:
    kind = KINDS[sounds]
    movies = _make_movies(settings, sounds, recordings, seed)
    for name, track in ((files.video, "video"), (files.audio, "audio")):
        if name is None:
            continue
        with h5py.File(folder / name, "w") as file:
            for movie in (movie for split in SPLITS for movie in movies[split]):
                file.create_dataset(movie.name, data=getattr(movie, track))
    names = {split: [movie.name for movie in movies[split]] for split in SPLITS}
    (folder / files.split).write_text(
        json.dumps({"TRAIN": names["train"], "VAL": names["val"], "EVAL": names["test"]}, indent=1) + "\n"
    )
    rng = np.random.default_rng([seed, 0])
    _write_csv(folder / files.train, "text", movies["train"], sounds, rng, traps=True)
    order = _write_csv(folder / files.eval, "sentence", movies["val"] + movies["test"], sounds, rng, traps=False)

    rows = kind.rows or settings.tone_rows
    read = read_cues(movies["train"], movies["test"], digit_images("train", seed), rows)
    with (folder / ORACLE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ann_id", "text"])
        for row, place in enumerate(order):
            if place in read:
                writer.writerow([annotation_id(files.eval, row), describe(sounds, read[place])])
    meta = {
        "format": FORMAT,
        "seed": seed,
        "sounds": sounds,
        "settings": asdict(settings),
        "movies": names,
        "segments": {split: sum(len(movie.starts) for movie in movies[split]) for split in SPLITS},
        "images": {split: digit_indices(split, seed).tolist() for split in SPLITS},
        "recordings": recordings
        and {split: sorted(p.name for paths in recordings[split].values() for p in paths) for split in SPLITS},
    }
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n")


def _make_movies(settings: MiniSettings, sounds: str, recordings, seed: int) -> dict[str, list[Movie]]:
    """The movies of each split. Every movie has its own random stream."""
    kind, movies, number = KINDS[sounds], {}, 0
    length = kind.rows or settings.tone_rows
    for index, split in enumerate(SPLITS):
        images = digit_images(split, seed)
        words = recordings and {
            key: [wave for path in paths for wave in kind.read(path)] for key, paths in recordings[split].items()
        }
        noise = settings.tone_noise if words is None else settings.speech_noise
        rng = np.random.default_rng([seed, 0, 1 + index])
        background = log_mel(noise * rng.standard_normal(BACKGROUND * ROW, dtype=np.float32))
        movies[split] = []
        for _ in range(getattr(settings, f"{split}_movies")):
            number += 1
            rng = np.random.default_rng([seed, number])
            movies[split].append(make_movie(f"{17 * number:04d}", settings, images, words, background, rng, length))
    return movies


def make_movie(
    name: str, settings: MiniSettings, images, words, background, rng: np.random.Generator, length: int
) -> Movie:
    """One movie.

    images: pixels (N, 8, 8) and labels (N,) of its split; words: recordings by key, or None for tones;
    background: feature rows of noise alone (n, 64), from which the rows without a sound are drawn; length: rows of a
    sound.
    """
    pixels, labels = images
    digits, keys = rng.permutation(10)[: settings.digits], rng.permutation(10)[: settings.keys]
    lengths = rng.integers(settings.min_rows, settings.max_rows + 1, settings.segments)
    gaps = rng.integers(0, 4, settings.segments)  # undescribed rows after each segment
    starts = np.concatenate([[0], np.cumsum(lengths + gaps)[:-1]])
    rows = int(starts[-1] + lengths[-1] + gaps[-1])

    # Picture track: shots, never the same digit twice running.
    shot_rows = rng.integers(settings.min_shot, settings.max_shot + 1, rows)
    shot_ends = np.cumsum(shot_rows)
    shots = int(np.searchsorted(shot_ends, rows)) + 1
    shot_starts = shot_ends - shot_rows
    hops = rng.integers(1, settings.digits, shots)
    shown = digits[np.cumsum(hops) % settings.digits]  # (shots,) digit of each shot
    by_digit = [np.flatnonzero(labels == digit) for digit in range(10)]
    image = np.array([rng.choice(by_digit[digit]) for digit in shown])
    shot_of_row = np.searchsorted(shot_ends, np.arange(rows), side="right")
    video = pixels.reshape(-1, PIXELS)[image][shot_of_row]
    video += settings.picture_noise * rng.standard_normal(video.shape, dtype=np.float32)

    # Sound track: background noise, and two cues per segment, one in each half.
    half = lengths // 2
    onsets = starts[:, None] + np.stack(
        [rng.integers(0, half - length + 1), rng.integers(half, lengths - length + 1)], axis=1
    )  # (S, 2) first row of each sound
    sounding = keys[rng.integers(0, settings.keys, onsets.shape)]  # (S, 2)
    samples = length * ROW
    noise = settings.tone_noise if words is None else settings.speech_noise
    waves = noise * rng.standard_normal((onsets.size, samples), dtype=np.float32)
    if words is None:
        waves += keypad_tones(sounding.ravel(), samples, rng)
    else:
        for wave, key in zip(waves, sounding.ravel(), strict=True):
            word, late = words[key][rng.integers(len(words[key]))], rng.integers(ROW // 4)
            wave[late : late + len(word)] += word[: samples - late]
    audio = background[rng.integers(len(background), size=rows)]  # (R, 64)
    audio[onsets.ravel()[:, None] + np.arange(length)] = log_mel(waves).reshape(-1, length, WIDTH)

    def cue(onset: int, key: int) -> Cue:
        shot = shot_of_row[onset]
        span = (int(shot_starts[shot]), int(min(shot_ends[shot], rows)))
        return Cue(onset, int(key), int(shown[shot]), span)

    cues = [tuple(cue(int(o), k) for o, k in zip(*pair, strict=True)) for pair in zip(onsets, sounding, strict=True)]
    return Movie(name, video.astype(np.float16), audio.astype(np.float16), starts, lengths, cues)


def describe(sounds: str, answers) -> str:
    """The description of ((key, digit), (key, digit))."""
    (key, digit), (later_key, later_digit) = answers
    kind = KINDS[sounds]
    return kind.sentence.format(kind.names[key], WORDS[digit], kind.names[later_key], WORDS[later_digit])


def _write_csv(path: Path, caption: str, movies: list[Movie], sounds: str, rng, traps: bool) -> list[tuple[str, int]]:
    """Writes shuffled annotation rows; returns what each row describes as (movie, segment)."""
    rows, order = [], []
    for movie in movies:
        for segment, (start, length) in enumerate(zip(movie.starts, movie.lengths, strict=True)):
            text = describe(sounds, [(cue.key, cue.digit) for cue in movie.cues[segment]])
            # Times lie inside the first and the last row, so that floor and ceiling give exactly these rows.
            begin, end = (start + 0.3) / FPS, (start + length - 0.3) / FPS
            rows.append([movie.name, f"{begin:.3f}", f"{end:.3f}", text])
            order.append((movie.name, segment))
    shuffled = rng.permutation(len(rows))
    rows, order = [rows[i] for i in shuffled], [order[i] for i in shuffled]
    if traps:
        first = next(i for i, (_, segment) in enumerate(order) if segment == 0)
        rows[first][1] = "-0.140"
        rows[min(1, len(rows) - 1)][3] += "\x80"  # written as the single byte 0x80: not UTF-8
        rows.append([movies[0].name, "1.000", "2.000", "  "])
        rows.append([movies[0].name, "3.000", "1.000", rows[0][3]])
    with path.open("w", newline="", encoding="latin-1") as file:
        writer = csv.writer(file)
        writer.writerow(["movie", "start", "end", caption])
        writer.writerows(rows)
    return order
