"""Moments of one's own videos: the data module's numbers exactly, long videos in excerpts, files, clear refusals."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from datamodules.errors import DataError
from scripts.predict_moments import main, predict
from tasks.common.files import read_jsonl
from tasks.moment_retrieval.excerpts import Excerpt, merged_moments, merged_saliency
from tasks.moment_retrieval.scores import evaluate
from tests.datamodules.moment_retrieval.small import TEXT, WIDTHS, open_set, read_lines, write_set
from tests.tasks.moment_retrieval.trained import FACTS, KNOWN, build


def arrays(clips=9, queries=(3,), seed=0) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """A video's streams, and queries with these numbers of tokens, not normalised."""
    rng = np.random.default_rng(seed)
    video = {name: rng.normal(0.3, 2, (clips, width)).astype(np.float32) for name, width in WIDTHS.items()}
    return video, [rng.normal(0, 2, (tokens, TEXT)).astype(np.float32) for tokens in queries]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model():
    return build(KNOWN).eval()


def read(folder, row) -> tuple[dict[str, np.ndarray], np.ndarray]:
    video = {name: np.load(folder / name / f"{row['vid']}.npz")["features"] for name in WIDTHS}
    return video, np.load(folder / "text" / f"qid{row['qid']}.npz")["last_hidden_state"]


def close(found, expected, tolerance=2e-3) -> None:
    """Windows and saliency up to what a batch's padding changes (saliency has half precision)."""
    np.testing.assert_allclose(found["windows"], expected["windows"], atol=tolerance)
    np.testing.assert_allclose(found["saliency"], expected["saliency"], atol=tolerance, rtol=tolerance)


def worth_showing(windows, exact) -> list[list[float]]:
    """What is left of evaluation's windows: no equal ones; what rounding emptied is as it was; none without length."""
    kept = {}
    for (start, end, score), before in zip(windows, exact, strict=True):
        a, b = (start, end) if start < end else before[:2]
        if a < b:
            kept.setdefault((a, b), [a, b, score])
    return list(kept.values())


# -- one excerpt ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"tef": False}, {"clip_length": 1.9}])
@pytest.mark.parametrize("settings", [{}, {"round_windows": False, "longest": "facts"}])
def test_a_video_no_longer_than_in_training_gets_what_evaluation_gives(folder, changes, settings) -> None:
    data = open_set(folder, window_slack=9, **changes)
    tef = changes.get("tef", True)
    facts = {**data.facts(), "streams": WIDTHS, "tef": tef}
    model = build(facts, **settings).eval()
    unrounded = build(facts, **{**settings, "round_windows": False}).eval()
    lengths = set()
    for number, row in enumerate(data.annotations("train")):
        video, query = read(folder, row)
        if len(video["slow"]) > data.max_clips:
            continue
        batch = data.moments["train"][number]
        with torch.no_grad():
            outputs = model.predict(batch)
            (expected,) = model.rows(outputs, batch)
            (exact,) = unrounded.rows(outputs, batch)
        (found,) = predict(model, video, [query], duration=row["duration"])
        assert found["windows"] == worth_showing(expected["pred_relevant_windows"], exact["pred_relevant_windows"])
        assert found["saliency"] == expected["pred_saliency_scores"]
        lengths.add(len(found["saliency"]))
    assert len(lengths) > 3


@pytest.mark.parametrize("clips", [1, 2, 11, 12])
def test_a_video_of_any_length_up_to_the_trainings(model, clips) -> None:
    video, queries = arrays(clips, [4])
    (found,) = predict(model, video, queries)
    assert len(found["saliency"]) == clips and 1 <= len(found["windows"]) <= 4
    assert all(0 <= start < end <= clips * 2 and 0 <= score <= 1 for start, end, score in found["windows"])
    assert len({(start, end) for start, end, _ in found["windows"]}) == len(found["windows"])
    scores = [score for _, _, score in found["windows"]]
    assert scores == sorted(scores, reverse=True)


