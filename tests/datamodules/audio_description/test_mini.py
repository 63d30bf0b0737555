"""The generator: same seed, same bytes; splits that share nothing; sentences that agree with the tracks."""

import csv
import errno
import json
import multiprocessing
import os
import re
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules.audio_description.mini.generator import Files, MiniSettings, write_mini
from datamodules.audio_description.mini.sounds import COLUMNS, KEYS, RATE, ROWS, keypad_tones, log_mel
from datamodules.errors import DataError
from datamodules.mini import store
from datamodules.mini.digits import WORDS, digit_images, digit_indices
from datamodules.mini.store import build_once, settings_from
from tests.datamodules.audio_description.small import FILES, SETTINGS, generate, hashes


def test_same_seed_same_bytes_other_seed_other_bytes(pristine, tmp_path):
    again, other = generate(tmp_path / "a"), generate(tmp_path / "b", seed=1)
    assert hashes(again) == hashes(pristine)
    differ = {name for name, value in hashes(other).items() if value != hashes(pristine)[name]}
    assert {FILES.video, FILES.audio, FILES.train, FILES.eval} <= differ


def test_an_existing_set_is_used_again(pristine):
    before = {path: path.stat().st_mtime_ns for path in pristine.iterdir()}
    assert generate(pristine.parent) == pristine
    assert {path: path.stat().st_mtime_ns for path in pristine.iterdir()} == before


def test_an_existing_set_is_used_from_a_read_only_folder(pristine, monkeypatch):
    """Nothing is locked, made or removed if the folder is there already."""
    names = {path.name for path in pristine.parent.iterdir()}

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    for owner, name in ((store, "FileLock"), (store.shutil, "rmtree"), (Path, "mkdir"), (Path, "open"), (os, "open")):
        monkeypatch.setattr(owner, name, refuse)
    found = generate(pristine.parent)
    monkeypatch.undo()
    assert found == pristine and {path.name for path in pristine.parent.iterdir()} == names


OUTSIDE = Files("real.h5", "sounds.h5", "train.csv", "eval.csv", "split.json")


@pytest.mark.parametrize("field", list(asdict(OUTSIDE)))
@pytest.mark.parametrize("form", ["{folder}/real.h5", "../real.h5", "below/real.h5", "./real.h5", "..", ""])
def test_a_path_as_file_name_is_refused_before_anything_is_written(tmp_path, field, form):
    """If it were used, an absolute or ../ name would replace the user's own file."""
    real, root = tmp_path / "real.h5", tmp_path / "generated"
    real.write_bytes(b"precious")
    name = form.format(folder=tmp_path)
    with pytest.raises(DataError, match="is not a plain file name") as stop:
        write_mini(
            root, MiniSettings(**SETTINGS), replace(OUTSIDE, **{field: name}), sounds="tones", speech_dir=None, seed=0
        )
    message = str(stop.value)
    assert repr(name) in message and "under data.root" in message and "scale=paper (data.mini=null)" in message
    assert real.read_bytes() == b"precious" and list(tmp_path.iterdir()) == [real]


@pytest.mark.parametrize("name", ["sounds.h5", "train.csv", "split.json", "oracle.csv", "meta.json"])
def test_one_name_for_two_files_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=rf"mini: {re.escape(name)} would be written twice"):
        write_mini(
            tmp_path, MiniSettings(**SETTINGS), replace(FILES, video=name), sounds="tones", speech_dir=None, seed=0
        )
    assert not list(tmp_path.iterdir())


