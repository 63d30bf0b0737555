"""Which clips are evaluated on: names, numbers, files and lists of ids; what would change them is refused or said."""

import json
import logging
import re

import pytest

from datamodules.errors import DataError
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.id_lists import read_ids
from datamodules.video_captioning.splits import by_lists, by_names_or_numbers, by_number
from tests.datamodules.video_captioning.small import content, open_set, write_json, write_set

OFFICIAL = {"train": [0, 6512], "val": [6513, 7009], "test": [7010, 9999]}
NAMES = {"train": "train", "val": "validate", "test": "test"}
TWO = {"train": "train", "val": None, "test": "test"}


def clip(name: str, split: str | None) -> Clip:
    return Clip(name, name, ("a man runs",), split)


def named(**names: str) -> list[Clip]:
    return [clip(name, split) for name, split in names.items()]


def ids(chosen) -> dict[str, list[str]]:
    return {split: [clip.id for clip in clips] for split, clips in chosen.clips.items()}


SMALL = {"video0": "train", "video7020": "train", "video6513": "train", "video7010": "test", "video9999": "train"}


def test_names_that_disagree_with_the_numbers_are_refused_with_counts_examples_and_the_way_out():
    with pytest.raises(DataError) as error:
        by_names_or_numbers(named(**SMALL), NAMES, OFFICIAL)
    said = str(error.value)
    assert "none is called validate (data.splits)" in said and "disagree with the names of 3 clips" in said
    assert "video7020 (called train, by number test), video6513 (called train, by number val)" in said
    assert "By name: train 4, test 1; by number: train 1, val 1, test 3" in said
    assert "'data.splits={train: train, val: null, test: test}' takes the names" in said


def test_the_way_out_gives_the_files_own_split_and_says_so():
    chosen = by_names_or_numbers(named(**SMALL), TWO, OFFICIAL)
    assert ids(chosen) == {"train": ["video0", "video7020", "video6513", "video9999"], "val": [], "test": ["video7010"]}
    assert chosen.origin == "split names in the annotations (train, test)"


def test_one_clip_against_thousands_is_enough():
    clips = [clip(f"video{i}", "train" if i < 7010 and i != 17 else "test") for i in range(10_000)]
    with pytest.raises(
        DataError, match=r"disagree with the names of 498 clips: video17 \(called test, by number train\)"
    ):
        by_names_or_numbers(clips, NAMES, OFFICIAL)


def test_every_clip_called_train_is_split_by_numbers_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        chosen = by_names_or_numbers([clip(f"video{i}", "train") for i in range(10_000)], NAMES, OFFICIAL)
    assert {split: len(clips) for split, clips in chosen.clips.items()} == {"train": 6513, "val": 497, "test": 2990}
    why = "id numbers (data.id_ranges), as every clip is called 'train', which splits nothing"
    assert chosen.origin == why and f"the splits are by {why}" in caplog.text


def test_names_of_another_spelling_that_agree_with_the_numbers_change_nothing(caplog):
    clips = named(video0="train", video6513="val", video7010="test", video9999="test")
    with caplog.at_level(logging.WARNING):
        chosen = by_names_or_numbers(clips, NAMES, OFFICIAL)
    assert ids(chosen) == {"train": ["video0"], "val": ["video6513"], "test": ["video7010", "video9999"]}
    assert "no clip is called validate (data.splits), and the other names agree with the numbers" in caplog.text
    with pytest.raises(DataError, match="disagree with the names of 1 clips: video6600"):
        by_names_or_numbers([*clips, clip("video6600", "train")], NAMES, OFFICIAL)


def test_a_partly_named_file_is_refused_where_the_names_disagree():
    with pytest.raises(DataError, match=r"video7020 \(called train, by number test\)"):
        by_names_or_numbers(named(video7020="train", video1=None, video6600=None, video8000=None), NAMES, OFFICIAL)
    chosen = by_names_or_numbers(named(video20="train", video6600=None, video8000=None), NAMES, OFFICIAL)
    assert ids(chosen) == {"train": ["video20"], "val": ["video6600"], "test": ["video8000"]}


def test_clips_of_no_split_are_counted_and_told():
    clips = named(video0="train", video1="validate", video2="test", video3="extra", video4="extra", video5=None)
    chosen = by_names_or_numbers(clips, NAMES, OFFICIAL)
    assert chosen.notes == [
        "clips of the annotations that are in no split of this run (data.splits): 2 of split extra and 1 of which the "
        "file does not say a split"
    ]


