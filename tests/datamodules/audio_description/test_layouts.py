"""The other forms of MAD's files: a folder of .npy files, MAD-v1's json, a third annotation file, titles of films."""

import json
import logging
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules.audio_description.annotations import read_annotations
from datamodules.audio_description.hdf5 import FeatureFile
from datamodules.audio_description.npy import FeatureFolder, open_features
from datamodules.audio_description.tables import ANNOTATIONS, read_table
from datamodules.audio_description.titles import read_titles, shared_titles
from datamodules.errors import DataError
from tests.datamodules.audio_description.small import FILES, movies, read_rows, write_rows

# Features as one .npy file per movie


def as_npy(folder: Path, name: str, dtype=None) -> str:
    """The features of an h5 file as a folder of .npy files beside it; the folder's name."""
    out = folder / f"{Path(name).stem}_npy"
    out.mkdir()
    with h5py.File(folder / name) as file:
        for movie in file:
            np.save(out / f"{movie}.npy", file[movie][:].astype(dtype or file[movie].dtype))
    return out.name


def same_batches(one, other) -> None:
    for split in ("train", "val", "test"):
        for i in range(0, len(one.segments[split]), 7):
            a, b = one.segments[split][i], other.segments[split][i]
            assert a["ann_id"] == b["ann_id"] and torch.equal(a["video"], b["video"])
            assert torch.equal(a["audio"], b["audio"]) and torch.equal(a["audio_keep"], b["audio_keep"])


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("normalise", ["none", "standard"])
def test_npy_folders_give_the_batches_of_h5_files(open_data, folder, in_memory, normalise):
    options = {"in_memory": in_memory, "normalise": normalise}
    names = {f"{track}_features": as_npy(folder, getattr(FILES, track)) for track in ("video", "audio")}
    same_batches(open_data(**options), open_data(**options, **names))
    same_batches(open_data(**options), open_data(**options, video_features=names["video_features"]))


def test_npy_of_another_type_is_read_as_float32(open_data, folder):
    name = as_npy(folder, FILES.video, np.float64)
    same_batches(open_data(), open_data(video_features=name, in_memory=False))


def test_a_changed_npy_file_gets_new_statistics(open_data, folder):
    name = as_npy(folder, FILES.video)
    options = {"video_features": name, "normalise": "standard"}
    before = open_data(**options).segments["test"][0]["video"]
    path = folder / name / f"{movies(folder, 'TRAIN')[0]}.npy"
    np.save(path, np.load(path) * 3)
    assert not torch.equal(open_data(**options).segments["test"][0]["video"], before)


def test_open_features_tells_the_two_apart(folder):
    assert isinstance(open_features(folder / as_npy(folder, FILES.video), 64), FeatureFolder)
    assert isinstance(open_features(folder / FILES.video, 64), FeatureFile)


def test_a_feature_folder_pickles_and_reads_slices(folder):
    features = FeatureFolder(folder / as_npy(folder, FILES.video), 64)
    with h5py.File(folder / FILES.video) as file:
        assert np.array_equal(pickle.loads(pickle.dumps(features)).read("0017", 3, 11), file["0017"][3:11])
        assert features.lengths(["0017", "0034"]) == {movie: len(file[movie]) for movie in ("0017", "0034")}


DAMAGE = {
    "missing": (lambda path: path.unlink(), r"pictures_npy: no features of 1 movies: 0017"),
    "zeros lost": (
        lambda path: path.rename(path.with_name("17.npy")), r"1 movies: 0017\. It has '17': were leading",
    ),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-1]), r"0017\.npy: movie 0017 cannot be read, probably",
    ),
    "header cut": (
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': bad!  \n"), r"0017\.npy: movie 0017 can",
    ),
    "no array": (lambda path: path.write_text("no"), r"0017\.npy: movie 0017 cannot be read"),
    "objects": (
        lambda path: np.save(path, np.array([{}]), allow_pickle=True), r"0017\.npy: movie 0017 cannot be read",
    ),
    "another width": (
        lambda path: np.save(path, np.load(path)[:, :63]), r"0017\.npy: movie 0017 has shape \(\d+, 63\), expected",
    ),
    "texts": (lambda path: np.save(path, np.array([["a"]])), r"movie 0017 has values of type <U1, expected numbers"),
}  # fmt: skip


@pytest.mark.parametrize("damage, message", DAMAGE.values(), ids=DAMAGE)
def test_a_defect_of_an_npy_file_stops_with_its_place(open_data, folder, damage, message):
    name = as_npy(folder, FILES.video)
    damage(folder / name / "0017.npy")
    with pytest.raises(DataError, match=message):
        open_data(video_features=name)


def test_nan_in_an_npy_file_is_named_with_its_row(open_data, folder):
    name = as_npy(folder, FILES.video)
    path = folder / name / f"{movies(folder, 'EVAL')[0]}.npy"
    values = np.load(path)
    values[5] = np.nan
    np.save(path, values)
    with pytest.raises(DataError, match=rf"{name}/{path.name}: movie {path.stem}, row 5: not finite"):
        list(open_data(video_features=name, in_memory=False).test_dataloader())


