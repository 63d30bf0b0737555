"""Defects of MAD's files that are repaired or left out, and named in the log."""

import json
import logging

import h5py
import pytest

from datamodules.audio_description.annotations import read_annotations
from tests.datamodules.audio_description.small import FILES, change_row, movies, read_rows, write_rows


@pytest.mark.parametrize(
    "cells, message, left",
    [
        ({"start": "-3.5"}, "start is negative (set to 0) in 1 rows: row 0", 40),
        ({"sentence": "  "}, "caption is empty (left out) in 1 rows: row 0", 39),
        ({"start": "9.0", "end": "8.0"}, "end is not after start (left out) in 1 rows: row 0", 39),
        ({"start": "-3.0", "end": "-1.0"}, "end is not after start (left out) in 1 rows: row 0", 39),
        ({"sentence": "Key \x80"}, "has bytes that are not UTF-8 (replaced by U+FFFD) in 1 rows: row 0", 40),
        (
            {"start": "9000", "end": "9001"},
            "begins after the features of its movie end (left out) in 1 rows: eval:0",
            39,
        ),
    ],
)
def test_defect_rows_are_counted_and_named(open_data, folder, caplog, cells, message, left):
    rows = read_rows(folder / FILES.eval)
    first = next(i for i, row in enumerate(rows) if row[0] in movies(folder, "EVAL"))
    rows[1], rows[first] = rows[first], rows[1]  # a row of the test split comes first
    write_rows(folder / FILES.eval, rows)
    change_row(folder, FILES.eval, **cells)
    with caplog.at_level(logging.WARNING):
        data = open_data()
    assert any(message in record.getMessage() for record in caplog.records), caplog.text
    assert len(data.segments["test"]) == left
    assert all(text.strip() for text in data.segments["test"].text)
    assert (data.segments["test"].start >= 0).all()


def test_column_aliases(tmp_path):
    for i, names in enumerate(
        (("start", "end", "text"), ("start_time", "end_time", "text_gt"), ("start", "end", "sentence"))
    ):
        path = tmp_path / f"{i}.csv"
        path.write_text(f"other,movie,{','.join(names)}\nx,0012,1,2,  A door opens. \n")
        row = read_annotations(path).iloc[0]
        assert (row["movie"], row["start"], row["end"], row["text"]) == ("0012", 1.0, 2.0, "A door opens.")
        assert row["ann_id"] == f"{i}:0"


def test_rows_at_the_same_start_keep_their_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("movie,start,end,text,ann_id\n2,5,6,b,i\n1,5,6,x,ii\n2,5,7,a,iii\n2,1,2,c,iv\n")
    assert read_annotations(path)["ann_id"].tolist() == ["ii", "iv", "i", "iii"]


def test_movies_without_descriptions_and_movies_in_no_list_are_counted_and_named(open_data, folder, caplog):
    lists = json.loads((folder / FILES.split).read_text())
    unlisted = lists["TRAIN"].pop(0)
    for name in lists:
        lists[name].append(f"9{name}")
    (folder / FILES.split).write_text(json.dumps({**lists, "_comment": "not a list of movies"}))
    with caplog.at_level(logging.WARNING):
        data = open_data()
    for split, count, file in (
        ("TRAIN", 6, "train.csv"),
        ("VAL", 2, "train.csv and eval.csv"),
        ("EVAL", 3, "eval.csv"),
    ):
        message = f"1 of the {count} movies of {split} have no usable description in {file} (left out): 9{split}"
        assert message in caplog.text
    assert f"train.csv: 1 movies are in no list of {folder / FILES.split}: {unlisted}" in caplog.text
    assert {split: len(set(segments.movie)) for split, segments in data.segments.items()} == {
        "train": 5, "val": 1, "test": 2
    }  # fmt: skip


def test_nothing_is_said_of_movies_where_nothing_is_wrong(open_data, folder, caplog):
    with caplog.at_level(logging.WARNING):
        open_data()
    assert not [record for record in caplog.records if "movies" in record.getMessage().replace(str(folder), "")]


def test_ids_that_differ_by_zeros_alone_may_be_two_movies(open_data, folder):
    """If both are listed and both are described, nothing was lost."""
    lists = json.loads((folder / FILES.split).read_text())
    twin = lists["TRAIN"][0].lstrip("0")
    rows = read_rows(folder / FILES.train)
    write_rows(folder / FILES.train, [*rows, [twin, "1.0", "4.0", "Another movie."]])
    (folder / FILES.split).write_text(json.dumps({**lists, "TRAIN": [*lists["TRAIN"], twin]}))
    for name in (FILES.video, FILES.audio):
        with h5py.File(folder / name, "a") as file:
            file[twin] = file[lists["TRAIN"][0]][:]
    assert twin in open_data().segments["train"].movie
