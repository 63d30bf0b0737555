"""Encodings by their marks, separators by the header, and the counts of what a test is of."""

import re

import pytest

from datamodules.errors import DataError
from datamodules.evaluated import Evaluated, added
from datamodules.formats.decoding import check_encoding, decoded
from datamodules.formats.separated import rows_of, separator_of

TEXT = "a,b\n1,caf\xe9\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_says_the_encoding_and_is_not_part_of_the_text(encoding):
    assert decoded("x", TEXT.encode(encoding)) == decoded("x", TEXT.encode(encoding), "cp1252") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_refused_with_its_name_and_read_when_named(encoding):
    data = TEXT.encode(encoding)
    with pytest.raises(DataError, match=f"x: every second byte .* {encoding}; convert it to utf-8"):
        decoded("x", data)
    assert decoded("x", data, encoding) == TEXT


def test_a_byte_that_does_not_fit_is_named_with_its_place_or_replaced():
    data = TEXT.encode("cp1252")
    expected = r"x: not utf-8 text: byte 0xe9 at position 9 (line 2, in 'a,b\n1,caf\\xe9\n'); --encoding=cp1252 reads"
    with pytest.raises(DataError, match=re.escape(expected)):
        decoded("x", data, setting="--encoding")
    assert decoded("x", data, errors="replace") == "a,b\n1,caf\ufffd\n"
    assert decoded("x", data, "cp1252") == TEXT


@pytest.mark.parametrize("name", ["utf-8", "cp1252", "gb18030", "UTF_16"])
def test_known_encodings(name):
    check_encoding(name)


@pytest.mark.parametrize("name", ["utf8x", "hex", "", "rot13"])
def test_unknown_encodings_are_refused(name):
    with pytest.raises(DataError, match=f"data.encoding: there is no encoding '{name}'"):
        check_encoding(name)


@pytest.mark.parametrize(
    "text, separator",
    [
        ("movie,text\n", ","),
        ("movie;text\n", ";"),
        ("movie\ttext, with a comma\n", "\t"),
        ('"movie"|"text"\n', "|"),
        ("\n\r\nmovie;a,b,c\n", ";"),  # the header fits, whatever has more cells
        ("a,b;c;d\n", ";"),  # nothing fits: what has most cells
        ("", ","),
    ],
)
def test_the_header_shows_the_separator(text, separator):
    assert separator_of(text, lambda names: "movie" in names) == separator


def test_rows_know_their_lines_and_quoted_cells_may_hold_anything():
    table = rows_of("x", 'movie;text\n\na;"b;\nc ""d"""\ne;f\n', lambda names: "movie" in names)
    assert table.rows == [{"movie": "a", "text": 'b;\nc "d"'}, {"movie": "e", "text": "f"}]
    assert table.lines == [3, 5] and table.columns == ["movie", "text"]


def test_counts_are_added_and_zeros_are_no_counts():
    assert added({"test": {"a": 1, "b": 0}}, {"test": {"a": 2}, "val": {}}) == {"test": {"a": 3}}


def test_a_test_of_all_samples_and_of_some():
    told = Evaluated("clips", {"train": 6513, "val": 497, "test": 2990}, "names", notes=("a note",))
    assert told.lines(2990) == ["tested on 2,990 clips (train 6,513, val 497); the split: names", "a note"]
    assert told.lines(64)[0] == "tested on 64 of the 2,990 clips (train 6,513, val 497); the split: names"
    assert told.record(64)["tested"] == 64 and told.record(64)["left_out"] == {}
