"""Rows of all tasks as text: input, prediction, truth."""

import json
from pathlib import Path

from tasks.common.examples import LONGEST, example, examples


def test_a_row_of_each_task_has_its_three_columns() -> None:
    description = {"movie": "m", "start": 1.5, "end": 3.0, "reference": "a b", "generated": "a c", "ann_id": 7}
    assert example(description) == {"input": "movie: m, start: 1.5, end: 3", "prediction": "a c", "truth": "a b"}
    moments = {
        "qid": 3, "query": "a dog", "vid": "v1", "relevant_windows": [[2, 4], [6, 10]], "saliency_scores": [[1, 2, 3]],
        "pred_relevant_windows": [[2.0, 4.5, 0.98765]], "pred_saliency_scores": [0.1, 0.2],
    }  # fmt: skip
    expected = {"input": "query: a dog, vid: v1", "prediction": "[2, 4.5, 0.988]", "truth": "[2, 4], [6, 10]"}
    assert example(moments) == expected
    image = {"name": "n/1.png", "label": 3, "predicted": 5, "top5": [5, 3], "probability": 0.5}
    assert example(image) == {"input": "n/1.png", "prediction": "5", "truth": "3"}
    caption = {"video": "video7", "references": ["a man", "one man"], "generated": "a man"}
    assert example(caption) == {"input": "video7", "prediction": "a man", "truth": "a man | one man"}


def test_long_cells_are_cut_and_only_the_first_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    assert list(examples(path, 3)) == []
    rows = [{"query": "x" * 1000, "vid": str(number)} for number in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(examples(path, 3))
    assert len(found) == 3 and all(len(row["input"]) == LONGEST and row["input"].endswith("...") for row in found)
    assert found[0]["prediction"] == found[0]["truth"] == ""
