"""The captions benchmark: both sides agree in every bit, ratios are of the times beside them, clear refusals."""

import json

import pytest

from scripts.benchmark import main
from scripts.benchmarks import captions
from tasks.common.caption_tokens import has_java

needs_java = pytest.mark.skipif(not has_java(), reason="pycocoevalcap needs Java")


def run(tmp_path, *options):
    out = tmp_path / "result.json"
    main(["captions", *options, "--out", str(out)])
    return json.loads(out.read_text())


@needs_java
def test_ratios_are_of_the_times_beside_them(tmp_path, capsys):
    result = run(tmp_path, "--videos", "7", "--references", "2", "--repeats", "1", "--no-meteor")
    field, ours = result["rows"]
    assert (field["who"], ours["who"]) == ("pycocoevalcap", "ours")
    for row in (field, ours):
        assert row["whole"] == pytest.approx(row["references"] + row["start"] + row["scores"])
        assert row["without_start"] == pytest.approx(row["references"] + row["scores"])
    ratios = result["ratios"]
    assert ratios["first evaluation"] == pytest.approx(ours["whole"] / field["whole"])
    assert ratios["later evaluation"] == pytest.approx(ours["again"] / field["whole"])
    assert "of pycocoevalcap's time: later evaluation" in capsys.readouterr().out
    assert set(result["scores"]) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"}
    assert result["settings"] == {"videos": 7, "references": 2, "repeats": 1, "no_meteor": True}


@needs_java
@pytest.mark.slow  # METEOR starts twice
def test_all_metrics_of_1000_videos_equal_pycocoevalcaps_bit_for_bit(tmp_path):
    scores = run(tmp_path, "--repeats", "1")["scores"]  # scores that differ stop the benchmark
    assert "meteor" in scores and all(value > 0 for value in scores.values())


@needs_java
def test_scores_that_differ_stop_the_benchmark(tmp_path, monkeypatch):
    def wrong(*arguments):
        seconds, scores = captions.by_ours(*arguments)
        return seconds, scores | {"cider": scores["cider"] + 1e-9}

    monkeypatch.setitem(captions.TURNS, "ours", wrong)
    with pytest.raises(RuntimeError, match="the scores differ"):
        run(tmp_path, "--videos", "3", "--repeats", "1", "--no-meteor")


def test_the_corpus_is_always_the_same_and_scores_are_neither_floor_nor_ceiling():
    generated, references = captions.corpus(50, 5)
    assert captions.corpus(50, 5) == (generated, references)
    assert generated.keys() == references.keys() and {len(texts) for texts in references.values()} == {5}
    same = sum(generated[name] in references[name] for name in generated)
    assert 0 <= same < 25 and len(set(generated.values())) > 40


@needs_java
def test_a_single_video_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["captions", "--videos", "1"])
    assert stop.value.code == 2 and "--videos 1: CIDEr weighs words" in capsys.readouterr().err


def test_missing_java_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(captions, "has_java", lambda: False)
    with pytest.raises(SystemExit) as stop:
        main(["captions"])
    assert stop.value.code == 2 and "pycocoevalcap needs Java" in capsys.readouterr().err
