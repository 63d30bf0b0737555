"""The report's numbers against hand-computed ones; what is missing is reported."""

import json
from pathlib import Path

import pytest

from scripts.report import groups, load, names, report
from tests.programs import started

ROOT = Path(__file__).resolve().parents[2]


def run(experiment="base", seed=0, cider=1.0, status="completed", started="2026-01-01T00:00:00", **changes):
    record = {
        "format": 1,
        "status": status,
        "experiment": experiment,
        "scale": "mini",
        "seed": seed,
        "mask": {"scope": "none"},
        "data": {"root": "/somewhere", "sounds": "tones"},
        "places": ["root", "num_workers", "speech_dir"],
        "parameters": {"encoder": 10, "masks": 2},
        "tested": "last",
        "metrics": {"cider": cider},
        "floors": {"constant": {"cider": 0.5}},
        "seconds": {"fit": 3.0},
        "started": started,
    }
    return record | changes


def test_means_deviations_and_paired_differences_equal_hand_computed_ones():
    runs = [run(seed=s, cider=c) for s, c in enumerate((1.0, 2.0, 6.0))]
    runs += [run("masked", seed=s, cider=c) for s, c in enumerate((2.0, 4.0, 9.0))]
    text = report(runs, ["cider"], "base")
    assert "| base | 3 | 3.00 ± 2.65 | 12 | 3 |" in text
    assert "| *constant* |  | 0.50 |" in text
    # differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.484
    assert "| masked | 3 | +2.00 [-0.48, +4.48] |" in text


def test_only_common_seeds_are_paired():
    runs = [run(seed=s, cider=float(s)) for s in (0, 1, 2)] + [run("masked", seed=s, cider=9.0) for s in (1, 2, 3)]
    assert "| masked | 2 | +7.50" in report(runs, None, "base")
    assert "| masked | 0 | - |" in report([run(seed=0), run("masked", seed=1)], None, "base")


def test_a_seed_that_ran_twice_counts_once_with_its_latest_run():
    runs = [run(seed=0, cider=1.0), run(seed=0, cider=5.0, started="2026-01-02T00:00:00")]
    (group,) = groups(runs)
    assert group[0]["metrics"]["cider"] == 5.0


def test_groups_are_named_by_what_differs():
    runs = [run(), run(seed=1, data={"root": "/elsewhere", "sounds": "tones"})]
    runs += [run(data={"root": "/somewhere", "sounds": "speech"})]
    text = report(runs, None, None)
    assert "| base data.sounds=tones | 2 |" in text
    assert "| base data.sounds=speech | 1 |" in text


REAL = {"root": "/somewhere", "mini": None}


