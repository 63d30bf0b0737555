"""Annotation files in the layouts in which MSR-VTT is handed out: recognised, or refused with what to set."""

import json
import re

import pytest

from datamodules.errors import DataError
from datamodules.video_captioning import Captions
from datamodules.video_captioning.captions import Clip, fields_from, read_captions, read_file
from tests.datamodules.video_captioning.small import KEYWORDS, open_set, write_json, write_set

CAPTIONS = {
    "video0": ["a car is shown", "a red car"],
    "video2": ["a man runs"],
    "video10": ["a dog", "a dog", "it runs"],
}
SPLITS = {"video0": "train", "video2": "validate", "video10": "test"}
EXPECTED = [Clip(name, name, tuple(texts)) for name, texts in CAPTIONS.items()]
SPLIT = [Clip(name, name, tuple(texts), SPLITS[name]) for name, texts in CAPTIONS.items()]
PAIRS = [(name, text) for name, texts in CAPTIONS.items() for text in texts]


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def coco(number: bool, file: bool) -> str:
    ids = {name: i if number else name for i, name in enumerate(CAPTIONS)}
    images = [{"id": ids[name], **({"file_name": f"{name}.mp4"} if file else {})} for name in CAPTIONS]
    annotations = [{"id": i, "image_id": ids[name], "caption": text} for i, (name, text) in enumerate(PAIRS)]
    return json.dumps({"info": {}, "type": "captions", "images": images, "annotations": annotations})


