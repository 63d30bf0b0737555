"""Descriptions as WebVTT, SubRip and tables, read back, with what is to be said of them."""

import csv

import pytest

from datamodules.audio_description.cues import read_cues
from datamodules.errors import DataError
from tasks.audio_description.describer import Description
from tasks.audio_description.description_files import COLUMNS, check_ending, write_descriptions
from tasks.audio_description.predictions import read_predictions

FOUND = [
    Description(1.0, 3.5, "Short...", "Short, and then it goes on.", "shortened"),
    Description(4.0, 5.0, "A, b & c", "A, b & c", ""),
]


@pytest.mark.parametrize("ending", ["srt", "vtt", "VTT"])
def test_players_files_hold_times_and_texts(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    write_descriptions(path, "a", FOUND, ["two windows"])
    assert [tuple(cue) for cue in read_cues(path).cues] == [(one.start, one.end, one.text) for one in FOUND]
    notes = [line for line in path.read_text().splitlines() if line.startswith("NOTE")]
    assert notes == (
        [] if ending == "srt" else ["NOTE two windows", "NOTE shortened at 00:00:01.000: " + FOUND[0].full_text]
    )


def test_a_table_has_both_texts_and_is_scored_beside_references(tmp_path):
    path = tmp_path / "a.csv"
    write_descriptions(path, "movie, the", FOUND)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and rows[0]["movie"] == "movie, the"
    assert (rows[0]["text_gen"], rows[0]["full_text"], rows[0]["note"]) == FOUND[0][2:]
    assert rows[1]["words_per_second"] == "4.00"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerows([[*COLUMNS, "text_gt"], *([*row.values(), "x"] for row in rows)])
    assert [row["generated"] for row in read_predictions(path).rows] == [one.text for one in FOUND]


def test_other_endings_and_folders_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt: descriptions are written as \.vtt, \.srt or \.csv"):
        check_ending(tmp_path / "a.txt")
    (tmp_path / "b.vtt").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        check_ending(tmp_path / "b.vtt")
