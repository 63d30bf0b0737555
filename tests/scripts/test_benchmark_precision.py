"""The table of errors: against float64, beside torch's own attention, within what the backends promise."""

import json
import re
from argparse import Namespace

import pytest
import torch

from scripts.benchmark import main
from scripts.benchmarks import precision
from scripts.benchmarks.attention_rivals import FUSIONS
from tests.programs import ROOT

RESULTS = ROOT / "docs/results"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precision")
    page, out = folder / "page.md", folder / "precision.json"
    page.write_text("<!-- precision -->\nold\n<!-- /precision -->\n")
    main(["precision", "--length", "61", "--heads", "2", "--out", str(out), "--page", str(page)])
    return json.loads(out.read_text()), page.read_text()


def test_every_backend_is_about_as_exact_as_torch_s_attention(measured):
    result, page = measured
    assert len(result["rows"]) == 2 * 2 * (1 + 2 * len(FUSIONS) + 2)
    for row in result["rows"]:
        torchs = precision.plain(result, row)
        assert row["output"] <= 1.2 * torchs["output"], row
        assert row["gradients"] <= 2 * torchs["gradients"], row
        assert row["output"] > {"bfloat16": 1e-4, "float16": 1e-5}[row["dtype"]]  # the output itself is rounded
    assert precision.table(result) in page and "old" not in page


def test_an_error_is_the_relative_norm_of_the_difference():
    exact = torch.tensor([3.0, 4.0], dtype=torch.float64)
    assert precision.error(torch.tensor([3.0, 4.5]), exact) == pytest.approx(0.1)


def test_scores_have_the_spread_that_the_table_says():
    arguments = Namespace(length=200, heads=2, width=64, rank=8, seed=0)
    for spread in precision.SPREADS:
        query, key, *_ = precision.inputs(arguments, spread, torch.float64)
        assert float((query @ key.mT / 8).std()) == pytest.approx(spread, rel=0.05)


def test_the_committed_page_says_what_the_committed_json_says():
    text = (RESULTS / "precision.md").read_text(encoding="utf-8")
    inner = re.search(r"<!-- precision -->\n(.*?)\n<!-- /precision -->", text, re.DOTALL)[1]
    assert inner == precision.page(json.loads((RESULTS / "precision.json").read_text(encoding="utf-8")), "")
