"""Moments of a video file for sentences: the command, its options and its outputs."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest

from scripts.predict_moments import main
from tasks.common.files import read_jsonl
from tasks.moment_retrieval.predictor import MomentPredictor
from tasks.moment_retrieval.scores import evaluate
from tests.datamodules.moment_retrieval.small import write_lines
from tests.datamodules.video_captioning.small import footage, write_video
from tests.tasks.moment_retrieval.small_clip import write_checkpoint, write_clip


def refused(*arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return str(stop.value.code)


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A folder with clip/, model.ckpt of a model on CLIP's rows alone, and movie.mp4 of 62 s."""
    place = tmp_path_factory.mktemp("movie")
    write_clip(place / "clip")
    write_checkpoint(place / "model.ckpt")
    write_video(place / "movie.mp4", footage(1, frames=124, height=48, width=64), rate=2)
    return place


def of_movie(place) -> list[str]:
    return ["--checkpoint", str(place / "model.ckpt"), "--video", str(place / "movie.mp4")]


def test_a_video_file_and_sentences_are_answered(movie, tmp_path, capsys) -> None:
    asked = ["--clip", str(movie / "clip"), "--query", "a dog runs", "--query", "a red seven"]
    main([*of_movie(movie), *asked, "--output", str(tmp_path / "out.jsonl"), "--plot", str(tmp_path / "out.png")])
    printed = capsys.readouterr().out
    assert "0: a dog runs" in printed and "1: a red seven" in printed and " s to " in printed
    rows = list(read_jsonl(tmp_path / "out.jsonl"))
    assert [(row["qid"], row["query"], row["vid"]) for row in rows] == [
        (0, "a dog runs", "movie"), (1, "a red seven", "movie")
    ]  # fmt: skip
    predictor = MomentPredictor(movie / "model.ckpt", movie / "clip")
    expected = predictor.predict(movie / "movie.mp4", ["a dog runs", "a red seven"])
    assert [row["pred_relevant_windows"] for row in rows] == [answer["windows"] for answer in expected]
    assert [len(row["pred_saliency_scores"]) for row in rows] == [31, 31]
    truth = [row | {"duration": 62, "relevant_windows": [[0, 62]]} for row in rows]
    assert evaluate(rows, truth)["brief"]["MR-full-mAP"] >= 0
    assert (tmp_path / "out.png").stat().st_size > 3000


def test_sentences_of_a_file_of_queries_are_read_by_clip(movie, tmp_path) -> None:
    queries = [{"qid": 5, "query": "a dog runs", "vid": "movie"}, {"qid": 6, "query": "x", "vid": "other"}]
    write_lines(tmp_path / "q.jsonl", queries)
    main([*of_movie(movie), "--clip", str(movie / "clip"), "--queries-jsonl", str(tmp_path / "q.jsonl"),
          "--output", str(tmp_path / "out.json")])  # fmt: skip
    (row,) = json.loads((tmp_path / "out.json").read_text())
    (expected,) = MomentPredictor(movie / "model.ckpt", movie / "clip").predict(movie / "movie.mp4", "a dog runs")
    assert (row["qid"], row["pred_relevant_windows"]) == (5, expected["windows"])


@pytest.mark.parametrize("ending", ["csv", "srt"])
def test_answers_are_a_table_or_subtitles(movie, tmp_path, ending) -> None:
    asked = ["--clip", str(movie / "clip"), "--query", "a dog runs", "--windows", "2"]
    main([*of_movie(movie), *asked, "--output", str(tmp_path / f"out.{ending}")])
    lines = (tmp_path / f"out.{ending}").read_text().splitlines()
    assert sum("a dog runs" in line for line in lines) == 2


def test_overlap_is_reachable_from_the_command(movie, tmp_path) -> None:
    asked = ["--clip", str(movie / "clip"), "--query", "a dog runs", "--windows", "50"]
    spans = {}
    for overlap in ("0", "1"):
        main([*of_movie(movie), *asked, "--overlap", overlap, "--output", str(tmp_path / "out.jsonl")])
        (row,) = read_jsonl(tmp_path / "out.jsonl")
        spans[overlap] = sorted(window[:2] for window in row["pred_relevant_windows"])
    assert all(before[1] <= after[0] for before, after in pairwise(spans["0"]))
    assert len(spans["1"]) > len(spans["0"])


def test_what_a_video_file_or_a_sentence_needs_is_named(movie, tmp_path) -> None:
    assert "query 'a dog runs' is a sentence, which CLIP reads: name the CLIP model" in refused(
        *of_movie(movie), "--query", "a dog runs"
    )
    np.save(tmp_path / "q.npy", np.ones((3, 64)))
    assert "movie.mp4 is a video file, which CLIP reads" in refused(*of_movie(movie), "--query", tmp_path / "q.npy")
    clip = ["--clip", movie / "clip"]
    told = refused(*of_movie(movie), *clip, "--query", "a dog", "--output", tmp_path / "out.txt")
    assert "answers are written as .jsonl, .json, .csv or .srt" in told
    assert "overlap must be an IoU in [0, 1], got 2.0" in refused(
        *of_movie(movie), *clip, "--query", "a dog", "--overlap", "2"
    )
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    broken = ["--checkpoint", movie / "model.ckpt", "--video", tmp_path / "broken.mp4"]
    assert "broken.mp4 cannot be decoded" in refused(*broken, *clip, "--query", "a dog")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"qid": 3, "query": 5}, "line 1: query is 5, expected a sentence"),
        ({"qid": [3], "query": "red"}, "line 1: qid is [3], expected a whole number or a text"),
        ({"qid": 3, "query": "red", "relevant_windows": [["a", 3]]}, "relevant_windows has ['a', 3], expected [start"),
        ({"qid": 3, "query": "red", "relevant_windows": [3]}, "relevant_windows is [3], expected a list of [start"),
    ],
)
def test_a_row_that_is_no_query_is_named_with_its_line(movie, tmp_path, row, message) -> None:
    write_lines(tmp_path / "q.jsonl", [row | {"vid": "movie"}])
    asked = ["--clip", movie / "clip", "--queries-jsonl", tmp_path / "q.jsonl", "--plot", tmp_path / "a.png"]
    assert message in refused(*of_movie(movie), *asked)


def test_a_video_of_one_clip_has_one_window_once(movie, tmp_path, capsys) -> None:
    """It used to print 0 to 2 s several times, and windows of no length."""
    write_video(tmp_path / "brief.mp4", footage(1, frames=4, height=48, width=64), rate=2)
    main(["--checkpoint", str(movie / "model.ckpt"), "--video", str(tmp_path / "brief.mp4"),
          "--clip", str(movie / "clip"), "--query", "a dog runs"])  # fmt: skip
    windows = re.findall(r"([\d.]+) s to +([\d.]+) s", capsys.readouterr().out)
    assert windows and len(set(windows)) == len(windows)
    assert all(float(start) < float(end) for start, end in windows)
