"""Video files: every ending is read, what was cut is refused, names are names, and headers may turn pictures."""

import os
import struct
from fractions import Fraction
from io import RawIOBase
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats import video_files
from datamodules.formats.clip_frames import ClipFrames
from datamodules.formats.video_files import ENDINGS, is_video, length_of
from datamodules.video_captioning.video import read_video
from tests.tiers import slow

# ending: codec, and the container's name if it is not the ending's
KINDS = {
    "mp4": ("libx264", None), "m4v": ("libx264", None), "mov": ("libx264", None), "qt": ("libx264", "mov"),
    "mkv": ("libx264", None), "webm": ("libvpx-vp9", None), "avi": ("mpeg4", None), "divx": ("mpeg4", "avi"),
    "flv": ("flv1", None), "f4v": ("libx264", None), "3gp": ("libx264", None), "3g2": ("libx264", None),
    "mpg": ("mpeg2video", None), "mpeg": ("mpeg1video", None), "mpe": ("mpeg1video", "mpeg"),
    "vob": ("mpeg2video", None), "ts": ("libx264", None), "mts": ("libx264", "mpegts"), "m2ts": ("libx264", None),
    "wmv": ("wmv2", None), "asf": ("msmpeg4v3", None), "gif": ("gif", None), "ogv": ("libvpx", None),
    "mxf": ("mpeg2video", None), "nut": ("mpeg4", None), "y4m": ("wrapped_avframe", "yuv4mpegpipe"),
    "mjpeg": ("mjpeg", None), "mjpg": ("mjpeg", "mjpeg"), "m2v": ("mpeg2video", None), "m1v": ("mpeg1video", None),
    "rm": ("rv20", None), "rmvb": ("rv20", "rm"), "wtv": ("mpeg2video", None), "dv": ("dvvideo", None),
}  # fmt: skip
PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}
RATES = {"mpeg2video": 25, "mpeg1video": 25, "dvvideo": 25}
FRAMES = 30
NEVER_WHOLE = ("mp4", "mov", "avi", "flv", "3gp", "mkv", "webm", "wmv", "gif", "ogv")  # 10 containers
CONTAINERS = (*NEVER_WHOLE, "ts", "m2ts", "mpg")


