"""Subtitle files as they are found: forms, encodings, order, markup; what is left out is counted."""

import re
from pathlib import Path

import pytest

from datamodules.audio_description.cues import Cue, read_cues
from datamodules.errors import DataError

SRT = "1\n00:00:01,000 --> 00:00:02,500\nWhere were\nyou?\n\n2\n00:01:03,250 --> 01:00:04,000\nHome.\n"
EXPECTED = [Cue(1.0, 2.5, "Where were you?"), Cue(63.25, 3604.0, "Home.")]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_encoding_and_line_end_gives_the_same_cues(tmp_path, encoding, end):
    text = SRT.replace("Home.", "Café déjà vu.").replace("\n", end)
    read = read_cues(written(tmp_path / "a.srt", text, encoding))
    assert read.cues == [EXPECTED[0], EXPECTED[1]._replace(text="Café déjà vu.")]
    assert len(read.notes) == (encoding == "cp1252")


def test_webvtt_with_notes_styles_identifiers_positions_and_no_hours(tmp_path):
    text = (
        "WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE nothing\nto read\n\nintro\n"
        "00:01.000 --> 00:02.500 align:start position:10%\n<v Anna>Where <i>were</i>\n<00:02.000>you?\n\n"
        "01:03.250 --> 01:00:04.000\n{\\an8}Home.\n\n5:00.000 --> 5:01.000\na &lt; b &amp; c\n"
    )
    assert read_cues(written(tmp_path / "a.vtt", text)).cues == [
        EXPECTED[0], EXPECTED[1], Cue(300.0, 301.0, "a < b & c")
    ]  # fmt: skip


def test_cues_without_blank_lines_or_without_text(tmp_path):
    text = "1\n00:00:01,0 --> 00:00:02,5\nOne.\n2\n00:00:03 --> 00:00:04\n\n3\n00:00:05,000 --> 00:00:06,000\nThree.\n"
    assert read_cues(written(tmp_path / "a.srt", text)).cues == [
        Cue(1.0, 2.5, "One."), Cue(3.0, 4.0, ""), Cue(5.0, 6.0, "Three.")
    ]  # fmt: skip


def test_unsorted_overlapping_and_reversed_cues_are_sorted_and_counted(tmp_path):
    text = "00:05.000 --> 00:09.000\nb\n\n00:01.000 --> 00:06.000\na\n\n00:07.000 --> 00:07.000\nc\n\n"
    read = read_cues(written(tmp_path / "a.vtt", text + "00:08.000 --> 00:02.000\nd\n"))
    assert [cue.text for cue in read.cues] == ["a", "b"]
    assert any("2 cues end before they begin, or at once (left out)" in note for note in read.notes)
    assert any("1 cues are not in the order of time (sorted)" in note for note in read.notes)


@pytest.mark.parametrize(
    "text, sound",
    [
        ("[door slams]", True),
        ("(MUSIC)", True),
        ("♪ la la ♪", True),
        ("[on radio] Hello.", False),
        ("Hello.", False),
        ("[ANNA] Where were you? [door slams]", False),
        ("(sighs) I love you. (sobs)", False),
        ("#1 fan of #2 #", False),
        ("♪ la ♪ Stop it! ♪ la ♪", False),
        ("[sighs] [door slams]", True),
        ("- [laughs] - (sobs)", True),
        ("ANNA: [sighs]", True),
        ("...", False),
        ("# la la #", True),
    ],
)
def test_a_cue_of_a_sound_is_told_from_speech(text, sound):
    assert Cue(0.0, 1.0, text).is_sound == sound


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "no cue in it"),
        (b"[Script Info]\nDialogue: 0,0:00:01.00,0:00:02.00,,Hello\n", "ffmpeg -i OTHER movie.srt"),
        (b"1\n00:00:0x,000 --> 00:00:02,000\na\n\n2\n00:00:03,000 --> soon\nb\n", "2 times cannot be read: line 2 ("),
        (b"1\n00:00:02,000 --> 00:00:01,000\na\n", "none of its 1 cues ends after it begins"),
        (b"1\n" + b"9" * 400 + b":00:02,000 --> 00:00:01,000\na\n", "1 times cannot be read: line 2"),
        ("00:00:01,000 --> 00:00:02,000\na\n".encode("utf-16-le"), "need a byte order mark"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, content, said):
    path = tmp_path / "movie.srt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read_cues(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.srt: not a readable subtitle file"):
        read_cues(tmp_path / "none.srt")
