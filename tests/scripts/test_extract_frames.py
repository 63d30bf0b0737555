"""Extracting frames: the video's own frames, complete clips or none, resumed, failures listed."""

import json
import os
import signal
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.sources import FrameFolders, VideoFiles
from datamodules.video_captioning.video import read_video
from scripts import extract_frames
from scripts.extract_frames import extract, main
from scripts.extracting import only_run
from tests.datamodules.test_video_files import turn
from tests.datamodules.video_captioning.small import footage, write_json, write_video
from tests.programs import started

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def videos(tmp_path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in (2, 10, 1):
        write_video(folder / f"v{i}.mp4", footage(i, frames=6 + i))
    (folder / "README.txt").write_text("not a video")
    return folder


def run(videos, out, *arguments) -> int:
    """Exit status of one run with one worker."""
    try:
        main([str(videos), str(out), "--frames", "4", "--short-side", "16", "--workers", "1", *map(str, arguments)])
    except SystemExit as stop:
        return 0 if stop.code is None else 1
    return 0


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_frames_are_those_of_the_video_resized(videos, tmp_path):
    out = tmp_path / "frames"
    assert run(videos, out) == 0
    assert names(out) == ["extraction.json", "v1", "v10", "v2"]
    for name in ("v1", "v2", "v10"):
        assert names(out / name) == ["0001.jpg", "0002.jpg", "0003.jpg", "0004.jpg"]
        wanted = read_video(videos / f"{name}.mp4", 4)
        for frame, number in zip(wanted, range(1, 5), strict=True):
            image = Image.open(out / name / f"{number:04d}.jpg")
            small = Image.fromarray(frame).resize((21, 16), Image.Resampling.BILINEAR)
            assert image.size == (21, 16)
            assert np.abs(np.asarray(image).astype(int) - np.asarray(small)).mean() < 4  # JPEG
        assert FrameFolders(out).frames(Clip(name, name, ()), 4).shape == (4, 16, 21, 3)


def test_clips_that_are_there_are_skipped_and_a_lost_one_is_made_again(videos, tmp_path, capsys):
    out = tmp_path / "frames"
    run(videos, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    for path in (out / "v2").iterdir():
        path.unlink()
    (out / "v2").rmdir()
    capsys.readouterr()
    assert run(videos, out) == 0
    assert "1 clips extracted, 2 were there, 0 failed" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.parent.name != "v2")
    assert len(list((out / "v2").iterdir())) == 4


def test_a_clip_is_complete_or_absent(videos, tmp_path, monkeypatch):
    """The run stops after two of four frames; what is left does not count as a clip, and the next run completes it."""
    out = tmp_path / "frames"
    out.mkdir()
    source, clip, saved = VideoFiles(videos, "{video}.*"), Clip("v2", "v2", ()), []
    save = Image.Image.save

    def stop(self, *arguments, **options):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(1)
        return save(self, *arguments, **options)

    monkeypatch.setattr(extract_frames.Image.Image, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(source, clip, out, 4, 0, 90)
    monkeypatch.undo()
    assert names(out) == []
    assert extract(source, clip, out, 4, 0, 90) is None
    assert names(out) == ["v2"] and len(names(out / "v2")) == 4 and not list(out.glob(".v2*"))


def test_failures_are_listed_and_the_others_are_made(videos, tmp_path, capsys):
    out = tmp_path / "frames"
    (videos / "v3.mp4").write_bytes((videos / "v2.mp4").read_bytes()[:500])
    assert run(videos, out) == 1
    assert "3 clips extracted, 0 were there, 1 failed" in capsys.readouterr().out
    name, why = (out / "failures.txt").read_text().strip().split("\t")
    assert name == "v3" and "v3.mp4 cannot be decoded" in why
    write_video(videos / "v3.mp4", footage(3))
    assert run(videos, out) == 0
    assert names(out) == ["extraction.json", "v1", "v10", "v2", "v3"]


def test_other_settings_are_refused(videos, tmp_path):
    out = tmp_path / "frames"
    run(videos, out)
    with pytest.raises(SystemExit, match="begun with other settings: short_side 16 \\(now 20\\)"):
        main([str(videos), str(out), "--frames", "4", "--short-side", "20", "--workers", "1"])


def test_a_second_run_at_the_same_time_is_refused(videos, tmp_path):
    out = tmp_path / "frames"
    with only_run(out), pytest.raises(SystemExit, match="another extraction is writing here"):
        main([str(videos), str(out)])


def test_segments_of_annotations_are_clips(videos, tmp_path):
    parts = [{"id": i, "segment": [i / 2, i / 2 + 0.5], "sentence": "x"} for i in range(3)]
    path = write_json(tmp_path / "you.json", {"database": {"v10": {"subset": "training", "annotations": parts}}})
    assert run(videos, tmp_path / "frames", "--annotations", path, "--layout", "youcook2") == 0
    assert names(tmp_path / "frames") == ["extraction.json", "v10_0", "v10_1", "v10_2"]
    light = [np.asarray(Image.open(tmp_path / f"frames/v10_{i}/0001.jpg")).mean() for i in range(3)]
    assert light[0] < light[1] < light[2]


PATHS = ["../out", "/tmp/outside", "..", "a/../../b", "a\\b", "x" * 5000, ".extraction.lock", "failures.txt"]


def test_ids_that_are_paths_are_refused_by_name_and_the_other_clips_go_on(videos, tmp_path, capsys):
    """Nothing is written outside the folder."""
    place = tmp_path / "place"
    place.mkdir()
    entries = {name: ["a man runs"] for name in [*PATHS, "v10"]}
    path = write_json(place / "captions.json", {name: {"captions": texts} for name, texts in entries.items()})
    before = {file for file in tmp_path.rglob("*") if place not in file.parents}
    assert run(videos, place / "frames", "--annotations", path, "--layout", "captions") == 1
    assert f"1 clips extracted, 0 were there, {len(PATHS)} failed" in capsys.readouterr().out
    assert names(place / "frames") == ["extraction.json", "failures.txt", "v10"]
    told = (place / "frames" / "failures.txt").read_text().splitlines()
    assert len(told) == len(PATHS) and all("id" in line.split("\t")[1] for line in told)
    assert {file for file in tmp_path.rglob("*") if place not in file.parents} == before


def test_damaged_settings_of_an_extraction_are_named(videos, tmp_path):
    (tmp_path / "frames").mkdir()
    for text in ("{", "[1]", "[" * 100_000):
        (tmp_path / "frames" / "extraction.json").write_text(text)
        with pytest.raises(SystemExit, match=r"extraction.json: not the settings of an extraction; remove it"):
            main([str(videos), str(tmp_path / "frames")])


@pytest.mark.parametrize(
    "prepare, message",
    [
        (lambda folder: None, "not a folder"),
        (lambda folder: folder.mkdir(), "no video files"),
        (
            lambda folder: [folder.mkdir(), (folder / "a.mp4").touch(), (folder / "a.avi").touch()],
            "more than one video file is called a",
        ),
    ],
)
def test_nothing_to_extract_is_said(tmp_path, prepare, message):
    prepare(tmp_path / "x")
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path / "x"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--frames", "--quality", "--workers"])
def test_numbers_too_small_are_refused(videos, tmp_path, option, capsys):
    with pytest.raises(SystemExit):
        main([str(videos), str(tmp_path / "out"), option, "0"])
    assert f"{option} 0: the least is 1" in capsys.readouterr().err


def test_it_runs_as_a_command_with_two_processes(videos, tmp_path):
    command = ("-m", "scripts.extract_frames", str(videos), str(tmp_path / "frames"))
    done = started(*command, "--workers", "2")
    assert done.returncode == 0 and "3 clips extracted" in done.stdout
    assert len(names(tmp_path / "frames/v1")) == 32  # seven frames in the file: some come again
    (videos / "v1.mp4").write_bytes(b"x")
    (tmp_path / "frames/v1").rename(tmp_path / "gone")
    done = started(*command)
    assert done.returncode == 1 and "v1.mp4 cannot be decoded" in done.stderr and "Traceback" not in done.stderr


def test_every_kind_of_video_is_extracted_and_other_files_are_counted_and_named(tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, codec in (("a.mp4", "libx264"), ("b.wmv", "wmv2"), ("c.3gp", "libx264"), ("d.MPEG", "mpeg2video")):
        write_video(folder / name, footage(1), codec=codec, rate=25)
    Image.fromarray(footage(1)[0]).save(folder / "e.gif", save_all=True, append_images=[Image.fromarray(footage(1)[8])])
    for name in ("readme.txt", "a.srt", ".DS_Store"):
        (folder / name).touch()
    (folder / "more").mkdir()
    assert run(folder, tmp_path / "frames") == 0
    said = capsys.readouterr().out
    assert "5 clips extracted" in said and names(tmp_path / "frames") == ["a", "b", "c", "d", "e", "extraction.json"]
    assert f"{folder}: left out 3 that are not video files by their ending: a.srt, more, readme.txt" in said


def test_an_unknown_codec_is_a_failure_with_its_reason(videos, tmp_path):
    film = videos / "v1.mp4"
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzzz"))
    assert run(videos, tmp_path / "frames") == 1
    name, why = (tmp_path / "frames" / "failures.txt").read_text().strip().split("\t")
    assert name == "v1" and "v1.mp4: the format of its picture track is unknown" in why


def test_videos_of_ones_own_are_turned_and_those_of_annotations_only_on_request(videos, tmp_path):
    film = videos / "v1.mp4"
    film.write_bytes(turn(film.read_bytes(), 0, 0x10000, -0x10000, 0))
    path = write_json(tmp_path / "c.json", {name: {"captions": ["x"]} for name in ("v1", "v2")})
    listed = ("--annotations", path, "--layout", "captions")
    sizes = {}
    for place, options in {
        "own": (),
        "ignored": ("--rotation", "ignore"),
        "listed": listed,
        "asked": (*listed, "--rotation", "apply"),
    }.items():
        assert run(videos, tmp_path / place, *options) == 0
        sizes[place] = Image.open(tmp_path / place / "v1" / "0001.jpg").size
        assert Image.open(tmp_path / place / "v2" / "0001.jpg").size == (21, 16)
    assert sizes == {"own": (16, 21), "ignored": (21, 16), "listed": (21, 16), "asked": (16, 21)}


def test_an_extraction_from_before_rotation_goes_on_as_it_began(videos, tmp_path):
    (tmp_path / "frames").mkdir()
    earlier = {"frames": 4, "short_side": 16, "quality": 95}
    (tmp_path / "frames" / "extraction.json").write_text(json.dumps(earlier))
    with pytest.raises(SystemExit, match="rotation ignore \\(now apply\\)"):
        main([str(videos), str(tmp_path / "frames"), "--frames", "4", "--short-side", "16"])
    assert run(videos, tmp_path / "frames", "--rotation", "ignore") == 0


class Deadly(VideoFiles):
    """Reading v2 or v10 ends the process, as a crash of FFmpeg would."""

    def frames(self, clip, count):
        if clip.id in ("v2", "v10"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().frames(clip, count)


@pytest.mark.slow
def test_a_video_at_which_the_process_dies_costs_one_clip(videos, tmp_path):
    for i in range(20, 30):
        write_video(videos / f"v{i}.mp4", footage(i))
    clips = [Clip(f"v{i}", f"v{i}", ()) for i in (1, 2, 10, *range(20, 30))]
    out = tmp_path / "frames"
    out.mkdir()
    failed = extract_frames.extract_all(Deadly(videos, "{video}.*"), clips, out, (4, 16, 95), 2, Console(quiet=True))
    assert failed == dict.fromkeys(("v2", "v10"), extract_frames.DIED)
    assert len([name for name in names(out) if len(names(out / name)) == 4]) == 11


def test_failures_are_listed_when_the_run_is_stopped(videos, tmp_path, monkeypatch):
    """The disk is full at the second of two clips; the first is damaged."""
    (videos / "v1.mp4").write_bytes(b"x")

    class Stops:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, do, source, clip, *rest):
            future = Future()
            if clip.id == "v1":
                future.set_result(do(source, clip, *rest))
            else:
                future.set_exception(OSError(28, "No space left on device"))
            return future

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(extract_frames, "ProcessPoolExecutor", Stops)
    monkeypatch.setattr(extract_frames, "as_completed", list)
    with pytest.raises(SystemExit, match="No space left"):
        main([str(videos), str(tmp_path / "frames")])
    assert (tmp_path / "frames" / "failures.txt").read_text().startswith("v1\t")
