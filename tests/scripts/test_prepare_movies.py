"""Preparing movies of your own: rows as defined, resumed, failures listed, splits, read by the data module."""

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.audio_description.mini.sounds import RATE
from datamodules.audio_description.recipe import SETTINGS
from datamodules.errors import DataError
from datamodules.formats.clip_frames import ClipFrames
from scripts import extracting
from scripts.prepare_movies import main, split, write_rows, write_split
from tasks.common.clip_extractor import ClipExtractor
from tests.small_movies import SOUND, open_set, write_plain, write_set

MOVIES = {"train001", "val002", "test003"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("made"))


@pytest.fixture
def made(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "made"))


def words(made: Path, *more: object, out: str = "data") -> list[str]:
    given = [
        made / "movies",
        made / out,
        "--descriptions",
        made / "descriptions",
        "--clip",
        made / "clip",
        *SOUND,
        *more,
    ]
    return [str(word) for word in given]


def stopped(given: list[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(given)
    return str(stop.value.code)


def test_rows_are_clips_of_the_pictures_and_as_many_of_the_sound(pristine):
    clip = ClipExtractor.load(pristine / "clip")
    for name in MOVIES:
        video, audio = (np.load(pristine / f"data/{track}_features/{name}.npy") for track in ("video", "audio"))
        assert video.shape == (100, 64) and audio.shape == (100, 16)
        assert video.dtype == audio.dtype == np.float32 and np.isfinite(audio).all()
        np.testing.assert_array_equal(video, clip.rows(ClipFrames(pristine / f"movies/{name}.mp4", 0.2)))


def test_the_data_module_reads_them_with_texts_times_and_splits(pristine):
    data = open_set(pristine, subtitles="subtitles.csv", subtitle_seconds=60.0)
    assert {name: set(data.segments[name].movie) for name in data.segments} == {
        "train": {"train001"}, "val": {"val002"}, "test": {"test003"}
    }  # fmt: skip
    (batch,) = list(data.test_dataloader())
    rows = (pristine / "descriptions/test003.csv").read_text().splitlines()[1:]
    assert [
        f'{a:.3f},{b:.3f},"{text}"' for a, b, text in zip(batch["start"], batch["end"], batch["text"], strict=True)
    ] == rows
    assert len(batch["subtitles"][2]) == 3
    recipe = data.facts()["recipe"]
    assert recipe["made_by"]["audio"] | {"rows_at_once": 0} == {
        "fps": 5.0, "rows_at_once": 0, "front_end": "log_mel", "rate": 8000, "frames": 2, "bands": 8
    }  # fmt: skip


def test_features_of_another_rate_than_the_settings_say_are_refused(pristine):
    with pytest.raises(DataError, match=r"these features have 5\.0 rows per second, and data\.fps=10; set data\.fps"):
        open_set(pristine, fps=10.0).facts()


def test_a_second_run_makes_only_what_is_missing_and_other_settings_are_refused(made, capsys):
    (made / "data/audio_features/val002.npy").unlink()
    capsys.readouterr()
    main(words(made))
    assert "1 movies extracted, 2 were there, 0 failed" in " ".join(capsys.readouterr().out.split())
    told = stopped([*words(made), "--sound-bands", "4"])
    assert "was begun with other settings: bands 8 (now 4)" in told


def test_a_bad_movie_costs_that_movie_and_is_in_no_table(made):
    movies = made / "movies"
    content = (movies / "val002.mp4").read_bytes()
    (movies / "val002.mp4").write_bytes(content[: len(content) // 2])
    write_plain(movies / "silent.mp4", 2.0, None)
    shutil.copy(made / "descriptions/val002.csv", made / "descriptions/silent.csv")
    write_plain(movies / "nobody.mp4", 2.0, np.zeros(2 * RATE, np.float32))
    shutil.copy(movies / "train001.mp4", movies / "more.mp4")
    (made / "descriptions/more.srt").write_text("00:00:01,000 --> 00:00:04,000\nA one.\n")
    told = stopped(words(made, "--val", "1", "--test", "test003", out="other"))
    assert "3 movies failed" in told and "no sound track in it" in told and "val002.mp4 cannot be decoded" in told
    assert "nothing describes it: no nobody.srt, nobody.vtt, nobody.csv in" in told
    listed = (made / "other/failures.txt").read_text().splitlines()
    assert sorted(line.split("\t")[0] for line in listed) == ["nobody", "silent", "val002"]
    described = {line.split(",")[0] for line in (made / "other/descriptions.csv").read_text().splitlines()[1:]}
    lists = json.loads((made / "other/split.json").read_text())
    assert described == {"train001", "more", "test003"} == {name for names in lists.values() for name in names}


def test_a_split_is_kept_and_one_of_other_movies_is_refused(tmp_path):
    chosen = argparse.Namespace(val=[], test=[])
    (tmp_path / "split.json").write_text(json.dumps({"TRAIN": ["a"], "VAL": ["b"], "EVAL": ["c"]}))
    before = (tmp_path / "split.json").read_text()
    write_split(tmp_path, ["c", "a", "b"], chosen)
    assert (tmp_path / "split.json").read_text() == before
    with pytest.raises(DataError, match="different: d"):
        write_split(tmp_path, ["a", "b", "c", "d"], chosen)
    write_split(tmp_path, ["a", "b", "c", "d"], argparse.Namespace(val=["a"], test=["d"]))
    assert json.loads((tmp_path / "split.json").read_text()) == {"TRAIN": ["b", "c"], "VAL": ["a"], "EVAL": ["d"]}


@pytest.mark.parametrize("count", [3, 10, 47])
def test_a_tenth_is_for_validation_and_a_tenth_for_the_test(count):
    movies = [f"m{number:02d}" for number in range(count)]
    lists = split(movies, [], [])
    assert sorted(name for names in lists.values() for name in names) == movies
    assert len(lists["VAL"]) == len(lists["EVAL"]) == max(1, count // 10)
    assert split(movies, ["0"], ["1"])["VAL"] == []


@pytest.mark.parametrize(
    "val, test, said",
    [(["x"], [], "--val x: no such"), ([], ["3"], "3 described movies left"), (["a"], ["a"], "--val a: no")],
)
def test_splits_that_cannot_be_are_refused(val, test, said):
    with pytest.raises(DataError, match=re.escape(said)):
        split(["a", "b", "c"], val, test)


def test_a_file_of_rows_is_complete_or_absent_and_of_any_length(tmp_path):
    chunks = [np.full((n, 3), n, np.float64) for n in (4, 1, 7)]
    assert write_rows(tmp_path / "a.npy", 3, chunks) == 12
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate(chunks).astype(np.float32))

    def damaged():
        yield chunks[0]
        raise DataError("a.mp4: frame 9 is damaged.")

    with pytest.raises(DataError):
        write_rows(tmp_path / "b.npy", 3, damaged())
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


def test_the_settings_have_the_name_that_the_data_module_looks_for():
    assert extracting.SETTINGS == SETTINGS


def test_what_is_wrong_is_named_before_anything_is_written(made):
    assert "not a folder" in stopped([*words(made, out="x"), "--subtitles", str(made / "none")])
    assert "choose a rate that 10 divides" in stopped([*words(made, out="x"), "--sound-rate", "8001"])
    assert stopped([*words(made, out="x"), "--fps", "0"]) == "2"
    assert not (made / "x").exists()
