"""Annotations with any separator, encoding or mark, and as JSON: read as they are, or refused for the right reason."""

import csv
import io
import json

import pytest

from datamodules.audio_description.annotations import read_annotations
from datamodules.errors import DataError

AS_IT_IS = {
    "semicolons": ("a.csv", lambda rows: as_csv(rows, ";").encode(), "utf-8"),
    "tabs": ("a.tsv", lambda rows: as_csv(rows, "\t").encode(), "utf-8"),
    "UTF-16": ("a.csv", lambda rows: as_csv(rows, ",").encode("utf-16"), "utf-8"),
    "UTF-8 with a mark": ("a.csv", lambda rows: as_csv(rows, ",").encode("utf-8-sig"), "utf-8"),
    "cp1252": ("a.csv", lambda rows: as_csv(rows, ",").encode("cp1252"), "cp1252"),
    "a JSON list": ("a.json", lambda rows: json.dumps(as_dicts(rows)).encode(), "utf-8"),
    "JSON lines": ("a.JSONL", lambda rows: "".join(json.dumps(row) + "\n" for row in as_dicts(rows)).encode(), "utf-8"),
}
HEAD = ["movie", "start", "end", "text"]
TEXTS = [
    ["0010", "1.5", "3.0", "un café, rouge"],
    ["0007", "2.0", "4.25", 'he says "no"; then'],
    ["0007", "9.0", "8.0", "x"],
]


def as_csv(rows, separator):
    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([HEAD, *rows])
    return out.getvalue()


def as_dicts(rows):
    return [dict(zip(HEAD, row, strict=True)) for row in rows]


@pytest.mark.parametrize("kind", AS_IT_IS)
def test_annotations_are_read_as_they_are(tmp_path, kind):
    file, content, encoding = AS_IT_IS[kind]
    (tmp_path / file).write_bytes(content(TEXTS))
    table = read_annotations(tmp_path / file, encoding=encoding)
    assert table[HEAD].to_numpy().tolist() == [
        ["0007", 2.0, 4.25, 'he says "no"; then'], ["0010", 1.5, 3.0, "un café, rouge"]]  # fmt: skip
    assert table["ann_id"].tolist() == ["a:1", "a:0"]


def test_what_is_wrong_with_a_table_of_semicolons_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("movie;start;end;texts\n0010;1;2;a\n")
    with pytest.raises(
        DataError, match="no column text or sentence or text_gt; its columns are movie, start, end, texts"
    ):
        read_annotations(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("movie;start;end;text\n0010;1;2;a;b\n")
    with pytest.raises(DataError, match=r"not a readable csv file \(its cells are separated by a semicolon \(';'\)\)"):
        read_annotations(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("movie;start;end;text\n0010;1,5;2,5;a\n")
    with pytest.raises(DataError, match=r"the first is row 0: '1,5' \(a decimal point is expected, not a comma\)"):
        read_annotations(tmp_path / "a.csv")
