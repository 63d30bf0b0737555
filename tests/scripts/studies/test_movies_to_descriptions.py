"""The study from movie files to descriptions: its files are as they say, and its recorded answers beat the floors."""

import csv
import json
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules.audio_description.cues import read_cues
from datamodules.audio_description.gaps import GapRules, windows_between
from datamodules.audio_description.mini.sounds import COLUMNS, KEYS, RATE, ROWS
from datamodules.audio_description.movie_file import looked_at
from datamodules.audio_description.sound_track import resampled
from datamodules.formats.clip_frames import ClipFrames
from datamodules.mini.digits import WORDS, digit_images
from scripts.studies.described_movies import FPS, SIZE, Sizes, captioned, write_movies
from scripts.studies.movies_to_descriptions import SHOWN, main, said, table, words_right
from tests.programs import ROOT
from tests.tiers import slow

SIZES = Sizes(train=1, val=0, test=1, rows=150)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "made"
    write_movies(folder, SIZES, seed=1)
    return folder


def described(made: Path, name: str) -> list[dict]:
    with (made / f"descriptions/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def key_at(wave: np.ndarray) -> tuple[int, float]:
    """The key whose two frequencies are strongest, and by which factor they are stronger than those of the next."""
    spectrum = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / RATE)
    power = {f: spectrum[np.abs(hertz - f) < 6].sum() for f in (*ROWS, *COLUMNS)}
    levels = {key: power[ROWS[r]] * power[COLUMNS[c]] for key, (r, c) in KEYS.items()}
    best = sorted(levels, key=levels.get)
    return best[-1], levels[best[-1]] / levels[best[-2]]


def test_the_gaps_of_the_subtitles_are_the_described_scenes_to_the_millisecond(made):
    for name in ("train001", "test002"):
        movie = looked_at(made / f"movies/{name}.mp4", sound=True)
        assert movie.duration == SIZES.rows / FPS == 30.0
        cues = read_cues(made / f"subtitles/{name}.srt").cues
        windows = windows_between(cues, movie.duration, GapRules())
        rows = described(made, name)
        assert len(rows) == len(windows) >= 4
        np.testing.assert_allclose(windows, [(float(row["start"]), float(row["end"])) for row in rows], atol=1e-6)


def test_the_keys_of_a_description_sound_in_its_scene_of_the_file(made):
    """Read from the decoded AAC: in each half, the clearest tone of all stretches of 0.4 s is the key that is named."""
    wave = np.concatenate([part.to_ndarray()[0] for part in resampled(made / "movies/test002.mp4", RATE)])
    for row in described(made, "test002"):
        first, stop = round(float(row["start"]) * FPS), round(float(row["end"]) * FPS)
        named = [WORDS.index(word) for word in said(row["text"])][::2]
        half = first + (stop - first) // 2
        for (begin, end), key in zip([(first, half), (half, stop)], named, strict=True):
            heard = [key_at(wave[row * RATE // FPS : (row + 2) * RATE // FPS]) for row in range(begin, end - 1)]
            assert max(heard, key=lambda one: one[1])[0] == key


def test_the_pictures_of_a_file_are_noisy_digits_that_change(made):
    pictures = np.stack(list(ClipFrames(made / "movies/train001.mp4", 1 / FPS)))
    assert pictures.shape == (SIZES.rows, SIZE, SIZE, 3)
    step = np.abs(np.diff(pictures.astype(int), axis=0)).mean((1, 2, 3))
    assert step.min() > 2 and step.max() > 1.5 * np.median(step)


def test_no_handwriting_of_the_test_is_in_training_pictures_and_sentences_name_the_digit():
    frames, sentences, kinds = captioned(40, digit_images("train", 1), np.random.default_rng(0))
    assert frames.shape == (40, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert [sentence.split()[0] for sentence in sentences] == [WORDS[kind] for kind in kinds]
    train, test = ({image.tobytes() for image in digit_images(split, 1)[0]} for split in ("train", "test"))
    assert not train & test


def test_the_same_seed_gives_the_same_texts_and_pictures(made, tmp_path):
    write_movies(tmp_path / "again", Sizes(train=1, val=0, test=0, rows=150), seed=1)
    for name in ("subtitles/train001.srt", "descriptions/train001.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes()
    with av.open(str(tmp_path / "again/movies/train001.mp4")) as one, av.open(str(made / "movies/train001.mp4")) as two:
        for first, second in zip(one.demux(video=0), two.demux(video=0), strict=True):
            assert bytes(first) == bytes(second)


def test_words_are_counted_at_their_place():
    text = "Key five sounds as seven shows, then nine as two shows."
    rows = [{"reference": text, "generated": other} for other in (text, text.replace("nine", "one"), "", "Key five.")]
    assert words_right(rows) == pytest.approx(100 * (4 + 3 + 0 + 1) / 16)


def test_the_recorded_answers_beat_both_floors_clearly_and_stand_on_the_page():
    result = json.loads((ROOT / "docs/results/movies_to_descriptions.json").read_text(encoding="utf-8"))
    constant, blind, *answers = result["rows"]
    assert answers and "WORK" in result["preparation"]
    for row in answers:
        for name in ("cider", "exact", "words"):
            floor = max(constant["scores"][name], blind["scores"].get(name, 0.0))
            assert row["scores"][name] > max(2 * floor, floor + 30)
        assert row["scores"]["rouge_l"] > max(constant["scores"]["rouge_l"], blind["scores"]["rouge_l"]) + 15
        assert row["over_dialogue"] == row["scenes_without_one"] == 0
        assert row["descriptions"] == result["scenes"] and row["as_in_training"] > 95
    assert set(SHOWN) == set(constant["scores"])
    page = (ROOT / "docs/results/movies_to_descriptions.md").read_text(encoding="utf-8")
    assert table(result) in page


@pytest.mark.parametrize("experiment", [slow("madv2_baseline")])
def test_the_whole_study_in_small(tmp_path, capsys, experiment):
    """Every command of the chain; too little is trained to be scored."""
    sizes = ["--movies", "2", "1", "1", "--rows", "150", "--pictures", "256", "--clip-steps", "4", "--steps", "4"]
    out = tmp_path / "out.json"
    main(["--work", str(tmp_path / "work"), *sizes, "--experiments", experiment, "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["rows"][2]["over_dialogue"] == result["rows"][2]["scenes_without_one"] == 0
    assert result["rows"][2]["as_in_training"] == 100.0 and str(tmp_path / "work") not in out.read_text()
    assert "| a model without input |" in capsys.readouterr().out