@pytest.mark.parametrize(
    ("one", "other", "labels"),
    [
        ({"task": {"lr": 0.1}}, {"task": {"lr": 0.2}}, ["base task.lr=0.1", "base task.lr=0.2"]),
        (
            {"task": {"llm": {"a": {"b": 1}, "c": 5}}},
            {"task": {"llm": {"a": {"b": 2}, "c": 5}}},
            ["base task.llm.a.b=1", "base task.llm.a.b=2"],
        ),
        ({"task": {"betas": [0, 1]}}, {"task": {}}, ["base task.betas=[0, 1]", "base task.betas=None"]),
        (
            {"trainer": {"max_steps": 10}},
            {"trainer": {"max_steps": 20}},
            ["base trainer.max_steps=10", "base trainer.max_steps=20"],
        ),
        ({"task": {"lr": 0.1}}, {}, ["base", "base task=unknown"]),
        ({"parameters": {"encoder": 9, "masks": 2}}, {}, ["base parameters.encoder=9", "base parameters.encoder=10"]),
        ({"tested": "best"}, {}, ["base tested=best", "base tested=last"]),
        (
            {"mask": {"scope": "none", "depth": 3}, "parameters": {"masks": 3}},
            {"mask": {"scope": "none", "depth": 4}, "parameters": {"masks": 4}},
            ["base mask.depth=3", "base mask.depth=4"],
        ),
        (
            {"places": ["num_workers"], "data": REAL},
            {"places": ["num_workers"], "data": REAL | {"root": "/other"}},
            ["base data.root=/somewhere", "base data.root=/other"],
        ),
        ({"scale": "smoke", "task": {"lr": 1}}, {"task": {"lr": 2}}, ["base scale=smoke", "base scale=mini"]),
    ],
)
def test_runs_that_are_no_seeds_of_one_another_are_apart_and_named_by_what_differs(one, other, labels):
    found = groups([run(seed=0, **one), run(seed=1, **other)])
    assert names(found) == labels


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {}),
        ({"task": {"lr": 0.1}}, {"task": {"lr": 0.1}}),
        ({"trainer": {"profiler": "simple"}}, {"trainer": {"log_every_n_steps": 3}}),
        ({"data": {"root": "/a", "mini": {"n": 1}}}, {"data": {"root": "/b", "mini": {"n": 1}}}),
    ],
)
def test_runs_that_differ_in_nothing_a_result_depends_on_are_one_group(one, other):
    assert names(groups([run(seed=0, **one), run(seed=1, **other)])) == ["base"]


def test_the_baseline_has_the_same_scale_data_task_and_trainer_settings():
    """A baseline of another scale comes first in the list, and its scores are far off."""
    runs = [run(seed=s, cider=100.0, scale="smoke", started="2025-01-01T00:00:00") for s in (0, 1)]
    for lr, start in ((0.1, 1.0), (0.2, 50.0)):
        settings = {"task": {"lr": lr}, "trainer": {"max_steps": 10}}
        runs += [run(seed=s, cider=start + s, **settings) for s in (0, 1)]
        runs += [run("masked", s, start + s + 1.0, mask={"scope": "shared"}, **settings) for s in (0, 1)]
    text = report(runs, ["cider"], "base").split("Difference")[1]
    assert "| masked scale=mini task.lr=0.1 | 2 | +1.00 [+1.00, +1.00] |" in text
    assert "| masked scale=mini task.lr=0.2 | 2 | +1.00 [+1.00, +1.00] |" in text
    assert "| base" not in text
    assert "no baseline" not in text


@pytest.mark.parametrize(
    "changes",
    [{"scale": "smoke"}, {"data": {"sounds": "speech"}}, {"task": {"lr": 9}}, {"trainer": {"max_steps": 9}},
     {"tested": "best"}],
)  # fmt: skip
def test_a_group_without_a_baseline_of_its_kind_has_no_difference_and_says_why(changes):
    runs = [run(seed=s) for s in (0, 1)] + [run("masked", seed=s, **changes) for s in (0, 1)]
    text = report(runs, ["cider"], "base").split("Difference")[1]
    row = next(line for line in text.splitlines() if line.startswith("| masked"))
    assert row.endswith("| - | - |")
    assert "no baseline with the same data and settings" in text


def test_of_several_baselines_the_maskless_one_is_taken_and_otherwise_none():
    runs = [run(seed=s, cider=float(s)) for s in (0, 1)]
    runs += [run(seed=s, cider=100.0, mask={"scope": "shared"}) for s in (0, 1)]
    runs += [run("masked", seed=s, cider=1.0 + s, mask={"scope": "tied"}) for s in (0, 1)]
    assert "| masked | 2 | +1.00" in report(runs, ["cider"], "base")
    for changed in runs[:2]:
        changed["mask"] = {"scope": "per_layer"}
    text = report(runs, ["cider"], "base")
    assert "| masked | - | - |" in text
    assert "masked: several baselines with the same data and settings" in text


