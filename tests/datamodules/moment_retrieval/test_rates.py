"""Rows per second against durations and against each other: on whole files, for every stream, whatever max_clips is."""

import math
import re

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.moment_retrieval.arrays import moment_batches
from datamodules.moment_retrieval.rates import Video, apart, check_rows, check_videos, fitting, gross
from scripts.pack_features import main as pack_features
from tests.datamodules.moment_retrieval.small import ANNOTATIONS, WIDTHS, open_set, write_features, write_lines
from tests.tasks.moment_retrieval.trained import KNOWN

SECONDS = (20, 31, 47.5, 150)  # of four videos; clips of 2 s


def write_videos(folder, factors=None, **changes):
    """A query of each video in each split; a stream has `factors[stream]` times the right number of rows."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(ANNOTATIONS.values()):
        rows = []
        for i, seconds in enumerate(SECONDS):
            row = {"qid": 10 * number + i, "query": "q", "vid": f"{name[:-6]}{i}", "duration": seconds}
            rows.append(row | {"relevant_windows": [[2, 6]]} | changes)
        write_lines(folder / name, rows)
        write_features(folder, rows, rng)
        for stream, factor in (factors or {}).items():
            for row in rows:
                count = max(1, round(row["duration"] / 2 * factor))
                values = rng.standard_normal((count, WIDTHS[stream])).astype(np.float32)
                np.savez(folder / stream / f"{row['vid']}.npz", features=values)
    return folder


@pytest.mark.parametrize("max_clips", [5, 75, 1000])  # fewer than the files have, as many as the longest, more
@pytest.mark.parametrize("factor, fits", [(2, "1"), (1.5, "1.3"), (0.5, "4"), (1.35, "1.5"), (6.7, "0.3")])
@pytest.mark.parametrize("streams", [("slow",), ("clip",), ("slow", "clip")])
def test_another_number_of_rows_per_second_is_refused(tmp_path, streams, factor, fits, max_clips):
    folder = write_videos(tmp_path, dict.fromkeys(streams, factor))
    with pytest.raises(DataError) as stop:
        open_set(folder, max_clips=max_clips, saliency="windows")
    message = str(stop.value)
    assert {f"stream {name} does not fit 12 of 12 videos" in message for name in streams} == {True}
    assert f"Is data.clip_length right? {fits} s per row would fit." in message
    assert message.count("does not fit") == len(streams)


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.2])
def test_less_than_a_factor_of_1_3_is_read(tmp_path, factor):
    data = open_set(write_videos(tmp_path, dict.fromkeys(WIDTHS, factor)), saliency="windows", max_clips=200)
    assert len(data.annotations("test")) == len(SECONDS)


def test_the_configured_clip_length_is_what_counts(tmp_path):
    folder = write_videos(tmp_path, dict.fromkeys(WIDTHS, 2))
    assert open_set(folder, saliency="windows", clip_length=1.0, max_clips=200).facts()["clip_length"] == 1.0


def test_a_single_wrong_file_is_named_and_not_the_setting(tmp_path):
    folder = write_videos(tmp_path)
    np.savez(folder / "slow" / "val3.npz", features=np.ones((150, 7), np.float32))
    with pytest.raises(DataError) as stop:
        open_set(folder, saliency="windows", max_clips=75)
    assert "stream slow does not fit 1 of 12 videos: vid val3: 150 clips of 2 s are 300 s, the video has 150 s" in str(
        stop.value
    )
    assert "1 s per row would fit these videos, but the others fit 2" in str(stop.value)


def test_streams_that_each_fit_must_fit_each_other(tmp_path):
    folder = write_videos(tmp_path, {"slow": 0.85, "clip": 1.2})
    with pytest.raises(DataError, match=r"streams of 12 of 12 videos have rows of different lengths: vid train0: 8"):
        open_set(folder, saliency="windows", max_clips=5)  # what is left after the cut is equal


def test_a_larger_slack_is_the_user_s_word_for_a_shorter_stream(tmp_path):
    """lighthouse#34: 33 rows of sound, 59 of video."""
    folder = write_videos(tmp_path)
    np.savez(folder / "clip" / "val3.npz", features=np.ones((40, 5), np.float32))
    with pytest.raises(DataError, match="stream clip does not fit 1 of 12 videos: vid val3: 40 clips"):
        open_set(folder, saliency="windows", max_clips=75)
    data = open_set(folder, saliency="windows", max_clips=75, length_slack=40)
    assert len(data.annotations("val")) == len(SECONDS)


