"""Every defect of an annotation is a DataError that names file, line, qid and vid, and stops the run."""

import copy
import json
import math
import re

import pytest

from datamodules.errors import DataError
from datamodules.moment_retrieval.annotations import read_moments
from tests.datamodules.moment_retrieval.small import open_set, read_lines, write_lines

ROW = {
    "qid": 12, "query": "a seven", "duration": 20, "vid": "v_0.0_20.0", "relevant_windows": [[4, 8]],
    "relevant_clip_ids": [2, 3], "saliency_scores": [[4, 3, 3], [1, 0, 2]],
}  # fmt: skip


def changed(change):
    """ROW with keys replaced; ... removes one."""
    row = copy.deepcopy(ROW) | change
    return {key: value for key, value in row.items() if value is not ...}


def read(tmp_path, *rows, **keywords):
    write_lines(tmp_path / "a.jsonl", rows)
    return read_moments(tmp_path / "a.jsonl", **{"clip_length": 2.0, "saliency": True, **keywords})


# Annotations


@pytest.mark.parametrize(
    "change, message",
    [
        ({"query": ...}, "no key query; it has qid, duration"),
        ({"duration": ...}, "no key duration"),
        ({"relevant_windows": ...}, "no key relevant_windows"),
        ({"saliency_scores": ...}, "no key saliency_scores, which data.saliency=annotated needs"),
        ({"query": ""}, "query is '', expected a sentence"),
        ({"query": "  "}, "query is '  ', expected a sentence"),
        ({"query": None}, "query is None, expected a sentence"),
        ({"duration": 0}, "duration is 0, expected seconds"),
        ({"duration": 10**400}, "duration is 1000"),
        ({"relevant_windows": [[4, 10**400]]}, "expected [start, end] in seconds"),
        ({"duration": "20"}, "duration is '20', expected seconds"),
        ({"duration": math.nan}, "duration is nan, expected seconds"),
        ({"relevant_windows": [[4, 8], [18, 22]]}, "window [18, 22] is outside the video, which has 20 s"),
        ({"relevant_windows": [[-2, 8]]}, "window [-2, 8] is outside the video"),
        ({"relevant_windows": [[20, 20.5]]}, "window [20, 20.5] is outside the video"),
        ({"relevant_windows": [[8, 4]]}, "window [8, 4] ends before it starts"),
        ({"relevant_windows": [[8, 8]]}, "window [8, 8] has no length"),
        ({"relevant_windows": [[8, 9, 10]]}, "window [8, 9, 10], expected [start, end]"),
        ({"relevant_windows": [["8", 10]]}, "window ['8', 10], expected [start, end]"),
        ({"relevant_windows": [4, 8]}, "window 4, expected [start, end]"),
        ({"relevant_windows": "4-8"}, "relevant_windows is '4-8', expected a list"),
        ({"relevant_clip_ids": [2]}, "1 relevant_clip_ids and 2 saliency_scores"),
        ({"saliency_scores": None}, "2 relevant_clip_ids and None saliency_scores"),
        ({"relevant_clip_ids": [2, 10]}, "clip 10 is outside the video; 20 s at 2.0 s per clip are the clips 0 to 9"),
        ({"relevant_clip_ids": [-1, 3]}, "relevant clip -1 is outside the video"),
        ({"relevant_clip_ids": [2, 2.5]}, "relevant clip 2.5 is outside"),
        ({"relevant_clip_ids": [3, 3]}, "relevant clip 3 is listed twice"),
        ({"saliency_scores": [[4, 3, 3], [1, 0]]}, "saliency scores of clip 3 are [1, 0], expected one per rater"),
        ({"saliency_scores": [[], []]}, "saliency scores of clip 2 are []"),
        ({"saliency_scores": [[4, 3, 5], [1, 0, 2]]}, "saliency scores of clip 2 are [4, 3, 5], expected 0 to 4"),
        ({"saliency_scores": [[4, 3, math.nan], [1, 0, 2]]}, "saliency scores of clip 2 are [4, 3, nan]"),
    ],
)  # fmt: skip
def test_a_wrong_annotation_is_named_with_file_line_qid_and_vid(tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)) as stop:
        read(tmp_path, changed({"qid": 7, "vid": "other"}), changed(change))
    assert f"{tmp_path / 'a.jsonl'}, line 2 (qid 12, vid v_0.0_20.0): " in str(stop.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"qid": ...}, "line 1 (vid v_0.0_20.0): no key qid"),
        ({"vid": ...}, "line 1 (qid 12): no key vid"),
        ({"qid": 1.5}, "qid is 1.5, expected a whole number or a name"),
        ({"qid": True}, "qid is True"),
        ({"vid": 17}, "vid is 17, expected the name of a video"),
        ({"qid": "../17"}, "qid: the id '../17' has a path separator"),
        ({"vid": ".."}, "vid: the id '..' is not a name"),
        ({"vid": "/a"}, "vid: the id '/a' has a path separator"),
        ({"vid": "a" * 5000}, "is longer than 200 bytes"),
        ({"vid": "../17"}, "vid: the id '../17' has a path separator"),
    ],
)
def test_a_row_without_name_is_named_by_what_it_has(tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, changed(change))