def test_a_metric_that_some_runs_lack_is_counted_where_it_is():
    """Missing as a key in one run, null (a NaN) in another; the row's own numbers are seeds and common seeds."""
    runs = [run(seed=s, cider=float(s)) for s in (0, 1, 2)]
    runs += [run("masked", seed=s, cider=1.0 + s) for s in (0, 1, 2)]
    runs[0]["metrics"] = {"own": 1.0}
    runs[4]["metrics"] = {"cider": None, "own": 2.0}
    runs[4]["floors"] = {"constant": {"cider": None}}
    text = report(runs, ["cider", "own"], "base")
    assert "| base | 3 | 1.50 ± 0.71 (n=2) | 1.00 (n=1) |" in text
    assert "| masked | 3 | 2.00 ± 1.41 (n=2) | 2.00 (n=1) |" in text
    assert "| masked | 3 | - | - |" in text  # one pair has cider, none has own
    runs[4]["metrics"] = {"cider": 2.5}
    assert "| masked | 3 | +1.25 [-1.93, +4.43] (n=2) | - |" in report(runs, ["cider", "own"], "base")


def test_floors_that_differ_say_whose_they_are():
    runs = [run(task={"lr": 1}), run(task={"lr": 2}, floors={"constant": {"cider": 0.75}})]
    text = report(runs, ["cider"], None)
    assert "| *constant* of base task.lr=1 |  | 0.50 |" in text
    assert "| *constant* of base task.lr=2 |  | 0.75 |" in text


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        ({"fast_dev_run": True}, "trainer.fast_dev_run=True"),
        ({"overfit_batches": 3}, "trainer.overfit_batches=3"),
        ({"limit_test_batches": 2, "overfit_batches": 0.0}, "trainer.limit_test_batches=2"),
    ],
)
def test_debug_runs_are_named_and_not_counted(tmp_path, trainer, said):
    write(tmp_path, [run(trainer={"fast_dev_run": False, "limit_val_batches": None}), run(trainer=trainer)])
    runs, others = load(tmp_path)
    assert len(runs) == 1
    assert others == [f"{tmp_path}/1/results.json: debug run ({said})"]


def write(folder, records):
    for number, record in enumerate(records):
        (folder / str(number)).mkdir()
        (folder / str(number) / "results.json").write_text(json.dumps(record))


def test_unfinished_runs_are_named_and_not_counted(tmp_path):
    write(tmp_path, [run(), run(seed=1, status="failed"), run(seed=2, format=99)])
    runs, others = load(tmp_path)
    assert len(runs) == 1
    assert any("failed" in line for line in others)
    assert any("format 99" in line for line in others)


def test_an_empty_folder_is_an_error_a_shell_can_see(tmp_path):
    done = started("-m", "scripts.report", str(tmp_path))
    assert done.returncode == 1
    assert "no completed run" in done.stderr


def test_an_unknown_baseline_names_what_there_is():
    with pytest.raises(ValueError, match="no completed run of the baseline 'bose'; there are base"):
        report([run()], None, "bose")


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_damaged_record_is_listed_and_the_others_count(tmp_path, text) -> None:
    (tmp_path / "results.json").write_text(text)
    runs, others = load(tmp_path)
    assert runs == [] and len(others) == 1 and str(tmp_path / "results.json") in others[0]


def test_an_unknown_metric_is_an_error_with_the_nearest(tmp_path):
    runs = [run(metrics={"mAP": 1.0, "HD mAP": 2.0})]
    with pytest.raises(
        ValueError, match=r"^no run has the metric 'map'; did you mean 'mAP'\? \(metrics: mAP, HD mAP\)"
    ):
        report(runs, ["HD mAP", "map"], None)
    (tmp_path / "results.json").write_text(json.dumps(runs[0]), encoding="utf-8")
    done = started("-m", "scripts.report", str(tmp_path), "--metrics", "map", folder=ROOT)
    assert done.returncode == 1 and "no run has the metric 'map'; did you mean 'mAP'?" in done.stderr
    assert done.stdout == ""
