"""Caption files of several shapes: what is read, and every refusal."""

import json
import logging
import re

import pytest

from datamodules.errors import DataError
from datamodules.video_captioning.captions import LAYOUTS, Clip, fields_from, natural, one_line, read_captions
from datamodules.video_captioning.splits import by_split, disjoint
from tests.datamodules.video_captioning.small import content, open_set, write_json, write_set

OFFICIAL = {"train": [0, 6512], "val": [6513, 7009], "test": [7010, 9999]}
NAMES = {"train": "train", "val": "validate", "test": "test"}


def read(tmp_path, what, layout="msrvtt"):
    return read_captions([write_json(tmp_path / "captions.json", what)], fields_from(layout))


def test_sentences_go_to_their_videos_in_the_order_of_the_file(tmp_path):
    what = content({"train": 12}, captions=2)
    what["sentences"].reverse()
    clips = read(tmp_path, what)
    assert [clip.id for clip in clips] == [f"video{i}" for i in range(12)]
    assert clips[10] == Clip("video10", "video10", ("caption 1 of clip 10", "caption 0 of clip 10"), "train")


def test_the_two_files_of_the_challenge_are_read_as_one_set(tmp_path):
    whole = content({"train": 4, "validate": 2, "test": 3})
    for name, keep in (("train_val", {"train", "validate"}), ("test", {"test"})):
        videos = [video for video in whole["videos"] if video["split"] in keep]
        ids = {video["video_id"] for video in videos}
        part = {"videos": videos, "sentences": [s for s in whole["sentences"] if s["video_id"] in ids]}
        write_json(tmp_path / f"{name}_videodatainfo.json", part)
    paths = [tmp_path / f"{name}_videodatainfo.json" for name in ("test", "train_val")]
    chosen = by_split(read_captions(paths, fields_from("msrvtt")), NAMES, OFFICIAL)
    assert {split: [clip.id for clip in clips] for split, clips in chosen.items()} == {
        "train": ["video0", "video1", "video2", "video3"],
        "val": ["video4", "video5"],
        "test": ["video6", "video7", "video8"],
    }


def test_vatex_entries_hold_their_captions(tmp_path):
    what = [
        {"videoID": "Ptf_000122_000132", "enCap": ["A man runs.", "Someone  runs."], "chCap": ["x"]},
        {"videoID": "A_0_10", "enCap": ["A dog."], "chCap": []},
    ]
    assert read(tmp_path, what, "vatex") == [
        Clip("A_0_10", "A_0_10", ("A dog.",)),
        Clip("Ptf_000122_000132", "Ptf_000122_000132", ("A man runs.", "Someone runs.")),
    ]


def test_youcook2_segments_are_clips_with_a_span_and_test_videos_without_any_are_left_out(tmp_path):
    parts = [
        {"id": 0, "segment": [90, 102], "sentence": "spread it"},
        {"id": 1, "segment": [114.5, 127], "sentence": "cut"},
    ]
    database = {
        "GLd3": {"subset": "training", "duration": 241.6, "annotations": parts, "recipe_type": "113"},
        "zzz1": {"subset": "testing", "duration": 10, "recipe_type": "1"},
    }
    assert read(tmp_path, {"database": database}, "youcook2") == [
        Clip("GLd3_0", "GLd3", ("spread it",), "training", (90.0, 102.0)),
        Clip("GLd3_1", "GLd3", ("cut",), "training", (114.5, 127.0)),
    ]


def test_a_plain_mapping_from_id_to_captions(tmp_path):
    clips = read(tmp_path, {"vid2": ["b"], "vid1": ["a one", "a two"], "vid3": {"captions": "c"}}, "captions")
    assert [(clip.id, clip.captions) for clip in clips] == [
        ("vid1", ("a one", "a two")),
        ("vid2", ("b",)),
        ("vid3", ("c",)),
    ]


def test_a_map_of_fields_replaces_names_of_a_layout(tmp_path):
    what = {"clips": [{"name": 7, "part": "train"}], "texts": [{"name": 7, "text": ["a", "b"]}]}
    given = {
        "layout": "msrvtt",
        "videos": "clips",
        "video": "name",
        "split": "part",
        "sentences": "texts",
        "caption": "text",
    }
    assert read(tmp_path, what, given) == [Clip("7", "7", ("a", "b"), "train")]


