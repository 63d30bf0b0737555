"""Moments of a video file or of feature arrays, for sentences or for features of their tokens, in three lines:

    predictor = MomentPredictor("logs/.../checkpoints/last.ckpt", clip="openai/clip-vit-base-patch32")
    first, second = predictor.predict("movie.mp4", ["a dog runs", "somebody laughs"])
    first["windows"][0]                                        # [start, end, score], seconds, best first

`predict` is the same for a model that is loaded already, with arrays alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.clip_frames import ClipFrames
from datamodules.formats.video_files import is_video
from datamodules.moment_retrieval.arrays import moment_batches
from datamodules.streams import read_array
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.predict import answers, load

ARRAYS = (".npz", ".npy")
CLIP_NEEDED = (
    "name the CLIP model that the rows of the training came from: --clip FOLDER_OR_NAME, or clip=... in Python "
    "(openai/clip-vit-base-patch32 for QVHighlights)"
)


def predict(
    model: MomentRetrieval,
    video: Mapping[str, Any] | Any,
    queries: Sequence[Any],
    *,
    clip_length: float | None = None,
    duration: float | None = None,
    stride: int | None = None,
    windows: int | None = None,
    overlap: float | None = None,
    batch_size: int = 32,
) -> list[dict[str, list]]:
    """For each query {"windows": [[start, end, score], ...] best first, in seconds, "saliency": [one per clip]}.

    video: stream -> (T, width) array; an array alone for a model of one stream. queries: (N, width) arrays.
    windows: at most this many per query; None: as many as the model predicts at once (10 as published). None is equal
    to another, and none is without length.
    clip_length, duration, stride, batch_size: as in datamodules/moment_retrieval/arrays.py; overlap: as in `answers`
    of tasks/moment_retrieval/predict.py. Raises DataError and ValueError as these do.
    """
    batches = moment_batches(
        model.hparams.facts, video, queries,
        clip_length=clip_length, duration=duration, stride=stride, batch_size=batch_size,
    )  # fmt: skip
    return answers(model, batches, clip_length=clip_length, most=windows, overlap=overlap)


class MomentPredictor:
    """A checkpoint and, for video files and sentences, the CLIP model whose rows it was trained on."""

    def __init__(self, checkpoint: str | Path, clip: str | Path | ClipExtractor | None = None, *, device: str = "cpu"):
        """checkpoint: one that train.py or scripts/import_checkpoint.py wrote. clip: a folder, a name on the hub or a
        loaded one, read when it is first needed; None if every video and query is given as features.

        Raises CheckpointError: no such checkpoint, one of another task, a device that cannot be used.
        """
        self.model = load(checkpoint)
        try:
            self.model = self.model.to(device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise CheckpointError(f"--device {device}: cannot be used ({str(error).splitlines()[0]})") from error
        self.device, self._clip = device, clip

    @property
    def clip(self) -> ClipExtractor:
        """Raises DataError if none was named; CheckpointError if it cannot be loaded."""
        if self._clip is None:
            raise DataError(f"a video file or a sentence is read by CLIP: {CLIP_NEEDED}.")
        if not isinstance(self._clip, ClipExtractor):
            self._clip = ClipExtractor.load(self._clip, self.device)
        return self._clip

    @property
    def streams(self) -> list[str]:
        """Names of the streams that the model was trained on, in their order; empty if its checkpoint does not say."""
        return list(self.model.hparams.facts.get("streams", {}))

    def predict(
        self,
        video: str | Path | Mapping[str, Any] | Sequence[Any] | np.ndarray,
        queries: str | Sequence[Any],
        *,
        clip_length: float | None = None,
        duration: float | None = None,
        **options: Any,
    ) -> list[dict[str, list]]:
        """As the function `predict`, whose other keywords it takes.

        video: a video file (its CLIP rows are read, and its duration), a file of features (.npz, .npy), an array, a
            dict of these by stream, or a list of these in the order of the training's streams.
        queries: sentences, files of features, or arrays; one sentence alone is a list of one.
        Raises DataError: a file that cannot be read, rows of another width than the training's, no CLIP model.
        """
        clip_length = self.model.hparams.facts["clip_length"] if clip_length is None else clip_length
        rows, told = self.rows(video, clip_length)
        tokens = [self.tokens(query) for query in ([queries] if isinstance(queries, str | Path) else queries)]
        duration = told if duration is None else duration
        return predict(self.model, rows, tokens, clip_length=clip_length, duration=duration, **options)

    def rows(self, video: Any, clip_length: float, key: str = "features") -> tuple[dict[str, Any], float | None]:
        """The streams of a video as `predict` takes it, stream -> (T, width), and its duration in seconds if a video
        file tells it. key: array of .npz files."""
        given = video if isinstance(video, Mapping) else self._named(video)
        read, duration = {}, None
        for name, values in given.items():
            if isinstance(values, str | Path) and is_video(values):
                frames = ClipFrames(values, clip_length)
                self._need_width(name, Path(values))
                values, duration = self.clip.rows(frames), frames.duration
            elif isinstance(values, str | Path):
                values = read_features(values, key, "video")
            read[name] = values
        return read, duration

    def tokens(self, query: Any, key: str = "last_hidden_state") -> Any:
        """(N, width) of a query: a sentence, a file of features, or an array as it is. key: array of .npz files."""
        if isinstance(query, str | Path) and is_sentence(query):
            text = str(query)
            if self._clip is None:
                raise DataError(f"query {text!r} is a sentence, which CLIP reads: {CLIP_NEEDED}.")
            wanted = self.model.hparams.facts["text_dim"]
            if self.clip.text_dim != wanted:
                raise DataError(
                    f"query {text!r}: this CLIP gives {self.clip.text_dim} numbers per token, but the model was "
                    f"trained on {wanted}: {CLIP_NEEDED}."
                )
            return self.clip.words(text)
        return read_features(query, key, "query") if isinstance(query, str | Path) else query

    def _named(self, video: Any) -> dict[str, Any]:
        """Streams by name: those of the training, if they are as many."""
        several = isinstance(video, list | tuple) and all(isinstance(one, str | Path | np.ndarray) for one in video)
        parts = list(video) if several else [video]
        names = self.streams if len(self.streams) == len(parts) else [f"video {n}" for n in range(len(parts))]
        if len(parts) == 1 < len(self.streams) and isinstance(video, str | Path) and is_video(video):
            raise DataError(
                f"{video}: a video file gives one stream, CLIP's rows, but the model was trained on "
                f"{len(self.streams)}: {', '.join(self.streams)}. Give features of the others as well, in this order, "
                "or train a model on CLIP's rows alone (experiment=clip_moments_lcaam)."
            )
        return dict(zip(names, parts, strict=True))

    def _need_width(self, name: str, path: Path) -> None:
        if self._clip is None:
            raise DataError(f"{path} is a video file, which CLIP reads: {CLIP_NEEDED}.")
        wanted = self.model.hparams.facts.get("streams", {}).get(name)
        if wanted is not None and self.clip.video_dim != wanted:
            raise DataError(
                f"{path}: this CLIP gives {self.clip.video_dim} numbers per clip, but stream {name} of the model has "
                f"{wanted}: {CLIP_NEEDED}."
            )


def is_sentence(query: str | Path) -> bool:
    """Whether a query is words: neither the name of a feature file nor that of any file that is there."""
    try:
        return Path(query).suffix not in ARRAYS and not Path(query).is_file()
    except OSError:  # longer than a file's name can be
        return True


def read_features(path: str | Path, key: str, option: str) -> np.ndarray:
    """The array of a file. DataError: no such file, or another ending."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{option}: there is no file {path}.")
    if path.suffix not in ARRAYS:
        known = f"neither an {ARRAYS[0]} nor an {ARRAYS[1]} file"
        raise DataError(f"{option}: {path} is {known}" + (", nor a video file." if "video" in option else "."))
    return read_array(path, key, str(path))
