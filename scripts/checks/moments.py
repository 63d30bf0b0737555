"""The checks of moments and highlights: what training would read, file by file, without stopping at the first fault.

    report = check_moments(datamodule, deep=None)      # deep: None, "sample" or "all"

What is not found here does not stop training: if no finding would, the data module itself is asked at the end.
"""

import copy
from collections.abc import Iterator
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress

from datamodules.errors import DataError
from datamodules.moment_retrieval import Moments
from datamodules.moment_retrieval.annotations import Annotations, check_splits, read_annotations
from datamodules.moment_retrieval.defects import STRUCTURE
from datamodules.moment_retrieval.rates import Video, apart, fitting, gross
from datamodules.moment_retrieval.splits import EVALUATED, form_of
from datamodules.streams import Stream, open_stream
from scripts.checks.report import NothingToCheck, Report

NO_FILE = "missing file (stops training)"
UNREADABLE = "cannot be read (stops training)"
UNMATCHED = "query that matches nothing"
SPLITS = "splits that do not go together (stops training)"
MISSING = "video or query without features (stops training)"
RATE = "rows of another clip length (stops training)"
APART = "streams of a video with rows of different lengths (stops training)"
OTHER = "what no other check found (stops training)"
SAMPLE = 500  # videos, and queries, whose features are read by --deep sample

Depth = Literal["sample", "all"]


def check_moments(data: Moments, deep: Depth | None = None) -> Report:
    """Every fault of the files that `data` names. Raises NothingToCheck: no folder, or no annotation file in it."""
    report = Report()
    if data.mini is not None:
        _asked(data)
    names = list(dict.fromkeys(data.files.values()))
    there = [name for name in names if (data.folder / name).is_file()]
    if not there:
        try:
            data.prepare_data()
        except DataError as error:
            raise NothingToCheck(str(error)) from error
    report.looked_at.append(f"{data.folder.resolve()}")
    report.add(NO_FILE, data.folder, [name for name in names if name not in there])
    rows = _annotations(report, data, there)
    every = [row for name in there for row in rows[name]]
    streams = _streams(report, data, every)
    _rates(report, data, every, streams)
    if deep:
        _values(report, every, streams, None if deep == "all" else SAMPLE)
    if not report.found and data.mini is None:
        try:
            copy.copy(data).prepare_data()
        except DataError as error:
            report.add(OTHER, data.folder, [str(error)])
    return report


def _asked(data: Moments) -> None:
    try:
        data.prepare_data()  # makes the generated set, if it is not there
    except (DataError, OSError) as error:
        raise NothingToCheck(str(error)) from error


def _annotations(report: Report, data: Moments, there: list[str]) -> dict[str, list[dict[str, Any]]]:
    """File -> its rows that training would read; the defects of the others are reported."""
    effect = {"stop": "stops training", "drop": "training leaves the query out", "clip": "training cuts it"}
    rows: dict[str, list[dict[str, Any]]] = {}
    for split, name in data.files.items():
        if name not in there:
            continue
        try:
            found = read_annotations(data.folder / name, form_of(data.form(), split, data.saliency), stop=False)
        except DataError as error:
            report.add(UNREADABLE, name, [str(error)])
            rows[name] = []
            continue
        rows[name] = found.rows
        if name in list(data.files.values())[: list(data.files).index(split)]:
            continue  # one file is two splits
        for where, defect in found.found:
            what = "stops training" if defect.kind == STRUCTURE else effect[data.defects]
            report.add(f"{defect.kind} ({what})", name, [_short(found, where, defect.text)])
        report.looked_at.append(f"{name}: {len(found.rows)} queries of {len({r['vid'] for r in found.rows})} videos")
        alone = [f"qid {row['qid']} (vid {row['vid']})" for row in found.rows if row.get("relevant_windows") == []]
        stops = split in EVALUATED and data.unmatched == "stop"
        report.add(UNMATCHED + (" (stops training)" if stops else ""), name, alone, note=not stops)
    if len(rows) == len(set(data.files.values())):
        try:
            check_splits({split: rows[name] for split, name in data.files.items()}, data.files)
        except DataError as error:
            report.add(SPLITS, data.folder, [str(error)])
    return rows


def _short(found: Annotations, where: str, text: str) -> str:
    """A defect without the path of its file, which the report names once."""
    return f"{where}: {text}".removeprefix(": ").replace(f"{found.path}, ", "", 1)


def _streams(report: Report, data: Moments, rows: list[dict[str, Any]]) -> list[Stream]:
    """The streams that are there; videos and queries without features are reported."""
    found = []
    for name, settings in (*data.streams.items(), ("text_stream", data.text)):
        try:
            stream = open_stream(data.folder, name, settings)
            files = {stream.file_of(row): row for row in rows}
            report.add(MISSING, settings.path, stream.missing(files))
        except (DataError, OSError) as error:
            report.add(UNREADABLE, settings.path, [str(error)])
            continue
        found.append(stream)
        report.looked_at.append(f"{settings.path}: features of {len(files)} files")
    return found


def _rates(report: Report, data: Moments, rows: list[dict[str, Any]], streams: list[Stream]) -> None:
    """Rows of whole files against durations or labels, and against each other."""
    asked = copy.copy(data)
    asked.video_sources = [stream for stream in streams if stream.name in data.streams]
    videos = asked.videos(rows)
    for stream in asked.video_sources:
        wrong = [v for v in videos if stream.name in v.rows and gross(v.rows[stream.name], v.clips, data.length_slack)]
        if not wrong:
            continue
        fits = f"; {fitting(wrong, stream.name, data.clip_length):g} s per row would fit" if wrong[0].length else ""
        names = [_rate(video, stream.name, data.clip_length) for video in wrong]
        report.add(f"{RATE[:-1]}{fits})", str(stream.path.name), names)
    differ = [video for video in videos if len(video.rows) > 1 and apart(video.rows, data.length_slack)]
    pairs = [f"{v.name} ({', '.join(f'{count} in {name}' for name, count in v.rows.items())})" for v in differ]
    report.add(APART, "streams", pairs)


def _rate(video: Video, stream: str, clip_length: float) -> str:
    rows = video.rows[stream]
    if not video.length:
        return f"{video.name} ({rows} rows for {video.clips:g} labels)"
    return f"{video.name} ({rows} rows are {rows * clip_length:g} s, {video.length})"


def _values(report: Report, rows: list[dict[str, Any]], streams: list[Stream], most: int | None) -> None:
    """Reads features, all or some evenly spread ones: width, type, NaN and infinity."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for stream in streams:
            files = {stream.file_of(row): row for row in rows}
            missing = set(stream.missing(files))
            chosen = list(_spread([file for file in files if file not in missing], most))
            for file in bar.track(chosen, description=stream.name):
                row = files[file]
                try:
                    stream.read(file, about=f"qid {row['qid']}, vid {row['vid']}")
                except (DataError, OSError) as error:
                    report.add(UNREADABLE, stream.path.name, [str(error)])


def _spread(items: list[str], most: int | None) -> Iterator[str]:
    """At most `most` of the items, from the first to the last."""
    if most is None or len(items) <= most:
        return iter(items)
    return (items[number * (len(items) - 1) // (most - 1)] for number in range(most))
