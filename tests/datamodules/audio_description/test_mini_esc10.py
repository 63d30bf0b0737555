"""Environmental sounds on the sound track: what a description says, what is heard in which split, what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from datamodules.audio_description.mini.subtitles import write_mini_subtitles
from datamodules.errors import DataError
from datamodules.esc10 import SOUNDS
from tests.datamodules.audio_description.small import FILES, generate, read_rows
from tests.datamodules.small_esc10 import write_esc10

SMALL = {"sounds": "esc10", "train_movies": 2, "test_movies": 1, "segments": 8, "keys": 10}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return write_esc10(tmp_path_factory.mktemp("esc10"))


@pytest.fixture(scope="module")
def made(clips, tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("data"), esc10_dir=str(clips), **SMALL)


def test_descriptions_name_the_sounds_and_no_recording_is_heard_in_two_splits(made):
    used = json.loads((made / "meta.json").read_text())["recordings"]
    ids = {split: {name.split("-")[1] for name in names} for split, names in used.items()}
    assert ids["train"] and not (ids["train"] & ids["val"] or ids["test"] & (ids["train"] | ids["val"]))
    texts = [row[3] for row in read_rows(made / FILES.eval)[1:]]
    assert {text.split()[2] for text in texts} <= set(SOUNDS.values())
    assert all(text.startswith("Sound of ") and text.endswith(" shows.") for text in texts)
    truth = {f"eval:{number}": text for number, text in enumerate(texts)}
    oracle = read_rows(made / "oracle.csv")[1:]  # most of the tones are heard in training, and then told apart
    assert sum(truth[name].split()[2] == text.split()[2] for name, text in oracle) > 0.6 * len(oracle)


def test_subtitles_name_the_sound_and_not_the_digit(made, tmp_path):
    lines = read_rows(write_mini_subtitles(tmp_path, made, [FILES.train, FILES.eval], "lines.csv"))[1:]
    assert {line[3].split()[-1] for line in lines} <= {f"{word}." for word in SOUNDS.values()}


def test_a_clip_that_cannot_be_decoded_stops_the_generation_and_leaves_nothing(clips, tmp_path):
    broken = Path(shutil.copytree(clips, tmp_path / "copy"))
    (broken / "rain" / "1-7000-A.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match="1-7000-A.wav cannot be decoded"):
        generate(tmp_path / "data", esc10_dir=str(broken), **SMALL)
    assert not [path for path in (tmp_path / "data").glob("*") if path.is_dir()]


def test_what_is_needed_is_said(clips, tmp_path):
    with pytest.raises(DataError, match="sounds=esc10 needs esc10_dir, a folder of ESC-10"):
        generate(tmp_path, sounds="esc10")
    with pytest.raises(DataError, match="min_rows=7 has no room for two sounds of 4 rows"):
        generate(tmp_path, sounds="esc10", esc10_dir=str(clips), min_rows=7)
