"""Every missing or defective feature file is a DataError that names file, qid and vid; settings that are impossible."""

import logging
import math
import re
import shutil

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.moment_retrieval import Moments
from datamodules.packed import packed_path
from scripts.pack_features import main as pack_features
from tests.datamodules.moment_retrieval.small import KEYWORDS, open_set, read_lines, write_lines

# Missing files: before anything is read


def missing(folder, **changes) -> str:
    with pytest.raises(DataError) as stop:
        Moments(**{**KEYWORDS, "root": str(folder), **changes}).prepare_data()
    message = str(stop.value)
    assert "docs/datasets.md#qvhighlights" in message and "scale=mini" in message and "data.root=" in message
    return message


def test_missing_annotations_are_all_named(folder):
    for name in ("train.jsonl", "test.jsonl"):
        (folder / name).unlink()
    assert f"QVHighlights: missing train.jsonl, test.jsonl; looked in {folder.resolve()}. " in missing(folder)


def test_missing_streams_are_all_named(folder):
    shutil.rmtree(folder / "clip")
    shutil.rmtree(folder / "text")
    assert "QVHighlights: missing clip, text; looked in" in missing(folder)


def test_missing_features_of_videos_are_counted_and_named(folder):
    for name in ("train3_0.0", "test0_0.0"):
        (folder / "clip" / f"{name}.npz").unlink()
    message = missing(folder)
    assert "stream clip has no features of 2 of 14 vids: train3_0.0, test0_0.0; looked for train3_0.0.npz in" in message
    assert str((folder / "clip").resolve()) in message


def test_missing_features_of_queries_are_counted_and_named(folder):
    (folder / "text" / "qid21.npz").unlink()
    assert "stream text_stream has no features of 1 of 25 qids: 21; looked for qid21.npz in" in missing(folder)


def test_another_data_set_has_its_own_name_and_guide_in_messages(folder):
    (folder / "train.jsonl").unlink()
    with pytest.raises(DataError, match="Charades: missing train.jsonl; .* docs/x.md. Another"):
        Moments(**KEYWORDS, root=str(folder), name="Charades", guide="docs/x.md").prepare_data()


# Features


def damage(folder, stream, name, change):
    """Replace the first array of a feature file by change(array)."""
    path = folder / stream / f"{name}.npz"
    key = "features" if stream != "text" else "last_hidden_state"
    np.savez(path, **{key: change(np.load(path)[key])})
    return path


def with_value(row, column, value):
    def change(values):
        values = values.copy()
        values[row, column] = value
        return values

    return change


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "stream, name, change, message",
    [
        ("clip", "test1_0.0", with_value(1, 2, np.nan), "row 1: not finite"),
        ("slow", "test1_0.0", with_value(0, 0, np.inf), "row 0: not finite"),
        ("text", "qid20", with_value(0, 0, np.nan), "row 0: not finite"),
        ("clip", "test1_0.0", with_value(1, 2, 1e30), "row 1: values up to 1e+30, too large for a norm"),
        ("clip", "test1_0.0", lambda values: values[:, :4], "expected (rows, 5)"),
        ("text", "qid20", lambda values: values[:0], "no rows in it"),
        ("clip", "test1_0.0", lambda values: values[0], "shape (5,), expected (rows, 5)"),
        ("clip", "test1_0.0", lambda values: values.astype(str), "values of type <U32, expected numbers"),
        ("clip", "test1_0.0", lambda values: values.astype(object), "cannot be read"),
    ],
)
def test_wrong_features_are_named_with_file_qid_and_vid(folder, stream, name, change, message, packed):
    path = damage(folder, stream, name, change)
    if packed:
        with pytest.raises(SystemExit) as stop:
            pack_features([str(folder / stream), "--key", "last_hidden_state" if stream == "text" else "features"])
        assert name in str(stop.value) and not list(folder.glob("*.packed.*")) and not list(folder.glob("*.partial"))
        return
    data = open_set(folder, in_memory=False)
    with pytest.raises(DataError, match=re.escape(message)) as stop:
        list(data.test_dataloader())
    assert str(path) in str(stop.value) and "qid 20, vid test1_0.0" in str(stop.value)
    with pytest.raises(DataError, match=re.escape(message)):
        open_set(folder, in_memory=True)


def test_another_width_than_configured_says_which_setting(folder):
    with pytest.raises(
        DataError, match=r"shape \(\d+, 5\), expected \(rows, 9\). Set the dim of stream clip to the width"
    ):
        open_set(folder, video_streams={"slow": {"dim": 7}, "clip": {"dim": 9}})


@pytest.mark.parametrize("keep", [0, 40, -30])
def test_a_truncated_file_is_named(folder, keep):
    path = folder / "slow" / "val0_0.0.npz"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="cannot be read, probably truncated") as stop:
        open_set(folder)
    assert str(path) in str(stop.value) and "qid 13, vid val0_0.0" in str(stop.value)


def test_another_key_names_those_that_are_there(folder):
    with pytest.raises(DataError, match="no array 'tokens'; it has last_hidden_state, pooler_output"):
        open_set(folder, text_stream={"path": "text", "dim": 6, "key": "tokens"})