def test_the_least_set_is_written(tmp_path):
    """One segment per split, no validation, and cues of a single key among the seeds."""
    for seed in range(5):
        folder = generate(tmp_path, seed=seed, train_movies=1, val_movies=0, test_movies=1, segments=1, keys=2)
        assert len((folder / "oracle.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("change", [{"picture_noise": 0.31}, {"seed": 1}])
def test_other_settings_get_another_folder(pristine, change):
    assert generate(pristine.parent, **change) != pristine


def test_no_image_is_in_two_splits():
    for seed in (0, 1):
        parts = [set(digit_indices(split, seed).tolist()) for split in ("train", "val", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 1797
        for split in ("train", "val", "test"):
            assert set(digit_images(split, seed)[1].tolist()) == set(range(10))


def test_no_movie_is_in_two_splits(pristine):
    split = json.loads((pristine / FILES.split).read_text())
    names = [name for part in split.values() for name in part]
    assert len(names) == len(set(names)) == 9
    assert {len(part) for part in split.values()} == {6, 1, 2}
    with h5py.File(pristine / FILES.video) as video, h5py.File(pristine / FILES.audio) as audio:
        assert set(video) == set(audio) == set(names)
        for name in names:
            assert video[name].dtype == audio[name].dtype == np.float16
            assert video[name].shape == audio[name].shape and video[name].shape[1] == 64


def test_files_have_the_traps_of_the_real_ones(pristine):
    raw = (pristine / FILES.train).read_bytes()
    with pytest.raises(UnicodeDecodeError):
        raw.decode("utf-8")
    rows = list(csv.DictReader(raw.decode("latin-1").splitlines()))
    assert any(not row["text"].strip() for row in rows)
    assert any(float(row["start"]) < 0 for row in rows)
    assert any(float(row["end"]) < float(row["start"]) for row in rows)
    keys = [(row["movie"], float(row["start"])) for row in rows]
    assert keys != sorted(keys)
    assert any(row["movie"].startswith("0") for row in rows)
    assert "sentence" in (pristine / FILES.eval).read_text().splitlines()[0]


def nearest(row: np.ndarray, examples: np.ndarray) -> int:
    return int(np.abs(examples - row.astype(np.float32)).sum(1).argmin())


def test_sentences_say_what_the_clean_tracks_show(tmp_path):
    """Without noise the nearest image and the nearest tone at the two onsets give the sentence, word for word."""
    folder = generate(tmp_path, picture_noise=0.0, tone_noise=0.001)
    pixels, labels = digit_images("test", 0)
    tones = np.stack([log_mel(keypad_tones(np.full(50, k), 1600, np.random.default_rng(0))).mean(0) for k in range(10)])
    test = json.loads((folder / FILES.split).read_text())["EVAL"]
    checked = 0
    with h5py.File(folder / FILES.video) as video, h5py.File(folder / FILES.audio) as audio:
        for row in csv.DictReader((folder / FILES.eval).open()):
            first, stop = int(float(row["start"]) * 5), int(np.ceil(float(row["end"]) * 5))
            assert SETTINGS["min_rows"] <= stop - first <= SETTINGS["max_rows"]
            sounding = np.flatnonzero(audio[row["movie"]][first:stop].max(1) > 0)  # rows of both tones
            if row["movie"] not in test:
                continue
            assert len(sounding) == 2 * SETTINGS["tone_rows"]
            answers = []
            for onset in first + sounding[[0, 2]]:
                answers.append(nearest(audio[row["movie"]][onset], tones))
                answers.append(labels[nearest(video[row["movie"]][onset], pixels.reshape(-1, 64))])
            assert row["sentence"] == "Key {} sounds as {} shows, then {} as {} shows.".format(
                *(WORDS[a] for a in answers)
            )
            checked += 1
    assert checked == 40


def test_a_tone_is_its_two_frequencies():
    for key, (row, column) in KEYS.items():
        wave = keypad_tones(np.array([key]), RATE, np.random.default_rng(key))[0]  # one second: a bin is one hertz
        loudest = np.sort(np.argsort(np.abs(np.fft.rfft(wave)))[-2:])
        assert loudest.tolist() == [ROWS[row], COLUMNS[column]]


def test_oracle_reads_clean_scenes_and_misses_some_noisy_ones(pristine):
    truth = {f"eval:{i}": row["sentence"] for i, row in enumerate(csv.DictReader((pristine / FILES.eval).open()))}
    oracle = {row["ann_id"]: row["text"] for row in csv.DictReader((pristine / "oracle.csv").open())}
    assert len(oracle) == 40  # the test split only
    right = np.mean([truth[name] == text for name, text in oracle.items()])
    assert 0.5 < right < 1.0


# Writing once


def _slow_write(root, started, seconds):
    def write(folder):
        (folder / "half").write_text("x")
        started.set()
        time.sleep(seconds)
        (folder / "whole").write_text("y")

    build_once(root, "set", {"a": 1}, write)


def test_a_killed_writer_leaves_nothing_that_is_taken_for_data(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    writer = context.Process(target=_slow_write, args=(tmp_path, started, 60))
    writer.start()
    assert started.wait(20)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert not any(path.is_dir() and not path.name.endswith(".partial") for path in tmp_path.iterdir())
    folder = build_once(tmp_path, "set", {"a": 1}, lambda path: (path / "whole").write_text("new"))
    assert [path.name for path in folder.iterdir()] == ["whole"]
    assert not list(tmp_path.glob("*.partial"))


def test_two_processes_at_once_write_once(tmp_path):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    first = context.Process(target=_slow_write, args=(tmp_path, started, 0.5))
    first.start()
    assert started.wait(20)
    folder = build_once(tmp_path, "set", {"a": 1}, lambda path: pytest.fail("written twice"))
    first.join()
    assert (folder / "whole").read_text() == "y"


def test_a_failed_writer_leaves_nothing(tmp_path):
    def fail(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_once(tmp_path, "set", {}, fail)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# Settings


@pytest.mark.parametrize(
    "change, message",
    [
        ({"picture_nois": 0.1}, "unknown setting 'picture_nois'. Did you mean 'picture_noise'"),
        ({"segments": None}, "segments is None, expected int"),
        ({"segments": 2.5}, "segments is 2.5, expected int"),
        ({"tone_noise": "loud"}, "tone_noise is 'loud', expected float"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(DataError, match=message):
        settings_from(MiniSettings, {**SETTINGS, **change})


def test_missing_settings_are_named():
    with pytest.raises(DataError, match="missing settings segments"):
        settings_from(MiniSettings, {name: value for name, value in SETTINGS.items() if name != "segments"})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"min_rows": 5}, "no room for two sounds of 3 rows"),
        ({"min_shot": 5}, "min_shot <= max_shot"),
        ({"digits": 1}, "digits=1 and keys=3 must be in 2..10"),
        ({"keys": 11}, "digits=4 and keys=11 must be in 2..10"),
        ({"train_movies": 0}, "at least one training movie"),
        ({"sounds": "songs"}, "sounds is 'songs', allowed: tones, speech"),
    ],
)
def test_impossible_scenes_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        generate(tmp_path, **change)
    assert not list(tmp_path.iterdir())


# Speech
