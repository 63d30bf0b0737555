"""The mini moments and highlights: videos of handwritten digits over moving stripes, in the files of QVHighlights.

A video is a row of shots. In each, one handwritten digit is on the screen (stream clip_features: its pixels) and the
stripes behind it move in one way (stream slowfast_features: the power spectrum of their motion). A query asks for both,
"when somebody shows seven while the stripes go left", or for the digit alone; its moments are all shots that fit. Other
shots show the digit over other stripes, or the stripes behind other digits: neither stream tells the moment alone, and
the video without the query tells nothing. How clearly a digit is seen varies from clip to clip: that is what the
raters score. No image of one split is in another.

    folder = write_mini(root, settings, seed=0)
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.mini.digits import SPLITS, digit_images, digit_indices
from datamodules.mini.store import build_once
from datamodules.moment_retrieval.mini.oracle import read_test
from datamodules.moment_retrieval.mini.queries import Words, ask
from datamodules.moment_retrieval.mini.stripes import CLIP, MOTIONS, SPECTRUM, stripes
from datamodules.packed import pack, packed_path

FORMAT = 1  # raise whenever the same settings would give other files
PIXELS = 64
TEXT = 48  # features per word
WIDTHS = {"slowfast_features": SPECTRUM, "clip_features": PIXELS}
STREAMS = tuple(WIDTHS)
ANNOTATIONS = {
    "train": "highlight_train_release.jsonl",
    "val": "highlight_val_release.jsonl",
    "test": "highlight_test_with_gt.jsonl",
}
QUERIES, ORACLE, META = "clip_text_features", "oracle.jsonl", "meta.json"
RATERS, TOP_SCORE = 3, 4
FAINTEST = 0.35  # contrast of a digit that scores 0; 1 scores 4


@dataclass(frozen=True)
class MiniSettings:
    """Sizes and difficulty. A clip is 2 seconds."""

    train_videos: int
    val_videos: int
    test_videos: int
    queries: int  # different queries per video
    min_clips: int  # shortest video
    max_clips: int  # longest video
    min_shot: int  # shortest shot, clips
    max_shot: int  # longest shot
    digits: int  # different digits in a video's cast, 2..10
    motions: int  # different motions of the stripes in a video, 2..4
    plain: float  # share of the queries that name a digit alone, 0..1
    picture_noise: float  # standard deviation; pixels are in [0, 1]
    motion_noise: float  # standard deviation; the stripes have amplitude 1
    text_noise: float  # standard deviation; that of a word's features is 1
    rater_noise: float  # standard deviation; scores are 0..4

    def check(self) -> None:
        """DataError if no video can be made."""
        if not 1 <= self.min_shot <= self.max_shot or not self.max_shot < self.min_clips <= self.max_clips:
            raise DataError(
                f"mini: needs 1 <= min_shot <= max_shot < min_clips <= max_clips; given min_shot={self.min_shot}, "
                f"max_shot={self.max_shot}, min_clips={self.min_clips}, max_clips={self.max_clips}."
            )
        if not 2 <= self.digits <= 10 or not 2 <= self.motions <= len(MOTIONS):
            raise DataError(
                f"mini: digits={self.digits} must be in 2..10 and motions={self.motions} in 2..{len(MOTIONS)}."
            )
        if not 0 <= self.plain <= 1:
            raise DataError(f"mini: plain={self.plain} is a share of the queries, 0 to 1.")
        if min(self.train_videos, self.val_videos, self.test_videos, self.queries) < 1:
            raise DataError("mini: needs at least one video in each split, and one query per video.")
        for name in ("picture_noise", "motion_noise", "text_noise", "rater_noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise DataError(f"mini: {name}={getattr(self, name)} is a standard deviation, at least 0.")


@dataclass
class Video:
    name: str
    clips: int
    pictures: np.ndarray  # (clips, 64) float32
    spectra: np.ndarray  # (clips, 72) float32
    shots: np.ndarray  # (S, 4): first clip, last clip + 1, digit, motion
    contrast: np.ndarray  # (clips,) contrast of the digit, 0..1


@dataclass(frozen=True)
class Query:
    qid: int
    video: Video
    digit: int
    motion: int | None  # None: the digit alone
    sentence: str
    features: np.ndarray  # (tokens, 48) float32
    shots: list[int]  # those that fit
    raters: np.ndarray  # (clips, 3) scores, 0..4, of every clip


def write_mini(root: Path, settings: MiniSettings, *, seed: int) -> Path:
    """The folder with the files, generated unless it is there. The same arguments give the same bytes.

    Raises DataError, before anything is written: settings without room for a video.
    """
    settings.check()
    key = {"format": FORMAT, "seed": seed, "settings": asdict(settings)}
    return build_once(root, "qvhighlights-mini", key, lambda folder: _write(folder, settings, seed))


def _write(folder: Path, settings: MiniSettings, seed: int) -> None:
    queries = make_queries(settings, seed)
    for split, name in ANNOTATIONS.items():
        lines = [json.dumps(annotation(query)) + "\n" for query in queries[split]]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    every = [query for split in SPLITS for query in queries[split]]
    videos = list({query.video.name: query.video for query in every}.values())
    for stream, part in (("slowfast_features", "spectra"), ("clip_features", "pictures")):
        write_stream(folder / stream, {video.name: {"features": getattr(video, part)} for video in videos})
    text = {
        f"qid{query.qid}": {"last_hidden_state": query.features, "pooler_output": query.features[-1]} for query in every
    }
    write_stream(folder / QUERIES, text)
    read = read_test(queries["test"], digit_images("train", seed), settings, seed)
    (folder / ORACLE).write_text("".join(json.dumps(row) + "\n" for row in read), encoding="utf-8")
    meta = {
        "format": FORMAT,
        "seed": seed,
        "settings": asdict(settings),
        "queries": {split: len(queries[split]) for split in SPLITS},
        "images": {split: digit_indices(split, seed).tolist() for split in SPLITS},
    }
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def write_stream(folder: Path, files: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes a folder of npz files, and beside it a packed file of the first array of each."""
    folder.mkdir()
    for name, arrays in files.items():
        np.savez(folder / f"{name}.npz", **arrays)
    packed = {name: next(iter(arrays.values())) for name, arrays in files.items()}
    rows, width = sum(map(len, packed.values())), next(iter(packed.values())).shape[1]
    pack(packed.items(), rows, width, packed_path(folder), np.dtype(np.float32))


