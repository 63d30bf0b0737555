"""The benchmark of decoding, with sizes that take no time."""

import json

import pytest

from scripts.benchmark import main

SIZES = ["--tokens", "9", "--dim", "16", "--layers", "2", "--heads", "2", "--rank", "4", "--steps", "3"]


def test_every_kind_of_mask_has_its_ratio_and_the_page_its_table(tmp_path, capsys):
    out, page = tmp_path / "decoding.json", tmp_path / "page.md"
    page.write_text("before\n<!-- decoding -->\n\n<!-- /decoding -->\nafter\n", encoding="utf-8")
    main(["decoding", *SIZES, "--out", str(out), "--page", str(page)])
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert [row["mask"] for row in rows][:2] == ["none", "fixed, one for all layers"] and len(rows) == 5
    assert rows[0]["ratio"] == 1.0 and all(row["milliseconds"] > 0 for row in rows)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n") and "| content, one per layer |" in text and text.endswith("after\n")
    assert "x without a mask" in capsys.readouterr().out


def test_sizes_that_do_not_fit_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["decoding", "--dim", "10", "--heads", "4"])
    assert "--dim 10 is not a multiple of --heads 4" in capsys.readouterr().err