@pytest.mark.parametrize("name", ["video7.mp4", "v.mp3", "7", "video007"])
def test_the_number_of_an_ending_is_not_the_videos(name):
    ranges = {"train": [7, 7], "test": [3, 4]}
    if "." in name:
        with pytest.raises(DataError, match=f"1 ids are in none of the ranges .*: {re.escape(name)}"):
            by_number([clip(name, None)], ranges)
    else:
        assert by_number([clip(name, None)], ranges)["train"]


def test_ids_with_endings_are_split_by_their_numbers(tmp_path):
    videos = [{"video_id": f"video{i}.mp4"} for i in (0, 6513, 7010, 9999)]
    sentences = [{"video_id": video["video_id"], "caption": "a man"} for video in videos]
    write_set(tmp_path)
    for i in (6513, 7010, 9999):
        (tmp_path / f"videos/video{i}.mp4").write_bytes((tmp_path / "videos/video0.mp4").read_bytes())
    write_json(tmp_path / "MSRVTT_data.json", {"videos": videos, "sentences": sentences})
    data = open_set(tmp_path, id_ranges=OFFICIAL)
    assert {split: [c.id for c in clips.clips] for split, clips in data.clips.items()} == {
        "train": ["video0"], "val": ["video6513"], "test": ["video7010", "video9999"]}  # fmt: skip


# Lists of ids

LISTS = {
    "a.csv": "key,vid_key,video_id,sentence\nret0,msr3,video3,a man\nret1,msr1,video1,\"a dog, a cat\"\n",
    "b.csv": "video_id\nvideo3\nvideo1\n",
    "c.csv": "video3.mp4\nvideo1.mp4\n",
    "d.txt": "video3\r\n\r\nvideo1",
    "e.json": '["video3", "video1.mp4"]',
    "f.jsonl": '{"clip_name": "video3"}\n{"clip_name": "video1"}\n',
    "g.csv": "\ufeffvideo_id;split\nvideo3;test\nvideo1;test\n",
    "h.json": '[{"video": "video3.mp4", "caption": "x"}, {"video": "video1.mp4"}]',
}  # fmt: skip


@pytest.mark.parametrize("file", LISTS)
def test_lists_of_ids_are_read_as_they_are_handed_out(tmp_path, file):
    (tmp_path / file).write_text(LISTS[file], encoding="utf-8")
    assert read_ids(tmp_path / file) == ["video3", "video1"]


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("a.csv", "", "a.csv: no id in this list"),
        ("a.csv", "number,words\n1,x\n", "no column of ids; its columns are number, words"),
        ("a.csv", "video_id,x\nv1,1\n,2\n", "1 of the 2 ids are empty, the first is number 1"),
        ("a.json", '{"a": 1}', "expected a list of ids, found a dict"),
        ("a.json", '["a", null]', "entry 1: expected an id, or a row with video_id"),
    ],
)
def test_a_list_without_ids_is_refused(tmp_path, file, text, message):
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_ids(tmp_path / file)


def one_k(tmp_path):
    """A set like 1k-A: the json's split is 10/0/5 by name, the lists say otherwise."""
    write_set(tmp_path)
    what = content({"train": 10, "test": 5})
    write_json(tmp_path / "MSRVTT_data.json", what)
    train = [f"video{i}" for i in range(15) if i not in (2, 11, 13)]
    (tmp_path / "train.9k.csv").write_text("video_id\n" + "".join(f"{name}\n" for name in train))
    rows = "".join(f"ret{i},msr{i},video{i},a man\n" for i in (13, 2, 11))
    (tmp_path / "JSFUSION_test.csv").write_text("key,vid_key,video_id,sentence\n" + rows)
    return tmp_path


def test_a_1k_a_like_set_gives_exactly_its_own_test_set_or_a_refusal(tmp_path):
    root = one_k(tmp_path)
    with pytest.raises(DataError, match=r"none is called validate .* disagree with the names of 3 clips"):
        open_set(root, id_ranges={"train": [0, 6], "val": [7, 9], "test": [10, 14]})
    assert [c.id for c in open_set(root, splits=TWO).clips["test"].clips] == [f"video{i}" for i in range(10, 15)]
    data = open_set(root, lists={"train": "train.9k.csv", "val": None, "test": "JSFUSION_test.csv"})
    assert [c.id for c in data.clips["test"].clips] == ["video2", "video11", "video13"]
    assert data.clips["test"].clips[0].captions == tuple(f"caption {k} of clip 2" for k in range(3))
    told = data.evaluated()
    assert told.sizes == {"train": 12, "val": 0, "test": 3}
    assert told.origin == "lists of ids (train: train.9k.csv, test: JSFUSION_test.csv)"