def test_tensors_lists_float64_and_torn_off_clips_are_taken(model) -> None:
    video, (query,) = arrays()
    expected = predict(model, video, [query])
    longer = {"slow": torch.tensor(video["slow"]), "clip": [*video["clip"].tolist(), [0.0] * WIDTHS["clip"]]}
    assert predict(model, longer, [query.astype(np.float64)]) == expected


def test_only_the_first_tokens_are_read(model) -> None:
    video, (query,) = arrays(queries=[9])
    assert predict(model, video, [query]) == predict(model, video, [query[: FACTS["tokens"]]])


def test_streams_go_to_the_place_of_their_name_whatever_their_order(model) -> None:
    video, queries = arrays()
    expected = predict(model, video, queries)
    assert predict(model, dict(reversed(video.items())), queries) == expected
    assert predict(model, {"clip": video["clip"], "another name": video["slow"]}, queries) == expected
    unknown = build(FACTS).eval()  # a checkpoint that does not say its streams: in the order given
    assert predict(unknown, video, queries) == expected
    assert predict(unknown, dict(reversed(video.items())), queries) != expected


def test_a_model_of_one_stream_takes_the_array_alone() -> None:
    video, queries = arrays()
    model = build({**FACTS, "video_dim": 9, "streams": {"slow": 7}, "tef": True}).eval()
    assert predict(model, video["slow"], queries) == predict(model, {"slow": video["slow"]}, queries)


def test_the_most_windows_and_the_clip_length(model) -> None:
    video, queries = arrays()
    (usual,) = predict(model, video, queries)
    assert predict(model, video, queries, windows=2)[0]["windows"] == usual["windows"][:2]
    halves = [[start / 2, end / 2, score] for start, end, score in usual["windows"]]
    assert predict(model, video, queries, clip_length=1.0)[0]["windows"] == halves


def test_predicting_leaves_the_model_as_it_was(model) -> None:
    video, queries = arrays()
    training = build(KNOWN, dropout=0.5).train()
    assert predict(training, video, queries) == predict(model, video, queries)
    assert training.training and training.model.training


# -- several queries, several excerpts --------------------------------------------------------------------------------


@pytest.mark.parametrize("clips", [5, 31])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_querys_answer_does_not_depend_on_the_others(model, clips, batch_size) -> None:
    video, queries = arrays(clips, [1, 6, 2, 5, 4])
    together = predict(model, video, queries, batch_size=batch_size)
    for query, found in zip(queries, together, strict=True):
        close(found, predict(model, video, [query])[0])