def test_a_group_in_an_h5_file_is_named(open_data, folder):
    with h5py.File(folder / FILES.video, "a") as file:
        values = file["0017"][:]
        del file["0017"]
        file["0017/features"] = values
    with pytest.raises(DataError, match=r"movie 0017 is a group with features in it, expected an array"):
        open_data()


# MAD-v1's json


def as_v1(folder: Path, name: str, keep, out: str, times: str = "timestamps") -> str:
    """The rows of a csv whose movie `keep` wants, in MAD-v1's form."""
    rows = [row for row in read_rows(folder / name)[1:] if keep(row[0])]
    content = {
        str(i): {
            "movie": movie, "movie_duration": 99.5, times: [float(start), float(end)], "sentence": text,
            "other": [1, {"a": None}],
        }
        for i, (movie, start, end, text) in enumerate(rows)
    }  # fmt: skip
    (folder / out).write_bytes(json.dumps(content, ensure_ascii=False).encode("latin-1"))
    return out


@pytest.mark.parametrize("times", ["timestamps", "ext_timestamps"])
def test_a_v1_json_has_the_rows_of_the_csv(folder, times):
    as_v1(folder, FILES.train, lambda movie: True, "train.json", times)
    table, same = read_annotations(folder / "train.json"), read_annotations(folder / FILES.train)
    for column in ("movie", "start", "end", "text", "row"):
        assert table[column].tolist() == same[column].tolist()
    assert table["ann_id"].tolist() == [str(row) for row in same["row"]]
    assert any("\ufffd" in text for text in table["text"])


def test_three_v1_files_give_the_splits_of_the_csv(open_data, folder):
    lists = {split: set(movies(folder, split)) for split in ("TRAIN", "VAL", "EVAL")}
    named = {
        "train_annotations": as_v1(folder, FILES.train, lists["TRAIN"].__contains__, "MAD_train.json"),
        "val_annotations": as_v1(folder, FILES.eval, lists["VAL"].__contains__, "MAD_val.json"),
        "eval_annotations": as_v1(folder, FILES.eval, lists["EVAL"].__contains__, "MAD_test.json"),
    }
    usual, data = open_data(), open_data(**named)
    for split in ("train", "val", "test"):
        assert data.segments[split].text == usual.segments[split].text and len(data.segments[split])
        assert torch.equal(data.segments[split].start, usual.segments[split].start)


def test_a_validation_file_of_its_own_is_the_only_one_read_for_it(open_data, folder, caplog):
    (folder / "val.csv").write_text(
        "movie,start,end,text\n" + f"{movies(folder, 'VAL')[0]},1,2,Only this.\n8888,1,2,x\n"
    )
    with caplog.at_level(logging.WARNING):
        data = open_data(val_annotations="val.csv")
    assert data.segments["val"].text == ["Only this."]
    assert "val.csv: 1 movies are in no list of" in caplog.text and "8888" in caplog.text
    with pytest.raises(DataError, match=r"missing other\.csv"):
        open_data(val_annotations="other.csv")


def test_one_file_for_training_and_test_is_read_once(open_data, folder):
    rows, more = read_rows(folder / FILES.train), read_rows(folder / FILES.eval)[1:]
    write_rows(folder / "all.csv", [*rows, *more])
    usual, data = open_data(), open_data(train_annotations="all.csv", eval_annotations="all.csv")
    for split in ("train", "val", "test"):
        assert data.segments[split].text == usual.segments[split].text


JSON = {
    "not json": ("{", r"a\.json: not a readable json file"),
    "a list": ("[1]", r"a\.json: expected a list of rows, .*; another form under a:0"),
    "another form": ('{"a": {"movie": "1"}, "b": 3}', r"a\.json: expected .*; another form under b\."),
    "nothing": ("{}", r"a\.json: no column movie"),
    "no sentence": ('{"a": {"movie": "1", "timestamps": [1, 2]}}', r"no column text or sentence or text_gt"),
    "no times": (
        '{"a": {"movie": "1", "sentence": "x"}}',
        r"column start is not a number of seconds in 1 rows.*row 0: ''",
    ),
    "one time": (
        '{"a": {"movie": "1", "sentence": "x", "timestamps": [1]}}',
        r"column start is not a number of seconds",
    ),
    "not finite": (
        '{"a": {"movie": "1", "sentence": "x", "timestamps": [1, Infinity]}}',
        r"column end is not a number",
    ),
    "sentence a list": (
        '{"a": {"movie": "1", "sentence": ["x", "y"], "timestamps": [1, 2]}}',
        r"under a, sentence is not text",
    ),
    "id twice": (
        '{"a": {"movie": "1", "sentence": "x", "timestamps": [1, 2]}, "a": {"movie": "1", "sentence": "y", '
        '"timestamps": [2, 3]}}',
        r"a\.json: ann_id not unique: a",
    ),
}


