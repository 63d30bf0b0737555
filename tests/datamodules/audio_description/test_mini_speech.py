"""Spoken digits on the sound track: which recordings are heard where, and every recording that cannot be used."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from datamodules.audio_description.mini.sounds import RATE, speech_files
from datamodules.errors import DataError
from tests.datamodules.audio_description.small import FILES, generate, hashes

FSDD = Path(__file__).resolve().parents[4] / "shared" / "fsdd" / "recordings"


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Twelve "recordings" per digit (index 0-11) of two speakers, each word a pair of sines."""
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
