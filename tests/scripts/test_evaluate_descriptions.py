"""The command that scores descriptions of any model: what it reads, prints and writes, and what it refuses."""

import csv
import json

import numpy as np
import pytest

from scripts.evaluate_descriptions import evaluate
from tasks.audio_description.metrics import neighbour_recalls, recall_over_movies
from tasks.audio_description.scorers import BERTScore, RougeL, TokenF1
from tasks.common.captions import score_captions
from tests.programs import started
from tests.tasks.audio_description.predictions import FAST, as_rows, refused, score, table, write
from tests.tasks.audio_description.test_scorers import write_bert
from tests.tiers import slow


def test_the_scores_are_those_of_the_functions_that_own_them(tmp_path):
    rows = table()
    found = score(write(tmp_path / "P.csv", rows[::-1]), *FAST, "--per-movie")
    by_movie = {"0000": as_rows(rows[:16]), "0010": as_rows(rows[16:])}
    recalls = neighbour_recalls(as_rows(rows), scorers=[RougeL(), TokenF1()])
    for name, own, expected in (
        ("total", found["total"], recalls.total()),
        *((movie, found["movies"][movie], recalls.per_movie()[movie]) for movie in by_movie),
    ):
        chosen = by_movie.get(name, as_rows(rows))
        captions = score_captions(
            {str(i): row["generated"] for i, row in enumerate(chosen)},
            {str(i): [row["reference"]] for i, row in enumerate(chosen)},
            ["rouge_l"],
        )
        exact = 100 * np.mean([row["generated"] == row["reference"] for row in chosen])
        assert own == pytest.approx({"sentences": len(chosen), "exact": exact} | captions | expected)
    assert list(found["movies"]) == ["0000", "0010"]


@pytest.mark.parametrize("chosen", [slow(()), ("--metrics", "bleu", "rouge_l", "cider")], ids=["all", "no METEOR"])
def test_the_module_prints_and_writes_its_scores(tmp_path, chosen):
    path = write(tmp_path / "P.csv", table((16, 3)))
    outputs = {name: tmp_path / f"scores.{name}" for name in ("json", "csv")}
    options = [part for name, out in outputs.items() for part in (f"--{name}", str(out))]
    run = started("-m", "scripts.evaluate_descriptions", "--predictions", str(path), "--per-movie", *options, *chosen)
    assert run.returncode == 0, run.stderr
    total = json.loads(outputs["json"].read_text())["total"]
    base = {name.removesuffix("_plain") for name in total}
    assert {"bleu_1", "bleu_4", "rouge_l", "cider", "exact", "sentences"} < base
    assert {f"R@{k}/16[{name}]" for k in (1, 5) for name in ("rougeL", "tokenF1")} < base
    cells = [[cell.strip() for cell in line.split("│")] for line in run.stdout.splitlines() if "│" in line]
    shown = {row[1]: row[2] for row in cells if len(row) == 4}
    assert set(shown) == set(total)
    assert shown["R@5/16[rougeL]"] == f"{total['R@5/16[rougeL]']:.2f}" and shown["sentences"] == "19"
    assert any(row[1] == "0010" and row[2] == "3" and row[-2] == "-" for row in cells)
    written = list(csv.DictReader(outputs["csv"].open(newline="")))
    assert [row["movie"] for row in written] == ["0000", "0010", "total"]
    assert float(written[2]["R@1/16[tokenF1]"]) == total["R@1/16[tokenF1]"]
    assert written[1]["R@1/16[tokenF1]"] == "" and written[0]["sentences"] == "16"
    assert "1 of 2 movies have fewer than 16 sentences" in run.stderr and "0010 (3)" in run.stderr


def test_all_options_reach_the_recall(tmp_path):
    rows = table((9, 12))
    found = score(
        write(tmp_path / "P.csv", rows), *FAST, "--k", "1", "3", "--n", "4", "--ties", "topk", "--scorers", "tokenF1"
    )
    expected = recall_over_movies(as_rows(rows), (1, 3), 4, scorers=[TokenF1()], ties="topk")
    assert {name: value for name, value in found["total"].items() if "R@" in name} == pytest.approx(expected)
    assert found["ties"] == "topk" and found["scorers"] == ["tokenF1"]


def test_bert_score_by_folder(tmp_path):
    rows = table()
    encoder = write_bert(tmp_path / "bert")
    path = write(tmp_path / "P.csv", rows)
    found = score(path, "--metrics", "--scorers", f"BERTScore={encoder}", "--layer", "2")
    expected = recall_over_movies(as_rows(rows), scorers=[BERTScore(encoder, 2)])
    assert found["total"] == pytest.approx({"sentences": 36, "exact": 50} | expected)
    assert "R@5/16[BERTScore]" in expected
    assert found["scorers"] == [f"BERTScore={encoder}"] and found["layer"] == 2


@pytest.mark.parametrize(
    "options, message",
    [
        (("--scorers", "rouge"), "no scorer 'rouge', only rougeL, tokenF1, BERTScore; did you mean 'rougeL'"),
        (("--scorers", "rougeL", "rougeL"), "every scorer needs a name of its own, got rougeL, rougeL"),
        (("--scorers", "BERTScore=./nowhere"), "BERTScore: './nowhere' is neither a folder with an encoder"),
        (("--metrics", "ciderr"), "there is no caption metric 'ciderr'"),
        (("--k", "17"), "between 1 and n=16"),
        (("--n", "1"), "n >= 2"),
        (("--json", "{folder}"), "--json must be a file"),
        (("--csv", "{folder}/P.csv"), "--csv would overwrite the predictions"),
        (("--json", "{folder}/S", "--csv", "{folder}/x/../S"), "--json and --csv are one file"),
    ],
)
def test_options_that_cannot_be_are_named(tmp_path, capsys, options, message):
    path = write(tmp_path / "P.csv", table((16,)))
    before = path.read_bytes()
    assert message in refused(capsys, path, *(option.format(folder=tmp_path) for option in options))
    assert path.read_bytes() == before


def test_from_python(tmp_path):
    rows = as_rows(table())
    assert evaluate(rows, scorers=[], metrics=[]) == {"total": {"sentences": 36, "exact": 50.0}}
