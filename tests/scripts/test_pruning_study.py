"""The study of pruned keys: which tests it makes, what it keeps, and the losses that it pairs."""

import csv
import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.saved import open_run
from scripts.studies import pruning
from tests.composing import CONFIGS, composed

LOSS = {("none", "attention"): 10.0, ("lcaam", "attention"): 4.0, ("lcaam", "mask"): 14.0}  # per key share of 1


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two masks with two seeds each, as train.py leaves them."""
    for mask in ("none", "lcaam"):
        for seed in (0, 1):
            cfg = composed(tmp_path, "experiment=madv2_baseline", "scale=smoke", f"mask={mask}", f"seed={seed}")
            folder = tmp_path / "logs" / mask / f"seed{seed}"
            folder.mkdir(parents=True)
            OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
            (folder / "results.json").write_text(json.dumps({"started": "2026-01-01", "status": "completed"}))
    (tmp_path / "logs" / "failed").mkdir()
    (tmp_path / "logs" / "failed" / "results.json").write_text(
        json.dumps({"started": "2026-01-02", "status": "failed"})
    )
    return tmp_path / "logs"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The tests that are asked for; each gets a score in place of an evaluation."""
    made: list[tuple] = []

    def evaluated(words):
        settings, cfg, _ = open_run(OmegaConf.load(CONFIGS / "eval.yaml"), words)
        mask = "none" if cfg.mask.scope == "none" else "lcaam"
        share, by = float(settings.prune), settings.prune_by
        made.append((mask, cfg.seed, by, share))
        output = Path(settings.output)
        output.mkdir(parents=True, exist_ok=True)
        exact = 50.0 + 10 * cfg.seed - LOSS[mask, by] * share * (1 + 0.5 * cfg.seed)
        (output / "metrics.json").write_text(json.dumps({"exact": exact, "cider": 1.0}))
        return output

    monkeypatch.setattr(pruning, "run_words", evaluated)
    monkeypatch.setattr(pruning, "setting_name", lambda cfg: f"scope {cfg.mask.scope}")
    return made


def test_losses_are_paired_with_plain_attention_and_a_csv_is_gone_on_with(runs, calls, tmp_path, capsys):
    words = [str(runs), "--csv", str(tmp_path / "p.csv")]
    pruning.main([*words, "--shares", "0.5"])
    assert len(calls) == len(set(calls)) == 2 * 2 + 2 * 4  # share 0 is tested too
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    found = {(line[0], line[1]): line[3:] for line in lines if "50 %" in line}
    # seeds 0 and 1: plain attention loses 5 and 7.5; LCAAM 2 and 3 by attention, 7 and 10.5 by mask
    assert found == {
        ("scope none", "attention"): ["2", "48.75", ""],
        ("scope shared", "attention"): ["2", "52.50", "+3.75 [-5.78, +13.28], n = 2"],
        ("scope shared", "mask"): ["2", "46.25", "-2.50 [-8.85, +3.85], n = 2"],
    }
    rows = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert len(rows) == 12 and {row["metric"] for row in rows} == {"exact"}
    changes = [float(row["value"]) for row in rows if row["by"] == "attention" and row["masked"] == "1"]
    assert sorted(changes) == [48.0, 50.0, 57.0, 60.0]

    lines = (tmp_path / "p.csv").read_text().splitlines(keepends=True)
    (tmp_path / "p.csv").write_text("".join(lines)[:-9])  # as if killed while it wrote its last test
    pruning.main([*words, "--shares", "0.5"])
    assert calls[12:] == calls[11:12] and (tmp_path / "p.csv").read_text() == "".join(lines)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--shares", "1"], "--shares 1: must be at least 0 and below 1"),
        (["--csv", "nowhere/p.csv"], "--csv: there is no folder nowhere"),
        (["--metric", "exakt"], "--metric: exakt is not a metric of .*did you mean 'exact'"),
    ],
)
def test_wrong_arguments_are_refused(runs, calls, words, message, tmp_path, capsys):
    given = [str(runs), *words] if "--csv" in words else [str(runs), "--csv", str(tmp_path / "p.csv"), *words]
    with pytest.raises(SystemExit) as caught:
        pruning.main(given)
    assert re.search(message, f"{caught.value} {capsys.readouterr().err}") and not calls


def test_another_file_is_not_taken_for_a_table(runs, calls, tmp_path):
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="not a table of these runs"):
        pruning.main([str(runs), "--csv", str(tmp_path / "p.csv")])
    assert (tmp_path / "p.csv").read_text() == "a,b\n1,2\n" and not calls
