"""The generator: same seed, same bytes; splits that share nothing; sentences that agree with the tracks."""

import csv
import errno
import hashlib
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
from scipy.io import wavfile

from datamodules.errors import DataError
from datamodules.mini import store
from datamodules.mini.digits import WORDS, digit_images, digit_indices
from datamodules.mini.madv2 import Files, MiniSettings, write_mini
from datamodules.mini.sounds import COLUMNS, KEYS, RATE, ROWS, keypad_tones, log_mel, speech_files
from datamodules.mini.store import build_once, settings_from
from tests.datamodules.small import FILES, SETTINGS, generate

FSDD = Path(__file__).resolve().parents[3] / "shared" / "fsdd" / "recordings"


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


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
    """Nothing is locked, made or removed where the folder is there already."""
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
    """Written to, an absolute or ../ name would replace the user's own file."""
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
    """One segment a split, no validation, and cues of a single key among the seeds."""
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


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Twelve "recordings" a digit (index 0-11) of two speakers, each word a pair of sines."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    time = np.arange(RATE // 4) / RATE
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for index in range(12):
                wave = np.sin(2 * np.pi * (300 + 150 * digit) * time) + np.sin(2 * np.pi * (400 + index) * time)
                wavfile.write(folder / f"{digit}_{speaker}_{index}.wav", RATE, (9000 * wave).astype(np.int16))
    return folder


def test_speech_is_deterministic_and_split_by_recording(recordings, tmp_path):
    first, second = (
        generate(tmp_path / name, sounds="speech", speech_dir=str(recordings), train_movies=2) for name in "ab"
    )
    assert hashes(first) == hashes(second)
    used = json.loads((first / "meta.json").read_text())["recordings"]
    assert set(used["train"]).isdisjoint(used["val"]) and set(used["test"]).isdisjoint(used["train"] + used["val"])
    assert {int(name[:-4].split("_")[2]) for name in used["test"]} == {0, 1, 2, 3, 4}
    assert "A voice says" in (first / FILES.eval).read_text()


def test_other_recordings_get_another_folder(recordings, tmp_path):
    def make():
        return generate(tmp_path / "data", sounds="speech", speech_dir=str(recordings), train_movies=1)

    before = make()
    path = recordings / "3_ann_11.wav"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # same name, same size
    changed = make()
    path.write_bytes(content)
    assert make() == before != changed
    path.unlink()
    assert make() not in (before, changed)


def _empty(folder):
    for path in folder.iterdir():
        path.unlink()


def _slow_rate(folder):
    wavfile.write(folder / "4_ann_9.wav", 16000, np.ones(100, np.int16))


def _stereo(folder):
    wavfile.write(folder / "4_ann_9.wav", RATE, np.ones((100, 2), np.int16))


def _silent(folder):
    wavfile.write(folder / "4_ann_9.wav", RATE, np.zeros(100, np.int16))


def _cut(folder, missing):
    path = folder / "4_ann_9.wav"
    path.write_bytes(path.read_bytes()[:-missing])


def _no_test_sevens(folder):
    for index in range(5):
        for path in folder.glob(f"7_*_{index}.wav"):
            path.unlink()


@pytest.mark.parametrize(
    "damage, message",
    [
        (_empty, "no .wav files in"),
        (_no_test_sevens, "no test recordings of the digits 7"),
        (_slow_rate, "4_ann_9.wav: sample rate 16000 Hz, expected 8000 Hz"),
        (_stereo, "4_ann_9.wav: expected mono 16-bit, found 2 channels of 16 bits"),
        (_silent, "4_ann_9.wav: the recording is empty or silent"),
        (lambda folder: _cut(folder, 1), "4_ann_9.wav: truncated .* has 3999 bytes of sound, its header says 4000"),
        (lambda folder: _cut(folder, 2), "4_ann_9.wav: truncated .* has 3998 bytes of sound, its header says 4000"),
        (lambda folder: _cut(folder, 3000), "4_ann_9.wav: truncated .* has 1000 bytes of sound, its header says 4000"),
        (lambda folder: _cut(folder, 4000), "4_ann_9.wav: truncated .* has 0 bytes of sound, its header says 4000"),
        (lambda folder: (folder / "4_ann_9.wav").write_bytes(b"RIFFxx"), "4_ann_9.wav: not a readable wav file"),
        (lambda folder: (folder / "seven.wav").write_bytes(b""), "seven.wav: expected a name like 7_jackson_32.wav"),
    ],
)
def test_bad_recordings_are_named(recordings, tmp_path, damage, message):
    damage(recordings)
    with pytest.raises(DataError, match=message):
        generate(tmp_path / "data", sounds="speech", speech_dir=str(recordings), train_movies=1)
    assert not [path for path in (tmp_path / "data").glob("*") if path.is_dir()]


def test_speech_needs_a_folder_that_exists(tmp_path):
    with pytest.raises(DataError, match="sounds=speech needs speech_dir"):
        generate(tmp_path, sounds="speech")
    with pytest.raises(DataError, match="is not a folder.*sounds=tones"):
        generate(tmp_path, sounds="speech", speech_dir=str(tmp_path / "nowhere"))


@pytest.mark.skipif(not FSDD.is_dir(), reason=f"needs the Free Spoken Digit Dataset in {FSDD}")
def test_real_speech_is_read_by_the_oracle(tmp_path):
    found = speech_files(FSDD)
    assert [sum(map(len, found[split].values())) for split in ("train", "val", "test")] == [2400, 300, 300]
    folder = generate(tmp_path, sounds="speech", speech_dir=str(FSDD), train_movies=12)
    truth = {f"eval:{i}": row["sentence"] for i, row in enumerate(csv.DictReader((folder / FILES.eval).open()))}
    oracle = [(truth[row["ann_id"]], row["text"]) for row in csv.DictReader((folder / "oracle.csv").open())]
    assert np.mean([a.split()[3] == b.split()[3] for a, b in oracle]) > 0.7
