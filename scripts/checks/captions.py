"""The checks of captioned videos: what training would read, file by file, without stopping at the first fault.

    report = check_captions(datamodule, deep=None)      # deep: None, "sample" or "all"

What is not found here does not stop training: if no finding would, the data module itself is asked at the end.
"""

import copy
from typing import Literal

from rich.console import Console
from rich.progress import Progress

from datamodules.errors import DataError
from datamodules.video_captioning import Captions
from datamodules.video_captioning.annotations import LEAVABLE, Annotations, Clip, natural
from datamodules.video_captioning.captions import read_file
from datamodules.video_captioning.clips import Features, Input, absent, feature_file
from datamodules.video_captioning.splits import Chosen, disjoint
from scripts.checks.report import NothingToCheck, Report, quiet

NO_FILE = "missing file (stops training)"
UNREADABLE = "cannot be read (stops training)"
CLIP = "clip that cannot be read"
SPLITS = "splits that do not go together (stops training)"
BARE = "clip without a caption (training leaves it out)"
MISSING = "clip without its file"
NOTE = "what a reader of the scores should know"
OTHER = "what no other check found (stops training)"
SAMPLE = 100  # clips that are read by --deep sample

Depth = Literal["sample", "all"]


def check_captions(data: Captions, deep: Depth | None = None) -> Report:
    """Every fault of the files that `data` names. Raises NothingToCheck: no folder, or no annotation file in it."""
    report = Report()
    names = [name for files in data.annotation_files.values() for name in files]
    if data.mini is not None or not any((data.folder / name).is_file() for name in names):
        try:
            data.prepare_data()  # makes the generated set, or says what is missing
        except (DataError, OSError) as error:
            raise NothingToCheck(str(error)) from error
    report.looked_at.append(f"{data.folder.resolve()}")
    report.add(NO_FILE, data.folder, [name for name in names if not (data.folder / name).is_file()])
    files = _annotations(report, data)
    chosen = _splits(report, data, files)
    if chosen is not None:
        _clips(report, data, chosen, deep)
    if not report.found and data.mini is None:
        try:
            with quiet():
                copy.copy(data).prepare_data()
        except DataError as error:
            report.add(OTHER, data.folder, [str(error)])
    return report


def _annotations(report: Report, data: Captions) -> dict[str, list[Annotations]] | None:
    """Split -> what its files hold; None if one cannot be read."""
    found: dict[str, list[Annotations]] = {split: [] for split in data.annotation_files}
    whole = True
    for split, names in data.annotation_files.items():
        for name in (name for name in names if (data.folder / name).is_file()):
            try:
                file = read_file(data.folder / name, data.fields, data.encoding)
            except DataError as error:
                report.add(UNREADABLE, name, [str(error)])
                whole = False
                continue
            found[split].append(file)
            for where, defect in file.found:
                left = data.defects == "drop" and defect.kind in LEAVABLE
                effect = "training leaves it out" if left else "stops training"
                text = f"{where}: {defect.text}".removeprefix(": ").replace(f"{file.path}, ", "", 1)
                report.add(f"{defect.kind} ({effect})", name, [text])
            captions = sum(len(clip.captions) for clip in file.clips)
            described = [clip.id for clip in file.clips if clip.captions]
            report.looked_at.append(
                f"{name}: layout {file.layout}, {captions} captions of {len(described)} clips"
                f"{_named_splits(file.clips)}"
            )
            report.add(BARE, name, [clip.id for clip in file.clips if not clip.captions], note=True)
    return found if whole and any(found.values()) else None


def _named_splits(clips: list[Clip]) -> str:
    names = list(dict.fromkeys(clip.split for clip in clips if clip.split))
    counts = ", ".join(f"{name} {sum(clip.split == name for clip in clips)}" for name in names)
    return f"; splits that it names: {counts or 'none'}"


def _splits(report: Report, data: Captions, files: dict[str, list[Annotations]] | None) -> Chosen | None:
    """The splits that training would use; None if there are none."""
    if files is None:
        return None
    missing = [name for name in (data.lists or {}).values() if name and not (data.folder / name).is_file()]
    report.add(NO_FILE, data.folder, missing)
    if missing:
        return None
    try:
        with quiet():
            chosen = data.split_up(files)
        disjoint(chosen.clips)
    except DataError as error:
        report.add(SPLITS, data.folder, str(error).split("\n"))
        return None
    sizes = ", ".join(f"{split} {len(clips)}" for split, clips in chosen.clips.items())
    report.looked_at.append(f"splits: {sizes}; {chosen.origin}")
    report.add(NOTE, data.folder, chosen.notes, note=True)
    return chosen


def _clips(report: Report, data: Captions, chosen: Chosen, deep: Depth | None) -> None:
    """Files of the clips: which are there and, with `deep`, which can be read."""
    try:
        source = data.open_input()
        gone = {split: {clip.id for clip in absent(source, clips)} for split, clips in chosen.clips.items()}
    except (DataError, OSError) as error:
        report.add(UNREADABLE, data.folder, [str(error)])
        return
    effect = "training leaves it out" if data.missing == "skip" else "stops training"
    for split, ids in gone.items():
        report.add(f"{MISSING} ({effect})", f"{split} (data.source={data.source})", sorted(ids, key=natural))
    there = [clip for split, clips in chosen.clips.items() for clip in clips if clip.id not in gone[split]]
    report.looked_at.append(f"data.source={data.source}: {len(there)} clips are there")
    if deep is not None:
        _values(report, data, source, there[:: 1 if deep == "all" else max(1, -(-len(there) // SAMPLE))])


def _values(report: Report, data: Captions, source: Input, clips: list[Clip]) -> None:
    """Reads clips: what cannot be decoded, features of another number of rows than the first clip has."""
    kind = f"{CLIP} ({'training leaves it out' if data.corrupt == 'skip' else 'stops training'})"
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for clip in bar.track(clips, description=data.source):
            try:
                if isinstance(source, Features) and not source.grid:
                    source.grid = len(source.stream.read(feature_file(source.stream, clip), about=clip.id))
                source.read(clip, None)
            except (DataError, OSError) as error:
                report.add(kind, f"data.source={data.source}", [str(error)])
