"""Whole runs at the smoke scale, through train.py, eval.py and the command that writes text."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.saved import open_run
from configs.schema import validate
from eval import evaluate
from scripts import generate
from tests.composing import CONFIGS, composed
from tests.tasks.language_model.small import TEXT
from tests.tiers import slow
from train import train

QUICK = ("scale=smoke", "logger=csv", "callbacks=checkpoint", "floors.enabled=false")


def record_of(folder: str | Path) -> dict:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, generated: Path):
    """A run on a text file, whose mask reads any length; its configuration."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "own.txt").write_text(TEXT, encoding="utf-8")
    mask = ("mask.length=content", "task.positions=alibi", f"data.files=[{folder}/own.txt]", "data.parts=[0.8,0.1,0.1]")
    cfg = composed(folder, "experiment=shakespeare_multi_lcaam", *QUICK, *mask, data=generated)
    train(cfg)
    return cfg


def evaluated(cfg, *changes: str) -> dict:
    output = evaluate(*open_run(OmegaConf.load(CONFIGS / "eval.yaml"), [f"run={cfg.paths.run_dir}", *changes]))
    return json.loads((output / "metrics.json").read_text())


def test_a_run_stands_beside_its_floors(compose_run) -> None:
    cfg = compose_run("experiment=shakespeare_lcaam", "scale=smoke", "logger=csv", "seed=3")
    cfg.callbacks.figures = None
    train(cfg)
    record, folder = record_of(cfg.paths.run_dir), Path(cfg.paths.run_dir)
    assert (record["status"], record["seed"]) == ("completed", 3)
    metrics = record["metrics"]
    assert metrics.keys() == {"loss", "bits_per_character", "perplexity", "test_loss", "train_loss"}
    assert metrics["loss"] == metrics["test_loss"]
    floors = {name: found["loss"] for name, found in record["floors"].items()}
    assert floors.keys() == {"uniform", "constant", "bigram", "input_blind", "ceiling"}
    assert floors["uniform"] > floors["constant"] > floors["bigram"] > floors["ceiling"] > 0
    assert record["parameters"]["masks"] > 0 and record["flops"] > 0
    rows = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
    assert sum(row["loss"] * row["characters"] for row in rows) / 149 == pytest.approx(metrics["loss"], rel=1e-5)
    header = (folder / "metrics.csv").read_text().split("\n")[0].split(",")
    assert {"val/loss", "val/bits_per_character", "val/perplexity", "masks/layer 2/sign_flips"} <= set(header)


@pytest.mark.slow
def test_it_learns_more_than_a_bigram_knows(compose_run, tmp_path: Path) -> None:
    """The words of the text come in one order."""
    (tmp_path / "own.txt").write_text(TEXT, encoding="utf-8")
    settings = ("task.lr=0.01", "trainer.max_steps=600", "trainer.val_check_interval=600", "data.parts=[0.8,0.1,0.1]")
    cfg = compose_run("experiment=shakespeare_baseline", *QUICK, f"data.files={tmp_path}/own.txt", *settings)
    cfg.floors.enabled, cfg.floors.max_steps = True, 1
    train(cfg)
    record = record_of(cfg.paths.run_dir)
    assert record["metrics"]["loss"] < record["floors"]["bigram"]["loss"]
    assert "ceiling" not in record["floors"]


def test_it_is_tested_on_a_longer_context_and_on_another_text(run, tmp_path: Path, caplog) -> None:
    own = record_of(run.paths.run_dir)["metrics"]["loss"]
    assert evaluated(run, "data.context=40")["loss"] != pytest.approx(own, rel=1e-6)
    (tmp_path / "other.txt").write_text(TEXT.replace("f", "é"), encoding="utf-8")
    caplog.clear()
    evaluated(run, f"data.files={tmp_path}/other.txt")
    assert "characters of the test are not in the training text: they are read as blanks" in caplog.text


def test_what_the_weights_do_not_fit_is_refused(run, compose_run) -> None:
    with pytest.raises(ConfigError, match="task.positions: rotary: the run was trained with alibi"):
        evaluated(run, "task.positions=rotary")