@pytest.mark.parametrize("space", ["\n", "\r\n", "\u2028", "\u2029", "\x85", "\t", "\u00a0", "  "])
def test_white_space_and_separators_are_folded(tmp_path, space):
    what = content({"train": 1}, captions=1)
    what["sentences"][0]["caption"] = f"{space}a dog{space}runs {space}"
    assert read(tmp_path, what)[0].captions == ("a dog runs",)
    assert one_line(f"a{space}b") == "a b"


def test_natural_order():
    names = ["video10", "video9", "a_2_10", "a_2_9", "video", "10", "9"]
    assert sorted(names, key=natural) == ["9", "10", "a_2_9", "a_2_10", "video", "video9", "video10"]


def set_to(place, number, key, value):
    def change(what):
        what[place][number][key] = value

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda w: w.pop("sentences"), "captions.json: no 'sentences'. It has info, videos"),
        (lambda w: w.update(vidoes=w.pop("videos")), "no 'videos'. Did you mean 'vidoes'?"),
        (lambda w: w["videos"][1].pop("video_id"), "captions.json, video 1: no 'video_id'. It has id, split"),
        (
            lambda w: w["sentences"][1].pop("caption"),
            "captions.json, sentences 1: no 'caption'. It has video_id, sen_id",
        ),
        (set_to("sentences", 1, "caption", ""), "sentences 1 (video1): empty caption"),
        (set_to("sentences", 1, "caption", " \u2028\n"), "sentences 1 (video1): empty caption"),
        (set_to("sentences", 1, "caption", 3), "sentences 1 (video1): a caption is a number, expected text"),
        (set_to("sentences", 1, "caption", [None]), "sentences 1 (video1): a caption is null, expected text"),
        (set_to("sentences", 1, "video_id", "vidoe1"), "'vidoe1' is not a video of this file. Did you mean 'video1'?"),
        (set_to("videos", 1, "video_id", "video0"), "video 1: 'video0' is listed twice"),
        (set_to("videos", 1, "video_id", 1.5), "video 1: the id is 1.5, expected a name or a whole number"),
        (set_to("videos", 1, "split", 1), "'video1': split is 1, expected the name of a split"),
        (lambda w: w.update(videos="x"), "the videos are text, expected a list or a mapping"),
        (lambda w: w.update(sentences={}), "'sentences' is an object, expected a list"),
        (lambda w: w.update(sentences=[]), "no captions in it"),
        (lambda w: w["videos"].insert(0, "video9"), "video 0: text, expected an object with 'video_id'"),
    ],
)
def test_defects_are_named(tmp_path, change, message):
    what = content({"train": 2})
    change(what)
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, what)


@pytest.mark.parametrize(
    "span", [[5, 5], [6, 5], [-1, 5], [1], [1, 2, 3], ["1", "2"], [0, float("inf")], [True, 2], None]
)
def test_a_span_that_cannot_be_is_refused(tmp_path, span):
    database = {"v": {"subset": "training", "annotations": [{"id": 0, "segment": span, "sentence": "x"}]}}
    with pytest.raises(DataError, match=r"'v', annotations 0: span .*, expected \[start, end\] in seconds"):
        read(tmp_path, {"database": database}, "youcook2")


def test_segments_of_one_id_are_refused(tmp_path):
    part = {"id": 0, "segment": [0, 1], "sentence": "x"}
    with pytest.raises(DataError, match="segment ids are not unique: v_0"):
        read(tmp_path, {"database": {"v": {"subset": "training", "annotations": [part, part]}}}, "youcook2")


@pytest.mark.parametrize("text", ["", "{", "[1, 2", "\x00"])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(DataError, match=r"bad\.json: not a readable json file"):
        read_captions([tmp_path / "bad.json"], LAYOUTS["msrvtt"])


