"""The benchmark of attention: its rivals compute one function, its ratios are hand-computed ones, a run goes on."""

import argparse
import json
import re

import pytest
import torch

from scripts.benchmark import main
from scripts.benchmarks import attention as benchmark
from scripts.benchmarks import attention_page, attention_rivals
from scripts.benchmarks.attention_rivals import ADDING, FUSIONS, RIVALS
from tests.programs import ROOT

SIZES = ["--lengths", "3", "5", "--batches", "1", "--heads", "2", "--width", "4", "--rank", "3", "--repeats", "2"]
EAGER = ["dense", "eager", "reference", "chunked", "sdpa", "auto"]
RESULTS = ROOT / "docs/results"


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    benchmark.options(parser)
    return parser.parse_args([*given])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_all_rivals_compute_the_same(fusion):
    leaves = [leaf.detach().double() for leaf in benchmark.make(2, 3, 7, 4, 2, "cpu")]
    query, key, value, left, right, bias = leaves
    score = torch.einsum("bhid,bhjd->bhij", query, key) / 2
    mask = torch.einsum("bgir,kgjr->bgij", left, right) + bias
    fused = {
        "add": score + mask,
        "mul": score * mask,
        "gate": score + mask.sigmoid().log(),
        "temper": score * (1 + mask.exp()).log(),
    }[fusion]
    expected = torch.einsum("bhij,bhjd->bhid", fused.softmax(-1), value)
    for name in EAGER:
        if fusion in ADDING or name not in ("dense", "sdpa"):
            torch.testing.assert_close(attention_rivals.build(name, fusion)(*leaves), expected)


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["add", "mul"])
@pytest.mark.parametrize("name", ["compiled", "compiled lcaam", "flex"])
def test_compiled_rivals_compute_the_same(fusion, name):
    torch._dynamo.reset()
    leaves = [leaf.detach() for leaf in benchmark.make(2, 3, 33, 16, 2, "cpu")]
    expected = attention_rivals.build("eager", fusion)(*leaves)
    torch.testing.assert_close(attention_rivals.build(name, fusion)(*leaves), expected, rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_where_it_was_stopped_and_writes_its_page(tmp_path, capsys):
    page, out = tmp_path / "page.md", tmp_path / "results" / "attention.json"
    page.write_text("before\n<!-- attention -->\nold\n<!-- /attention -->\nafter\n")
    given = ["attention", *SIZES, "--fusions", "mul", "add", "--out", str(out), "--page", str(page)]
    main([*given, "--rivals", "eager", "auto", "--no-memory"])
    first = json.loads(out.read_text())["rows"]
    assert len(first) == 2 * 2 * 2 * 3  # lengths, fusions, gradients; plain, eager and auto
    assert all(row["seconds"] > 0 and row["plain"] > 0 for row in first)
    assert {row["choice"] for row in first if row["rival"] == "auto"} == {"reference", "sdpa"}
    capsys.readouterr()
    main([*given, "--rivals", "eager", "dense", "auto", "--no-memory"])
    rows = json.loads(out.read_text())["rows"]
    assert rows[: len(first)] == first
    assert [(row["rival"], row["seconds"] is None) for row in rows[len(first) :]] == [
        ("dense", row["fusion"] == "mul") for row in rows[len(first) :]
    ]
    assert len(rows) == len(first) + 8 and len(capsys.readouterr().out.splitlines()) == 8
    text = page.read_text()
    assert "old" not in text and text.startswith("before\n") and text.endswith("\nafter\n")
    assert attention_page.block(json.loads(out.read_text()), "results/attention.png") in text
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_memory_counts_what_a_call_allocates():
    sizes = dict(batch=1, heads=2, length=1024, width=4, rank=2, device="cpu")
    scores = 2 * 4 * 1024**2  # bytes of one float32 per pair and head
    eager, plain = (benchmark.peak_bytes(sizes, "mul", rival) for rival in ("eager", "plain"))
    assert 3 * scores <= eager < 12 * scores
    assert plain < eager / 2


def test_a_table_shows_ratios_and_the_worst_case_is_found():
    def rows(length, gradients, choice, **times):
        shared = dict(length=length, batch=1, fusion="add", gradients=gradients, plain=0.5)
        found = [shared | {"rival": name, "seconds": seconds} for name, seconds in times.items()]
        return [row | {"choice": choice} if row["rival"] == "auto" else row for row in found]

    cells = attention_page.by_cell(
        {
            "rows": [
                *rows(7, True, "sdpa", plain=0.5, dense=1.0, eager=0.75, auto=0.9),
                *rows(11, True, "chunked", plain=0.5, dense=2.0, eager=1.0, auto=1.0),
                *rows(7, False, "sdpa", plain=0.5, dense=0.6, eager=0.9, auto=0.6),
            ]
        }
    )
    lines = attention_page.table(cells, True).splitlines()
    assert lines[0] == "| N | B | fusion | plain, ms | dense | eager | auto | auto takes | auto / best eager |"
    assert lines[2:] == [
        "| 7 | 1 | add | 500.0 | 2.00 | 1.50 | 1.80 | sdpa | 1.20 |",
        "| 11 | 1 | add | 500.0 | 4.00 | 2.00 | 2.00 | chunked | 1.00 |",
    ]
    said = attention_page.sentences(cells)
    assert "with gradients**: at worst 1.20 times the best eager way (N = 7, B = 1, add, with gradients)" in said[0]
    assert "within 10 % of it in 1 of 2 cases" in said[0] and "in 1 of 1 cases" in said[1]
    assert "1.80 times plain SDPA at best (N = 7" in said[2] and "2.00 at worst (N = 11" in said[2]


@pytest.mark.parametrize(
    ("rival", "length", "batch", "fusion", "gradients", "reason"),
    [
        ("dense", 50, 1, "mul", True, "only adds"),
        ("flex", 197, 1, "mul", True, "no gradients on a CPU"),
        ("compiled", 300, 1, "mul", True, "other sizes"),
        ("compiled", 834, 8, "mul", True, "other sizes|takes seconds"),
        ("compiled", 197, 1, "gate", True, "stand for the others"),
        ("eager", 8192, 1, "mul", False, "GiB of scores"),
        ("dense", 8192, 1, "add", True, "GiB of scores"),
        ("dense", 8192, 1, "add", False, None),
        ("chunked", 8192, 1, "mul", True, None),
        ("chunked", 8192, 1, "temper", True, "stand for the others"),
        ("plain", 8192, 8, "mul", True, "Mi pairs"),
        ("compiled lcaam", 400, 8, "add", True, None),
        ("eager", 2048, 1, "mul", True, None),
    ],
)
def test_what_is_not_measured_has_a_reason(rival, length, batch, fusion, gradients, reason):
    found = benchmark.refusal(rival, length, batch, fusion, gradients, 12, "cpu")
    assert found is None if reason is None else re.search(reason, found)


def test_a_rival_that_does_not_compile_is_a_row_with_its_reason_and_others_stop_the_run():
    def broken(*leaves):
        raise RuntimeError("no compiler here\nsecond line")

    leaves = benchmark.make(1, 1, 3, 4, 2, "cpu")
    fine = attention_rivals.build("plain", "mul")
    times, failed = benchmark.seconds({"plain": fine, "flex": broken}, leaves, False, 2)
    assert list(times) == ["plain"] and failed == {"flex": "RuntimeError: no compiler here"}
    with pytest.raises(RuntimeError, match="no compiler here"):
        benchmark.seconds({"plain": fine, "eager": broken}, leaves, False, 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--rivals", "eagr"], "invalid choice: 'eagr'"),
        (["--fusions", "none"], "invalid choice: 'none'"),
        (["--lengths", "0"], "'0' is not a whole number of at least 1"),
        (["--page", "page.md"], "give both"),
        (["--page", "nowhere.md", "--out", "x.json"], "No such file"),
    ],
)
def test_what_cannot_be_done_stops_with_what_is_allowed(given, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["attention", *given])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_rows_of_other_settings_are_not_mixed(tmp_path, capsys):
    out = tmp_path / "attention.json"
    main(["attention", *SIZES, "--fusions", "mul", "--rivals", "auto", "--no-memory", "--out", str(out)])
    with pytest.raises(SystemExit):
        main(["attention", *SIZES, "--heads", "3", "--out", str(out)])
    assert "has rows with heads 2, this run has 3" in capsys.readouterr().err


def test_the_committed_page_says_what_the_committed_json_says():
    text = (RESULTS / "benchmarks.md").read_text(encoding="utf-8")
    inner = re.search(r"<!-- attention -->\n(.*?)\n<!-- /attention -->", text, re.DOTALL)[1]
    path = RESULTS / "benchmark_attention_cpu.json"
    if path.is_file():
        result = json.loads(path.read_text(encoding="utf-8"))
        assert inner == attention_page.block(result, "benchmark_attention_cpu.png")
    else:
        assert inner.startswith("**Not run yet.**") and str(path.relative_to(ROOT)) in inner


def test_every_rival_is_explained():
    assert (
        {*attention_rivals.CPU_RIVALS, "triton"} == set(RIVALS) >= {*attention_rivals.EAGER, *attention_rivals.COMPILED}
    )
    assert set(attention_rivals.GPU_RIVALS) <= set(RIVALS)
