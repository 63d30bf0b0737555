"""What can be said of a movie file before any of it is described: its length, its tracks, whether it is all there.

movie = looked_at("movie.mp4", sound=True)
movie.duration               # seconds, from the first picture to the end of the last
"""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.video_files import LOST, check_there, check_whole, opened


class MovieFile(NamedTuple):
    """duration: seconds."""

    path: Path
    duration: float


def looked_at(path: str | Path, sound: bool) -> MovieFile:
    """Reads the file's packets, which is fast, and decodes the first of each track. sound: whether it is needed.

    DataError: no such file, no picture track, no sound track, a track that cannot be decoded, a file that is cut off.
    """
    path = Path(path)
    problem = check_there(path)
    with reading(problem), opened(path) as (container, stream):
        heard = container.streams.best("audio")
        if sound and heard is None:
            raise DataError(
                f"{path}: no sound track in it, and the model was trained on picture and sound. Describe a file with "
                "sound, or train a model on pictures alone (data.tracks=video)."
            )
        begun: set[int] = set()
        first, last, end, packets = None, Fraction(0), Fraction(0), 0
        for packet in container.demux([stream, heard] if sound else [stream]):
            if packet.pts is None or packet.is_discard:
                continue
            if packet.stream.index not in begun and packet.decode():
                begun.add(packet.stream.index)
            shown, after = ends(packet)
            end = max(end, after)
            if packet.stream.index == stream.index:
                packets += 1
                first, last = shown if first is None else min(first, shown), max(last, after)
        if first is None:
            raise DataError(f"{path}: no frames in it.")
        check_whole(path, packets, stream.frames)
        announced = Fraction(container.duration or 0, 1_000_000) + Fraction(container.start_time or 0, 1_000_000)
        if end < (1 - LOST) * announced and not stream.frames:  # matroska and the like say how long, not how many
            raise DataError(
                f"{path}: ends after {float(end):.1f} s, but announces {float(announced):.1f} s; truncated or damaged."
            )
        return MovieFile(path, float(last - first))


def ends(packet: Any) -> tuple[Fraction, Fraction]:
    """When a packet's frame is shown, and until when, in seconds."""
    base = Fraction(packet.time_base)
    usual = 1 / Fraction(packet.stream.average_rate or 25) if packet.stream.type == "video" else Fraction(0)
    shown = packet.pts * base
    return shown, shown + (packet.duration * base if packet.duration else usual)
