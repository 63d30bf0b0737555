"""Defects of MAD's files that stop the run, each with its place; what is repaired: test_madv2_repairs.py."""

import gzip
import json

import h5py
import numpy as np
import pytest

from datamodules.audio_description import Descriptions
from datamodules.audio_description.annotations import read_annotations
from datamodules.audio_description.hdf5 import FeatureFile
from datamodules.errors import DataError
from tests.datamodules.audio_description.small import (
    FILES,
    KEYWORDS,
    change_features,
    change_row,
    movies,
    read_rows,
    write_rows,
)

# Defects that stop the run


def _cut(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def _write(folder, name, text):
    (folder / name).write_text(text)


def _lists(folder, change):
    lists = json.loads((folder / FILES.split).read_text())
    change(lists)
    (folder / FILES.split).write_text(json.dumps(lists))


def _lose_zeros_in_csv(folder, name, split, rows=None):
    """The ids of the split's first movie that starts with zero lose it, in all its rows or in the first `rows`."""
    movie = next(movie for movie in movies(folder, split) if movie.startswith("0"))
    table = read_rows(folder / name)
    for row in [row for row in table if row[0] == movie][:rows]:
        row[0] = movie.lstrip("0")
    write_rows(folder / name, table)


def _lose_zeros(folder):
    with h5py.File(folder / FILES.video, "a") as file:
        for movie in movies(folder, "TRAIN"):
            if movie.startswith("0"):
                file.move(movie, str(int(movie)))


def _number(folder, name):
    """A column ann_id that counts each movie's rows, in every file from 0 on."""
    head, *rows = read_rows(folder / name)
    last = movies(folder, "TRAIN" if name == FILES.train else "VAL")[-1]
    rows = sorted(rows, key=lambda row: row[0] != last)
    write_rows(folder / name, [[*head, "ann_id"], *([*row, str(i)] for i, row in enumerate(rows))])


STOPS = {
    "truncated h5": (lambda f: _cut(f, FILES.video), r"pictures\.h5: cannot be opened as HDF5, probably truncated"),
    "not h5": (lambda f: _write(f, FILES.audio, "no"), r"sounds\.h5: cannot be opened as HDF5"),
    "movie missing": (
        lambda f: change_features(f, FILES.audio, movies(f, "EVAL")[0], lambda values: None),
        r"sounds\.h5: no features of 1 movies: \d{4}",
    ),
    "zeros lost": (_lose_zeros, r"pictures\.h5: no features of \d movies: 0.*It has '\d+': were leading zeros lost\?"),
    "wrong width": (
        lambda f: change_features(f, FILES.video, movies(f, "TRAIN")[1], lambda values: values[:, :63]),
        r"pictures\.h5: movie \d{4} has shape \(\d+, 63\), expected \(rows, 64\)",
    ),
    "vector": (
        lambda f: change_features(f, FILES.video, movies(f, "TRAIN")[1], lambda values: values[0]),
        r"pictures\.h5: movie \d{4} has shape \(64,\), expected \(rows, 64\)",
    ),
    "unequal tracks": (
        lambda f: change_features(f, FILES.audio, movies(f, "TRAIN")[0], lambda values: values[:-6]),
        r"movie \d{4}: \d+ rows in .*pictures\.h5 and \d+ in .*sounds\.h5; they may differ by at most 1\.0 s = 5 rows",
    ),
    "time not a number": (
        lambda f: change_row(f, FILES.train, start="soon"),
        r"train\.csv: column start is not a number of seconds in 1 rows; the first is row 0: 'soon'",
    ),
    "time infinite": (lambda f: change_row(f, FILES.train, end="inf"), r"column end is not a number .* row 0: 'inf'"),
    "no such column": (
        lambda f: write_rows(f / FILES.train, [["movie", "begin", "end", "text"], ["1", "2", "3", "x"]]),
        r"train\.csv: no column start or start_time; its columns are movie, begin, end, text",
    ),
    "empty file": (lambda f: _write(f, FILES.train, ""), r"train\.csv: not a readable csv file"),
    "header only": (lambda f: _write(f, FILES.train, "movie,start,end,text\n"), r"train\.csv: no usable row"),
    "a column twice": (
        lambda f: _write(f, FILES.train, "movie,start,end,text,text\n1,1,2,x,y\n"),
        r"train\.csv: more than one column is called text\.",
    ),
    "a cell more than the header has": (  # pandas would take the movie for the row's name
        lambda f: _write(f, FILES.train, "movie,start,end,text\n1,1,2,x,y\n1,2,3,x,y\n"),
        r"train\.csv: not a readable csv file \(.*Expected 4 fields in line 2, saw 5\)\.$",
    ),
    "an HDF5 data set without values": (
        lambda f: change_features(f, FILES.video, movies(f, "TRAIN")[1], lambda values: h5py.Empty("f4")),
        r"pictures\.h5: movie \d{4} has shape \(\), expected \(rows, 64\)",
    ),
    "no feature rows at all": (
        lambda f: [
            change_features(f, name, movie, lambda values: values[:0])
            for name in (FILES.video, FILES.audio)
            for movie in movies(f, "TRAIN")
        ],
        r"train: all 120 segments begin after the features of their movies end",
    ),
    "ann_id in both files": (
        lambda f: (
            [_number(f, name) for name in (FILES.train, FILES.eval)]
            + [_lists(f, lambda lists: lists["VAL"].append(lists["TRAIN"].pop()))]
        ),
        r"val: ann_id not unique among its annotation files: \d+, \d+",
    ),
    "ann_id twice": (
        lambda f: _write(f, FILES.train, "movie,start,end,text,ann_id\n1,1,2,x,a\n1,2,3,y,a\n"),
        r"train\.csv: ann_id not unique: a",
    ),
    "split not json": (lambda f: _write(f, FILES.split, "{"), r"split\.json: not a JSON file"),
    "split without list": (
        lambda f: _lists(f, lambda lists: lists.pop("EVAL")),
        r"split\.json: no list 'EVAL' for data\.test_split; it has TRAIN, VAL",
    ),
    "evaluation in train": (
        lambda f: _lists(f, lambda lists: lists["TRAIN"].append(lists["EVAL"][1])),
        r"split\.json: evaluation movies in the training list TRAIN: \d{4}\.",
    ),
    "validation in train": (
        lambda f: _lists(f, lambda lists: lists["VAL"].append(lists["TRAIN"][1])),
        r"split\.json: movies in TRAIN and in VAL: \d{4}\.",
    ),
    "split a list": (lambda f: _write(f, FILES.split, "[1]"), r"split\.json: expected .*movie ids.*, found a list"),
    "zeros lost in some training ids": (
        lambda f: _lose_zeros_in_csv(f, FILES.train, "TRAIN"),
        r"train\.csv: 1 movie ids differ from those of TRAIN in .*split\.json by leading zeros: '(\d+)' is '0+\1' there"
        r"\. Were leading zeros lost\? Ids are text",
    ),
    "zeros lost in some evaluation ids": (
        lambda f: _lose_zeros_in_csv(f, FILES.eval, "EVAL"),
        r"eval\.csv: 1 movie ids differ from those of EVAL in .*by leading zeros: '(\d+)' is '0+\1' there",
    ),
    "zeros lost in some validation ids": (
        lambda f: _lose_zeros_in_csv(f, FILES.eval, "VAL"),
        r"eval\.csv: 1 movie ids differ from those of VAL in .*by leading zeros: '(\d+)' is '0+\1' there",
    ),
    "zeros lost in some rows of a movie": (
        lambda f: _lose_zeros_in_csv(f, FILES.train, "TRAIN", rows=3),
        r"train\.csv: 1 movie ids differ from those of TRAIN in .*by leading zeros",
    ),
    "zeros lost in the split file": (
        lambda f: _lists(f, lambda lists: lists.update(TRAIN=[int(movie) for movie in lists["TRAIN"]])),
        r"train\.csv: 6 movie ids differ from those of TRAIN in .*by leading zeros: '0017' is '17' there",
    ),
    "nothing annotated": (
        lambda f: _lists(f, lambda lists: lists.update(EVAL=["7"])),
        r"split\.json: none of the EVAL movies is annotated in eval\.csv",
    ),
}


@pytest.mark.parametrize("damage, message", STOPS.values(), ids=STOPS)
def test_defect_stops_with_its_place(open_data, folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message):
        open_data()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_value_that_is_not_finite_is_named_with_file_movie_and_row(open_data, folder, value, in_memory):
    movie = movies(folder, "EVAL")[0]

    def spoil(values):
        values[3, 17] = value
        return values

    change_features(folder, FILES.audio, movie, spoil)
    with pytest.raises(DataError, match=rf"sounds\.h5: movie {movie}, row 3: not finite"):
        list(open_data(in_memory=in_memory).test_dataloader())


def test_a_damaged_chunk_is_named(folder, tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("0007", data=np.random.default_rng(0).random((64, 8)), chunks=(64, 8), fletcher32=True)
        offset = file["0007"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 40] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"f\.h5: movie 0007, rows 8 to 15 cannot be read"):
        FeatureFile(path, 8).read("0007", 8, 16)


def test_tracks_that_differ_by_a_second_are_cut_to_the_shorter(open_data, folder):
    movie = movies(folder, "EVAL")[-1]
    change_features(folder, FILES.audio, movie, lambda values: values[:-5])
    with h5py.File(folder / FILES.audio) as file:
        rows = len(file[movie])
    data = open_data(sampling="window")
    assert max(int(row.max()) for row in open_data(in_memory=False).segments["test"].audio.rows[-20:]) < rows
    assert len(list(data.test_dataloader()))


@pytest.mark.parametrize("name", [FILES.video, FILES.audio, FILES.train, FILES.eval, FILES.split])
def test_a_missing_file_stops_before_anything_is_read(folder, name):
    (folder / name).unlink()
    data = Descriptions(**KEYWORDS, root=str(folder))
    with pytest.raises(DataError) as stop:
        data.prepare_data()
    message = str(stop.value)
    assert f"missing {name};" in message and str(folder.resolve()) in message
    assert "docs/datasets.md#mad-v2" in message and "scale=mini" in message


def test_a_validation_list_of_test_movies_alone_is_refused(open_data):
    with pytest.raises(DataError, match=r"data\.val_split=EVAL: all its movies are tested on \(data\.test_split="):
        open_data(val_split="EVAL")


@pytest.mark.parametrize("ending, damage", [(".gz", lambda raw: gzip.compress(raw)[:300]), (".zip", lambda raw: raw)])
def test_a_damaged_archive_of_a_csv_is_named(folder, ending, damage):
    path = folder / f"train.csv{ending}"
    path.write_bytes(damage((folder / FILES.train).read_bytes()))
    with pytest.raises(DataError, match=rf"train\.csv{ending}: not a readable csv file"):
        read_annotations(path)


def test_blanks_around_the_names_of_columns_do_not_count(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeff"movie" , start,end ,text\n007,1,2,x\n', encoding="utf-8")
    assert read_annotations(tmp_path / "a.csv")["movie"].tolist() == ["007"]


def test_a_held_out_number_larger_than_the_training_list_is_refused(open_data):
    with pytest.raises(DataError, match="data.val_split=6: the training list has 6 annotated movies"):
        open_data(val_split=6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fps": 0}, r"data\.fps: 0 is out of range; allowed: a finite number above 0"),
        ({"fps": -5.0}, r"data\.fps: -5\.0 is out"),
        ({"fps": float("nan")}, r"data\.fps: nan is out"),
        ({"fps": float("inf")}, r"data\.fps: inf is out"),
        ({"eval_batch_size": 0}, r"data\.eval_batch_size: 0 is out of range; allowed: at least 1"),
        ({"batch_size": -1}, r"data\.batch_size: -1 is out of range; allowed: at least 1"),
        ({"tokens": 0}, r"data\.tokens: 0 is out of range; allowed: at least 1"),
        ({"video_dim": 0}, r"data\.video_dim: 0 is out of range"),
        ({"audio_dim": 0}, r"data\.audio_dim: 0 is out of range"),
        ({"num_workers": -1}, r"data\.num_workers: -1 is out of range; allowed: at least 0"),
        ({"seed": -1}, r"data\.seed: -1 is out of range; allowed: 0 to 4294967295"),
        ({"sampling": "nearest"}, r"data\.sampling: 'nearest' is not one of segment_pad, window, linspace"),
        ({"normalise": "mean"}, r"data\.normalise: 'mean' is not one of none, l2, standard"),
        ({"tracks": "sound"}, r"data\.tracks: 'sound' is not one of both, video, audio"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_built(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        Descriptions(**{**KEYWORDS, **changes}, root=str(tmp_path))


def test_mini_settings_are_checked_when_built(tmp_path):
    with pytest.raises(DataError, match="unknown setting 'segment'. Did you mean 'segments'"):
        Descriptions(**KEYWORDS, root=str(tmp_path), mini={"segment": 3})
