"""How a data set turns a segment into a model's input: what a model must know to describe a movie of your own.

recipe = Recipe.of(data)                  # data: Descriptions, set up; its facts carry recipe.plain()
recipe = Recipe(**facts["recipe"])        # from a checkpoint
recipe.batch(video, audio, windows, ...)  # as the data module makes batches, from rows of other movies
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from datamodules.audio_description.context import Texts
from datamodules.audio_description.rows import MovieFeatures
from datamodules.audio_description.sampling import sample_rows, segment_rows
from datamodules.audio_description.segments import Segments
from datamodules.audio_description.tracks import Track
from datamodules.errors import DataError
from datamodules.formats.json_text import read_json

SETTINGS = "extraction.json"  # in a folder of features, if a command of this project made them (scripts/extracting.py)


@dataclass(frozen=True)
class Recipe:
    """Plain values, as a checkpoint keeps them. The keywords are the data module's.

    scales: track -> [mean, deviation] of normalise=standard. made_by: track -> the settings that its features were made
    with, None if they say nothing about it.
    """

    fps: float
    tokens: int
    sampling: str
    normalise: str
    tracks: str
    subtitle_seconds: float
    dims: dict[str, int]
    scales: dict[str, list[list[float]]]
    made_by: dict[str, dict[str, Any] | None]

    @classmethod
    def of(cls, data: Any) -> "Recipe":
        """How a data module (Descriptions, set up) makes a segment into the input of a model."""
        train = data.segments["train"]
        tracks = {name: track for name, track in (("video", train.video), ("audio", train.audio)) if track.features}
        standard = data.normalise == "standard"
        return cls(
            fps=data.fps, tokens=data.tokens, sampling=data.sampling, normalise=data.normalise,
            tracks="video" if data.files.audio is None else data.tracks, subtitle_seconds=data.subtitle_seconds,
            dims={"video": data.video_dim, "audio": data.audio_dim},
            scales={name: [one.mean.tolist(), one.std.tolist()] for name, one in tracks.items() if standard},
            made_by={name: made_by(track.features.path, data.fps) for name, track in tracks.items()},
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def reads(self, track: str) -> bool:
        """Whether the model reads "video" or "audio"; the other one is blank."""
        return self.tracks in ("both", track)

    def rows_of(self, windows: Sequence[tuple[float, float]], length: int) -> tuple[np.ndarray, list[int]]:
        """Rows of every window, (S, tokens), and which windows these are: those that begin in a movie of `length`."""
        spans = [segment_rows(start, end, self.fps, length) for start, end in windows]
        kept = [number for number, (first, _) in enumerate(spans) if first < length]
        rows = [sample_rows(*spans[number], length, self.tokens, self.sampling) for number in kept]
        return np.stack(rows) if rows else np.empty((0, self.tokens), np.int64), kept

    def spans_of(self, windows: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
        """First row that each window may need, and the row behind its last, in a movie of any length."""
        spans = [segment_rows(start, end, self.fps, 2**62) for start, end in windows]
        around = self.tokens if self.sampling == "window" else 0
        return [(max(0, first - around), stop + around) for first, stop in spans]

    def batch(
        self,
        features: Mapping[str, MovieFeatures | None],
        rows: np.ndarray,
        table: pd.DataFrame,
        context: Mapping[str, Texts],
    ) -> dict[str, Any]:
        """A batch of the data module's contract. features: by track, None for a blank one; table: columns movie, start,
        end, text, ann_id, one line for each of `rows`."""
        tracks = [self._track(name, features[name], table["movie"].tolist(), rows) for name in ("video", "audio")]
        segments = Segments(table, *tracks, context)
        return segments[list(range(len(segments)))]

    def _track(self, name: str, features: MovieFeatures | None, movies: list[str], rows: np.ndarray) -> Track:
        track = Track(features, self.dims[name], movies, rows)
        if features is not None and self.normalise == "l2":
            track.normalise_length()
        if features is not None and self.normalise == "standard":
            track.scale(*(torch.tensor(values, dtype=torch.float32) for values in self.scales[name]))
        return track


def made_by(features: Path, fps: float) -> dict[str, Any] | None:
    """The settings in a folder of features; None if there are none. DataError: rows at another rate than `fps`."""
    path = features / SETTINGS
    if not path.is_file():
        return None
    found = read_json(path)
    if not isinstance(found, dict) or found.get("fps", fps) != fps:
        raise DataError(
            f"{path}: these features have {found.get('fps') if isinstance(found, dict) else 'no'} rows per second, and "
            f"data.fps={fps:g}; set data.fps to the rate at which they were made."
        )
    return found
