"""What files of predictions may look like, and what is refused, with its lines."""

import csv
import io
import json
import re

import numpy as np
import pytest

from tasks.audio_description.metrics import recall_over_movies
from tasks.audio_description.predictions import read_predictions
from tasks.common.captions import score_captions
from tests.tasks.audio_description.predictions import FAST, HEADER, as_rows, refused, score, table, write


def test_an_empty_generation_is_a_wrong_answer_not_a_missing_row(tmp_path, capsys):
    rows = table((16,))
    for i, empty in ((1, ""), (3, "  "), (5, "nan")):
        rows[i][4] = empty
    found = score(write(tmp_path / "P.csv", rows), *FAST, "--scorers", "rougeL")
    assert found["total"]["sentences"] == 16 and found["total"]["exact"] == pytest.approx(100 * 5 / 16)
    blank = [[*row[:4], row[4] if i not in (1, 3, 5) else ""] for i, row in enumerate(rows)]
    assert found["total"]["R@1/16[rougeL]"] == pytest.approx(recall_over_movies(as_rows(blank))["R@1/16[rougeL]"])
    said = "text_gen is empty or nan: an empty answer, in lines 3 (movie 0000), 5 (movie 0000), 7 (movie 0000)"
    assert said in capsys.readouterr().err and said in found["notes"][0]


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        ("vid", "start_time", "end_time", "text", "generated"),
        ("movie", "start", "end_time", "sentence", "prediction"),
        (" movie ", "start", "end", "reference", "text_gen"),
    ],
)
def test_columns_may_have_other_names(tmp_path, header):
    rows = table((4,))
    usual = read_predictions(write(tmp_path / "a.csv", rows))
    other = read_predictions(write(tmp_path / "b.csv", rows, header))
    assert other.rows == usual.rows and list(other.columns.values()) == [name.strip() for name in header]


def test_of_several_names_the_more_particular_is_read(tmp_path):
    path = write(tmp_path / "P.csv", [["0010", "wrong", "right", "a"]], ("movie", "sentence", "text_gt", "text_gen"))
    assert read_predictions(path).rows[0]["reference"] == "right"


def test_movies_stay_text_and_columns_stand_in_any_order_among_others(tmp_path):
    header = ("", "text_gen", "imdb", "movie", "text_gt", "start")
    path = write(
        tmp_path / "P.csv", [[0, "a, b", "tt1", "0010", 'say "no"\nagain', 3], [1, "c", "tt1", "10", "d", 1.5]], header
    )
    rows = read_predictions(path).rows
    assert [(row["movie"], row["start"], row["generated"], row["reference"]) for row in rows] == [
        ("0010", 3.0, "a, b", 'say "no"\nagain'),
        ("10", 1.5, "c", "d"),
    ]


def test_damaged_bytes_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "P.csv"
    lines = [
        b"\xef\xbb\xbfmovie,start,text_gt,text_gen",
        b"0010,1,a caf\x80 burns,a man",
        b"",
        b"0010,2,he nods,he nods",
        b"",
    ]
    path.write_bytes(b"\r\n".join(lines))
    found = read_predictions(path)
    assert [row["reference"] for row in found.rows] == ["a caf\ufffd burns", "he nods"]
    assert "text_gt has bytes that are not UTF-8 (now U+FFFD) in line 2 (movie 0010)" in found.notes[0]


def test_rows_are_taken_in_time_order_and_without_times_in_the_order_of_the_file(tmp_path, capsys):
    rows = table((20,))
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(20)]
    in_order = score(write(tmp_path / "P.csv", rows), *FAST)["total"]
    assert score(write(tmp_path / "P.csv", shuffled), *FAST)["total"] == in_order
    header = ("vid", "text_gt", "text_gen")  # as CRITIC's files
    capsys.readouterr()
    assert score(write(tmp_path / "P.csv", [[row[0], *row[3:]] for row in rows], header), *FAST)["total"] == in_order
    assert "no start: the rows of a movie are taken to be in time order" in capsys.readouterr().err
    found = score(write(tmp_path / "P.csv", [[row[0], *row[3:]] for row in shuffled], header), *FAST)["total"]
    assert found != in_order
    empty = [[row[0], "", "", *row[3:]] for row in rows]  # the columns are there, and nothing in them
    assert score(write(tmp_path / "P.csv", empty), *FAST)["total"] == in_order


def test_a_runs_own_predictions_get_the_scores_that_the_run_reports(tmp_path):
    rows = [row | {"ann_id": f"mad:{i}"} for i, row in enumerate(as_rows(table((20, 17))))]
    for i in (4, 5, 6):
        rows[i] |= {"start": rows[3]["start"], "end": rows[3]["end"]}
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[::-1]))
    found = score(path, "--metrics", "rouge_l", "cider", "--scorers", "rougeL")["total"]
    ids = {row["ann_id"]: row for row in sorted(rows, key=lambda row: (row["movie"], row["start"]))}
    expected = score_captions(
        {name: row["generated"] for name, row in ids.items()}, {name: [row["reference"]] for name, row in ids.items()}
    )
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert {name: found[name] for name in found if "R@" in name} == recall_over_movies(rows)