@pytest.mark.parametrize(
    ("clips", "stride", "starts"),
    [
        (13, None, [0, 1]),
        (24, None, [0, 6, 12]),
        (25, None, [0, 6, 12, 13]),
        (29, 12, [0, 12, 17]),
        (16, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_a_long_video_is_its_excerpts_each_a_video_of_its_own(model, clips, stride, starts) -> None:
    video, (query,) = arrays(clips)
    size, parts = FACTS["clips"], []
    for first in starts:
        (alone,) = predict(model, {name: rows[first : first + size] for name, rows in video.items()}, [query])
        parts.append(Excerpt(first, alone["windows"], alone["saliency"]))
    (found,) = predict(model, video, [query], stride=stride, overlap=0.6)
    windows = [list(moment[:3]) for moment in merged_moments(parts, 2.0, 0.6, most=4)]
    close(found, {"windows": windows, "saliency": merged_saliency(parts)})
    assert len(found["saliency"]) == clips


def test_no_window_of_a_long_video_reaches_behind_its_end(model) -> None:
    video, queries = arrays(30)
    (found,) = predict(model, video, queries, duration=57.5, windows=100)
    assert max(end for _, end, _ in found["windows"]) <= 57.5
    assert len(found["windows"]) > 4


# -- refusals ---------------------------------------------------------------------------------------------------------


def spoiled(**changes) -> tuple[dict, list]:
    """A video and a query with one of them replaced; what is None is left out."""
    video, queries = arrays()
    for name in WIDTHS:
        video[name] = changes.get(name, video[name])
    return {name: rows for name, rows in video.items() if rows is not None}, changes.get("queries", queries)


ROWS = np.ones((9, 7), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slow": np.ones((9, 8))}, r"stream slow: shape \(9, 8\), but the model was trained on \(clips, 7\)"),
        ({"slow": np.ones(9)}, r"stream slow: shape \(9,\)"),
        ({"slow": np.where(np.arange(9)[:, None] == 4, np.nan, ROWS)}, "stream slow, row 4: not finite"),
        ({"slow": ROWS[:0]}, "stream slow: no rows in it"),
        ({"slow": ROWS[:7]}, "streams of different lengths: 7 clips in slow, 9 clips in clip. They may differ by 1"),
        ({"slow": np.full((9, 7), "a")}, "stream slow: values of type <U1, expected numbers"),
        ({"slow": [[1.0] * 7, [1.0] * 6]}, "stream slow: rows of different lengths"),
        ({"slow": None}, r"1 streams \(clip\), but the model was trained on 2: slow 7, clip 5"),
        ({"queries": []}, "no query"),
        ({"queries": np.ones((3, TEXT))}, r"queries are one array \(3, 6\): give a list"),
        ({"queries": [np.ones((3, 5))]}, r"query 0: shape \(3, 5\), but the model was trained on \(tokens, 6\)"),
        ({"queries": [np.ones((1, 6)), np.ones((0, 6))]}, "query 1: no rows in it"),
        ({"queries": [np.full((2, 6), np.inf)]}, "query 0, row 0: not finite"),
    ],
)
def test_unusable_features_are_named(model, changes, message) -> None:
    with pytest.raises(DataError, match=message):
        predict(model, *spoiled(**changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "stride is 0, allowed are 1 to 12 clips"),
        ({"stride": 13}, "stride is 13, .*leaves gaps"),
        ({"stride": 2.5}, "stride is 2.5"),
        ({"clip_length": 0}, "clip_length is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"duration": 150}, "9 clips of 2 s are 18 s, but the video is said to last 150 s"),
        ({"duration": -1}, "said to last -1 s"),
        ({"windows": 0}, "windows must be at least 1, got 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(model, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        predict(model, *arrays(), **options)


def test_streams_of_an_unknown_training_must_have_the_right_width_together() -> None:
    video, queries = arrays()
    with pytest.raises(DataError, match=r"streams slow \(9, 7\): .*have 12 features together, or 14 if"):
        predict(build(FACTS), {"slow": video["slow"]}, queries)
    with pytest.raises(DataError, match="single array.* checkpoint does not say how many it has"):
        predict(build(FACTS), np.ones((9, 12)), queries)
    with pytest.raises(DataError, match="single array.* trained on slow 7, clip 5"):
        predict(build(KNOWN), np.ones((9, 12)), queries)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    module, path = build(KNOWN), tmp_path_factory.mktemp("run") / "model.ckpt"
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    return path


def video_options(folder, vid) -> list[str]:
    return [option for name in WIDTHS for option in ("--video", str(folder / name / f"{vid}.npz"))]


def refused(*arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return str(stop.value.code)


def test_the_submission_of_a_videos_queries_can_be_scored(folder, model, checkpoint, tmp_path, capsys) -> None:
    every = read_lines(folder / "test.jsonl")
    truth = [row for row in every if row["vid"] == every[2]["vid"]]
    assert len(truth) == 2 < len(every)
    out, plot = tmp_path / "new" / "out.jsonl", tmp_path / "figures" / "moments.pdf"
    main([
        "--checkpoint", str(checkpoint), *video_options(folder, truth[0]["vid"]), "--output", str(out),
        "--plot", str(plot), "--queries-jsonl", str(folder / "test.jsonl"), "--query-folder", str(folder / "text"),
    ])  # fmt: skip
    rows = read_jsonl(out)
    assert [list(row) for row in rows] == [["qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"]] * 2
    for row, true in zip(rows, truth, strict=True):
        assert [row["qid"], row["query"], row["vid"]] == [true["qid"], true["query"], true["vid"]]
        close(
            {"windows": row["pred_relevant_windows"], "saliency": row["pred_saliency_scores"]},
            predict(model, read(folder, true)[0], [read(folder, true)[1]])[0],
        )
    assert evaluate(rows, truth)["brief"]["MR-full-mAP"] >= 0
    assert plot.read_bytes().startswith(b"%PDF")
    printed = capsys.readouterr().out
    assert f"{truth[1]['qid']}: {truth[1]['query']}" in printed and len(re.findall("score 0", printed)) == 8


def test_single_files_with_their_truth(folder, model, checkpoint, tmp_path) -> None:
    row = read_lines(folder / "val.jsonl")[0]
    video, query = read(folder, row)
    np.save(tmp_path / "dog.npy", query)
    out, plot = tmp_path / "out.jsonl", tmp_path / "moments.png"
    main([
        "--checkpoint", str(checkpoint), *video_options(folder, row["vid"]), "--query", str(tmp_path / "dog.npy"),
        "--truth", "0,2", "--vid", "mine", "--windows", "1", "--output", str(out), "--plot", str(plot),
    ])  # fmt: skip
    (found,) = map(json.loads, out.read_text().splitlines())
    (expected,) = predict(model, video, [query], windows=1)
    assert found == {
        "qid": 0, "query": "dog", "vid": "mine",
        "pred_relevant_windows": expected["windows"], "pred_saliency_scores": expected["saliency"],
    }  # fmt: skip
    assert plot.stat().st_size > 3000


def test_a_runs_folder_stands_for_the_weights_that_it_tested(folder, checkpoint, compose_run, tmp_path) -> None:
    row, run = read_lines(folder / "val.jsonl")[0], tmp_path / "run"
    asked = [*video_options(folder, row["vid"]), "--query", str(folder / "text" / f"qid{row['qid']}.npz"), "--output"]
    asked += [str(tmp_path / "out.csv")]
    (run / "checkpoints").mkdir(parents=True)
    assert "no config.yaml" in refused("--checkpoint", run, *asked)
    OmegaConf.save(compose_run("experiment=qvhighlights_baseline", "scale=smoke"), run / "config.yaml", resolve=True)
    assert "holds nothing" in refused("--checkpoint", run, *asked)
    shutil.copy(checkpoint, run / "checkpoints" / "last.ckpt")
    main(["--checkpoint", str(run), *asked])
    OmegaConf.save(compose_run("experiment=msrvtt_baseline", "scale=smoke"), run / "config.yaml", resolve=True)
    assert "not of moment retrieval" in refused("--checkpoint", run, *asked)


def test_the_command_line_names_what_is_wrong(folder, checkpoint, tmp_path) -> None:
    row = read_lines(folder / "val.jsonl")[0]
    first = ["--checkpoint", checkpoint, *video_options(folder, row["vid"])]
    query = folder / "text" / f"qid{row['qid']}.npz"
    rows = ["--queries-jsonl", folder / "val.jsonl"]
    text = ["--query-folder", folder / "text"]
    assert "there is no file none.npz" in refused(*first, "--query", "none.npz")
    assert "no array 'x'; it has features" in refused(*first, "--query", query, "--video-key", "x")
    assert "neither an .npz nor an .npy" in refused(*first, "--query", folder / "val.jsonl")
    assert "expected start,end in seconds" in refused(*first, "--query", query, "--truth", "5,2")
    assert "--truth is for one --query" in refused(*first, "--query", query, query, "--truth", "2,5")
    assert "--queries-jsonl has its own" in refused(*first, *rows, *text, "--truth", "2,5")
    assert "needs --query-folder" in refused(*first, *rows)
    assert "no query of video other (another: --vid); it has val0_0.0" in refused(
        *first, *rows, *text, "--vid", "other"
    )
    assert "there is no file" in refused(*first, *rows, "--query-folder", tmp_path)
    assert "--device nowhere: cannot be used" in refused(*first, "--query", query, "--device", "nowhere")
    assert "1 streams" in refused(*first[:4], "--query", query)
    assert "no checkpoint" in refused("--checkpoint", tmp_path / "no.ckpt", *first[2:], "--query", query)
    for lines, message in (
        ([{"query": "x"}], "line 1: has no key 'qid'; it has query"),
        ([{"qid": 1}, {"qid": 1}], "line 2: qid 1 is already that of line 1"),
        ([], "it has no rows"),
    ):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert message in refused(*first, "--queries-jsonl", path, *text)
