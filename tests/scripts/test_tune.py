"""A search of learning rates: one grid for every row, the best mean on validation, and files that train.py reads."""

import json
import math
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.identity import identity
from scripts.tune import __main__ as command
from scripts.tune import found, search
from scripts.tune.search import Row, Search, base_of, read
from tests.composing import CONFIGS, composed

GIVEN = ["imagenet1k", "--scale", "smoke", "--factors", "3", "1", "--seeds", "5", "6", "--masks", "lcaam"]


def searched(log_dir: Path, **others) -> Search:
    task, base, _ = base_of("imagenet1k", "smoke")
    settings = dict(
        experiment="imagenet1k",
        task=task,
        scale="smoke",
        factors=(1.0, 3.0),
        seeds=(5, 6),
        metric="val/loss",
        lowest=True,
        base=base,
        max_steps=None,
        further=(f"paths.log_dir={log_dir}",),
    )
    return Search(**settings | others)


def recorded(one: Search, row: Row, factor: float, seed: int, value: float | None, error: str | None = None) -> None:
    """Writes the record of a run that ended with `value`."""
    cfg = search.composed(*one.fixed(), *row.overrides(factor), f"seed={seed}")
    folder = Path(cfg.paths.log_dir) / cfg.name / cfg.scale_name / f"seed{seed}" / f"{row.mask}{factor}"
    folder.mkdir(parents=True)
    fields = {"format": 1, "identity": identity(cfg), "started": "2026-01-01", "metrics": {}}
    fields |= {"status": "failed" if error else "completed", "error": {"type": error} if error else None}
    fields |= {"optimized": {} if value is None else {one.metric: value}}
    (folder / "results.json").write_text(json.dumps(fields), encoding="utf-8")


