"""The benchmark of the kept prefix: both ways write the same words, and a difference stops it."""

import json

import pytest
import torch

from scripts.benchmark import main
from scripts.benchmarks import describing
from tasks.audio_description.prefix import Prompts


def run(tmp_path, *options):
    main(["describing", "--small", *options, "--out", str(tmp_path / "result.json")])
    return json.loads((tmp_path / "result.json").read_text())["rows"]


def test_the_ratio_is_of_the_figures_beside_it(tmp_path, capsys):
    rows = run(tmp_path, "--batch", "1", "3", "--words", "4", "--repeats", "1")
    assert [row["batch"] for row in rows] == [1, 3]
    for row in rows:
        assert row["as_fast"] == row["seconds_projecting_per_word"] / row["seconds"] > 0
    assert "x as fast" in capsys.readouterr().out


def test_one_way_projects_once_per_layer_and_the_other_for_each_word(tmp_path, monkeypatch):
    counts = []

    def counted(self, *arguments, own=Prompts.read):
        before = dict(self.kept)
        pair = own(self, *arguments)
        counts.append((type(self).__name__, arguments[1] not in before))
        return pair

    monkeypatch.setattr(Prompts, "read", counted)
    run(tmp_path, "--batch", "1", "--words", "5", "--layers", "2", "--repeats", "1")
    assert counts.count(("Prompts", True)) == 2 and counts.count(("Prompts", False)) == 2 * 4
    assert counts.count(("Forgetful", True)) == 2 * 5


def test_words_that_differ_stop_it(tmp_path, monkeypatch):
    timed = describing.timed
    monkeypatch.setattr(
        describing, "timed", lambda llm, prefix, words: (timed(llm, prefix, words)[0] + torch.rand(1), 1.0)
    )
    with pytest.raises(RuntimeError, match="projected once and per word differ"):
        run(tmp_path, "--batch", "1", "--words", "2", "--repeats", "1")
