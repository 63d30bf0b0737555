"""Rows of a movie file: in time with its pictures, the same however they are asked for, and none is kept."""

from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.audio_description.movie_file import looked_at
from datamodules.audio_description.sound_track import SoundRows
from datamodules.audio_description.streamed import CHUNK, FileRows, PictureRows, StreamedRows
from datamodules.errors import DataError
from datamodules.log_mel import LogMel
from tests.datamodules.video_captioning.small import no_frames, write_sound
from tests.small_movies import write_plain

FRONT_END = LogMel.of(rate=8000, fps=5.0, frames=4, bands=16)
SILENCE = FRONT_END.rows(np.zeros(FRONT_END.row, np.float32))[0]


class Bright:
    """In CLIP's place: a row is the picture's mean brightness, and how many were encoded is counted."""

    video_dim = 2

    def __init__(self):
        self.encoded = 0

    def rows(self, pictures, batch_size):
        values = np.array([picture.mean() for picture in pictures], np.float32)
        self.encoded += len(values)
        assert len(values) <= batch_size
        return np.stack([values, np.ones_like(values)], 1)


def beep(seconds: float, at: float, long: float = 0.4) -> np.ndarray:
    """Silence with 1 kHz from `at` seconds on."""
    time = np.arange(round(8000 * seconds)) / 8000
    return (0.5 * np.sin(2 * np.pi * 1000 * time) * ((time >= at) & (time < at + long))).astype(np.float32)


def loud(rows: np.ndarray) -> list[int]:
    """Rows in which 1 kHz sounds."""
    band = FRONT_END.filters[round(1000 * FRONT_END.size / 8000)].argmax()
    return np.flatnonzero(rows.reshape(len(rows), 4, 16)[:, :, band].mean(1) > 4).tolist()


