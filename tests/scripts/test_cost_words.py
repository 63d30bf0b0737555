"""The cost table's words: units, the nearest number of tokens, mistakes that are named, a file name that is taken."""

from pathlib import Path

import pytest
import torch

from scripts.cost import tables
from scripts.cost.command import main
from scripts.cost.paper import nearest

ROOT = Path(__file__).resolve().parents[2]


# -- words and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [1.0, 5_000.0, 123_456.0])
def test_the_nearest_number_of_tokens_is_that_of_a_search(target):
    def flops(tokens):
        return 3 * tokens * tokens + 7 * tokens + 11

    best = min(range(1, 1000), key=lambda tokens: abs(flops(tokens) - target))
    assert max(1, nearest(flops, target)[0]) == best
    assert nearest(flops, 5_000.0)[1] == flops(nearest(flops, 5_000.0)[0])


def test_tables_show_what_was_counted_in_the_largest_unit_that_fits():
    rows = [
        {"row": name, "parameters": {"encoder": 1500, "masks": masks, "controls": 0}, "total": 1500 + masks}
        | {"flops": 4_000_000 + flops, "macs": 2_000_000 + flops / 2, "more_parameters": masks, "more_flops": flops}
        for name, masks, flops in (("none", 0, 0), ("lcaam", 500, 1_000_000))
    ]
    assert tables.costs(rows).splitlines()[2:] == [
        "| none | 1.500 | 0.000 | 1.500 | +0.000 | 4.000 | +0.000 | 0.00 % | 2.000 |",
        "| lcaam | 1.500 | 0.500 | 2.000 | +0.500 | 5.000 | +1.000 | 20.00 % | 2.500 |",
    ]
    header = "| mask | encoder, k | masks, k | all, k | above none | MFLOPs | above none | share | MMACs |"
    assert tables.costs(rows).splitlines()[0] == header
    assert tables.percent_off(98.0, 100.0) == "-2.00 %" and tables.percent_off(1.0, None) == "-"


# -- what is wrong is said --------------------------------------------------------------------------------------------

FIRST = "experiment=madv2_baseline"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "choose what to profile: experiment=<name>"),
        ([FIRST, "--all"], "not both"),
        ([FIRST, "--rows", "lcam"], "invalid choice: 'lcam'"),
        ([FIRST, "--device", "tpu"], "--device tpu: choose cpu or cuda"),
        ([FIRST, "--tokens", "0"], "'0' is not a whole number of at least 1"),
        ([FIRST, "--memory", "nan"], "'nan' is not a finite number above 0"),
        ([FIRST, "--memory", "-1"], "'-1' is not a finite number above 0"),
        ([FIRST, "--latency", "--device", "cpu:1"], "--device cpu:1: choose cpu or cuda"),
        ([FIRST, "--latency", "--device", "cuda:99"], "--device cuda:99: torch sees"),
        ([FIRST, FIRST], "experiment= is there 2 times; write experiment=a,b"),
        ([FIRST, "--json", "."], "--json must be a file, . is a folder"),
        ([FIRST, "--out", "pyproject.toml/x"], "--out pyproject.toml/x: cannot be written"),
        ([FIRST, "--json", "new", "--out", "new"], "--json and --out are one file, new"),
    ],
)
def test_a_wrong_command_line_stops_with_what_is_allowed(given, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").touch()
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit):
        main([FIRST, "--latency", "--device", "cuda"])
    assert "torch sees no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["experiment=madv2_basline"], "did you mean 'madv2_baseline'?"),
        ([FIRST, "task.widht=3"], "task.widht: unknown key; did you mean 'width'?"),
        ([FIRST, "mask=lcaam"], "the rows of the table set mask; choose them with --rows"),
        ([FIRST, "mask.scope=shared"], "the rows of the table set mask.scope"),
        ([FIRST, "width"], "'width' is not an override; write key=value"),
        ([FIRST, "task.llm.pretrained=huggyllama/lama-7b"], "did you mean 'huggyllama/llama-7b'?"),
        (["experiment=qvhighlights_baseline", "scale=paper", "mask.depth=1", "--rows", "none", "extra_layers"],
         "compare with extra_linear, or with a deeper mask; without it: --rows none"),
        (["experiment=madv2_baseline,madv2_basline"], "did you mean 'madv2_baseline'?"),
        ([FIRST, "task.prefix_layers=33", "--rows", "none"], "none: prompts for 33 layers and gates (33, 32) do not"),
        ([FIRST, "--tokens", "2", "--rows", "none"], "--tokens 2: the prompt and one word are"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_wrong_configuration_stops_with_the_nearest_match(given, message, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no model hub is asked for a misspelt model
    with pytest.raises(SystemExit) as stopped:
        main(given)
    assert message in str(stopped.value.code)