@pytest.mark.parametrize("max_clips", [5, 1000])
def test_packed_streams_are_compared_too(tmp_path, max_clips):
    folder = write_videos(tmp_path, dict.fromkeys(WIDTHS, 2))
    pack_features([str(folder / "slow"), str(folder / "clip")])
    with pytest.raises(DataError, match="stream slow does not fit 12 of 12 videos"):
        open_set(folder, saliency="windows", max_clips=max_clips)


def test_packing_refuses_streams_that_differ_and_rows_that_do_not_fit_durations(tmp_path):
    folder = write_videos(tmp_path, {"clip": 2})
    files = [str(folder / "slow"), str(folder / "clip")]
    with pytest.raises(SystemExit, match="12 files have rows of another clip length than those of the same name"):
        pack_features(files)
    durations = ["--annotations", *(str(folder / name) for name in ANNOTATIONS.values()), "--clip-length", "2"]
    with pytest.raises(
        SystemExit, match=r"does not fit 12 of 12 videos.*Is --clip-length right\? 1 s per row would fit"
    ):
        pack_features([files[1], *durations])
    assert not list(folder.glob("*.packed.*"))
    pack_features([files[0], *durations])
    pack_features([*files, "--unrelated"])
    assert len(list(folder.glob("*.packed.npy"))) == 2


@pytest.mark.parametrize("factor", [0.5, 1.5, 2])
@pytest.mark.parametrize("stream", list(WIDTHS))
def test_prediction_refuses_rows_that_do_not_fit(stream, factor):
    clips = 30
    video = {name: np.ones((round(clips * factor), width)) for name, width in WIDTHS.items()}
    with pytest.raises(DataError, match=r"does not fit the video: .* said to last 60 s. Is the clip length right"):
        next(moment_batches(KNOWN, video, [np.ones((3, 6))], duration=2.0 * clips))
    assert next(moment_batches(KNOWN, video, [np.ones((3, 6))], duration=2.0 * clips * factor))["video"].shape[0] >= 1
    video[stream] = np.ones((clips, WIDTHS[stream]))
    with pytest.raises(DataError, match="streams of different lengths"):
        next(moment_batches(KNOWN, video, [np.ones((3, 6))]))


@pytest.mark.parametrize("clips", [0.4, 1, 1.5, 2, 7.01, 29.42, 75])
def test_whole_clips_a_cut_one_and_one_row_more_or_fewer_are_always_allowed(clips):
    for rows in {math.floor(clips), math.ceil(clips), math.ceil(clips) + 1, math.floor(clips) - 1} - {0, -1}:
        assert not gross(rows, clips), rows


@pytest.mark.parametrize("clips", [5, 7.01, 29.42, 75, 1800])
@pytest.mark.parametrize("factor", [0.5, 1.5, 2, 10])
def test_from_five_clips_on_every_gross_factor_is_seen(clips, factor):
    assert gross(round(clips * factor), clips)
    assert apart({"a": round(clips), "b": round(clips * factor)})


def test_one_video_by_itself():
    check_rows({"a": 15, "b": 16}, 30.5, clip_length=2.0)
    with pytest.raises(DataError, match=re.escape("stream b does not fit the video: 30 clips of 2 s are 60 s")):
        check_rows({"a": 15, "b": 30}, 30.1, clip_length=2.0)
    with pytest.raises(DataError, match=re.escape("1 s per row would fit")):
        check_rows({"b": 30}, 30.1, clip_length=2.0)


def test_rows_of_labelled_clips_are_compared_with_the_labels():
    check_videos([Video("vid a", {"i3d": 63}, 62)], clip_length=1.0)
    with pytest.raises(DataError, match="63 rows for 30 labels. Take the features that the labels belong to"):
        check_videos([Video("vid a", {"i3d": 63}, 30)], clip_length=1.0)


def test_the_clip_length_that_would_fit_is_the_median_to_two_digits():
    videos = [Video("a", {"s": 180}, 30), Video("b", {"s": 61}, 10), Video("c", {"s": 1}, 75), Video("d", {}, 3)]
    assert fitting(videos, "s", 1.0) == 0.17
