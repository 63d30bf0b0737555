"""The checker: nothing in clean data, what is only mentioned, feature values, other layouts, the command itself."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules.audio_description import Descriptions
from scripts.check_data import main
from scripts.checks import mad_features, mad_rows, madv2
from scripts.checks.mad_splits import ZEROS
from scripts.checks.madv2 import NothingToCheck, check_madv2
from tests.datamodules.audio_description.small import (
    FILES,
    KEYWORDS,
    SETTINGS,
    change_features,
    change_row,
    movies,
    read_rows,
    write_rows,
)
from tests.programs import started
from tests.scripts.mad_faults import add_rows, check, durations, first, found, with_column, write_faultless

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def faultless(tmp_path_factory) -> Path:
    return write_faultless(tmp_path_factory.mktemp("set"))


@pytest.fixture
def folder(faultless, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(faultless, tmp_path / "madv2"))


@pytest.mark.parametrize("deep", [None, "sample", "all"])
def test_nothing_is_found_in_a_clean_set(folder, deep):
    report = check(folder, deep)
    assert report.sections == {} and report.found == 0
    assert report.text(5).endswith("\n0 findings of 0 kinds, 0 notes")


# What is tolerated, and mentioned


def test_tracks_up_to_a_second_apart_are_a_note(folder):
    change_features(folder, FILES.audio, first(folder, "EVAL"), lambda v: np.concatenate([v, v[:5]]))
    report = check(folder)
    assert report.found == 0 and "0136 (" in found(report, note=True)[mad_features.TRACKS_CUT]["video and audio"][0]


@pytest.mark.parametrize("seconds, kind, note", [(0.9, mad_rows.CUT, True), (1.1, mad_rows.LATE, False)])
def test_a_segment_that_goes_on_after_its_movie(folder, seconds, kind, note):
    rows = read_rows(folder / FILES.eval)
    with h5py.File(folder / FILES.video) as file:
        length = len(file[rows[-1][0]]) / 5
    rows[-1][2] = str(length + seconds)
    write_rows(folder / FILES.eval, rows)
    report = check(folder)
    assert list(found(report, note=note)) == [kind] and report.found == (not note)


def test_a_time_after_the_movie_duration_of_its_row_is_found(folder):
    """The durations are those of the features, but for the first movie's last row, which ends two seconds after."""
    with h5py.File(folder / FILES.video) as file:
        lengths = {movie: len(file[movie]) / 5 for movie in file}
    with_column(folder, FILES.eval, "movie_duration", lambda rows: durations(folder, rows))
    assert check(folder).found == 0
    rows = read_rows(folder / FILES.eval)
    rows[20][2] = str(lengths["0119"] + 2)
    write_rows(folder / FILES.eval, rows)
    assert list(found(check(folder))) == [mad_rows.LATE, mad_rows.DURATION]


# Values


@pytest.mark.parametrize("deep", [None, "sample", "all"])
@pytest.mark.parametrize(
    "value, kind", [(np.nan, mad_features.NOT_FINITE), (np.inf, mad_features.NOT_FINITE), (0, mad_features.ZERO)]
)
def test_bad_values_are_found_when_they_are_read(folder, value, kind, deep):
    def spoil(values):
        values[[7, -1]] = value
        return values

    change_features(folder, FILES.video, first(folder, "EVAL"), spoil)
    findings = found(check(folder, deep))
    assert list(findings) == ([kind] if deep else [])
    if deep:
        (name,) = findings[kind][str(folder / FILES.video)]
        assert re.fullmatch(r"0136 \(2 of the \d+ rows that were read, the first is row 7\)", name)


@pytest.mark.parametrize("count", [1, 2, 24, 25, 26, 499, 500, 501, 503, 4096, 4097, 10_007])
def test_all_rows_are_read_once_and_a_sample_goes_from_first_to_last(count):
    whole = [row for span in mad_features.slices(count, "all") for row in range(*span)]
    assert whole == list(range(count))
    sample = [row for span in mad_features.slices(count, "sample") for row in range(*span)]
    assert len(set(sample)) == len(sample) == min(count, 500) and {0, count - 1} <= set(sample) <= set(whole)


def test_a_damaged_chunk_is_found_by_reading_all(folder):
    movie = first(folder, "TRAIN")
    with h5py.File(folder / FILES.video, "a") as file:
        values = file[movie][:]
        del file[movie]
        file.create_dataset(movie, data=values, chunks=(16, 64), fletcher32=True)
        offset = file[movie].id.get_chunk_info(3).byte_offset
    content = bytearray((folder / FILES.video).read_bytes())
    content[offset + 40] ^= 0xFF
    (folder / FILES.video).write_bytes(content)
    assert check(folder).found == 0
    ((kind, places),) = found(check(folder, "all")).items()
    assert kind == mad_features.UNREADABLE and "movie 0017, rows 0 to" in str(places)


# Other layouts


def as_npy(folder, name):
    """The features of an h5 file as a folder of .npy files, and its name."""
    out = folder / Path(name).stem
    out.mkdir()
    with h5py.File(folder / name) as file:
        for movie in file:
            np.save(out / f"{movie}.npy", file[movie][:])
    (folder / name).unlink()
    return out.name