def test_a_video_in_two_files_is_refused(tmp_path):
    for name in ("a.json", "b.json"):
        write_json(tmp_path / name, content({"train": 1}))
    with pytest.raises(DataError, match=r"b\.json: 'video0' is in .*a\.json too"):
        read_captions([tmp_path / "a.json", tmp_path / "b.json"], LAYOUTS["msrvtt"])


@pytest.mark.parametrize(
    "given, message",
    [
        ("msrvt", "unknown layout 'msrvt'. Did you mean 'msrvtt'? Allowed: msrvtt, vatex, youcook2, captions"),
        ({"captoin": "x"}, "unknown key 'captoin'. Did you mean 'caption'?"),
        ({"caption": None}, "caption is None, expected the name of a key"),
        ({"videos": 3}, "videos is 3, expected the name of a key"),
    ],
)
def test_a_wrong_map_of_fields_is_refused(given, message):
    with pytest.raises(DataError, match=re.escape(message)):
        fields_from(given)


# Splits


def clips_of(count, split=None):
    return [Clip(f"video{i}", f"video{i}", ("x",), split) for i in range(count)]


def test_without_names_the_numbers_give_the_official_split():
    for split in (None, "train"):  # some distributions call every video "train"
        chosen = by_split(clips_of(10000, split), NAMES, OFFICIAL)
        assert {name: len(clips) for name, clips in chosen.items()} == {"train": 6513, "val": 497, "test": 2990}
        assert (chosen["val"][0].id, chosen["test"][-1].id) == ("video6513", "video9999")


def test_an_id_outside_the_ranges_is_named():
    with pytest.raises(
        DataError, match=r"2 ids are in none of the ranges \(train 0\.\.6512, .*\): video10000, video10001"
    ):
        by_split(clips_of(10002), NAMES, OFFICIAL)
    with pytest.raises(DataError, match="1 ids are in none of the ranges .*: abc"):
        by_split([Clip("abc", "abc", ("x",))], NAMES, OFFICIAL)


def test_neither_names_nor_ranges_is_refused_with_what_is_there():
    clips = [Clip("a", "a", ("x",), "training"), Clip("b", "b", ("x",), "validation")]
    with pytest.raises(
        DataError, match=r"no clip of split train, validate, test\. Did you mean 'training'\?.*training \(1 clips\)"
    ):
        by_split(clips, NAMES, None)
    chosen = by_split(clips, {"train": "training", "val": "validation", "test": None}, None)
    assert {split: len(found) for split, found in chosen.items()} == {"train": 1, "val": 1, "test": 0}


def test_a_split_without_a_clip_is_refused():
    with pytest.raises(DataError, match="no clip in the val split; the annotations have 7 clips in all"):
        by_split(clips_of(7), NAMES, OFFICIAL)


def test_a_video_in_two_splits_is_refused():
    shared = [Clip("a_0", "a", ("x",)), Clip("a_1", "a", ("x",))]
    with pytest.raises(DataError, match="1 videos are in the train and in the test split: a"):
        disjoint({"train": shared[:1], "val": [], "test": shared[1:]})


def test_a_file_for_each_split(tmp_path):
    write_set(tmp_path)
    whole = json.loads((tmp_path / "MSRVTT_data.json").read_text())
    for number, split in enumerate(("train", "val")):
        part = {f"video{i}": [f"text {i}"] for i in range(5 * number, 5 * number + 5)}
        write_json(tmp_path / f"{split}.json", part)
    data = open_set(tmp_path, annotations={"train": "train.json", "val": "val.json", "test": None}, fields="captions")
    assert [len(data.clips[split].clips) for split in ("train", "val", "test")] == [5, 5, 0]
    assert len(whole["videos"]) == 15 and list(data.test_dataloader()) == []


def test_a_caption_of_200_words_is_kept_and_named_in_the_log(tmp_path, caplog):
    write_set(tmp_path)
    what = content()
    what["sentences"][4]["caption"] = "word " * 200
    write_json(tmp_path / "MSRVTT_data.json", what)
    with caplog.at_level(logging.WARNING):
        data = open_set(tmp_path)
    assert "captions of more than 100 words, of 1 clips: video4" in caplog.text
    assert max(len(text.split()) for text in data.facts()["train_texts"]) == 200
