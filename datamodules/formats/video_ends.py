"""Where a video file ends: one that was cut off lacks its end, and what is left can be decoded without an error.

    check_end(path, container, 1.9)     # seconds at which the last packet of any track ends
    check_bytes(path, container)

Both raise DataError. Headers of mp4, mov and avi count frames (`check_whole`), those of mkv, webm, flv, mxf and rm tell
how long the video lasts, and those of wmv how many bytes it has; of a transport stream, a GIF or an Ogg file only the
last bytes can tell. A cut at the border of two packets of a transport stream is not seen, and none of raw streams
(mjpeg, dv, y4m).
"""

from pathlib import Path
from typing import Any

from datamodules.errors import DataError

LOST = 0.1  # share of the announced duration or size that may be missing
# formats whose header tells the duration; of others FFmpeg guesses it from the size
TIMED = ("matroska,webm", "flv", "mxf", "rm")
PACKETS = (188, 192, 204)  # bytes of a packet of a transport stream: plain, with a time before it, with a checksum
SYNC = b"\x47"
TAIL = 2**17  # bytes at the end of an Ogg file in which its last page begins, 65,307 bytes at the most
PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # before the size of a wmv or asf file
BROADCAST = 1  # its size is unknown


def end_of(packet: Any) -> float:
    """Seconds at which a packet of pictures or sound ends, and others begin; 0 if it has no time."""
    if packet.pts is None:
        return 0.0
    lasts = packet.duration or 0 if packet.stream.type in ("video", "audio") else 0  # a subtitle may last to the end
    return float((packet.pts + lasts) * packet.time_base)


def check_end(path: Path, container: Any, end: float) -> None:
    """DataError if far less than the announced duration is there. end: seconds at which the last packet ends."""
    if container.format.name not in TIMED or not container.duration:
        return
    announced = container.duration / 1e6
    if end < (1 - LOST) * announced:
        raise DataError(f"{path}: it ends at {end:.2f} of the {announced:.2f} s that it announces; truncated.")


def check_bytes(path: Path, container: Any) -> None:
    """DataError if the bytes of a transport stream, a GIF, an Ogg or a wmv file end too early."""
    ends = {"mpegts": within_packet, "gif": without_trailer, "ogg": without_last_page, "asf": too_small}
    told = ends.get(container.format.name)
    if told is not None and (what := told(path)):
        raise DataError(f"{path}: {what}; truncated.")


def within_packet(path: Path) -> str:
    """What is wrong with the end of a transport stream, or ""."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for packet in PACKETS:
            first = 4 if packet == 192 else 0
            at = [first, first + packet, first + 2 * packet, size - size % packet + first]
            if size % packet > first and all(_byte(file, place) == SYNC for place in at):
                return f"it ends within a packet of its transport stream ({size % packet} of {packet} bytes)"
    return ""


def _byte(file: Any, place: int) -> bytes:
    file.seek(place)
    return file.read(1)


def without_trailer(path: Path) -> str:
    """What is wrong with the end of a GIF, or ""."""
    return "" if _tail(path, 1024).rstrip(b"\0\r\n\t ").endswith(b";") else "a GIF without the byte that ends it"


def without_last_page(path: Path) -> str:
    """What is wrong with the end of an Ogg file, or ""."""
    tail = _tail(path, TAIL)
    page = tail[tail.rfind(b"OggS") :]
    whole = len(page) > 27 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    return "" if whole and page[5] & 4 else "its last page does not end a track"


def too_small(path: Path) -> str:
    """What is wrong with the size of a wmv or asf file, or ""."""
    with path.open("rb") as file:
        header = file.read(2**16)
    at, size = header.find(PROPERTIES), path.stat().st_size
    if at < 0 or len(header) < at + 92:
        return ""
    announced, flags = (int.from_bytes(header[at + first : at + first + 8], "little") for first in (40, 88))
    short = not flags & BROADCAST and size < (1 - LOST) * announced
    return f"it has {size} of the {announced} bytes that it announces" if short else ""


def _tail(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - count))
        return file.read()
