"""What batches say besides descriptions: earlier descriptions and subtitles, against literal references."""

import csv
import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from datamodules.audio_description import Descriptions
from datamodules.audio_description.context import Previous, Subtitles
from datamodules.audio_description.subtitles import read_subtitles
from datamodules.errors import DataError
from tests.datamodules.audio_description.small import (
    FILES,
    KEYWORDS,
    SETTINGS,
    generate,
    hashes,
    movies,
    read_rows,
    write_rows,
)


def every_batch(data: Descriptions, split: str) -> list[dict]:
    return list(getattr(data, f"{split}_dataloader")())


def rows_of(batches: list[dict], key: str) -> dict[str, list[str]]:
    return {name: value for batch in batches for name, value in zip(batch["ann_id"], batch[key], strict=True)}


def random_table(seed: int, segments: int = 60) -> pd.DataFrame:
    """Three movies; whole seconds, so that starts coincide and segments overlap."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"movie": rng.choice(["a", "b", "c"], segments), "start": rng.integers(0, 25, segments) * 1.0})
    table["end"] = table["start"] + rng.integers(1, 9, segments)
    table["text"] = [f"text {i}" for i in range(segments)]
    return table.sort_values(["movie", "start"], kind="stable", ignore_index=True)


# Previous descriptions


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_previous_are_the_last_descriptions_with_an_earlier_start(seed, count):
    table = random_table(seed)
    previous = Previous(table, count)
    assert len(previous) == 60
    for i, row in table.iterrows():
        earlier = [r["text"] for _, r in table.iterrows() if r["movie"] == row["movie"] and r["start"] < row["start"]]
        assert previous[i] == earlier[-count:]


@pytest.mark.parametrize("size", [0, 1])
def test_previous_of_none_and_of_one(size):
    table = random_table(0)[:size]
    assert [Previous(table, 3)[i] for i in range(size)] == [[]] * size


def test_a_row_that_stands_twice_does_not_get_its_own_text():
    table = pd.DataFrame(
        {"movie": ["a"] * 3, "start": [1.0, 4, 4], "end": [2.0, 5, 5], "text": ["before", "twin", "twin"]}
    )
    assert [Previous(table, 3)[i] for i in range(3)] == [[], ["before"], ["before"]]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("previous", ["ground_truth", "predicted"])
def test_batches_carry_the_file_s_earlier_descriptions(open_data, folder, previous, split):
    name = FILES.train if split == "train" else FILES.eval
    usable = [row for row in read_rows(folder / name)[1:] if row[3].strip() and float(row[2]) > float(row[1])]
    batches = every_batch(open_data(previous=previous, previous_count=4), split)
    seen = 0
    for batch in batches:
        assert len(batch["previous"]) == len(batch["text"])
        for movie, start, given in zip(batch["movie"], batch["start"], batch["previous"], strict=True):
            times = [(max(float(s), 0), text) for m, s, _, text in usable if m == movie]
            earlier = [(time, text) for time, text in times if time < start]
            expected = [text.encode("latin-1").decode(errors="replace") for _, text in sorted(earlier)][-4:]
            assert given == ([] if previous == "predicted" and split != "train" else expected)
            seen += len(given)
    assert (seen > 40) == (previous == "ground_truth" or split == "train")


def test_context_is_absent_unless_it_is_asked_for(open_data):
    data = open_data()
    assert not {"previous", "subtitles"} & set(every_batch(data, "test")[0])
    facts = data.facts()
    assert (facts["previous"], facts["previous_count"], facts["subtitles"]) == ("none", 3, False)


@pytest.mark.parametrize("previous", ["ground_truth", "predicted"])
def test_facts_say_what_the_batches_carry(open_data, previous):
    facts = open_data(previous=previous, previous_count=2).facts()
    assert (facts["previous"], facts["previous_count"], facts["subtitles"]) == (previous, 2, False)


def test_context_changes_nothing_else(open_data):
    for plain, more in zip(
        every_batch(open_data(), "test"), every_batch(open_data(previous="ground_truth"), "test"), strict=True
    ):
        assert set(more) - set(plain) == {"previous"}
        assert all(torch.equal(plain[key], more[key]) for key in ("video", "audio", "video_keep", "start"))
        assert plain["ann_id"] == more["ann_id"]


def test_lists_of_a_batch_may_be_changed(open_data):
    segments = open_data(previous="predicted").segments["test"]
    segments[0]["previous"][0].append("mine")
    assert segments[0]["previous"] == [[]]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"previous": "oracle"}, "data.previous: 'oracle' is not one of none, ground_truth, predicted"),
        ({"previous_count": 0}, "data.previous_count: 0 is out of range; allowed: at least 1"),
        ({"subtitle_seconds": 0}, "data.subtitle_seconds: 0 is out of range"),
        ({"subtitle_seconds": float("nan")}, "data.subtitle_seconds: nan is out of range"),
        (
            {"val_annotations": "val.json", "val_split": 3},
            "data.val_annotations=val.json: .*data.val_split=3 is a number",
        ),
        ({"val_annotations": "val.json", "mini": SETTINGS}, "data.val_annotations=val.json: .*generated data has none"),
    ],
)
def test_a_context_that_cannot_be_is_refused_when_built(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        Descriptions(**{**KEYWORDS, **changes}, root=str(tmp_path))


# Subtitles


@pytest.mark.parametrize("seconds", [0.5, 1.0, 7.0, 1000.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subtitles_are_the_lines_heard_before_the_start(seed, seconds):
    """Lines overlap, and a long early one outlasts those after it."""
    segments, lines = random_table(seed, 30), random_table(seed + 10, 80)
    lines.loc[lines.index % 7 == 0, "end"] += 12
    lines = lines[lines["movie"] != "b"].reset_index(drop=True)
    found = Subtitles(lines, segments, seconds)
    some = 0
    for i, segment in segments.iterrows():
        expected = [
            line["text"]
            for _, line in lines.iterrows()
            if line["movie"] == segment["movie"]
            and line["start"] < segment["start"]
            and line["end"] > segment["start"] - seconds
        ]
        assert found[i] == expected
        some += len(expected)
    assert some and not any(found[i] for i in segments.index[segments["movie"] == "b"])


@pytest.fixture
def with_lines(folder):
    """One line per second in every movie: "0017 at 12"."""
    every = [movie for split in ("TRAIN", "VAL", "EVAL") for movie in movies(folder, split)]
    rows = [[movie, f"{t}.1", f"{t}.9", f"{movie} at {t}"] for movie in every for t in range(90)]
    write_rows(folder / "subs.csv", [["movie", "start", "end", "text"], *reversed(rows)])
    return folder


@pytest.mark.parametrize("previous", ["none", "predicted"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_batches_carry_subtitles(open_data, with_lines, split, previous):
    data = open_data(subtitles="subs.csv", subtitle_seconds=3.0, previous=previous)
    assert data.facts()["subtitles"] is True
    for batch in every_batch(data, split):
        for movie, start, lines in zip(batch["movie"], batch["start"].tolist(), batch["subtitles"], strict=True):
            heard = [t for t in range(90) if t + 0.1 < start and t + 0.9 > start - 3.0]
            assert lines == [f"{movie} at {t}" for t in heard]


def lines_file(tmp_path, header, *rows):
    path = tmp_path / "subs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("movie", ["movie", "movie_id", "vid", "imdbid"])
@pytest.mark.parametrize("text", ["text", "sentence", "subtitle"])
@pytest.mark.parametrize("times", [("start", "end"), ("start_time", "end_time")])
def test_column_names_of_subtitles(tmp_path, movie, text, times):
    path = lines_file(
        tmp_path, ["n", text, *times, movie], ["1", " Hi. ", "2", "3", "0012"], ["2", "x", "0", "1", "0012"]
    )
    lines = read_subtitles(path, ["0012"])
    assert lines[["movie", "start", "end", "text"]].values.tolist() == [["0012", 0, 1, "x"], ["0012", 2, 3, "Hi."]]


def test_unknown_columns_of_subtitles_are_named(tmp_path):
    path = lines_file(tmp_path, ["movie", "start", "end", "txt"], ["1", "2", "3", "x"])
    message = (
        r"subs\.csv: no column text or sentence or .*; its columns are movie, start, end, txt\. Did you mean 'txt'\?"
    )
    with pytest.raises(DataError, match=message):
        read_subtitles(path, ["1"])


def test_movies_without_subtitles_are_counted_and_named(tmp_path, caplog):
    path = lines_file(tmp_path, ["movie", "start", "end", "text"], ["1", "2", "3", "x"])
    with caplog.at_level(logging.WARNING):
        assert len(read_subtitles(path, ["1", "22", "333"])) == 1
    assert "no line of 2 movies: 22, 333" in caplog.text


def test_subtitles_of_other_movies_stop(tmp_path):
    path = lines_file(tmp_path, ["movie", "start", "end", "text"], ["1", "2", "3", "x"])
    with pytest.raises(DataError, match=r"no line of any of the 1 movies that are read \(22\); its movies are 1"):
        read_subtitles(path, ["22"])


def test_subtitles_that_lost_zeros_stop(tmp_path):
    path = lines_file(tmp_path, ["movie", "start", "end", "text"], ["17", "2", "3", "x"], ["1234", "2", "3", "x"])
    with pytest.raises(DataError, match=r"1 movie ids differ .* by leading zeros: '17' is '0017' there"):
        read_subtitles(path, ["0017", "1234"])


def test_subtitles_by_imdb_id_are_those_of_the_film_s_movies(tmp_path):
    path = lines_file(
        tmp_path,
        ["imdbid", "start", "end", "text"],
        ["tt7", "5", "6", "b"],
        ["tt7", "2", "3", "a"],
        ["tt9", "1", "2", "c"],
    )
    with pytest.raises(DataError, match=r"its movies are IMDb ids \(tt7, tt9\); .*mad2imdb\.json, .* is not there"):
        read_subtitles(path, ["0017"])
    (tmp_path / "mad2imdb.json").write_text(json.dumps({"0017": "tt7", "0034": "tt7", "0051": "tt8"}))
    lines = read_subtitles(path, ["0017", "0034"])
    assert lines[["movie", "text"]].values.tolist() == [["0017", "a"], ["0017", "b"], ["0034", "a"], ["0034", "b"]]


def test_a_missing_subtitle_file_stops_before_anything_is_read(folder):
    with pytest.raises(DataError, match=r"missing subs\.csv; looked in"):
        Descriptions(**KEYWORDS, root=str(folder), subtitles="subs.csv").prepare_data()


# The mini set


def test_generated_subtitles_leave_the_generated_set_as_it_is(tmp_path, pristine):
    data = Descriptions(**KEYWORDS, root=str(tmp_path), mini=SETTINGS, subtitles="lines.csv", subtitle_seconds=2.0)
    data.prepare_data()
    facts, batches = data.facts(), every_batch(data, "test")
    assert facts["subtitles"] and data.folder == generate(tmp_path) and hashes(data.folder) == hashes(pristine)
    given = [(text, lines) for batch in batches for text, lines in zip(batch["text"], batch["subtitles"], strict=True)]
    assert sum(bool(lines) and text.startswith(lines[-1][:-1]) for text, lines in given) >= len(given) - 2
    with pytest.raises(DataError, match="not a plain file name"):
        Descriptions(**KEYWORDS, root=str(tmp_path), mini=SETTINGS, subtitles="../lines.csv").facts()
