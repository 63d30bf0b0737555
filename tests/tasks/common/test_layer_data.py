"""What runs save for the report: the right numbers under the right names, and a training that does not notice."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from lcaam import Encoder, Fusion, LayerMasks
from lcaam.analysis import Record, record
from scripts.page.saved import layers, samples
from tasks.common.layer_data import SIDE, LayerData, arrays_of, described, of_samples, reduced
from tests.tiers import slow
from train import train

RUNS = [
    ("madv2_multi_lcaam", 50, 50, ["visual", "audio"]),
    slow("qvhighlights_lcaam", None, None, []),
    slow("imagenet1k_multi_lcaam", None, None, ["class", "patches"]),
    slow("msrvtt_multi_lcaam", None, None, ["video", "text"]),
    slow("shakespeare_multi_lcaam", 16, 16, []),
]


@pytest.mark.parametrize(("experiment", "queries", "keys", "labels"), RUNS)
def test_a_run_keeps_what_the_report_draws(compose_run, experiment, queries, keys, labels) -> None:
    cfg = compose_run(f"experiment={experiment}", "scale=smoke", "logger=csv", "floors.enabled=false")
    cfg.callbacks.figures = None
    train(cfg)
    folder = Path(cfg.paths.run_dir)
    found, shown = layers(folder), samples(folder)
    rows = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]

    assert found.fusion == shown.fusion == "mul" and found.neutral == shown.neutral == 1.0
    assert found.names == ["layer 1", "layer 2"] and found.labels == labels
    for (q, k), mean, (counts, edges), weights in zip(
        found.sizes, found.means, found.values, found.weights, strict=True
    ):
        assert queries in (None, q) and keys in (None, k)
        assert mean.shape == (min(q, SIDE), min(k, SIDE)) and np.isfinite(mean).all()
        assert counts.sum() > 0 and len(edges) == len(counts) + 1 and edges[0] <= mean.min() + 1e-5
        assert weights.sum() >= counts.sum()  # one mask for all heads
    names = {str(value) for row in rows for value in row.values() if isinstance(value, (str, int))}
    assert len(shown.names) == min(3, len(rows)) and set(shown.names) <= names
    assert {name: list(masks) for name, masks in shown.masks.items()} == dict.fromkeys(shown.names, found.names)

    with (folder / "metrics.csv").open(newline="") as file:
        logged = list(csv.DictReader(file))
    for statistic in ("context_sensitivity", "sign_flips"):
        steps = [row["step"] for row in logged if row[f"masks/layer 2/{statistic}"]]
        assert steps == [row["step"] for row in logged if row["val/loss"]] and len(steps) == 2


def test_a_training_does_not_notice_it(tiny_run) -> None:
    """The tiny task draws random numbers while it is looked at."""
    logged = []
    for change in ((), ("callbacks.layer_data=null",)):
        cfg = tiny_run("floors.enabled=false", "callbacks.figures=null", *change)
        train(cfg)
        with (Path(cfg.paths.run_dir) / "metrics.csv").open(newline="") as file:
            rows = [{k: v for k, v in row.items() if not k.startswith("masks/")} for row in csv.DictReader(file)]
        logged.append((rows, json.loads((Path(cfg.paths.run_dir) / "results.json").read_text())["metrics"]))
        assert ("masks/" in (Path(cfg.paths.run_dir) / "metrics.csv").read_text()) is (not change)
    assert logged[0] == logged[1]


def recorded(fusion: str = "mul", scope: str = "per_layer", batch: int = 5, tokens: int = 7) -> dict[str, Record]:
    torch.manual_seed(0)
    masks = LayerMasks(scope, 2, dim=8, num_keys=tokens, init="default", fusion=fusion)
    encoder = Encoder(8, 2, 2, 16, masks=masks, fusion=fusion)
    with torch.no_grad(), record(encoder) as records:
        encoder(torch.randn(batch, tokens, 8))
    return {f"layer {number + 1}": one for number, one in enumerate(records)}


@pytest.mark.parametrize("fusion", [fusion.name for fusion in Fusion if not fusion.ignores_mask])
def test_the_histogram_counts_every_value_and_the_mean_is_over_samples(fusion: str) -> None:
    records = recorded(fusion)
    arrays, about = arrays_of(records), described(records, {"boundaries": [3], "labels": ["a", "b"]})
    for number, one in enumerate(records.values()):
        mask = one.mask.numpy()
        assert np.allclose(arrays[f"mean {number}"], mask.mean((0, 1)), atol=1e-6)
        assert np.allclose(of_samples(one), mask.mean(1), atol=1e-6)
        edges, counts = arrays[f"edges {number}"], arrays[f"values {number}"]
        assert counts.sum() == mask.size and edges[0] == mask.min() and edges[-1] == mask.max()
        above = (mask >= edges[30]).sum()  # counted one by one
        assert counts[30:].sum() == above
        assert arrays[f"weights {number}"].sum() == one.weights.numel()
    assert about["fusion"] == fusion and about["neutral"] == Fusion.parse(fusion).neutral
    assert about["boundaries"].tolist() == [3] and about["sizes"].tolist() == [[7, 7], [7, 7]]


def test_without_a_mask_there_are_attention_weights_alone() -> None:
    with torch.no_grad(), record(encoder := Encoder(8, 2, 2, 16)) as records:
        encoder(torch.randn(2, 5, 8))
    found = {"layer 1": records[0], "layer 2": records[1]}
    assert arrays_of(found).keys() == {"weights 0", "weights 1"}
    assert described(found, {})["fusion"] == ""


def test_values_that_are_not_finite_are_left_out_of_the_histogram() -> None:
    records = recorded()
    first = next(iter(records.values()))
    first.mask[0, 0, 0, :2] = torch.tensor([torch.inf, torch.nan])
    assert arrays_of(records)["values 0"].sum() == first.mask.numel() - 2


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (64, 64), (67, 3), (128, 256), (834, 834)])
def test_large_masks_become_means_over_blocks(queries: int, keys: int) -> None:
    masks = torch.randn(2, queries, keys)
    found = reduced(masks, 64)
    assert found.shape == (2, min(queries, 64), min(keys, 64)) and found.dtype == np.float32
    if queries % found.shape[1] == keys % found.shape[2] == 0:
        blocks = masks.numpy().reshape(2, found.shape[1], queries // found.shape[1], found.shape[2], -1)
        assert np.allclose(found, blocks.mean((2, 4)), atol=1e-5)
    assert found.min() >= masks.min() - 1e-5 and found.max() <= masks.max() + 1e-5


def test_other_ranks_than_the_first_write_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    data = LayerData(str(tmp_path))
    assert data.look(None, None) == {}
    data.on_fit_end(None, None)
    assert not list(tmp_path.iterdir())


def test_amid_a_loop_no_rank_does_more_than_the_others(tmp_path) -> None:
    data = LayerData(str(tmp_path))
    for stage in (TrainerFn.FITTING, TrainerFn.TESTING):
        trainer = SimpleNamespace(sanity_checking=False, state=SimpleNamespace(fn=stage), world_size=2)
        data.on_validation_epoch_end(trainer, None)  # would ask the trainer and the module for more than they have
        data.on_test_batch_end(trainer, None, None, {}, 0)
    assert not list(tmp_path.iterdir())