@pytest.mark.parametrize("content, message", JSON.values(), ids=JSON)
def test_a_json_of_another_form_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_annotations(tmp_path / "a.json")


# Tables


def test_a_movie_that_is_a_number_in_a_json_and_a_sentence_that_is_null(tmp_path):
    (tmp_path / "a.json").write_text('{"7": {"movie": 17, "sentence": null, "timestamps": ["1.50", 2]}}')
    row = read_table(tmp_path / "a.json", ANNOTATIONS).iloc[0]
    assert row[["movie", "start", "end", "text", "ann_id"]].tolist() == ["17", "1.50", "2", "", "7"]


def test_a_row_that_ends_early_has_empty_cells(tmp_path):
    (tmp_path / "a.csv").write_text("movie,start,end,text\n0017,1,2\n0017,1,3,x\n")
    assert read_table(tmp_path / "a.csv", ANNOTATIONS)["text"].tolist() == ["", "x"]
    assert read_annotations(tmp_path / "a.csv")["text"].tolist() == ["x"]


def test_the_columns_of_the_public_mad_eval_file_are_understood(tmp_path):
    head = "movie,sentence,movie_duration,start,end,imdb,lsmdc_filename,start_hms,end_hms"
    (tmp_path / "a.csv").write_text(f'{head}\n3031,"He nods, once.",8000.5,1.5,2.5,tt1,x,0:0:1,0:0:2\n')
    row = read_table(tmp_path / "a.csv", ANNOTATIONS).iloc[0]
    assert row[["movie", "start", "end", "text", "duration"]].tolist() == [
        "3031",
        "1.5",
        "2.5",
        "He nods, once.",
        "8000.5",
    ]


# Evaluation movies and films


def test_movies_of_eval_are_never_trained_on_whatever_is_tested(open_data, folder):
    lists = json.loads((folder / FILES.split).read_text())
    secret = lists["EVAL"][0]
    lists = {**lists, "TRAIN": [*lists["TRAIN"], secret], "V1-TEST": lists["EVAL"][1:]}
    (folder / FILES.split).write_text(json.dumps(lists))
    with pytest.raises(DataError, match=f"evaluation movies in the training list TRAIN: {secret}"):
        open_data(test_split="V1-TEST")


def test_an_unknown_list_is_answered_with_the_nearest(open_data):
    with pytest.raises(DataError, match=r"no list 'TRIAN' for data\.train_split; it has .*\. Did you mean 'TRAIN'\?"):
        open_data(train_split="TRIAN")


def test_films_under_two_ids_are_named(open_data, folder, caplog):
    train, val, test = (movies(folder, split) for split in ("TRAIN", "VAL", "EVAL"))
    titles = {train[0]: "tt1", train[1]: "tt1", val[0]: "tt1", train[2]: "tt2", test[1]: "tt2", test[0]: "tt3"}
    (folder / "mad2imdb.json").write_text(json.dumps(titles))
    with caplog.at_level(logging.WARNING):
        open_data()
    assert (
        f"2 films of val are trained on under other ids: tt1 ({train[0]} and {val[0]}), tt1 ({train[1]}" in caplog.text
    )
    assert f"1 films of test are trained on under other ids: tt2 ({train[2]} and {test[1]})" in caplog.text


def test_a_movie_is_no_twin_of_itself():
    assert shared_titles({"1": "tt1", "2": "tt1"}, ["1", "2"], ["1", "3"]) == ["tt1 (2 and 1)"]


@pytest.mark.parametrize("content", ["[", "[1]", '{"1": ["tt1"]}'])
def test_titles_of_another_form_are_refused(tmp_path, content):
    (tmp_path / "mad2imdb.json").write_text(content)
    with pytest.raises(DataError, match=r"mad2imdb\.json"):
        read_titles(tmp_path / "mad2imdb.json")


def test_the_record_says_what_a_test_is_of(open_data, folder):
    told = open_data().evaluated()
    assert told.unit == "segments" and told.sizes == {split: len(s.text) for split, s in open_data().segments.items()}
    assert told.origin == f"lists of {FILES.split} (train: TRAIN, val: VAL, test: EVAL)"
    rows = read_rows(folder / FILES.eval)
    movie = movies(folder, "EVAL")[0]
    at = [number for number, row in enumerate(rows) if row[0] == movie]
    rows[at[0]][3], rows[at[1]][2] = "", rows[at[1]][1]
    write_rows(folder / FILES.eval, rows)
    changed = open_data().evaluated()
    assert changed.left_out["test"] == {"row whose caption is empty": 1, "row whose end is not after its start": 1}
    assert changed.sizes["test"] == told.sizes["test"] - 2
    assert open_data(val_split=2).evaluated().origin.endswith("(train: TRAIN, test: EVAL; val: 2 movies of TRAIN)")