def make_queries(settings: MiniSettings, seed: int) -> dict[str, list[Query]]:
    """The queries of each split, in the order of their qids. Every video has its own random stream."""
    words = Words(TEXT, seed)
    queries, number = {}, 0
    for split in SPLITS:
        images = digit_images(split, seed)
        queries[split] = []
        for _ in range(getattr(settings, f"{split}_videos")):
            number += 1
            rng = np.random.default_rng([seed, number])
            video = make_video(number, settings, images, rng)
            made = make_video_queries(video, settings, words, rng)
            first = 1 + number * settings.queries
            queries[split] += [Query(first + i, video, *query) for i, query in enumerate(made)]
    return queries


def make_video(number: int, settings: MiniSettings, images, rng: np.random.Generator) -> Video:
    """One video; images: pixels (N, 8, 8) and labels (N,) of its split."""
    pixels, labels = images
    clips = int(rng.integers(settings.min_clips, settings.max_clips + 1))
    ends = np.cumsum(rng.integers(settings.min_shot, settings.max_shot + 1, clips))
    count = int(np.searchsorted(ends, clips)) + 1
    ends = np.minimum(ends[:count], clips)
    first = np.concatenate([[0], ends[:-1]])
    digits = rng.permutation(10)[: settings.digits]
    motions = rng.permutation(len(MOTIONS))[: settings.motions]
    pairs = settings.digits * settings.motions  # never the same pair twice running
    shown = np.cumsum(rng.integers(1, pairs, count)) % pairs
    shots = np.stack([first, ends, digits[shown // settings.motions], motions[shown % settings.motions]], axis=1)

    shot_of_clip = np.searchsorted(ends, np.arange(clips), side="right")
    contrast = np.empty(clips, np.float32)
    for begin, end in zip(first, ends, strict=True):
        contrast[begin:end] = rng.uniform(FAINTEST, 1.0, end - begin)
        contrast[rng.integers(begin, end)] = rng.uniform(0.95, 1.0)  # every shot is seen clearly once
    image = np.array([rng.choice(np.flatnonzero(labels == digit)) for digit in shots[:, 2]])
    pictures = contrast[:, None] * pixels.reshape(-1, PIXELS)[image][shot_of_clip]
    pictures += settings.picture_noise * rng.standard_normal(pictures.shape, dtype=np.float32)
    spectra = stripes(shots[shot_of_clip, 3], settings.motion_noise, rng)
    return Video(f"mini{number:05d}_0.0_{CLIP * clips:.1f}", clips, pictures, spectra, shots, contrast)


def make_video_queries(video: Video, settings: MiniSettings, words: Words, rng: np.random.Generator) -> list[tuple]:
    """(digit, motion, sentence, features, shots, raters) of different questions to one video.

    They are fewer than settings.queries if a video has fewer different answers.
    """
    shown = np.unique(video.shots[:, 2:], axis=0)
    both = [(int(d), int(m)) for d, m in shown[rng.permutation(len(shown))]]
    alone = [(int(d), None) for d in rng.permutation(np.unique(shown[:, 0]))]
    plain = int(rng.binomial(settings.queries, settings.plain))
    asked = alone[:plain] + both
    made = []
    for digit, motion in asked[: settings.queries]:
        fits = [
            i for i, (_, _, d, m) in enumerate(video.shots.tolist()) if d == digit and (motion is None or m == motion)
        ]
        tokens = ask(digit, None if motion is None else MOTIONS[motion], rng)
        made.append((digit, motion, " ".join(tokens), words.features(tokens, settings.text_noise, rng), fits,
                     raters(video.contrast, settings.rater_noise, rng)))  # fmt: skip
    return made


def raters(contrast: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Three raters' scores of every clip, (clips, 3), whole, 0..4: how clearly the digit is seen, as each finds it."""
    seen = (TOP_SCORE + 0.5) * (contrast - FAINTEST) / (1 - FAINTEST)
    found = seen[:, None] + noise * rng.standard_normal((len(contrast), RATERS))
    return np.clip(np.rint(found), 0, TOP_SCORE).astype(int)


def merged(shots: np.ndarray, chosen: list[int]) -> list[list[int]]:
    """Clips [first, last + 1] of the chosen shots, neighbours joined."""
    windows: list[list[int]] = []
    for shot in chosen:
        first, end = int(shots[shot, 0]), int(shots[shot, 1])
        if windows and windows[-1][1] == first:
            windows[-1][1] = end
        else:
            windows.append([first, end])
    return windows


def annotation(query: Query) -> dict:
    """The row of the annotation file."""
    windows = merged(query.video.shots, query.shots)
    clips = [clip for first, end in windows for clip in range(first, end)]
    return {
        "qid": query.qid,
        "query": query.sentence,
        "duration": CLIP * query.video.clips,
        "vid": query.video.name,
        "relevant_clip_ids": clips,
        "saliency_scores": query.raters[clips].tolist(),
        "relevant_windows": [[CLIP * first, CLIP * end] for first, end in windows],
    }