def test_folders_of_npy_files_are_checked_like_h5_files(folder):
    names = {f"{track}_features": as_npy(folder, getattr(FILES, track)) for track in ("video", "audio")}
    assert check(folder, "all", **names).sections == {}
    part = folder / names["audio_features"] / "0017.npy"
    part.write_bytes(part.read_bytes()[:-1])
    (folder / names["video_features"] / "0034.npy").unlink()
    findings = found(check(folder, **names))
    assert set(findings) == {mad_features.UNREADABLE, mad_features.MISSING}
    assert "0017.npy" in str(findings[mad_features.UNREADABLE]) and "0034" in str(findings[mad_features.MISSING])


def test_subtitles_are_checked_where_they_are_configured(folder):
    path = folder / "subs.csv"
    every = [m for split in ("TRAIN", "VAL", "EVAL") for m in movies(folder, split)]
    write_rows(path, [["movie", "start", "end", "text"], *([movie, "1", "2", "Hello."] for movie in every)])
    assert check(folder, subtitles="subs.csv").sections == {}
    add_rows(folder, "subs.csv", ["0017", "-1", "2", "x"], ["0017", "3", "2", "x"], ["0017", "9000", "9001", "x"])
    change_row(folder, "subs.csv", movie="17")
    kinds = [mad_rows.NEGATIVE, mad_rows.REVERSED, mad_rows.AFTER, ZEROS]
    assert set(found(check(folder, subtitles="subs.csv"))) == set(kinds)
    write_rows(path, [["film", "from", "to", "line"]])
    assert "its columns are film, from, to, line" in str(found(check(folder, subtitles="subs.csv")))
    path.unlink()
    assert found(check(folder, subtitles="subs.csv")) == {madv2.NO_FILE: {str(folder): ["subs.csv"]}}
    assert check(folder).found == 0


def test_nothing_is_found_in_generated_data(tmp_path):
    data = Descriptions(**KEYWORDS, root=str(tmp_path), mini={**SETTINGS, "train_movies": 2}, subtitles="lines.csv")
    report = check_madv2(data, "all")
    assert report.found == 0
    on_purpose = {mad_rows.NEGATIVE, mad_rows.REVERSED, mad_rows.EMPTY, mad_rows.BYTES, mad_rows.UNSORTED}
    assert set(found(report, note=True)) == on_purpose
    change_row(data.folder, FILES.eval, start="-1")
    assert list(found(check_madv2(data))) == [mad_rows.NEGATIVE]
    rows = read_rows(data.folder / FILES.train)
    write_rows(data.folder / FILES.train, [*rows, [rows[1][0], "-1", "2", "A second one."]])
    assert set(found(check_madv2(data))[mad_rows.NEGATIVE]) == {FILES.train, FILES.eval}


@pytest.mark.parametrize("make", [False, True])
def test_no_data_at_all_cannot_be_checked(tmp_path, make):
    root = tmp_path / "nothing"
    if make:
        root.mkdir()
    with pytest.raises(NothingToCheck, match=r"missing pictures\.h5, .* looked in .*nothing"):
        check(root)


# The command


def overrides(folder) -> list[str]:
    return [f"data.root={folder}", *(f"data.{name}={value}" for name, value in KEYWORDS.items())]


def test_the_command_ends_with_0_clean_1_findings_2_cannot(folder, capsys):
    assert main(["madv2", *overrides(folder)]) == 0
    out = capsys.readouterr().out
    assert "train.csv: 120 rows of 6 movies" in out and out.endswith("0 findings of 0 kinds, 0 notes\n")
    for movie in movies(folder, "TRAIN"):
        change_features(folder, FILES.video, movie, lambda v: None)
    change_row(folder, FILES.eval, sentence="")
    assert main(["madv2", *overrides(folder), "experiment=madv2_lcaam"]) == 1
    out = capsys.readouterr().out
    assert f"{mad_features.MISSING}: 6\n  {folder / FILES.video}: 0017, 0034, 0051, 0068, 0085 and 1 more\n" in out
    assert out.splitlines()[-1] == "7 findings of 2 kinds, 0 notes"
    assert main(["madv2", "--all", *overrides(folder)]) == 1
    assert f"  {folder / FILES.video}: 0102\n" in capsys.readouterr().out
    shutil.rmtree(folder)
    assert main(["madv2", *overrides(folder)]) == 2
    assert f"looked in {folder}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["data.rot=x"], "data.rot: unknown key; did you mean 'root'"),
        (["data.fps=0"], "data.fps: 0 is out of range"),
        (["experiment=madv3"], "madv3"),
        (
            ["experiment=qvhighlights_lcaam"],
            "madv2 is read by datamodules.audio_description.Descriptions; these settings choose data ",
        ),
    ],
)
def test_arguments_that_train_would_refuse_end_with_2(arguments, message, capsys):
    assert main(["madv2", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_data_set_ends_with_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["madv3"])
    assert stop.value.code == 2 and "madv2" in capsys.readouterr().err


@pytest.mark.slow
def test_the_script_runs_by_itself(folder):
    (folder / FILES.audio).unlink()
    done = started("-m", "scripts.check_data", "madv2", *overrides(folder))
    assert done.returncode == 1 and done.stdout.endswith("1 findings of 1 kinds, 0 notes\n"), done.stderr
