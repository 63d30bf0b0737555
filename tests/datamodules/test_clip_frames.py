"""The frames that stand for a video's clips: those of FFmpeg's fps filter, whatever the frame rate; damaged files."""

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats.clip_frames import ClipFrames
from datamodules.formats.video_files import is_video
from tests.datamodules.video_captioning.small import no_frames, write_sound, write_video

STEP = 3  # difference in brightness from one frame to the next; what encoding changes is less than half of it
LENGTHS = ("1/2", "1", "3/2", "2", "3/10", "4", "1/20")


def numbered(count: int) -> np.ndarray:
    """(count, 32, 48, 3) uint8 frames whose brightness is their number."""
    return np.zeros((count, 32, 48, 3), np.uint8) + (STEP * np.arange(count)).astype(np.uint8)[:, None, None, None]


def write_times(path: Path, times: list[int], base: Fraction) -> None:
    """A file whose frame i is shown from times[i] * base seconds on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1", "tune": "zerolatency", "crf": "8"})
        stream.height, stream.width, stream.pix_fmt, stream.time_base = 32, 48, "yuv420p", base
        stream.codec_context.time_base = base
        for pts, picture in zip(times, numbered(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = pts, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def numbers(pictures) -> list[int]:
    """Which of `numbered` frames these are."""
    return [round(float(picture.mean()) / STEP) for picture in pictures]


def by_ffmpeg(path: Path, length: str) -> list[int]:
    """The frames that FFmpeg's fps filter keeps, at one frame per `length` seconds."""
    found = []
    with av.open(str(path)) as container:
        stream, graph = container.streams.video[0], av.filter.Graph()
        ends = [
            graph.add_buffer(template=stream),
            graph.add("fps", str(1 / Fraction(length))),
            graph.add("buffersink"),
        ]
        for one, next_one in pairwise(ends):
            one.link_to(next_one)
        graph.configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    found.append(graph.pull().to_ndarray(format="rgb24"))
                except (av.BlockingIOError, av.EOFError):
                    break
    return numbers(found)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Videos of constant and of variable rate, one of which begins late."""
    folder = tmp_path_factory.mktemp("videos")
    for name, rate, count in (("seven", 7, 77), ("ntsc", Fraction(30000, 1001), 80), ("slow", 1, 31)):
        write_video(folder / f"{name}.mp4", numbered(count), rate, crf="8", tune="zerolatency")
    rng = np.random.default_rng(0)
    uneven = np.cumsum(rng.integers(1, 1500, 60)).tolist()
    write_times(folder / "uneven.mp4", [one - uneven[0] for one in uneven], Fraction(1, 1000))
    write_times(folder / "late.mkv", [5000 + 40 * number for number in range(80)], Fraction(1, 1000))
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ["seven", "ntsc", "slow", "uneven"])
def test_the_frames_are_those_of_ffmpegs_filter(files, name, length) -> None:
    found = numbers(ClipFrames(files[name], float(Fraction(length))))
    expected = by_ffmpeg(files[name], length)
    assert found == expected
    assert len(set(found)) > 2 or len(found) < 3


@pytest.mark.parametrize("length", [0.5, 1.0, 2.0])
def test_a_clips_frame_is_on_the_screen_in_its_middle(files, length) -> None:
    with av.open(str(files["uneven"])) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    found = numbers(frames := ClipFrames(files["uneven"], length))
    assert len(found) == max(1, int(frames.duration / length + 0.5))
    for clip, number in enumerate(found):
        middle = (clip + 0.5) * length
        assert times[number] < middle or number == 0
        assert number + 1 == len(times) or times[number + 1] >= middle


def test_time_is_counted_from_the_first_frame(files) -> None:
    frames = ClipFrames(files["late"], 1.0)
    assert numbers(frames) == [12, 37, 62]
    assert frames.duration == pytest.approx(80 * 0.04, abs=0.01)


@pytest.mark.parametrize(
    ("frames", "rate", "length", "clips"), [(1, 25, 2.0, 1), (24, 25, 2.0, 1), (31, 1, 2.0, 16), (30, 1, 2.0, 15)]
)
def test_a_video_has_as_many_clips_as_its_duration_rounded_and_at_least_one(
    tmp_path, frames, rate, length, clips
) -> None:
    write_video(tmp_path / "v.mp4", numbered(frames), rate)
    found = ClipFrames(tmp_path / "v.mp4", length)
    assert len(list(found)) == clips
    assert found.duration == pytest.approx(frames / rate)


def test_a_rotation_that_the_file_asks_for_is_applied(tmp_path) -> None:
    """The header of a telephone's video: its pictures are stored lying on their side."""
    picture = np.zeros((1, 32, 48, 3), np.uint8)
    picture[0, :16, :24] = 250  # top left
    write_video(tmp_path / "v.mp4", picture, 1)
    (upright,) = ClipFrames(tmp_path / "v.mp4", 1.0)
    content = bytearray((tmp_path / "v.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # after version, times, track, duration, layer and volume
    one = 1 << 16
    for turns, (a, b, c, d) in enumerate([(one, 0, 0, one), (0, one, -one, 0), (-one, 0, 0, -one), (0, -one, one, 0)]):
        content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        (tmp_path / f"{turns}.mp4").write_bytes(content)
        (found,) = ClipFrames(tmp_path / f"{turns}.mp4", 1.0)
        np.testing.assert_array_equal(found, np.rot90(upright, -turns))  # clockwise, as a player shows it


def test_a_long_video_is_never_whole_in_memory(files, monkeypatch) -> None:
    """Only the frame that is asked for has been turned into a picture."""
    made = []
    picture = ClipFrames._picture
    monkeypatch.setattr(ClipFrames, "_picture", lambda self, *given: made.append(1) or picture(self, *given))
    frames = iter(ClipFrames(files["seven"], 0.5))
    for count in (1, 2, 3):
        next(frames)
        assert len(made) == count


def test_damaged_and_missing_files_are_named(files, tmp_path) -> None:
    def refused(path: Path, message: str) -> None:
        with pytest.raises(DataError, match=message) as caught:
            list(ClipFrames(path, 1.0))
        assert str(path) in str(caught.value)

    refused(tmp_path / "none.mp4", "no such video file")
    (tmp_path / "text.mp4").write_text("not a video")
    refused(tmp_path / "text.mp4", "cannot be decoded, probably truncated")
    (tmp_path / "empty.mp4").write_bytes(b"")
    refused(tmp_path / "empty.mp4", "cannot be decoded")
    content = files["seven"].read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "cut.mp4", "cannot be decoded, probably truncated")
    write_sound(tmp_path / "sound.mp4")
    refused(tmp_path / "sound.mp4", "no picture track in it, only audio")
    no_frames(tmp_path / "none.avi")
    refused(tmp_path / "none.avi", "no frames in it")


def test_a_file_that_lost_its_end_is_refused_though_it_can_be_opened(tmp_path) -> None:
    write_video(tmp_path / "v.mp4", numbered(77), 7, faststart=True, g="10")
    content = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) - len(content) // 3])
    with pytest.raises(DataError, match=r"of the 77 frames that it announces can be decoded|cannot be decoded"):
        list(ClipFrames(tmp_path / "cut.mp4", 1.0))


@pytest.mark.parametrize("length", [0, -1.0, float("nan"), float("inf")])
def test_a_clip_lasts_more_than_nothing(files, length) -> None:
    with pytest.raises(DataError, match="a clip lasts more than 0 s"):
        ClipFrames(files["seven"], length)


def test_a_video_file_is_known_by_its_ending() -> None:
    assert is_video("a/b.MP4") and is_video(Path("x.webm"))
    assert not is_video("a.npz") and not is_video("a dog runs")
