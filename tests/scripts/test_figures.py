"""The picture of trained masks: settings apart, layers in their order, zero said, no legend over the bars."""

import json

import pytest

from scripts.figures import after_training, layers_of, masked_runs
from tests.scripts.small_tables import run_folder


def runs(tmp_path, flips: float, depths=(1, 32)) -> list[dict]:
    analysis = {f"layer {n}/{field}": flips * n for n in (1, 2, 10) for field in ("sign_flips", "context_sensitivity")}
    for depth in depths:
        mask = {"scope": "shared", "fusion": "mul", "depth": depth}
        for seed in (0, 1):
            run_folder(
                tmp_path, "moment_retrieval", seed, {"mAP": 1.0}, "shared", mask=mask, analysis=analysis, kept=False
            )
    run_folder(tmp_path, "moment_retrieval", 0, {"mAP": 1.0}, kept=False)  # no mask
    return masked_runs(tmp_path)


def test_settings_of_one_experiment_are_not_mixed(tmp_path):
    found = runs(tmp_path, 0.01)
    assert len(found) == 4 and layers_of(found[0]) == ["layer 1", "layer 2", "layer 10"]
    figure = after_training(found)
    for axes in figure.axes:
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["layer 1", "layer 2", "layer 10"]
        assert [bar.get_height() for bar in axes.patches] == pytest.approx([0.01, 0.02, 0.1] * 2)
        assert len({bar.get_x() for bar in axes.patches}) == 6  # beside one another
        assert axes.get_legend() is None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["own_shared mask.depth=1", "own_shared mask.depth=32"]


def test_no_flips_are_said_and_not_an_empty_plot(tmp_path):
    figure = after_training(runs(tmp_path, 0.0))
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["0 in every run"] and axes.get_ylim() == (0.0, 1.0)
    figure.savefig(tmp_path / "flips.png")


def test_damaged_and_failed_records_are_left_out(tmp_path):
    found = runs(tmp_path, 0.01, depths=(1,))
    path = found[0]["folder"] / "results.json"
    path.write_text(json.dumps({"format": 1, "status": "failed"}))
    (found[1]["folder"] / "results.json").write_text("{")
    assert masked_runs(tmp_path) == []