def test_lists_that_do_not_go_with_the_annotations_are_refused_all_at_once():
    clips = named(video1=None, video2=None, video3=None)
    lists = {"train": ("a.csv", ["video1", "video9"]), "test": ("b.csv", ["video1", "vidoe2"])}
    with pytest.raises(DataError) as error:
        by_lists(clips, lists)
    said = str(error.value)
    assert "a.csv (data.lists.train): 1 of its 2 ids have no caption in the annotations: video9" in said
    assert "b.csv (data.lists.test): 1 of its 2 ids have no caption" in said and "Did you mean 'video2'?" in said
    assert "b.csv: 1 of its ids are in the list of train too: video1" in said


def test_ids_twice_and_clips_of_no_list_are_told():
    chosen = by_lists(named(video1=None, video2=None, video3=None), {"train": ("a", ["video2", "video2"])})
    assert ids(chosen)["train"] == ["video2"]
    assert chosen.notes == [
        "a: 1 ids are in it twice and count once",
        "2 clips of the annotations are in none of the lists (data.lists)",
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lists": {"tets": "a"}}, "data.lists has the keys tets; allowed: train, val, test, train needed"),
        ({"lists": {"test": "a"}}, "train needed"),
        ({"lists": {"train": "a"}, "annotations": {"train": "a", "test": "b"}}, "both say the splits; give one"),
        ({"lists": {"train": "nowhere.csv"}}, "missing nowhere.csv"),
    ],
)
def test_lists_that_cannot_be_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        open_set(write_set(tmp_path), **change)


# What was left out


@pytest.mark.parametrize("split", ["test", None])
def test_a_split_of_which_nobody_described_a_clip_is_refused(split):
    silent = Clip("video7010", "video7010", (), split)
    clips = [*named(video0="train" if split else None, video6513="validate" if split else None), silent]
    with pytest.raises(DataError, match="no clip in the test split, 1 without a caption; the annotations have 3 clips"):
        by_names_or_numbers(clips, NAMES, OFFICIAL)


def test_clips_without_a_caption_are_counted_in_their_split(tmp_path, caplog):
    write_set(tmp_path)
    what = content()
    what["sentences"] = [s for s in what["sentences"] if s["video_id"] not in ("video11", "video3")]
    write_json(tmp_path / "MSRVTT_data.json", what)
    with caplog.at_level(logging.WARNING):
        data = open_set(tmp_path)
    assert data.evaluated().left_out == {"train": {"clip without a caption": 1}, "test": {"clip without a caption": 1}}
    assert data.evaluated().sizes["test"] == 4 and "left out 1 test clips without a caption: video11" in caplog.text


def test_clips_that_were_skipped_are_in_the_record(tmp_path):
    write_set(tmp_path)
    (tmp_path / "videos/video11.mp4").unlink()
    (tmp_path / "videos/video12.mp4").write_bytes(b"x")
    told = open_set(tmp_path, missing="skip", corrupt="skip").evaluated()
    assert told.left_out == {"test": {"clip without video file": 1, "clip that cannot be read": 1}}
    record = told.record(3)
    assert record["sizes"]["test"] == record["tested"] == 3 and record["left_out"]["test"] == told.left_out["test"]
    assert told.lines(2)[0].startswith("tested on 2 of the 3 clips (train 7, val 3); the split: split names")
    assert json.loads(json.dumps(record)) == record


def test_files_of_a_split_that_name_another_one_are_told(tmp_path):
    write_set(tmp_path)
    parts = {"a.json": ("video0", "train"), "b.json": ("video1", "train"), "c.json": ("video2", "test")}
    for file, (name, split) in parts.items():
        row = {"video_id": name, "caption": "a man", "split": split}
        write_json(tmp_path / file, [row])
    told = open_set(tmp_path, annotations={"train": "a.json", "val": "b.json", "test": "c.json"}).evaluated()
    assert told.origin == "a file for each split (train: a.json, val: b.json, test: c.json)"
    assert told.notes == ("1 clips of data.annotations.val, which is read whole, are called 'train' in it",)