def scene(number: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: its blue is its time, and a bar moves."""
    picture = np.full((height, width, 3), (40, 90, 255 * number // (FRAMES - 1)), np.uint8)
    picture[height // 4 : height // 3, 3 * number : 3 * number + 16] = 255
    return picture


def write(
    path, ending: str, frames: int = FRAMES, times=None, sound: float = 0.0, container: str | None = None
) -> None:
    """frames pictures, a second of them; times: of each, in thirtieths of a second; sound: its seconds."""
    codec, named = KINDS[ending]
    height, width = (576, 720) if codec == "dvvideo" else (96, 128)
    with av.open(path if isinstance(path, RawIOBase) else str(path), "w", format=container or named) as file:
        stream = file.add_stream(codec, rate=RATES.get(codec, 30), options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = height, width, PIXELS.get(codec, "yuv420p")
        if not codec.startswith("lib"):  # old codecs are blurred at their usual rates
            stream.bit_rate = 4_000_000
        voice = file.add_stream("libopus", rate=48000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(scene(number, height, width), format="rgb24")
            frame = frame.reformat(format=stream.pix_fmt)
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 30)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        for start in range(0, int(sound * 48000), 960):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.float32), format="flt", layout="stereo")
            frame.sample_rate, frame.pts = 48000, start
            file.mux(voice.encode(frame))
        if voice is not None:
            file.mux(voice.encode())


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, bytes]:
    """The bytes of a film by its ending, made when first asked for."""
    folder = tmp_path_factory.mktemp("films")

    class Made(dict):
        def __missing__(self, ending: str) -> bytes:
            write(folder / f"a.{ending}", ending)
            self[ending] = (folder / f"a.{ending}").read_bytes()
            return self[ending]

    return Made()


# -- every ending -----------------------------------------------------------------------------------------------------


def test_every_ending_has_a_kind() -> None:
    assert {f".{ending}" for ending in KINDS} == set(ENDINGS)


@pytest.mark.parametrize("ending", KINDS)
def test_a_whole_file_of_every_ending_is_read_to_its_last_frame(tmp_path: Path, films, ending: str) -> None:
    path = tmp_path / f"a.{ending.upper()}"
    path.write_bytes(films[ending])
    assert is_video(path)
    frames = read_video(path, 5)
    expected = [scene(n, *frames.shape[1:3])[..., 2].mean() for n in (0, 7, 14, 22, 29)]
    assert np.abs(frames[..., 2].mean((1, 2)) - expected).max() < 12  # lossy, and some have 256 colours


# -- cut --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "shares"),
    [
        *((ending, (0.2, 0.43, 0.71)) for ending in ("mkv", "webm", "ts", "m2ts", "wmv", "gif", "ogv", "mxf", "rm")),
        *(slow(ending, tuple(np.linspace(0.07, 0.8, 24))) for ending in NEVER_WHOLE),
    ],
)
def test_a_cut_file_is_refused_by_name(tmp_path: Path, films, ending: str, shares) -> None:
    path = tmp_path / f"cut.{ending}"
    if ending == "mxf":
        shares = (0.43,)  # at others the decoder stops first
    for share in shares:
        path.write_bytes(films[ending][: int(share * len(films[ending]))])
        for read in (lambda: read_video(path, 5), lambda: list(ClipFrames(path, 0.5))):
            with pytest.raises(DataError, match=rf"cut\.{ending}"):
                read()


@pytest.mark.parametrize("ending", ["mkv", "webm"])
def test_how_much_of_a_cut_file_is_there_is_said(tmp_path: Path, films, ending: str) -> None:
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(films[ending][: int(0.5 * len(films[ending]))])
    with pytest.raises(DataError, match=r"it ends at 0\.[1-6]\d of the 1\.00 s that it announces; truncated"):
        read_video(path, 5)


def test_a_part_that_reaches_the_end_of_a_cut_file_is_refused_and_one_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", "mkv", frames=90)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    assert read_video(tmp_path / "a.mkv", 3, (0.1, 0.5)).shape == (3, 96, 128, 3)
    with pytest.raises(DataError, match=r"a\.mkv: it ends at 0\.9\d of the 3\.00 s"):
        read_video(tmp_path / "a.mkv", 3, (0.5, 2.5))


class Pipe(RawIOBase):
    """To a pipe a muxer cannot write how long the file became."""

    def __init__(self):
        self.bytes = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.bytes += bytes(data)
        return len(data)


@pytest.mark.parametrize("ending", ["mkv", "webm"])
def test_a_live_recording_that_announces_nothing_is_read(tmp_path: Path, ending: str) -> None:
    pipe = Pipe()
    write(pipe, ending, container="matroska" if ending == "mkv" else "webm")
    (tmp_path / f"live.{ending}").write_bytes(pipe.bytes)
    with av.open(str(tmp_path / f"live.{ending}")) as file:
        assert file.duration is None
    assert len(read_video(tmp_path / f"live.{ending}", 5)) == 5


@pytest.mark.parametrize(
    "options",
    [
        {"frames": 1},
        {"frames": 2},
        {"frames": 3, "times": [0, 30, 900]},
        {"frames": 20, "times": [300 + n for n in range(20)]},
        {"frames": 10, "sound": 4.0},
    ],
    ids=["one frame", "two frames", "a long pause", "begins at 10 s", "sound goes on"],
)
def test_whole_files_of_odd_times_are_read(tmp_path: Path, options) -> None:
    write(tmp_path / "a.webm", "webm", **options)
    assert len(read_video(tmp_path / "a.webm", 5)) == 5
    assert list(ClipFrames(tmp_path / "a.webm", 2.0))


def test_length_is_that_of_the_pictures(tmp_path: Path, films) -> None:
    for ending in ("mp4", "mkv", "gif", "ts"):
        (tmp_path / f"a.{ending}").write_bytes(films[ending])
        assert length_of(tmp_path / f"a.{ending}") == pytest.approx(1.0, abs=0.04)
    write(tmp_path / "late.webm", "webm", frames=20, times=[300 + n for n in range(20)])
    assert length_of(tmp_path / "late.webm") == pytest.approx(20 / 30, abs=0.04)
    with pytest.raises(DataError, match="b.mp4: no such video file"):
        length_of(tmp_path / "b.mp4")


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Trailer: part 1.mp4", "http:x.mp4", "a%03d.mp4", "é ü.mp4", os.fsdecode(b"\xff.mp4")]
)
def test_a_relative_name_is_a_name(tmp_path: Path, films, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(films["mp4"])
    assert len(read_video(Path(name), 5)) == 5
    assert list(ClipFrames(name, 2.0))


def test_a_missing_file_that_is_there_with_another_ending_is_pointed_to(tmp_path: Path) -> None:
    (tmp_path / "film.MP4").touch()
    (tmp_path / "film.txt").touch()
    with pytest.raises(DataError, match=r"film\.mp4: no such video file\. film\.MP4 is there\.$"):
        read_video(tmp_path / "film.mp4", 5)
    with pytest.raises(DataError, match=r"film\.mp4: no such video file\.$"):
        read_video(tmp_path / "nowhere" / "film.mp4", 5)


# -- formats ----------------------------------------------------------------------------------------------------------


def test_a_format_without_a_decoder_is_called_so(tmp_path: Path, films) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(films["mp4"].replace(b"avc1", b"zzzz"))
    for read in (lambda: read_video(path, 5), lambda: list(ClipFrames(path, 2.0)), lambda: length_of(path)):
        with pytest.raises(DataError, match=r"a\.mp4: the format of its picture track is unknown to FFmpeg .*Convert"):
            read()


@pytest.mark.parametrize("error", [AttributeError("x"), IndexError(), UnicodeDecodeError("utf-8", b"", 0, 1, "no")])
def test_whatever_decoding_raises_names_the_file(tmp_path: Path, films, monkeypatch, error) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(films["mp4"])

    def broken(*_):
        raise error

    monkeypatch.setattr(video_files, "check_whole", broken)
    for read in (lambda: read_video(path, 5), lambda: list(ClipFrames(path, 2.0))):
        with pytest.raises(DataError, match=r"a\.mp4 cannot be decoded"):
            read()


# -- turned -----------------------------------------------------------------------------------------------------------

ONE = 0x10000
TURNS = {  # a, b, c, d of the display matrix, and the pixels that are to be seen
    "as it is": ((ONE, 0, 0, ONE), lambda x: x),
    "a phone held upright": ((0, ONE, -ONE, 0), lambda x: np.rot90(x, -1)),
    "upright, upside down": ((0, -ONE, ONE, 0), lambda x: np.rot90(x, 1)),
    "upside down": ((-ONE, 0, 0, -ONE), lambda x: np.rot90(x, 2)),
    "mirrored": ((-ONE, 0, 0, ONE), np.fliplr),
    "mirrored from top to bottom": ((ONE, 0, 0, -ONE), np.flipud),
    "mirrored at a diagonal": ((0, ONE, ONE, 0), lambda x: x.transpose(1, 0, 2)),
    "at the other diagonal": ((0, -ONE, -ONE, 0), lambda x: np.rot90(x, 2).transpose(1, 0, 2)),
    "by 45 degrees": ((46341, 46341, -46341, 46341), lambda x: x),
}


def turn(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """An mp4 whose track's header has this matrix."""
    changed = bytearray(data)
    at = changed.find(b"tkhd") + 44
    changed[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    return bytes(changed)


@pytest.mark.parametrize("name", TURNS)
def test_a_frame_is_shown_as_the_header_asks_for_or_as_it_is_stored(tmp_path: Path, films, name: str) -> None:
    matrix, seen = TURNS[name]
    (tmp_path / "plain.mp4").write_bytes(films["mp4"])
    (tmp_path / "turned.mp4").write_bytes(turn(films["mp4"], *matrix))
    plain, path = read_video(tmp_path / "plain.mp4", 5), tmp_path / "turned.mp4"
    expected = np.stack([seen(frame) for frame in plain])
    assert np.array_equal(read_video(path, 5, rotation="apply"), expected)
    assert np.array_equal(read_video(path, 5), plain)
    (shown,), (stored,) = ClipFrames(path, 1.0), ClipFrames(tmp_path / "plain.mp4", 1.0)
    assert np.array_equal(shown, seen(stored))


# -- times ------------------------------------------------------------------------------------------------------------


def test_a_picture_that_would_be_shown_for_hours_is_damage(tmp_path: Path) -> None:
    write(tmp_path / "a.mkv", "mkv", frames=3, times=[0, 1, 30 * 4000])
    for read in (lambda: list(ClipFrames(tmp_path / "a.mkv", 2.0)), lambda: length_of(tmp_path / "a.mkv")):
        with pytest.raises(DataError, match=r"a\.mkv: the next frame after 0\.\d\d s is shown (4000|3999) s later"):
            read()
