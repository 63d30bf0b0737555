"""Descriptions of a movie file, in the gaps between its dialogue, in three lines:

    describer = AudioDescriber("logs/.../checkpoints/last.ckpt", clip="openai/clip-vit-base-patch32")
    found = describer.describe("movie.mp4", subtitles="movie.srt")
    found[0]                                   # Description(start=0.0, end=4.1, text="...", full_text="...", note="")

The movie is read once, from its beginning to its last gap; only rows that the next gaps need are kept, so a long movie
needs no memory. Rows are made and put on the scale of the training as the data set's were (recipe.py, streamed.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from datamodules.audio_description.context import Subtitles, Texts
from datamodules.audio_description.cues import Cue
from datamodules.audio_description.gaps import GapRules, Windows
from datamodules.audio_description.recipe import Recipe
from datamodules.audio_description.streamed import Source, StreamedRows
from tasks.audio_description.context import History
from tasks.audio_description.fitting import TOO_LONG, fitted
from tasks.audio_description.opening import opened
from tasks.audio_description.sources import Sources
from tasks.audio_description.windows import planned
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError

LINES = ("movie", "start", "end", "text")


class Description(NamedTuple):
    """start, end: seconds. text: what is to be spoken; full_text: what the model wrote. note: "" if the text fits its
    window, else "too long" or "shortened"."""

    start: float
    end: float
    text: str
    full_text: str
    note: str


class Plan(NamedTuple):
    """What will be described: windows, by start, in a movie of `duration` seconds. notes: what a user should know."""

    name: str
    windows: Windows
    duration: float
    cues: list[Cue]
    sources: dict[str, Source | None]
    rules: GapRules
    notes: list[str]


class AudioDescriber:
    """A checkpoint and, for movie files, the CLIP model whose rows it was trained on."""

    def __init__(
        self,
        checkpoint: str | Path,
        clip: str | Path | ClipExtractor | None = None,
        *,
        device: str = "cpu",
        llm: str | Path | None = None,
        **decoding: Any,
    ):
        """checkpoint: a file, or a run's folder (its last.ckpt). clip: a folder, a name on the hub or a loaded one.
        llm: where a frozen language model is now, if it was moved. decoding: changes to it, such as num_beams=4.

        Raises CheckpointError: no such checkpoint, one of another task or another language model, a device that cannot
        be used.
        """
        module = opened(checkpoint, llm, decoding)
        try:
            self.module = module.to(device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise CheckpointError(f"--device {device}: cannot be used ({str(error).splitlines()[0]})") from error
        self.facts = module.hparams.facts
        self.recipe = Recipe(**self.facts["recipe"])
        self.sources = Sources(self.recipe, clip, device)

    def describe(self, movie: str | Path | None, *, batch_size: int = 8, too_long: str = "keep", **given: Any) -> list:
        """All descriptions at once; the keywords are those of `plan` and `carry_out`."""
        return list(self.carry_out(self.plan(movie, **given), batch_size=batch_size, too_long=too_long))

    def plan(
        self,
        movie: str | Path | None,
        *,
        subtitles: str | Path | None = None,
        gaps: str | Path | None = None,
        rules: GapRules | None = None,
        ignore_sounds: bool = False,
        video_rows: str | Path | None = None,
        audio_rows: str | Path | None = None,
    ) -> Plan:
        """Checks everything that can be checked before the long work.

        movie: a video file; None if both tracks are given as rows. subtitles: .srt or .vtt; the gaps are between their
            cues, and a model that reads dialogue reads them. ignore_sounds: cues such as [door slams] do not count.
        gaps: windows instead (csv with start and end, .srt, .vtt), used as they are. Without either the whole movie
            is cut into windows.
        rules: None is GapRules with the training's number of tokens as the longest window.
        video_rows, audio_rows: .npy files (T, width) of the training's kind, made elsewhere, at the training's rate.
        Raises DataError: files that cannot be read or do not fit the model; no gap.
        """
        rules = rules or GapRules(longest=self.longest)
        given, duration = self.sources.look(movie, {"video": video_rows, "audio": audio_rows})
        found = planned(duration, subtitles, gaps, rules, ignore_sounds)
        sources, notes = self.sources.of(movie, given)
        notes = [*notes, *found.notes]
        if self.facts.get("subtitles") and not found.cues:
            notes.append("the model was trained to read what was said before, and no subtitles are given (--subtitles)")
        name = Path(movie or video_rows or audio_rows or "").stem
        return Plan(name, found.windows, duration, found.cues, sources, rules, notes)

    @property
    def longest(self) -> float:
        """Seconds that the model's tokens span at the rate of the features: 5 s for 25 tokens."""
        return self.recipe.tokens / self.recipe.fps

    def carry_out(self, plan: Plan, *, batch_size: int = 8, too_long: str = "keep") -> Iterator[Description]:
        """Descriptions in the order of time, as they are made. Windows in which the model says nothing have none.

        batch_size: windows at once; 1 whatever is given for a model that reads its own last descriptions.
        too_long: what happens to a text that cannot be spoken in its window: keep, shorten or leave_out (fitting.py).
        Raises DataError: a movie that turns out to be damaged; ValueError: an unknown too_long.
        """
        if too_long not in TOO_LONG:
            raise ValueError(f"too_long is {too_long!r}; allowed: {', '.join(TOO_LONG)}")
        streams = {name: source and StreamedRows(source, plan.name) for name, source in plan.sources.items()}
        lines = pd.DataFrame([(plan.name, *cue) for cue in plan.cues if cue.text], columns=LINES)
        history = None
        if self.facts.get("previous", "none") != "none":  # annotated or its own in training; here there are its own
            history, batch_size = History(self.facts["previous_count"]), 1
        for first in range(0, len(plan.windows), batch_size):
            windows = plan.windows[first : first + batch_size]
            table, batch = self._batch(plan.name, windows, streams, lines)
            if batch is None:
                return  # the pictures ended before the file said
            if history is not None:
                batch["previous"] = history.before(batch["movie"])
            texts = self.module.describe(moved(batch, self.module.device))
            if history is not None:
                history.add([{"movie": plan.name, "generated": text} for text in texts])
            for start, end, text in zip(table["start"], table["end"], texts, strict=True):
                spoken, note = fitted(text, start, end, plan.rules, too_long)
                if spoken:
                    yield Description(start, end, spoken, text, note)

    def _batch(
        self, name: str, windows: Windows, streams: dict[str, StreamedRows | None], lines: pd.DataFrame
    ) -> tuple[pd.DataFrame, dict[str, Any] | None]:
        """The windows that begin before the rows end, and their batch; None if there are none."""
        used = [rows for rows in streams.values() if rows is not None]
        for rows in used:
            rows.reach(self.recipe.spans_of(windows))
        rows, kept = self.recipe.rows_of(windows, min(one.count for one in used))
        windows = [windows[number] for number in kept]
        table = pd.DataFrame(windows, columns=["start", "end"]).assign(movie=name, text="", ann_id="")
        if not kept:
            return table, None
        context: dict[str, Texts] = {}
        if self.facts.get("subtitles"):
            context["subtitles"] = Subtitles(lines, table, self.recipe.subtitle_seconds)
        return table, self.recipe.batch(streams, rows, table, context)


def moved(batch: dict[str, Any], device: Any) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
