"""Texts that cannot be spoken in their window: kept and noted, shortened with a mark, or left out; never silently."""

import pytest

from datamodules.audio_description.gaps import GapRules
from tasks.audio_description.fitting import fitted, shortened

RULES = GapRules(words_per_second=2.0)
TEXT = "A man in a red coat runs, then he falls."


@pytest.mark.parametrize(
    "end, too_long, expected",
    [
        (5.0, "keep", (TEXT, "")),
        (4.9, "keep", (TEXT, "too long")),
        (4.9, "leave_out", ("", "too long")),
        (4.9, "shorten", ("A man in a red coat runs...", "shortened")),
        (2.0, "shorten", ("A man in a...", "shortened")),
        (0.4, "shorten", ("", "shortened")),
    ],
)
def test_a_text_of_ten_words(end, too_long, expected):
    assert fitted(TEXT, 0.0, end, RULES, too_long) == expected


@pytest.mark.parametrize("words", range(1, 10))
def test_a_shortened_text_has_no_more_words_than_allowed_and_begins_as_it_did(words):
    short = shortened(TEXT, words)
    assert len(short.split()) <= words and short.endswith("...")
    assert TEXT.startswith(short.removesuffix("..."))


def test_white_space_of_a_model_is_one_line():
    assert fitted(" a \n b ", 0.0, 5.0, RULES, "keep") == ("a b", "")