@pytest.mark.parametrize("clips, fits", [(9, True), (11, True), (8, False), (12, False)])
def test_streams_may_differ_by_the_slack_and_are_cut_to_the_shorter(folder, clips, fits):
    row = read_lines(folder / "train.jsonl")[0]
    assert row["duration"] == 4
    for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
        write_lines(folder / name, [{**read_lines(folder / name)[0], "duration": 20}])
    for split in ("train", "val", "test"):
        damage(folder, "slow", f"{split}0_0.0", lambda values: np.ones((10, 7), np.float32))
        damage(folder, "clip", f"{split}0_0.0", lambda values: np.ones((clips, 5), np.float32))
    if fits:
        (batch,) = open_set(folder).test_dataloader()
        assert batch["video"].shape[1] == min(10, clips)
        return
    with pytest.raises(DataError, match=f"different lengths .*10 in .*slow, {clips} in .*clip.* differ by 1") as stop:
        open_set(folder)
    assert "qid 0, vid train0_0.0" in str(stop.value)
    (batch,) = open_set(folder, length_slack=2).test_dataloader()
    assert batch["video"].shape[1] == min(10, clips)


def test_features_of_another_clip_length_are_named(folder):
    with pytest.raises(DataError, match=r"clips of 0.5 s are .* s, the video has .* s. Is data.clip_length right"):
        open_set(folder, clip_length=0.5, max_clips=75, saliency="none")
    with pytest.raises(DataError, match="clips of 8 s are"):
        open_set(folder, clip_length=8.0, saliency="none")


def test_files_of_another_usual_name_are_pointed_out(folder):
    """TACoS' text files have no `qid` before their number."""
    for path in (folder / "text").iterdir():
        path.rename(path.with_name(path.name.removeprefix("qid")))
    with pytest.raises(DataError, match=re.escape("""0.npz is there: 'data.text_stream.file="{qid}.npz"' reads""")):
        open_set(folder)
    assert open_set(folder, text_stream={"path": "text", "dim": 6, "file": "{qid}.npz"}).annotations("test")


# Packed streams that cannot be used


def packed_clip(folder):
    pack_features([str(folder / "clip")])
    return packed_path(folder / "clip")


def test_a_packed_file_that_lacks_a_video_names_it(folder):
    kept = folder / "clip" / "train3_0.0.npz"
    moved = kept.rename(folder / "kept.npz")
    packed_clip(folder)
    moved.rename(kept)
    assert "stream clip has no features of 1 of 14 vids: train3_0.0; " in missing(folder)


@pytest.mark.parametrize(
    "index, message",
    [
        ("{", "not the index of a packed stream"),
        ('{"format": 1}', "not the index of a packed stream"),
        ('{"format": 9, "shape": [1, 5], "dtype": "float32", "ids": {}}', "format 9, this version reads 1"),
        (
            '{"format": 1, "shape": [3, 5], "dtype": "float32", "ids": {}}',
            "but its index clip.packed.json says (3, 5) float32",
        ),
    ],
)
def test_a_packed_file_with_a_wrong_index_is_named(folder, index, message):
    packed_clip(folder).with_suffix(".json").write_text(index)
    with pytest.raises(DataError, match=re.escape(message)):
        open_set(folder)


def test_a_truncated_packed_file_is_named(folder):
    path = packed_clip(folder)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="clip.packed.npy: cannot be read, probably truncated"):
        open_set(folder)


def test_a_packed_file_of_another_width_is_named(folder):
    packed_clip(folder)
    with pytest.raises(DataError, match=r"clip.packed.npy, 'train0_0.0' \(qid 0, vid train0_0.0\): shape .*expected"):
        open_set(folder, video_streams={"slow": {"dim": 7}, "clip": {"dim": 9}})


# Settings


@pytest.mark.parametrize(
    "change, message",
    [
        ({"clip_length": 0.0}, "data.clip_length: 0.0 is out of range; allowed: a finite number above 0"),
        ({"clip_length": math.nan}, "data.clip_length: nan is out of range"),
        ({"max_clips": 0}, "data.max_clips: 0 is out of range; allowed: at least 1"),
        ({"max_windows": 0}, "data.max_windows: 0 is out of range"),
        ({"length_slack": -1}, "data.length_slack: -1 is out of range; allowed: at least 0"),
        ({"window_slack": math.nan}, "data.window_slack: nan is out of range"),
        ({"seed": -1}, "data.seed: -1 is out of range"),
        ({"saliency": "all"}, "data.saliency: 'all' is not one of annotated, windows, labels, none"),
        ({"video_streams": {}}, "data.video_streams has no stream"),
        ({"video_streams": {"a": None}}, "data.video_streams has no stream"),
        ({"video_streams": {"a": {}}}, "stream a: dim is None, expected the number of features"),
        ({"video_streams": {"a": {"dim": 2.5}}}, "stream a: dim is 2.5"),
        ({"video_streams": {"a": {"dim": 2, "keys": "b"}}}, "stream a: unknown setting 'keys'. Did you mean 'key'?"),
        ({"video_streams": {"a": {"dim": 2, "path": ""}}}, "stream a: path is empty"),
        ({"video_streams": {"a": {"dim": 2, "file": "{vid}.mat"}}}, "ends in .npz, .npy or .pt"),
        ({"video_streams": {"a": {"dim": 2, "file": "{name}.npz"}}}, "stream a: file is '{name}.npz', expected"),
        ({"video_streams": {"a": {"dim": 2, "file": "all.npz"}}}, "stream a: file is 'all.npz', expected"),
        ({"video_streams": {"a": {"dim": 2, "key": None}}}, "stream a: key is None"),
        ({"video_streams": {"a": {"dim": 2, "key": 3}}}, "stream a: key is 3, expected a string"),
        ({"text_stream": {"path": "text"}}, "stream text_stream: dim is None"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        Moments(**{**KEYWORDS, "root": str(tmp_path), **change})


def test_nothing_is_warned_about_files_that_are_right(folder, caplog):
    with caplog.at_level(logging.WARNING):
        open_set(folder)
    assert not caplog.records
