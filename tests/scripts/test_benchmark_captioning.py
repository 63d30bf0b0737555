"""The captioning benchmark: ratios are of the figures beside them, captions are compared, clear refusals."""

import json

import pytest
import torch

from scripts.benchmark import main
from scripts.benchmarks import captioning
from tasks.video_captioning.beam_search import CachedWords


def run(tmp_path, *options):
    out = tmp_path / "result.json"
    main(["captioning", "--small", *options, "--out", str(out)])
    return json.loads(out.read_text())


def test_ratios_are_of_the_figures_beside_them(tmp_path, capsys):
    result = run(tmp_path, "--masks", "lcaam", "multi_lcaam", "--batch", "3")
    memory = [row for row in result["rows"] if row["measures"] == "memory"]
    decoding = [row for row in result["rows"] if row["measures"] == "decoding"]
    assert [row["mask"] for row in memory] == ["none", "lcaam", "multi_lcaam"]
    for row in memory:
        assert row["of_the_step_without_mask"] == row["peak_bytes"] / memory[0]["peak_bytes"]
        assert row["peak_bytes"] > 0 and (row["batch"], row["backend"]) == (3, "auto")
    assert [row["mask"] for row in decoding] == ["lcaam", "multi_lcaam"]
    for row in decoding:
        assert row["faster_than_without_cache"] == row["seconds_without_cache"] / row["seconds"]
        assert row["tokens"] <= 20
    assert "x as fast" in capsys.readouterr().out


def test_captions_that_differ_stop_it(tmp_path, monkeypatch):
    whole = CachedWords.__call__
    monkeypatch.setattr(CachedWords, "__call__", lambda self, ids, order=None: -whole(self, ids, order))
    with pytest.raises(RuntimeError, match="none: captions with and without the cache differ"):
        run(tmp_path, "--masks", "none", "--no-memory")


def test_the_models_it_times_are_of_the_published_size():
    parser = captioning.argparse.ArgumentParser()
    captioning.options(parser)
    arguments = parser.parse_args(["--device", "meta"])
    with torch.device("meta"):
        models = {name: captioning.model_of(arguments, name).parts() for name in captioning.SCOPES}
    assert {parts["encoder"] + parts["head"] for parts in models.values()} == {
        136_106_810 - 2_167_040 - 590_592 + 524_800
    }
    # two layers 768 -> 768 and one of 768 -> 834 columns
    one = 2 * (768 * 768 + 768) + 768 * 834 + 834
    assert {name: parts["masks"] for name, parts in models.items()} == {
        "none": 0,
        "lcaam": one,
        "multi_lcaam": 12 * one,
    }


@pytest.mark.parametrize(
    "options, message",
    [
        (["--no-memory", "--no-decoding"], "leave nothing to measure"),
        (["--depth", "0"], "is not a whole number of at least 1"),
        (["--masks", "lcam"], "invalid choice: 'lcam'"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, *options)
    assert message in capsys.readouterr().err