def test_json_lines_may_say_null_and_number_their_movies(tmp_path, capsys):
    path = tmp_path / "P.jsonl"
    rows = [{"movie": 7, "start": 1, "reference": "he nods", "generated": None}]
    rows += [{"movie": 7, "start": 0.5, "reference": "x", "generated": "x"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = read_predictions(path)
    assert [(row["movie"], row["generated"]) for row in found.rows] == [("7", "x"), ("7", "")]
    assert "generated is empty or nan: an empty answer, in line 1 (movie 7)" in found.notes[0]


def test_two_sentences_of_one_start_are_both_scored_and_named(tmp_path, capsys):
    rows = table((5,))
    rows[3][1] = rows[2][1]
    assert score(write(tmp_path / "P.csv", rows), *FAST)["total"]["sentences"] == 5
    assert "the same movie and start as an earlier row in line 5 (movie 0000); all count" in capsys.readouterr().err


AS_IT_IS = {
    "semicolons": ("P.csv", lambda rows: dumped(rows, ";").encode(), (), "separated by a semicolon (';')"),
    "tabs": ("P.tsv", lambda rows: dumped(rows, "\t").encode(), (), "separated by a tab"),
    "UTF-16": ("P.csv", lambda rows: dumped(rows, ",").encode("utf-16"), (), ""),
    "UTF-8 with a mark": ("P.csv", lambda rows: dumped(rows, ",").encode("utf-8-sig"), (), ""),
    "cp1252": ("P.csv", lambda rows: dumped(rows, ",").encode("cp1252"), ("--encoding", "cp1252"), ""),
    "a JSON list": ("P.json", lambda rows: json.dumps(as_rows(rows)).encode(), (), ""),
    "JSON lines in capitals": ("P.JSONL", lambda rows: "\n".join(map(json.dumps, as_rows(rows))).encode(), (), ""),
    "JSON lines called json": ("P.json", lambda rows: "\n".join(map(json.dumps, as_rows(rows))).encode(), (), ""),
}


def dumped(rows, separator):
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([HEADER, *rows])
    return out.getvalue()


@pytest.mark.parametrize("kind", AS_IT_IS)
def test_a_table_is_read_as_it_is(tmp_path, capsys, kind):
    file, content, options, note = AS_IT_IS[kind]
    rows = table((16,))
    rows[0][3:] = ["a café, burning", "un café; rouge"]
    usual = read_predictions(write(tmp_path / "usual.csv", rows)).rows
    (tmp_path / file).write_bytes(content(rows))
    found = read_predictions(tmp_path / file, *options[1:])
    assert found.rows == usual and any(note in one for one in found.notes or [""])
    fast = ("--metrics", "rouge_l", "--scorers", "rougeL")
    expected = score(tmp_path / "usual.csv", *fast)["total"]
    assert score(tmp_path / file, *fast, *options)["total"] == expected


def test_an_encoding_that_nobody_knows_is_refused(tmp_path, capsys):
    said = refused(capsys, write(tmp_path / "P.csv", table((2,))), "--encoding", "cp12522")
    assert "--encoding: there is no encoding 'cp12522'. Did you mean 'cp1252'?" in said


@pytest.mark.parametrize("per_movie", [True, False])
def test_the_cider_of_one_sentence_says_why_it_is_zero(tmp_path, capsys, per_movie):
    metrics = ("--metrics", "cider", "--scorers")
    found = score(write(tmp_path / "P.csv", table((1,))), *metrics)
    said = "CIDEr of a single id (0000) is 0 by its definition"
    assert said in capsys.readouterr().err and any(said in note for note in found["notes"])
    assert {value for name, value in found["total"].items() if name.startswith("cider")} == {0.0}
    options = ("--per-movie",) if per_movie else ()
    found = score(write(tmp_path / "P.csv", table((1, 3, 1))), *metrics, *options)
    notes = [note for note in found["notes"] if "CIDEr" in note]
    assert len(notes) == per_movie and all("so it is of 2 movies: 0000, 0020" in note for note in notes)


# -- what is refused --------------------------------------------------------------------------------------------------


def change(column, value, *at):
    return lambda rows: [
        [value if i in at and name == column else cell for name, cell in zip(HEADER, row, strict=True)]
        for i, row in enumerate(rows)
    ]


WRONG = {
    "empty reference": (
        change("text_gt", " ", 1, 4),
        "text_gt is empty or nan",
        "lines 3 (movie 0000), 6 (movie 0000)",
    ),
    "nan reference": (change("text_gt", "nan", 2), "text_gt is empty or nan", "line 4 (movie 0000)"),
    "many": (change("text_gt", "", *range(11)), "lines 2 (movie 0000), 3", "9 (movie 0000) and 3 more"),
    "no movie": (change("movie", "", 3), "movie is empty or nan and must be a movie: line 5"),
    "words as start": (
        change("start", "soon", 1),
        "start must be a number of seconds, got 'soon' in line 3 (movie 0000)",
    ),
    "infinite end": (change("end", "inf", 1), "end must be a number of seconds, got 'inf' in line 3"),
    "some starts": (change("start", "", 1, 2), "start is empty, and is not in other rows: lines 3 (movie 0000), 4"),
    "some nan": (change("start", "nan", 1), "start is empty, and is not in other rows: line 3 (movie 0000)"),
    "row twice": (
        lambda rows: [*rows, rows[4], rows[5]],
        "the same movie, start and reference as an earlier row: lines 18 (movie 0000), 19 (movie 0000); every",
    ),
    "comma": (
        lambda rows: [rows[0], [*rows[1], " away"]],
        "line 3: 6 cells, but the header has 5; a sentence with a comma",
    ),
    "short row": (lambda rows: [rows[0], rows[1][:4]], "line 3: 4 cells, but the header has 5"),
    "no rows": (lambda rows: [], "P.csv: has no rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, name):
    changed, *messages = WRONG[name]
    said = refused(capsys, write(tmp_path / "P.csv", changed(table((16,)))))
    assert all(message in said for message in messages), said


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "has no rows"),
        (b"\n\n", "has no rows"),
        (b"movie,start,text_gt\n0010,1,a\n", "no column text_gen or generated or prediction; its columns are 'movie'"),
        (
            b"movie,text_gt,text_gne\n0010,a,b\n",
            "no column text_gen or generated or prediction; .* did you mean 'text_gne'",
        ),
        (
            b"movie;text_gt;text_gne\n0010;a;b\n",
            "no column text_gen or generated or prediction; its columns are 'movie', 'text_gt', 'text_gne'; did",
        ),
        (b"movie;text_gt;text_gen\n0010;a;b;c\n", r"4 cells, but the header has 3 \(separated by a semicolon"),
        (b"movie,text_gt,text_gen,movie\n0010,a,b,c\n", "line 1: column 'movie' is there twice"),
        (b'movie,text_gt,text_gen\n0010,a,b\n0010,"a,b\n0010,c,d\n', "line 3 or after: not csv"),
        ("movie,text_gt,text_gen\n0010,a,b\n".encode("utf-16-be"), "to be utf-16-be; --encoding=utf-16-be reads it"),
        (b"movie,text_gt,text_gen\n0010,a,\0b\n", "not a csv file: it has zero bytes"),
    ],
)
def test_files_that_are_no_table_are_named(tmp_path, capsys, content, message):
    path = tmp_path / "P.csv"
    path.write_bytes(content)
    said = refused(capsys, path)
    assert "P.csv" in said and re.search(message, said)


def test_references_without_a_word_are_refused(tmp_path, capsys):
    path = write(tmp_path / "P.csv", change("text_gt", "...", 0)(table((1,))))
    assert "the references of all 1 captions are empty, or punctuation alone" in refused(capsys, path)


@pytest.mark.parametrize(
    "lines, message",
    [
        ('{"movie": "a"', "line 1: not JSON"),
        ("[" * 100_000, "(lists in lists, too deep to be read)"),
        ("", "has no rows"),
        (
            '{"movie": "a", "reference": "x", "generated": "y"}\n{"movie": "a", "reference": "x"}',
            "no key 'generated', ",
        ),
        ('{"movie": "a", "reference": "x", "generated": 5}', "generated must be text, got 5 in line 1 (movie a)"),
        ('{"movie": "a", "reference": ["x"], "generated": "y"}', "reference must be text, got ['x'] in line 1"),
        ('{"movie": "a", "reference": NaN, "generated": "y"}', "reference is empty or nan"),
        ('{"movie": null, "reference": "x", "generated": "y"}', "movie is empty or nan"),
        (
            '{"movie": "a", "start": [1], "reference": "x", "generated": "y"}',
            "start must be a number of seconds, got [1]",
        ),
    ],
)
def test_json_lines_that_cannot_be_scored_are_named(tmp_path, capsys, lines, message):
    path = tmp_path / "P.jsonl"
    path.write_text(lines)
    assert message in refused(capsys, path)


def test_files_that_are_not_there_are_named(tmp_path, capsys):
    assert "nowhere.csv: not a readable file (No such file or directory)" in refused(capsys, tmp_path / "nowhere.csv")
    assert "nowhere.jsonl: not a readable file (No such" in refused(capsys, tmp_path / "nowhere.jsonl")
    assert "not a readable file (Is a directory)" in refused(capsys, tmp_path)