@pytest.mark.parametrize(
    "line, message", [('{"qid": 1,', "not JSON"), ("[1, 2]", "expected an object"), ("NaN x", "not JSON")]
)
def test_a_line_that_is_no_annotation_is_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\n\n" + line + "\n")
    with pytest.raises(DataError, match=f"a.jsonl, line 3: {message}"):
        read_moments(tmp_path / "a.jsonl", clip_length=2.0, saliency=True)


def test_a_qid_twice_is_named_with_both_lines(tmp_path):
    with pytest.raises(DataError, match=r"line 3 \(qid 12, vid b\): this qid is on line 1 too"):
        read(tmp_path, ROW, changed({"qid": 13}), changed({"vid": "b"}))


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_an_empty_or_binary_file_is_named(tmp_path, content):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="a.jsonl: (no annotations in it|not a readable text file)"):
        read_moments(tmp_path / "a.jsonl", clip_length=2.0, saliency=True)


def test_legal_rows_are_returned_as_they_stand(tmp_path):
    rows = [
        ROW,
        changed({"qid": "a name", "relevant_windows": [], "relevant_clip_ids": [], "saliency_scores": []}),
        changed(
            {"qid": 3, "duration": 20.5, "relevant_windows": [[0.25, 20.5]], "relevant_clip_ids": [10, 0], "more": 1}
        ),
    ]
    assert read(tmp_path, *rows) == rows


def test_slack_lets_a_window_end_a_little_after_its_video(tmp_path):
    late = changed({"relevant_windows": [[4, 20.4]]})
    assert read(tmp_path, late, slack=0.5) == [late]
    with pytest.raises(DataError, match=r"window \[4, 20.4\] is outside .* may end 0.3 s after its video"):
        read(tmp_path, late, slack=0.3)


def test_answers_may_lack_in_all_rows_of_the_test_file_and_not_in_some(tmp_path):
    bare = {key: ROW[key] for key in ("qid", "query", "duration", "vid")}
    assert read(tmp_path, bare, unlabelled=True) == [bare]
    for keywords, rows in (({}, [bare]), ({"unlabelled": True}, [bare, changed({"qid": 1})])):
        with pytest.raises(DataError, match="no key relevant_windows"):
            read(tmp_path, *rows, **keywords)


# Splits


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_training_video_in_an_evaluation_split_is_refused(folder, split):
    rows = read_lines(folder / f"{split}.jsonl")
    stolen = read_lines(folder / "train.jsonl")[4]
    write_lines(folder / f"{split}.jsonl", [*rows, {**stolen, "qid": 999}])
    with pytest.raises(DataError, match=f"1 videos are in train.jsonl and in {split}.jsonl: vid {stolen['vid']}"):
        open_set(folder)


def test_one_qid_for_two_queries_in_two_files_is_refused(folder):
    rows = read_lines(folder / "test.jsonl")
    write_lines(folder / "test.jsonl", [{**rows[0], "qid": 3}, *rows[1:]])
    with pytest.raises(
        DataError, match=r"qid 3 is 'query number 3' in train.jsonl and 'query number 18' in test.jsonl"
    ):
        open_set(folder)
