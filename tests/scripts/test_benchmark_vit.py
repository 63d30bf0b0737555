"""The benchmark of a ViT's step: its steps are torch's, its ratios and peaks are hand-computed ones, bad sizes stop."""

import argparse
import json

import pytest
import torch
import torch.nn.functional as F

from scripts.benchmark import main
from scripts.benchmarks import vit as benchmark
from scripts.benchmarks.vit import PARTS, Row, Times, peak_bytes, rounds_of, with_masks, without_masks
from tests.lcaam.names import FUSIONS, SCOPES

SIZES = ["--batch", "1", "--blocks", "2", "--image", "32", "--width", "64"]  # 5 tokens
TARGETED = [Row("per_layer", 192, fusion, 3) for fusion in ("add", "mul")]
OTHERS = [Row(scope, 7, "gate", 3) for scope in SCOPES]


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.options(parser)
    return parser.parse_args([*SIZES, *given])


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


@pytest.mark.slow
def test_a_run_measures_every_scope_fusion_and_control_and_writes_what_it_prints(tmp_path, capsys):
    out = tmp_path / "vit.json"
    given = ["--hidden", "192", "--rounds", "2", "--controls", "extra_linear", "extra_layers", "--out", str(out)]
    main(["vit", *SIZES, *given])
    result = json.loads(out.read_text())
    masks = [f"{scope} 192 {f}" for scope in SCOPES for f in FUSIONS]
    assert [row["name"] for row in result["rows"]] == [*masks, "extra_linear 192", "extra_layers 192"]
    one = linear(64, 192) + linear(192, 192) + linear(192, 5)
    assert [row["new_parameters"] for row in result["rows"][:12]] == [one] * 8 + [2 * one] * 4
    assert result["without_masks"]["parameters"] == sum(p.numel() for p in without_masks(parsed()).vit.parameters())
    assert all(row["rounds"] == 2 and row["target"] is None for row in result["rows"])
    for row in result["rows"]:
        assert row["low"] <= row["high"] and row["step"] == row["step_cpu"]
        assert min(row[part] for part in (*PARTS, "step_wall", "memory")) > 0
    printed = capsys.readouterr().out
    assert printed.count("warm-up") == 15 and "round 2 of 2" in printed
    assert f"| per_layer 192 mul | 0.101 M | {result['rows'][9]['step']:.3f} |" in printed


@pytest.mark.parametrize("row", [None, Row("per_layer", 3, "mul", 3), Row("shared", 3, "gate", 2)], ids=str)
def test_a_step_moves_all_weights_as_one_adamw_of_torch_does(row):
    plain = without_masks(parsed())
    training = with_masks(row, plain) if row else plain
    twin = with_masks(row, without_masks(parsed())) if row else without_masks(parsed())
    twin.vit.load_state_dict(training.vit.state_dict())
    literal = torch.optim.AdamW(twin.vit.parameters(), lr=0.0)
    for weight in twin.vit.parameters():
        weight.grad = torch.zeros_like(weight)
    literal.step()  # counts, as the one does that made the benchmark's optimiser state
    literal.param_groups[0]["lr"] = benchmark.RATE
    for _ in range(2):
        literal.zero_grad()
        F.cross_entropy(twin.vit(training.images), training.labels).backward()
        literal.step()
    before = {name: weight.clone() for name, weight in training.vit.state_dict().items()}
    training.step()
    training.step()
    found, expected = training.vit.state_dict(), twin.vit.state_dict()
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        assert not torch.equal(weight, before[name]), name
        assert torch.equal(weight, expected[name]), name
    assert all(weight.grad is None for weight in training.vit.parameters())


def test_rows_train_the_very_same_vit_and_masks_of_their_own():
    plain = without_masks(parsed())
    rows = [Row("per_layer", 3, "add", 3), Row("tied", 3, "temper", 3)]
    for training in [with_masks(row, plain) for row in rows]:
        shared = dict(plain.vit.named_parameters())
        weights = dict(training.vit.named_parameters())
        assert all(weights[name] is weight for name, weight in shared.items())
        assert sum(weights[name].numel() for name in weights.keys() - shared.keys()) == training.new > 0
        torch.testing.assert_close(training.vit(plain.images), plain.vit(plain.images), atol=1e-5, rtol=0)
    assert not hasattr(plain.vit, "lcaam")


def test_a_peak_is_the_most_that_lived_at_once():
    mebibyte = 2**18  # of float32

    def step():
        first = torch.zeros(3 * mebibyte)
        second = torch.zeros(2 * mebibyte)
        del first
        return second, torch.zeros(2 * mebibyte)  # 2 + 2 after 3 + 2

    assert peak_bytes(step) == 5 * 2**20


def test_ratios_equal_hand_computed_medians():
    times = Times()
    for own, base in (([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), ([2.0, 2.0, 8.0], [1.0, 2.0, 3.0]), ([9.0] * 3, [2.0] * 3)):
        times.own.append({"cpu": own, "wall": [2 * part for part in own]})
        times.base.append({"cpu": base, "wall": base})
    assert times.ratio("cpu") == 12 / 6  # medians of 6, 12, 27 and of 3, 6, 6
    assert times.ratio("wall") == 24 / 6
    assert times.ratio("cpu", "forward") == 2 / 1
    assert times.ratio("cpu", "optimiser") == 8 / 2
    assert times.by_round("cpu") == [2.0, 2.0, 4.5]


@pytest.mark.parametrize(("rounds", "others"), [(7, 2), (3, 3), (1, 1), (5, 1)])
def test_rows_with_a_target_are_in_all_rounds_and_the_others_in_as_many_as_asked(rounds, others):
    found = rounds_of([*OTHERS, *TARGETED], rounds, others)
    assert len(found) == rounds
    for row in TARGETED:
        assert all(of_round.count(row) == 1 for of_round in found)
    for row in OTHERS:
        assert [of_round.count(row) for of_round in found].count(1) == others == sum(r.count(row) for r in found)


def test_without_a_row_that_has_a_target_all_rows_are_in_all_rounds():
    assert rounds_of(OTHERS, 4, 2) == [OTHERS] * 4


def test_targets_hold_at_full_size_only():
    full = argparse.Namespace(batch=8, blocks=12, image=224, width=768)
    assert [row.target(full) for row in TARGETED] == [1.10, 1.20]
    assert [row.target(full) for row in OTHERS] == [None] * 3
    assert Row("per_layer", 192, "mul", 3, control="extra_linear").target(full) is None
    assert Row("per_layer", 192, "mul", 4).target(full) is None
    for smaller in ({"batch": 4}, {"blocks": 3}, {"image": 32}, {"width": 64}):
        assert TARGETED[0].target(argparse.Namespace(**(vars(full) | smaller))) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--image", "40"], "give a multiple of 16"),
        (["--width", "100"], "give a multiple of 64"),
        (["--threads", "2"], "use --clock wall"),
        (["--rounds", "1", "--other-rounds", "2"], "--other-rounds 2 is part of --rounds, which is 1"),
        (["--backends", "sdpa"], "leave mul and temper out"),
        (["--scopes"], "nothing to measure"),
        (["--scopes", "everywhere"], "invalid choice: 'everywhere'"),
        (["--batch", "0"], "'0' is not a whole number of at least 1"),
    ],
)
def test_what_cannot_be_measured_stops_with_what_is_allowed(given, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["vit", *SIZES, *given])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run():
    training = without_masks(parsed())
    training.images = training.images * torch.inf
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        training.step()