@pytest.mark.slow
def test_columns_end_where_training_ended(compose_run) -> None:
    cfg = compose_run("experiment=shakespeare_lcaam", *QUICK, "task.positions=none", "trainer.max_steps=1")
    train(cfg)
    with pytest.raises(ConfigError, match="a context of 17 characters: the mask has 16 columns"):
        evaluated(cfg, "data.context=17")
    assert evaluated(cfg, "data.context=9")["loss"] > 0


def test_a_trained_model_writes(run, capsys) -> None:
    module = generate.load(run.paths.run_dir)
    texts = [
        generate.continued(module, "ab", 30, **options)
        for options in ({"seed": 0}, {"seed": 0, "cache": False}, {"seed": 1}, {"context": 40, "stride": 7})
    ]
    assert all(len(text) == 30 and set(text) <= set(module.vocabulary.characters) for text in texts)
    assert texts[0] == texts[1] != texts[2]
    generate.main([str(run.paths.run_dir), "--prompt", "ab", "--characters", "30", "--samples", "2"])
    assert capsys.readouterr().out == f"ab{texts[0]}\nab{texts[2]}\n"
    for prompt, message in (
        ("aXbY", "^--prompt: the model does not know 'XY'; its 8 characters are ' abcdefg'$"),
        ("", "^--prompt: empty; give at least one character$"),
    ):
        with pytest.raises(ConfigError, match=message):
            generate.continued(module, prompt, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        slow(["--temperature", "-1"], "generate: temperature is a finite number, at least 0, got -1.0"),
        slow(["--device", "nowhere"], "--device nowhere: "),
    ],
)
def test_what_cannot_be_written_is_told(run, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as told:
        generate.main([str(run.paths.run_dir), "--prompt", "a", *words])
    assert str(told.value).startswith(message) and "\n" not in str(told.value)


def test_a_run_of_another_task_is_refused(run, tmp_path: Path) -> None:
    cfg = OmegaConf.load(Path(run.paths.run_dir) / "config.yaml")
    cfg.task._target_ = "tasks.image_classification.module.ImageClassification"
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    with pytest.raises(SystemExit, match="a run of tasks.image_classification.module.ImageClassification, not of the"):
        generate.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="there is no such run.s folder or checkpoint"):
        generate.main([str(tmp_path / "nowhere")])


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (
            ["task.relative=cope", "task.backend=sdpa", "task.positions=rotary", "task.width=12", "mask.num_keys=8"],
            [
                "task.backend: sdpa computes softmax attention, not task.relative=cope; allowed: auto, reference",
                "task.positions: rotary with task.relative=cope, which are positions within attention too",
                "task.positions: rotary turns pairs of features, and a head has 3 (task.width=12 / task.heads=4)",
                "mask.num_keys: 8 is fewer than the 64 keys of the data",
            ],
        ),
        (
            ["data.parts=[0.9,0.2,0.0]", "task.positions=lerned"],
            [
                "data.parts: [0.9, 0.2, 0.0] is out of range; allowed: three shares that add up to 1",
                "task.positions: 'lerned' is not one of",
            ],
        ),
    ],
)
def test_settings_that_do_not_go_together_are_told(compose_run, overrides: list[str], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        validate(compose_run("experiment=shakespeare_lcaam", "scale=mini", *overrides))
    assert [message for message in messages if message not in str(told.value)] == []


@pytest.mark.parametrize("relative", [slow("entmax15"), slow("cope")])
def test_a_relative_runs_whole(compose_run, relative: str) -> None:
    cfg = compose_run("experiment=shakespeare_multi_lcaam", "scale=smoke", "logger=csv", f"task.relative={relative}")
    train(cfg)
    record = record_of(cfg.paths.run_dir)
    assert record["status"] == "completed" and record["analysis"] == {}


@pytest.mark.slow
def test_the_study_trains_both_models(tmp_path: Path, monkeypatch, capsys) -> None:
    from scripts.studies import character_model

    (tmp_path / "own.txt").write_text(TEXT * 10, encoding="utf-8")
    out = tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", ["character_model", str(tmp_path / "own.txt"), "--steps", "40", "--out", str(out)])
    character_model.main()
    (row,) = json.loads(out.read_text())["rows"]
    assert "difference" in capsys.readouterr().out
    assert 0 < row["plain"] < 2.5 and abs(row["plain"] - row["project"]) < 0.3
    torch.set_num_threads(1)
