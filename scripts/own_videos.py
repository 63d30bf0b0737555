"""Videos that are captioned by command: which files a folder holds, their parts, batches, and the files of captions.

paths, others = videos_in([Path("videos")])
parts = parts_of(paths[0], every=10.0)             # 0 to 10 s, 10 to 20 s, ...
for part, text, why in captioned(module, datamodule, parts, batch_size=4): ...
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.formats.kept import nothing_kept
from datamodules.formats.names import printable
from datamodules.formats.video_files import ENDINGS, is_video, length_of
from datamodules.video_captioning.captions import natural
from datamodules.video_captioning.sources import JPEG
from tasks.common.cue_files import srt

ARRAY = ".npy"
COLUMNS = ("video", "start", "end", "caption")


@dataclass(frozen=True)
class Part:
    """What gets one caption: a file, or `span` of it. shown: its times in the files of captions, if they are known."""

    path: Path
    span: tuple[float, float] | None = None
    shown: tuple[float, float] | None = None

    def __str__(self) -> str:
        return str(self.path) if self.span is None else f"{self.path}, {self.span[0]:g} to {self.span[1]:g} s"


def videos_in(places: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files to caption, and what is passed over in folders. A folder of JPEG frames is one video.

    Files that are named are kept as they are, also missing ones. Raises DataError: a folder with nothing to caption.
    """
    paths, others = [], []
    for place in places:
        if not place.is_dir() or has_frames(place):
            paths.append(place)
            continue
        entries = sorted((e for e in place.iterdir() if e.name[0] != "."), key=lambda entry: natural(entry.name))
        found = [entry for entry in entries if has_frames(entry) or is_video(entry) or entry.suffix == ARRAY]
        if not found:
            raise DataError(
                f"{place}: nothing to caption in it: no video file ({', '.join(ENDINGS)}), no {ARRAY} file of "
                "features, no folder of JPEG frames."
            )
        paths += found
        used = set(found)
        others += [entry for entry in entries if entry not in used]
    return list(dict.fromkeys(paths)), others


def has_frames(path: Path) -> bool:
    return path.is_dir() and any(entry.suffix.lower() in JPEG for entry in path.iterdir())


def parts_of(path: Path, every: float | None, timed: bool) -> list[Part]:
    """The video as one part, or cut every so many seconds; what is left at the end is longer or shorter by half.

    timed: its times are needed. Raises DataError: they are, and there are none; a file that cannot be read.
    """
    if not path.is_file() or not is_video(path):
        if every is not None:
            raise DataError(f"{path}: not a video file, so it has no times by which --every could cut it.")
        return [Part(path)]
    length = length_of(path) if timed or every is not None else None
    if every is None:
        return [Part(path, shown=None if length is None else (0.0, length))]
    if length is None:
        raise DataError(f"{path}: its frames have no times by which --every could cut it.")
    starts = [number * every for number in range(max(1, int(length / every + 0.5)))]
    spans = zip(starts, [*starts[1:], length], strict=True)
    return [Part(path, span, span) for span in spans]


def captioned(
    module: Any, datamodule: Any, parts: Iterable[Part], batch_size: int
) -> Iterator[tuple[Part, str | None, str | None]]:
    """Each part with its caption, or with None and what is wrong. Batches are of inputs of one size."""
    waiting: dict[tuple, list[tuple[Part, dict]]] = {}
    for part in parts:
        try:
            with nothing_kept():
                batch = datamodule.example(part.path, part.span)
        except (ValueError, OSError) as error:  # DataError and CheckpointError are ValueErrors
            yield part, None, reason(part, error)
            continue
        size = tuple(value.shape for value in batch.values() if isinstance(value, Tensor))
        group = waiting.setdefault(size, [])
        group.append((part, batch))
        if len(group) == batch_size:
            yield from written(module, waiting.pop(size))
    for group in waiting.values():
        yield from written(module, group)


def written(module: Any, group: Sequence[tuple[Part, dict]]) -> Iterator[tuple[Part, str | None, str | None]]:
    together = {
        name: torch.cat([batch[name] for _, batch in group]).to(module.device)
        if isinstance(value, Tensor)
        else [one for _, batch in group for one in batch[name]]
        for name, value in group[0][1].items()
    }
    try:
        texts = module.write(together)
    except ValueError as error:
        yield from ((part, None, reason(part, error)) for part, _ in group)
        return
    yield from ((part, text, None) for (part, _), text in zip(group, texts, strict=True))


def reason(part: Part, error: Exception) -> str:
    """What is wrong, with the part's name."""
    text = str(error)
    return text if text.startswith(str(part)) else f"{part}: {text.removeprefix(f'{part.path}: ')}"


class Table(AbstractContextManager):
    """A csv file of captions, complete up to the last row whenever the command stops."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", encoding="utf-8", newline="")
        self.rows = csv.writer(self.file, lineterminator="\n")
        self.rows.writerow(COLUMNS)

    def add(self, part: Part, text: str) -> None:
        times = ("", "") if part.shown is None else (f"{second:.3f}" for second in part.shown)
        self.rows.writerow([printable(part.path), *times, text])
        self.file.flush()

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def write_subtitles(folder: Path, captions: dict[Part, str]) -> None:
    """folder/<video>.srt for each video: every caption while its part is shown. Two videos of one name keep their
    endings in the names of these files. Raises DataError: a part without times."""
    folder.mkdir(parents=True, exist_ok=True)
    by_path: dict[Path, list[tuple[Part, str]]] = {}
    for part, text in captions.items():
        if part.shown is None:
            raise DataError(f"{part}: it has no times, which --srt needs; --csv does not.")
        by_path.setdefault(part.path, []).append((part, text))
    stems = [path.stem for path in by_path]
    for path, cues in by_path.items():
        name = path.stem if stems.count(path.stem) == 1 else path.name
        shown = [(*part.shown, text) for part, text in sorted(cues, key=lambda cue: cue[0].shown)]
        (folder / f"{name}.srt").write_text(srt(shown), encoding="utf-8")
