"""ESC-10's clips: split by recording, decoded, cut to what sounds; and every folder and clip that cannot be used."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from datamodules.errors import DataError
from datamodules.esc10 import SOUNDS, excerpts, read_sound, sound_files
from tests.datamodules.small_esc10 import RATE, write_esc10

REAL = Path(__file__).resolve().parents[3] / "shared" / "esc10"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return write_esc10(tmp_path_factory.mktemp("esc10"))


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


def recordings(files: dict, split: str) -> set[str]:
    return {path.name.split("-")[1] for paths in files[split].values() for path in paths}


def no_recording_twice(files: dict) -> bool:
    train, val, test = (recordings(files, split) for split in ("train", "val", "test"))
    return not (train & val or train & test or val & test)


def test_every_clip_is_in_one_split_and_every_recording_too(pristine):
    files, again, other = (sound_files(pristine, seed) for seed in (0, 0, 1))
    assert files == again and files["test"] != other["test"]
    assert [{name: len(files[split][name]) > 0 for name in SOUNDS} for split in files] == [
        dict.fromkeys(SOUNDS, True)
    ] * 3
    assert sum(len(paths) for by_class in files.values() for paths in by_class.values()) == 60
    assert no_recording_twice(files) and no_recording_twice(other)


def test_a_recording_in_two_classes_stays_in_one_split(folder):
    for path in sorted((folder / "rain").glob("*.wav")):  # the rain is parts of the recordings of the dogs
        _, recording, take = path.name.split("-")
        path.rename(path.with_name(f"1-{int(recording) - 4000}-C{take}"))
    files = sound_files(folder, 0)
    assert {path.name.split("-")[1] for path in files["test"]["rain"]} & {"3000", "3001", "3002", "3003", "3004"}
    assert no_recording_twice(files)


def test_a_clip_is_resampled_and_its_channels_are_mixed(tmp_path):
    time = np.arange(RATE) / RATE
    left = (8000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    wavfile.write(tmp_path / "1-1-A.wav", RATE, np.stack([left, np.zeros_like(left)], axis=1))
    wave = read_sound(tmp_path / "1-1-A.wav", 8000)
    assert abs(len(wave) - 8000) <= 16 and wave.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(wave[:8000]))
    assert spectrum.argmax() == 440


def test_excerpts_are_loud_and_of_one_loudness():
    wave = np.zeros(1000, np.float32)
    wave[200:600] = 0.5 * np.sin(np.arange(400))
    found = excerpts(wave, 200)  # parts from 0, 100, 200, ..., 800; those from 100 to 500 sound, at least in half
    assert len(found) == 5
    np.testing.assert_allclose([np.sqrt(np.mean(part**2)) for part in found], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found[1] / found[1].max(), wave[200:400] / wave[200:400].max(), rtol=1e-5)
    (short,) = excerpts(wave[200:300], 200)
    assert len(short) == 200 and not short[100:].any()


def _another(folder: Path, name: str) -> None:
    (folder / name).rename(folder / f"{name}s")


@pytest.mark.parametrize(
    "damage, message",
    [
        (shutil.rmtree, "ESC-10: '.*copy' is not a folder"),
        (lambda folder: _another(folder, "rooster"), "has no clips of rooster. Did you mean 'roosters'?"),
        (lambda folder: [path.unlink() for path in (folder / "rain").iterdir()], "has no clips of rain"),
        (lambda folder: [p.unlink() for p in (folder / "rain").glob("[3-5]-*")], "rain has 2 recording.s.; train, val"),
        (
            lambda folder: (folder / "rain" / "notes.txt").write_text("x"),
            "notes.txt: expected a name like 1-26806-A.ogg",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        sound_files(folder, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "cannot be decoded as sound .0 bytes."),
        (b"OggS rubbish", "cannot be decoded as sound .12 bytes."),
        (None, "silent"),
    ],
)
def test_a_clip_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "1-1-A.ogg"
    if content is None:
        path = path.with_suffix(".wav")
        wavfile.write(path, RATE, np.zeros(RATE, np.int16))
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path.name}.*{message}") as caught:
        read_sound(path, 8000)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs ESC-10 in {REAL}")
def test_the_real_clips_are_split_by_recording():
    files = sound_files(REAL, 1)
    assert sum(len(paths) for by_class in files.values() for paths in by_class.values()) == 398
    assert no_recording_twice(files)
    assert len(read_sound(files["train"]["rooster"][0], 8000)) == pytest.approx(40000, abs=400)