# name of the layout -> file, content, the layout that is recognised
SAME = {
    "a row per caption (ALPRO, Singularity, LAVIS)": (
        "a.json", json.dumps([{"video": f"{name}.mp4", "caption": text} for name, text in PAIRS]), "rows"),
    "a row per caption as JSON lines (ClipBERT)": (
        "a.jsonl", lines({"caption": text, "clip_name": name, "sen_id": 1} for name, text in PAIRS), "rows"),
    "JSON lines with lists (mPLUG-2)": (
        "a.JSONL", lines({"video_id": name, "caption": texts} for name, texts in CAPTIONS.items()), "rows"),
    "JSON lines in a file called json": (
        "a.json", lines({"video_id": name, "caption": text} for name, text in PAIRS), "rows"),
    "COCO with numbers": ("a.json", coco(True, True), "coco"),
    "COCO with the videos as ids (SwinBERT)": ("a.json", coco(False, False), "coco"),
    "the hub's list": (
        "a.json",
        json.dumps([{"video_id": name, "video": f"{name}.mp4", "caption": texts, "source": "MSR-VTT", "id": i}
                    for i, (name, texts) in enumerate(CAPTIONS.items())]), "rows"),
    "a table": ("a.csv", "key,video_id,sentence\n" + "".join(f'ret,{n},"{t}"\n' for n, t in PAIRS), "rows"),
    "a table with semicolons": ("a.csv", "video;caption\n" + "".join(f"{n}.mp4;{t}\n" for n, t in PAIRS), "rows"),
    "a table with tabs": ("a.tsv", "video\tcaption\n" + "".join(f"{n}\t{t}\n" for n, t in PAIRS), "rows"),
    "vatex": ("a.json", json.dumps([{"videoID": n, "enCap": t, "chCap": ["x"]} for n, t in CAPTIONS.items()]), "rows"),
    "a mapping": ("a.json", json.dumps(CAPTIONS), "captions"),
    "a mapping to entries": (
        "a.json", json.dumps({f"{n}.mp4": {"caption": t} for n, t in CAPTIONS.items()}), "captions"),
    "rows below a key": (
        "a.json", json.dumps({"annotations": [{"image_id": n, "caption": t} for n, t in PAIRS]}), "rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_every_layout_reads_to_the_same_clips_and_captions(tmp_path, name):
    file, content, layout = SAME[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert read_captions([tmp_path / file], fields_from("msrvtt")) == EXPECTED
    assert read_file(tmp_path / file, fields_from("msrvtt")).layout == layout


SAME_SPLITS = {
    "MSR-VTT's": ("a.json", json.dumps({
        "videos": [{"video_id": f"{n}.mp4", "split": s} for n, s in SPLITS.items()],
        "sentences": [{"video_id": n, "caption": t} for n, t in PAIRS]})),
    "rows": ("a.jsonl", lines({"video": n, "caption": t, "split": SPLITS[n]} for n, t in PAIRS)),
    "a mapping of splits (VIOLET)": ("a.json", json.dumps({
        s: [{"video": n, "caption": t} for n, t in PAIRS if SPLITS[n] == s] for s in ("train", "validate", "test")})),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_SPLITS)
def test_the_splits_that_a_layout_names_are_read(tmp_path, name):
    file, content = SAME_SPLITS[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert read_captions([tmp_path / file], fields_from("msrvtt")) == SPLIT


ENCODED = {"utf-8-sig": "utf-8", "utf-16": "utf-8", "utf-32": "utf-8", "cp1252": "cp1252", "utf-16-le": "utf-16-le"}


@pytest.mark.parametrize("written", ENCODED)
@pytest.mark.parametrize("file", ["a.json", "a.jsonl", "a.csv"])
def test_files_of_other_encodings_are_read(tmp_path, written, file):
    rows = [{"video_id": "video0", "caption": "un café"}, {"video_id": "video1", "caption": "a man"}]
    text = {
        "a.json": json.dumps(rows, ensure_ascii=False),
        "a.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        "a.csv": "video_id,caption\nvideo0,un café\nvideo1,a man\n",
    }[file]
    (tmp_path / file).write_bytes(text.encode(written))
    clips = read_captions([tmp_path / file], fields_from("msrvtt"), encoding=ENCODED[written])
    assert [(clip.id, clip.captions) for clip in clips] == [("video0", ("un café",)), ("video1", ("a man",))]


@pytest.mark.parametrize(
    "written, message",
    [
        (
            "cp1252",
            'not utf-8 text: byte 0xe9 at position 7 (line 1, in \'{"b": "caf\\\\xe9"}\'); data.encoding=cp1252',
        ),
        ("utf-16-le", "every second byte is zero, so it seems to be utf-16-le; data.encoding=utf-16-le reads it"),
    ],
)
def test_an_encoding_that_does_not_fit_is_refused_with_the_one_to_set(tmp_path, written, message):
    (tmp_path / "a.json").write_bytes('{"b": "café"}'.replace(' "caf', '"caf').encode(written))
    text = message.replace('{"b": "caf', '{"b":"caf').replace("position 7", "position 9")
    with pytest.raises(DataError, match=re.escape(text)):
        read_captions([tmp_path / "a.json"], fields_from("msrvtt"))


def test_an_encoding_that_nobody_knows_is_refused(tmp_path):
    write_set(tmp_path)
    with pytest.raises(DataError, match=r"data\.encoding: there is no encoding 'cp1253x'\. Did you mean 'cp125[12]'"):
        open_set(tmp_path, encoding="cp1253x")


AMBIGUOUS = {
    "two ids": ([{"video_id": 4, "video": "video0.mp4", "caption": "a"}],
                "ambiguous: the rows have two keys for the video, video_id (4) and video ('video0.mp4'); say which: "
                "data.fields={layout: rows, video: video_id}"),
    "two captions": ([{"video": "v", "caption": "a", "text": "b"}], "two keys for the caption, caption ('a') and text"),
    "parts of videos": ([{"video": "v", "caption": "a", "start": 1, "end": 3}],
                        "the rows have start, end, so they may describe parts of videos. data.fields={layout: rows, "),
    "no caption": ([{"video": "v", "title": "a"}], "no key for the caption; they have video, title"),
    "no video": ([{"path": "v", "caption": "a"}], "no key for the video; they have path, caption"),
    "ids": (["video0", "video1"], "a list of ids, and no captions; such files belong into data.lists"),
    "ids by split": ({"train": ["video0"], "test": ["video1"]}, "lists of ids by split, and no captions"),
    "something else": ({"a": 3}, "the layout of the captions is not recognised (it has: a). data.fields names a"),
    "nothing": ({}, "the layout of the captions is not recognised (it has: empty)"),
    "an ending alone": ([{"video": "v.mp4", "caption": "a"}, {"video": "v.avi", "caption": "b"}],
                        "row 1: 'v.avi' differs from 'v.mp4' by its ending alone"),
    "two splits": ([{"video": "v", "caption": "a", "split": "train"}, {"video": "v", "caption": "b", "split": "test"}],
                   "row 1: 'v' is in the split test here and in train in an earlier row"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_ambiguous_or_unknown_is_refused_with_what_to_set(tmp_path, name):
    what, message = AMBIGUOUS[name]
    with pytest.raises(DataError, match=re.escape(message)):
        read_captions([write_json(tmp_path / "a.json", what)], fields_from("msrvtt"))


def test_a_map_of_the_users_own_settles_it(tmp_path):
    what = [{"video_id": 4, "video": "video0.mp4", "caption": "a", "start": 1, "end": 2}]
    path = write_json(tmp_path / "a.json", what)
    assert read_captions([path], fields_from({"layout": "rows", "video": "video"}))[0].id == "video0"
    assert read_captions([path], fields_from({"layout": "rows", "video": "video_id"}))[0].id == "4"


def faulty() -> list[dict]:
    rows = [{"video": name, "caption": text} for name, text in PAIRS]
    return [*rows, {"video": "video2", "caption": " "}, {"video": "video0", "caption": 3}, {"video": "video10"}]


def test_all_defects_of_all_files_are_listed_at_once_and_counted(tmp_path):
    one = write_json(tmp_path / "a.json", faulty())
    other = write_json(tmp_path / "b.json", [{"video": "x", "caption": ""}, {"video": "y", "caption": "a"}])
    with pytest.raises(DataError) as error:
        read_captions([one, other], fields_from("msrvtt"))
    said = str(error.value)
    assert "a.json, row 6 (video2): empty caption" in said and "row 7 (video0): a caption is a number" in said
    assert "row 8: no 'caption'" in said and "b.json, row 0 (x): empty caption" in said
    assert "a.json: 3 defects: 1 x empty caption, 1 x caption that is not text, 1 x entry without the key of" in said
    assert "data.defects=drop leaves these captions out" in said


def test_drop_leaves_such_captions_out_and_nothing_else(tmp_path):
    path = write_json(tmp_path / "a.json", faulty())
    assert read_captions([path], fields_from("msrvtt"), defects="drop") == EXPECTED
    twice = write_json(tmp_path / "b.json", {"videos": [{"video_id": "v"}] * 2, "sentences": []})
    with pytest.raises(DataError, match="video 1: 'v' is listed twice"):
        read_captions([twice], fields_from("msrvtt"), defects="drop")


def test_a_set_in_another_layout_trains_as_msrvtt_and_says_what_was_left_out(tmp_path):
    write_set(tmp_path)
    whole = json.loads((tmp_path / "MSRVTT_data.json").read_text())
    rows = [{"video": f"{s['video_id']}.mp4", "caption": s["caption"]} for s in whole["sentences"]]
    split = {video["video_id"]: video["split"] for video in whole["videos"]}
    rows = [{**row, "split": split[row["video"].removesuffix(".mp4")]} for row in rows]
    (tmp_path / "rows.jsonl").write_text(lines([*rows, {**rows[12], "caption": ""}]), encoding="utf-8")
    as_given, other = open_set(tmp_path), open_set(tmp_path, annotations="rows.jsonl", defects="drop")
    assert other.facts() == as_given.facts()
    told = other.evaluated()
    assert told.sizes == {"train": 7, "val": 3, "test": 5}
    assert told.origin == "split names in the annotations (train, validate, test)"
    assert told.left_out == {"test": {"empty caption": 1}}
    assert told.lines(5)[1] == "left out of the test split: 1 x empty caption"


def test_videos_need_no_features(tmp_path):
    write_set(tmp_path)
    keywords = {name: value for name, value in KEYWORDS.items() if name != "features"}
    data = Captions(**{**keywords, "root": str(tmp_path)})
    data.prepare_data()
    assert data.facts()["grid"] is None and data.facts()["feature_dim"] is None
    with pytest.raises(DataError, match="stream features: dim is None"):
        Captions(**{**keywords, "root": str(tmp_path), "source": "features"})