def sounds(path: Path, count: int, front_end=FRONT_END) -> np.ndarray:
    source = SoundRows(path, front_end)
    return np.concatenate([source.next(True)[1] for _ in range(-(-count // CHUNK))])[:count]


def test_a_beep_is_in_the_rows_of_its_time_at_any_rate(tmp_path):
    path = write_plain(tmp_path / "a.mp4", 8.0, beep(8.0, at=6.0))
    assert loud(sounds(path, 40)) == [30, 31]
    fine = LogMel.of(rate=16_000, fps=10.0, frames=4, bands=32)  # resampled from 8 kHz
    rows = sounds(path, 80, fine)
    level = rows.mean(1)
    assert rows.shape == (80, 128) and set(np.argsort(level)[-4:].tolist()) == {60, 61, 62, 63}


def test_sound_that_ends_early_is_silent_behind_and_says_where(tmp_path):
    path = write_plain(tmp_path / "a.mp4", 8.0, beep(2.0, at=1.0))
    source = SoundRows(path, FRONT_END)
    rows = np.concatenate([source.next(True)[1] for _ in range(2)])
    assert loud(rows) == [5, 6] and source.end == pytest.approx(2.0, abs=0.3)
    np.testing.assert_array_equal(rows[15:], np.tile(SILENCE, (len(rows) - 15, 1)))


def remuxed(source: Path, target: Path, late: float = 0.0, hole: tuple[float, float] = (0, 0)) -> Path:
    """The same file, its sound `late` seconds later, without its packets from hole[0] to hole[1] seconds."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "audio":
                time = float(packet.pts * packet.time_base)
                if hole[0] <= time < hole[1]:
                    continue
                shift = round(late / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return target


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_sound_that_begins_later_or_is_interrupted_keeps_its_time(tmp_path, ending):
    path = write_plain(tmp_path / "a.mp4", 8.0, beep(8.0, at=4.0))
    assert loud(sounds(remuxed(path, tmp_path / f"late.{ending}", late=1.0), 40)) == [25, 26]
    holed = remuxed(path, tmp_path / f"hole.{ending}", hole=(1.0, 3.0))
    assert set(loud(sounds(holed, 40))) & {20, 21} and not set(loud(sounds(holed, 40))) - {19, 20, 21, 22}


def test_rows_are_equal_to_the_last_digit_whichever_are_asked_for(tmp_path):
    """A chunk is made as a whole: rows of a window do not depend on the windows before it."""
    rng = np.random.default_rng(0)
    path = write_plain(tmp_path / "a.mp4", 30.0, (0.1 * rng.standard_normal(30 * 8000)).astype(np.float32))
    whole = sounds(path, 150)
    for windows in [[(0, 5), (100, 125)], [(31, 33), (34, 70)], [(140, 150)]]:
        streamed = StreamedRows(SoundRows(path, FRONT_END), "a")
        for first, stop in windows:
            streamed.reach([(first, stop)])
            np.testing.assert_array_equal(streamed.read("a", first, stop), whole[first:stop])


def test_pictures_that_no_window_needs_are_not_encoded_and_none_is_kept(tmp_path):
    path = write_plain(tmp_path / "a.mp4", 60.0, None)
    clip = Bright()
    streamed = StreamedRows(PictureRows(path, 5.0, clip), "a")
    held = []
    for first in (0, 100, 190, 260):
        streamed.reach([(first, first + 25)])
        rows = streamed.read("a", first, first + 25)
        expected = 255 * (np.arange(first, first + 25) * 2 + 1) / 599  # the picture in the row's middle
        np.testing.assert_allclose(rows[:, 0], expected, atol=4)
        held.append(sum(len(rows) for _, rows in streamed.held))
    assert clip.encoded <= 4 * 2 * CHUNK < 300 and max(held) <= 3 * CHUNK
    streamed.reach([(299, 400)])
    assert streamed.ended and streamed.count == 300


def test_what_lies_between_the_windows_of_a_batch_is_not_encoded_either(tmp_path):
    path = write_plain(tmp_path / "a.mp4", 60.0, None)
    clip = Bright()
    streamed = StreamedRows(PictureRows(path, 5.0, clip), "a")
    streamed.reach([(10, 20), (5, 12), (270, 280)])
    assert clip.encoded == 2 * CHUNK
    for first, stop in ((5, 12), (10, 20), (270, 280)):
        expected = 255 * (np.arange(first, stop) * 2 + 1) / 599
        np.testing.assert_allclose(streamed.read("a", first, stop)[:, 0], expected, atol=4)


def test_given_rows_take_the_place_of_a_source():
    array = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float16)
    streamed = StreamedRows(FileRows(Path("a.npy"), array), "a")
    streamed.reach([(40, 99)])
    np.testing.assert_array_equal(streamed.read("a", 40, 70), array[40:].astype(np.float32))
    assert (streamed.count, streamed.ended) == (70, True)
    for wrong in (np.zeros(4), np.zeros((0, 4)), np.array([["a"]])):
        with pytest.raises(DataError, match="expected numbers"):
            FileRows(Path("a.npy"), wrong)


def test_a_movie_is_looked_at_before_the_work(tmp_path):
    path = write_plain(tmp_path / "a.mp4", 6.0, beep(6.0, at=1.0))
    assert looked_at(path, sound=True).duration == pytest.approx(6.0)
    silent = write_plain(tmp_path / "b.mp4", 6.0, None)
    assert looked_at(silent, sound=False).duration == pytest.approx(6.0)
    with pytest.raises(DataError, match=r"b\.mp4: no sound track in it"):
        looked_at(silent, sound=True)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_file_that_is_cut_off_is_refused_before_the_work(tmp_path, ending, share):
    rng = np.random.default_rng(0)
    path = write_plain(tmp_path / "a.mp4", 20.0, (0.1 * rng.standard_normal(20 * 8000)).astype(np.float32))
    path = path if ending == "mp4" else remuxed(path, tmp_path / "a.mkv")
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"cut\.(mp4|mkv)"):
        looked_at(cut, sound=True)


def test_files_without_pictures_are_refused(tmp_path):
    write_sound(tmp_path / "sound.mp4")
    with pytest.raises(DataError, match="no picture track in it, only audio"):
        looked_at(tmp_path / "sound.mp4", sound=True)
    no_frames(tmp_path / "none.avi")
    with pytest.raises(DataError, match=r"none\.avi"):
        looked_at(tmp_path / "none.avi", sound=False)
    (tmp_path / "text.mp4").write_text("not a movie")
    with pytest.raises(DataError, match=r"text\.mp4 cannot be decoded"):
        looked_at(tmp_path / "text.mp4", sound=False)
    with pytest.raises(DataError, match="no such video file"):
        looked_at(tmp_path / "missing.mp4", sound=False)