@pytest.fixture(autouse=True)
def _composed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are read once per choice of files."""
    monkeypatch.setattr(search, "composed", lambda *overrides: composed(tmp_path, *overrides))


def test_values_are_read_by_identity_and_a_diverged_run_is_the_worst(tmp_path: Path):
    one, row = searched(tmp_path), Row("none", 2e-3)
    recorded(one, row, 1.0, 5, 0.5)
    recorded(one, row, 3.0, 5, None, error="NonFiniteLossError")
    recorded(one, row, 3.0, 6, None, error="KeyboardInterrupt")

    read(one, row)
    assert row.values == {1.0: [0.5, None], 3.0: [math.inf, None]}
    assert row.missing() == 2
    most = searched(tmp_path, lowest=False)
    assert read(most, row).values[3.0] == [-math.inf, None]


@pytest.mark.parametrize(
    "values, lowest, best",
    [
        ({0.1: [4.0, 2.0], 1.0: [3.0, 4.0]}, True, 0.1),
        ({0.1: [4.0, 2.0], 1.0: [3.0, 4.0]}, False, 1.0),
        ({0.1: [1.0, 1.0], 3.0: [1.0, 1.0]}, True, 3.0),  # of equal ones that next to 1
        ({1.0: [2.0, math.inf], 3.0: [9.0, 9.0]}, True, 3.0),
        ({1.0: [2.0, -math.inf], 3.0: [1.0, 1.0]}, False, 3.0),
    ],
)
def test_the_best_mean_is_chosen(values: dict, lowest: bool, best: float):
    assert Row("lcaam", 1e-3, values).best(lowest) == best


def test_what_is_found_is_written_and_read_by_train(tmp_path: Path, monkeypatch, capsys):
    """The whole way, with records in place of runs: missing, run, written, composed."""
    one = searched(tmp_path / "logs")
    root = tmp_path / "project"
    (root / "docs" / "results").mkdir(parents=True)
    monkeypatch.setattr(found, "ROOT", root)
    monkeypatch.setattr(search, "RESULTS", root / "docs" / "results")
    calls = []

    def pretended(_, rows: list[Row]) -> None:
        calls.append([row.mask for row in rows])
        for row in rows:
            for seed in (5, 6):
                recorded(one, row, 1.0, seed, 0.25 if row.mask == "none" else 0.5)
                recorded(one, row, 3.0, seed, 0.125 * seed if row.mask == "none" else 0.25)

    monkeypatch.setattr(command, "run", pretended)

    def called(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["tune", *GIVEN, *words, "--set", f"paths.log_dir={tmp_path}/logs"])
        return command.main(), capsys.readouterr().out

    assert called() == (1, "4 runs are missing (mask none); --run runs them\n")
    status, told = called("--run")
    assert (status, calls) == (0, [["none"], ["lcaam"]])
    assert "| none | **0.2500, 0.2500** | 0.6250, 0.7500 | task.lr=0.002 (the grid's edge) |" in told
    assert "| lcaam | 0.5000, 0.5000 | **0.2500, 0.2500** | mask.lr_scale=3 (the grid's edge) |" in told
    assert told.startswith((root / "docs/results/tuned_image_classification_smoke.md").read_text(encoding="utf-8"))
    assert called()[0] == 0 and len(calls) == 2  # nothing is missing any more
    assert "python -m scripts.tune imagenet1k --masks lcaam --scale smoke --factors 3 1 --seeds 5 6 --set" in told

    shutil.rmtree(tmp_path / "logs")  # another machine: the csv file knows, and other masks join the table
    assert called()[0] == 0 and len(calls) == 2
    status, more = called("--run", "--masks", "table")
    assert (status, calls[2:]) == (0, [["table"]])
    assert [line.split(" ")[1] for line in more.splitlines() if line.startswith("| ")][2:] == ["none", "table", "lcaam"]

    folder = root / "configs" / "tuned" / "smoke" / "image_classification"
    assert OmegaConf.load(folder / "none.yaml").task.lr == 0.002
    written = OmegaConf.merge(OmegaConf.load(folder / "lcaam.yaml"), {"mask": {"fusion": "mul"}})
    assert (written.task.lr, written.mask.lr_scale) == (0.002, 3)
    written.mask.fusion = "add"  # was not searched
    assert written.mask.lr_scale == 1
    status, more = called("--run", "--masks", "lcaam:add", "lcaam:mul")
    assert (status, calls[3:]) == (0, [["lcaam:add"]]) and "| lcaam:add | " in more
    merged = [OmegaConf.merge(OmegaConf.load(folder / "lcaam.yaml"), {"mask": {"fusion": f}}) for f in ("mul", "add")]
    assert [one.mask.lr_scale for one in merged] == [3, 3]


TUNED = sorted(path for path in (CONFIGS / "tuned").glob("*/*/*.yaml") if path.parts[-3] != "data")
EXPERIMENTS = {
    "audio_description": "madv2",
    "moment_retrieval": "qvhighlights",
    "image_classification": "imagenet1k",
    "video_captioning": "msrvtt",
    "language_model": "shakespeare",
}


@pytest.mark.parametrize("path", TUNED, ids=lambda path: "/".join(path.parts[-3:]))
def test_what_is_tuned_is_what_a_run_with_this_mask_gets(path: Path, tmp_path: Path):
    scale, task, mask = *path.parts[-3:-1], path.stem
    words = [f"experiment={EXPERIMENTS[task]}_baseline", f"scale={scale}", f"mask={mask}"]
    tuned, cfg = OmegaConf.load(path), composed(tmp_path, *words)

    assert cfg.task.lr == tuned.task.lr
    if mask == "none":
        assert cfg.mask.lr_scale == 1.0
    else:
        assert cfg.mask.lr_scale == OmegaConf.merge(tuned, {"mask": {"fusion": cfg.mask.fusion}}).mask.lr_scale
    assert composed(tmp_path, *words, "mask.lr_scale=7", "task.lr=0.5").mask.lr_scale == 7
    assert (CONFIGS.parent / "docs" / "results" / f"tuned_{task}_{scale}.md").is_file()


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["imagenet"],
            "experiment: there is no 'imagenet'; did you mean 'imagenet1k'?; allowed: ",
        ),
        (["madv2", "--masks", "lcam"], "--masks: there is no 'lcam'; did you mean 'lcaam'?"),
        (["madv2", "--masks", "lcaam:plus"], "--masks: fusion: there is no 'plus'"),
        (["madv2", "--masks", "lcaam", "lcaam:mul"], "--masks: a value is given twice"),
        (["madv2", "--scale", "tiny"], "--scale: there is no 'tiny'"),
        (["madv2", "--factors", "1", "1"], "--factors: a value is given twice"),
        (["madv2", "--factors", "0"], "--factors: must be finite numbers above 0"),
        (["madv2", "--steps", "2"], "--steps: must be above 0 and at most 1, got 2"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], message: str, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tune", *words])
    with pytest.raises(SystemExit):
        command.main()
    assert message in capsys.readouterr().err


def test_the_search_starts_from_the_scales_own_rate():
    assert base_of("madv2", "mini") == ("audio_description", 2.0e-3, 1000)


def test_a_search_that_has_ended_begins_where_it_began(tmp_path: Path):
    """The language model's scale has no rate of its own, and the one that was found is ten times as high."""
    assert composed(tmp_path, "experiment=shakespeare_baseline", "scale=mini").task.lr == 0.01
    assert base_of("shakespeare", "mini") == ("language_model", 1.0e-3, 2000)


def test_a_data_set_with_a_recipe_of_its_own_has_a_rate_and_a_folder_of_its_own(tmp_path: Path):
    assert base_of("cifar10", "mini") == ("cifar10", 2.0e-3, 3000)
    assert base_of("imagenet1k", "mini", ["data=cifar10"])[0] == "cifar10"
    assert searched(tmp_path, task="cifar10", scale="mini").folder == "tuned/data/mini/cifar10"
    assert searched(tmp_path, scale="mini").folder == "tuned/mini/image_classification"
    assert search.rounded(2.0e-3 * 0.3) == 6e-4
