"""Answers as submission, JSON, table and subtitles, read back by other readers."""

import csv
import json
import re

import pytest

from datamodules.errors import DataError
from tasks.common.cue_files import clock
from tasks.common.files import read_jsonl
from tasks.moment_retrieval.answer_files import ENDINGS, write_answers

ROWS = [
    {
        "qid": 7, "query": 'a "dog", runs\nfast', "vid": "v", "pred_saliency_scores": [0.5, -1.0],
        "pred_relevant_windows": [[3601.25, 3605.5, 0.91], [0.0, 2.0, 0.25]],
    },
    {"qid": 8, "query": "", "vid": "v", "pred_saliency_scores": [0.0], "pred_relevant_windows": [[1.0, 3.0, 1.0]]},
    {"qid": 9, "query": "nothing", "vid": "v", "pred_saliency_scores": [0.0], "pred_relevant_windows": []},
]  # fmt: skip


def test_a_submission_and_a_list_hold_the_rows(tmp_path) -> None:
    write_answers(tmp_path / "new/out.jsonl", ROWS)
    write_answers(tmp_path / "out.JSON", ROWS)
    assert list(read_jsonl(tmp_path / "new/out.jsonl")) == ROWS
    assert json.loads((tmp_path / "out.JSON").read_text()) == ROWS


def test_a_table_has_a_line_per_window(tmp_path) -> None:
    write_answers(tmp_path / "out.csv", ROWS)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line["qid"], line["rank"], float(line["start"]), float(line["score"])) for line in lines] == [
        ("7", "1", 3601.25, 0.91), ("7", "2", 0.0, 0.25), ("8", "1", 1.0, 1.0)
    ]  # fmt: skip
    assert lines[0]["query"] == ROWS[0]["query"]


def test_subtitles_are_numbered_in_order_of_time(tmp_path) -> None:
    write_answers(tmp_path / "out.srt", ROWS)
    cues = re.findall(r"(\d+)\n(\S+) --> (\S+)\n(.*)\n(?:\n|\Z)", (tmp_path / "out.srt").read_text())
    assert cues == [
        ("1", "00:00:00,000", "00:00:02,000", 'a "dog", runs fast (0.25)'),
        ("2", "00:00:01,000", "00:00:03,000", "8 (1.00)"),
        ("3", "01:00:01,250", "01:00:05,500", 'a "dog", runs fast (0.91)'),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.9996, "00:00:01,000"), (59.9994, "00:00:59,999"), (36000, "10:00:00,000")]
)
def test_a_clocks_milliseconds_carry(seconds, text) -> None:
    assert clock(seconds) == text


def test_another_ending_is_refused_with_those_there_are(tmp_path) -> None:
    with pytest.raises(DataError, match=f"out.txt: answers are written as {', '.join(ENDINGS[:-1])} or .srt"):
        write_answers(tmp_path / "out.txt", ROWS)
