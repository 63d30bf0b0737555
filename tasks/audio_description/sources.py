"""Where the feature rows of a movie come from: made from the file as those of the training were, or given.

sources = Sources(recipe, clip="openai/clip-vit-base-patch32", device="cpu")
given, duration = sources.look("movie.mp4", {"video": None, "audio": None})
tracks, notes = sources.of("movie.mp4", given)
"""

from pathlib import Path
from typing import Any

from datamodules.audio_description.movie_file import looked_at
from datamodules.audio_description.recipe import Recipe
from datamodules.audio_description.sound_track import SoundRows
from datamodules.audio_description.streamed import FileRows, PictureRows, Source
from datamodules.errors import DataError
from datamodules.formats.numpy_files import map_npy
from datamodules.log_mel import LogMel
from tasks.common.clip_extractor import ClipExtractor

CLIP_NEEDED = (
    "name the CLIP model that the rows of the training came from: --clip FOLDER_OR_NAME, or clip=... in Python"
)
OPTIONS = {"video": "--video-rows", "audio": "--audio-rows"}


class Sources:
    """Checks that what makes rows is what made those of the training."""

    def __init__(self, recipe: Recipe, clip: str | Path | ClipExtractor | None, device: str):
        self.recipe, self._clip, self.device = recipe, clip, device

    def look(
        self, movie: str | Path | None, rows: dict[str, str | Path | None]
    ) -> tuple[dict[str, FileRows | None], float]:
        """The tracks that the model reads (None: to be made of the movie), and the movie's seconds.

        Raises DataError: a track that the movie lacks, rows of another kind or length, sound that cannot be made, no
        CLIP model.
        """
        needed = [name for name in ("video", "audio") if self.recipe.reads(name)]
        given = {name: None if rows[name] is None else self._given(name, Path(rows[name])) for name in needed}
        made = [name for name in needed if given[name] is None]
        if made and movie is None:
            raise DataError(f"no movie, and no {' and '.join(OPTIONS[name] for name in made)}: nothing to describe.")
        if "audio" in made:
            self._front_end()
        if "video" in made and self._clip is None:
            raise DataError(f"{movie}: its pictures are read by CLIP: {CLIP_NEEDED}. Or give rows: --video-rows.")
        lengths = {OPTIONS[name]: len(source.array) for name, source in given.items() if source is not None}
        if movie is None:
            self._need_one_length(lengths)
            return given, min(lengths.values()) / self.recipe.fps
        duration = looked_at(movie, sound="audio" in made).duration
        self._need_one_length(lengths | {str(movie): round(duration * self.recipe.fps)})
        return given, duration

    def _need_one_length(self, lengths: dict[str, int]) -> None:
        """DataError for tracks that are not of one movie at one rate. lengths: in rows; a second may be missing, or one
        row in fifty."""
        least, most = min(lengths.values()), max(lengths.values())
        if most - least > max(self.recipe.fps, most / 50):
            told = ", ".join(f"{name} {count:,}" for name, count in lengths.items())
            raise DataError(
                f"the tracks are not equally long, in rows: {told}. The model reads {self.recipe.fps:g} rows a second "
                "of both; are they of one movie, and was each made at that rate?"
            )

    def of(
        self, movie: str | Path | None, given: dict[str, FileRows | None]
    ) -> tuple[dict[str, Source | None], list[str]]:
        """A source for each track that the model reads (None: blank), and notes. given: of `look`.

        Raises DataError: another CLIP model than that of the training's features.
        """
        notes: list[str] = []
        tracks: dict[str, Source | None] = {"video": None, "audio": None, **given}
        if "video" in given and given["video"] is None:
            notes = self._check_clip()
            tracks["video"] = PictureRows(movie, self.recipe.fps, self.clip)
        if "audio" in given and given["audio"] is None:
            tracks["audio"] = SoundRows(movie, self._front_end())
        return tracks, notes

    def _given(self, name: str, path: Path) -> FileRows:
        source = FileRows(path, map_npy(path, f"{path}: cannot be read as rows ({OPTIONS[name]})"))
        self._need_width(name, source.width, f"{path}: its rows have")
        return source

    def _need_width(self, name: str, width: int, whose: str) -> None:
        if width != self.recipe.dims[name]:
            kind = "picture" if name == "video" else "sound"
            raise DataError(
                f"{whose} {width} numbers, but the model was trained on {kind} rows of {self.recipe.dims[name]}."
            )

    # -- pictures -----------------------------------------------------------------------------------------------------

    @property
    def clip(self) -> ClipExtractor:
        """Raises CheckpointError if it cannot be loaded."""
        if not isinstance(self._clip, ClipExtractor):
            self._clip = ClipExtractor.load(self._clip, self.device)
        return self._clip

    def _check_clip(self) -> list[str]:
        """A note if it cannot be told whether it is the training's."""
        self._need_width("video", self.clip.video_dim, "this CLIP gives rows of")
        told = self.recipe.made_by.get("video")
        if told is None:
            return [
                f"the features of the training do not say which CLIP made them; rows of {self.recipe.dims['video']} "
                "numbers fit, but only the same model gives the same numbers"
            ]
        changed = [key for key in ("weights", "pictures") if told.get(key) != self.clip.settings[key]]
        if changed:
            raise DataError(
                f"this CLIP is not the one of the training's features: its {' and '.join(changed)} differ; "
                f"{CLIP_NEEDED}."
            )
        return []

    # -- sound --------------------------------------------------------------------------------------------------------

    def _front_end(self) -> LogMel:
        told: dict[str, Any] = self.recipe.made_by.get("audio") or {}
        if told.get("front_end") != "log_mel":
            raise DataError(
                "the sound features of the training do not say how they were made, so they cannot be made of a movie's "
                f"sound. Give this movie's rows ({self.recipe.dims['audio']} numbers, {self.recipe.fps:g} per second), "
                "from the extractor of the training's: --audio-rows FILE.npy. Or train on features of "
                "python -m scripts.prepare_movies."
            )
        front_end = LogMel.of(told["rate"], self.recipe.fps, told["frames"], told["bands"])
        self._need_width("audio", front_end.width, "the sound front end gives rows of")
        return front_end
