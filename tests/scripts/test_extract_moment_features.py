"""Extracting moment features: rows of every clip and token, resumed, complete or absent, failures listed, read back."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.formats.clip_frames import ClipFrames
from scripts.extract_moment_features import main
from tasks.common.clip_extractor import ClipExtractor
from tests.datamodules.moment_retrieval.small import open_set, write_lines
from tests.datamodules.video_captioning.small import footage, write_video
from tests.tasks.moment_retrieval.small_clip import WIDTH, write_clip

SECONDS = {"a_0.0_150.0": 9, "b": 4, "c": 1}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "small")


@pytest.fixture
def videos(tmp_path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, (name, seconds) in enumerate(SECONDS.items()):
        write_video(folder / f"{name}.mp4", footage(number, frames=4 * seconds, height=48, width=64), rate=4)
    (folder / "notes.txt").write_text("not a video")
    return folder


def write_queries(path: Path) -> Path:
    vids = list(SECONDS)
    rows = [{"qid": f"q{n}", "query": f"a red seven {n}", "vid": vids[n % len(vids)]} for n in range(4)]
    for row in rows:
        row |= {"duration": SECONDS[row["vid"]], "relevant_windows": [[0, 1]]}
    write_lines(path, rows)
    return path


def stopped(*arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return str(stop.value.code)


def run(*arguments) -> None:
    main([str(argument) for argument in arguments])


def test_rows_of_videos_and_sentences_are_clips_and_the_data_module_reads_them(videos, clip_folder, tmp_path) -> None:
    out = tmp_path / "out"
    queries = write_queries(tmp_path / "train.jsonl")
    run(videos, out, "--clip", clip_folder, "--clip-length", "1", "--queries", queries)
    clip = ClipExtractor.load(clip_folder)
    for name, seconds in SECONDS.items():
        with np.load(out / f"clip_features/{name}.npz") as found:
            np.testing.assert_allclose(found["features"], clip.rows(ClipFrames(videos / f"{name}.mp4", 1.0)), atol=1e-5)
            assert found["features"].dtype == np.float32 and len(found["features"]) == seconds
            assert found["duration"] == seconds and found["clip_length"] == 1.0
    for number in range(4):
        with np.load(out / f"clip_text_features/qidq{number}.npz") as found:
            np.testing.assert_allclose(found["last_hidden_state"], clip.words(f"a red seven {number}"), atol=1e-5)
    for number, (split, vid) in enumerate(zip(("train", "val", "test"), SECONDS, strict=True)):
        row = {"qid": f"q{number}", "query": "x", "vid": vid}
        write_lines(out / f"{split}.jsonl", [row | {"duration": SECONDS[row["vid"]], "relevant_windows": [[0, 1]]}])
    data = open_set(
        out, video_streams={"clip_features": {"dim": WIDTH}}, text_stream={"dim": WIDTH}, clip_length=1.0,
        saliency="windows", max_tokens=16,
    )  # fmt: skip
    (batch,) = list(data.train_dataloader())
    assert batch["video"].shape == (1, 9, WIDTH + 2) and batch["text"].shape[2] == WIDTH


def test_a_second_run_makes_only_what_is_missing(videos, clip_folder, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    run(videos, out, "--clip", clip_folder)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "clip_features").glob("*.npz")}
    (out / "clip_features/b.npz").unlink()
    capsys.readouterr()
    run(videos, out, "--clip", clip_folder)
    assert "1 videos extracted, 2 were there, 0 failed" in " ".join(capsys.readouterr().out.split())
    after = {path.name: path.stat().st_mtime_ns for path in (out / "clip_features").glob("*.npz")}
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["b.npz"]


def test_what_is_not_what_it_was_is_made_anew(videos, clip_folder, tmp_path, capsys) -> None:
    out, queries = tmp_path / "out", write_queries(tmp_path / "train.jsonl")
    run(videos, out, "--clip", clip_folder, "--queries", queries)
    before = {path: path.read_bytes() for path in out.rglob("*.npz")}
    queries.write_text(queries.read_text().replace("a red seven 2", "a blue one"))
    shutil.copy(videos / "c.mp4", videos / "b.mp4")
    capsys.readouterr()
    run(videos, out, "--clip", clip_folder, "--queries", queries)
    said = " ".join(capsys.readouterr().out.split())
    assert "videos that are not what they were, made anew: b" in said and "1 queries extracted, 3 were there" in said
    changed = {path.stem for path in before if path.read_bytes() != before[path]}
    assert changed == {"b", "qidq2"}
    older = out / "clip_text_features/qidq1.npz"
    with np.load(older) as found:
        np.savez(older, last_hidden_state=found["last_hidden_state"])  # as an earlier version wrote it
    run(videos, out, "--clip", clip_folder, "--queries", queries)
    assert "0 queries extracted, 4 were there" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"qid": 1, "query": null}', "line 1: query is None, expected a sentence"),
        ('{"qid": null, "query": "x"}', "line 1: qid is None, expected a whole number or a text"),
        ('{"qid": true, "query": "x"}', "line 1: qid is True"),
        ('{"qid": 4.5, "query": "x"}', "line 1: qid is 4.5"),
        ("", "no query in it"),
    ],
)
def test_values_that_are_no_sentences_and_ids_are_named(videos, tmp_path, line, message) -> None:
    (tmp_path / "q.jsonl").write_text(line and line + "\n")
    assert message in stopped(videos, tmp_path / "out", "--queries", tmp_path / "q.jsonl")


def test_a_bad_file_costs_that_file_and_is_listed(videos, clip_folder, tmp_path) -> None:
    content = (videos / "b.mp4").read_bytes()
    (videos / "b.mp4").write_bytes(content[: len(content) // 2])
    (videos / "text.mp4").write_text("nothing")
    queries = write_queries(tmp_path / "train.jsonl")
    told = stopped(videos, tmp_path / "out", "--clip", clip_folder, "--queries", queries)
    assert "2 videos failed" in told and "b.mp4 cannot be decoded" in told
    out = tmp_path / "out/clip_features"
    assert sorted(path.stem for path in out.glob("*.npz")) == ["a_0.0_150.0", "c"]
    listed = [line.split("\t")[0] for line in (out / "failures.txt").read_text().splitlines()]
    assert listed == ["b", "text"]
    assert len(list((tmp_path / "out/clip_text_features").glob("*.npz"))) == 4  # the sentences are made all the same
    (videos / "text.mp4").unlink()
    (videos / "b.mp4").write_bytes(content)
    run(videos, tmp_path / "out", "--clip", clip_folder)
    assert not (out / "failures.txt").exists() and (out / "b.npz").is_file()


def test_a_file_is_complete_or_absent(videos, clip_folder, tmp_path, monkeypatch) -> None:
    def full(file, **arrays) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert "No space left" in stopped(videos, tmp_path / "out", "--clip", clip_folder)
    names = [path.name for path in (tmp_path / "out/clip_features").iterdir()]
    left = [name for name in names if name[0] != "." or "partial" in name]
    assert left == ["extraction.json"]


def test_one_file_alone_and_its_own_clip_length(videos, clip_folder, tmp_path) -> None:
    run(videos / "b.mp4", tmp_path / "out", "--clip", clip_folder, "--clip-length", "0.5", "--batch-size", "3")
    assert [path.name for path in (tmp_path / "out/clip_features").glob("*.npz")] == ["b.npz"]
    assert np.load(tmp_path / "out/clip_features/b.npz")["features"].shape == (8, WIDTH)


def test_rows_of_two_kinds_do_not_meet_in_one_folder(videos, clip_folder, tmp_path) -> None:
    out = tmp_path / "out"
    run(videos, out, "--clip", clip_folder)
    told = json.loads((out / "clip_features/extraction.json").read_text())
    assert told["clip_length"] == 2.0 and len(told["weights"]) == 16
    assert "begun with other settings: clip_length 2.0 (now 1.0)" in stopped(
        videos, out, "--clip", clip_folder, "--clip-length", "1"
    )
    other = write_clip(tmp_path / "other", seed=1)
    assert "begun with other settings: weights" in stopped(videos, out, "--clip", other)


def test_slowfast_is_refused_with_the_reason_and_what_to_do_instead(videos, tmp_path) -> None:
    told = stopped(videos, tmp_path / "out", "--slowfast", "slowfast_r50.pth")
    assert "no maintained library has its network" in told and "experiment=clip_moments_lcaam" in told
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_named(videos, clip_folder, tmp_path) -> None:
    out, clip = tmp_path / "out", ("--clip", clip_folder)
    assert "neither a folder nor a file" in stopped(tmp_path / "none", out, *clip)
    (tmp_path / "empty").mkdir()
    assert "no video files (.mp4, .avi" in stopped(tmp_path / "empty", out, *clip)
    (videos / "b.avi").write_bytes(b"")
    assert "more than one video file is called b" in stopped(videos, out, *clip)
    (videos / "b.avi").unlink()
    rows = tmp_path / "rows.jsonl"
    write_lines(rows, [{"qid": 1, "query": "a"}, {"qid": 1, "query": "b"}])
    assert "line 2: qid 1 has another sentence: 'a'" in stopped(videos, out, *clip, "--queries", rows)
    write_lines(rows, [{"qid": 1, "vid": "v"}])
    assert "line 1: has no key 'query'; it has qid, vid" in stopped(videos, out, *clip, "--queries", rows)
    assert "neither a folder with a CLIP model" in stopped(videos, out, "--clip", tmp_path / "none")
    assert stopped(videos, out, *clip, "--clip-length", "0") == "2"
    assert not out.exists()


def test_a_query_that_names_no_file_is_listed(videos, clip_folder, tmp_path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_lines(rows, [{"qid": "../x", "query": "a"}, {"qid": 2, "query": " "}, {"qid": 3, "query": "a dog"}])
    told = stopped(videos, tmp_path / "out", "--clip", clip_folder, "--queries", rows)
    assert "2 queries failed" in told and "has a path separator" in told and "no word in it" in told
    assert [path.name for path in (tmp_path / "out/clip_text_features").glob("*.npz")] == ["qid3.npz"]
