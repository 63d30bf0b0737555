"""Text with times as SubRip and WebVTT, read back by this project's reader."""

import pytest

from datamodules.audio_description.cues import Cue, read_cues
from tasks.common.cue_files import clock, srt, vtt

CUES = [(0.0, 1.0004, "A man & a dog < a horse."), (3599.9996, 7322.5, "So --- what?")]
EXPECTED = [Cue(0.0, 1.0, CUES[0][2]), Cue(3600.0, 7322.5, CUES[1][2])]


@pytest.mark.parametrize("ending", ["srt", "vtt"])
def test_what_is_written_is_read_back(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text(srt(CUES) if ending == "srt" else vtt(CUES, ["made --> by\nsomebody"]), encoding="utf-8")
    assert read_cues(path).cues == EXPECTED


def test_a_comment_cannot_be_taken_for_a_cue():
    assert vtt(CUES, ["a --> b\n\nc"]).startswith(
        "WEBVTT\n\nNOTE a -> b c\n\n00:00:00.000 --> 00:00:01.000\nA man &amp;"
    )


def test_milliseconds_are_rounded_into_seconds():
    assert clock(59.9996) == "00:01:00,000" and clock(3661.5, ".") == "01:01:01.500"
