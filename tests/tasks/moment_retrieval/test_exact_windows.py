"""A model that answers perfectly: what is lost between labels, outputs, windows and metrics."""

import numpy as np
import pytest
import torch

from tests.datamodules.moment_retrieval.small import ANNOTATIONS, open_set, write_features, write_lines
from tests.tasks.moment_retrieval.trained import build

COUNT = 150


@pytest.fixture(scope="module")
def charades(tmp_path_factory):
    """Durations with hundredths of a second and windows with tenths, some to the end; a row of features per second."""
    folder, rng = tmp_path_factory.mktemp("charades"), np.random.default_rng(0)
    for split, name in ANNOTATIONS.items():
        rows = []
        for number in range(COUNT if split == "test" else 2):
            duration = round(float(rng.uniform(15, 45)), 2)
            length = round(float(rng.uniform(3, 14)), 1)
            start = round(float(rng.uniform(0, duration - length)), 1)
            end = duration if number % 8 == 0 else round(start + length, 1)
            row = {
                "qid": f"{split}{number}",
                "query": "a person walks",
                "vid": f"{split}{number}",
                "duration": duration,
            }
            rows.append(row | {"relevant_windows": [[start, end]]})
        write_lines(folder / name, rows)
        write_features(folder, rows, rng, clip_length=1.0)
    return folder


def perfect(charades, **settings) -> dict[str, float]:
    """Scores of a model whose spans are the labels, through data module, module and metrics."""
    options = {"clip_length": 1.0, "max_clips": 200, "window_slack": 1.0, "saliency": "none"}
    data = open_set(charades, **options)
    module, rows = build(data.facts(), **settings), []
    for batch in data.test_dataloader():
        spans = torch.stack(batch["spans"])  # (B, 1, 2)
        logits = torch.tensor([4.0, -4.0]).expand(len(spans), 1, 2)
        outputs = {"logits": logits, "spans": spans, "saliency": torch.zeros(batch["video_keep"].shape)}
        rows += module.rows(outputs, batch)
    assert len(rows) == COUNT
    assert module.remarks_on(rows)[0].startswith(f"windows {'end' if module.hparams.round_windows else 'are as'}")
    return module.score(rows)


def test_a_perfect_model_has_98_map_on_fractional_durations(charades):
    exact = perfect(charades, round_windows=False)
    assert exact["mAP"] >= 98
    assert exact["R1@0.7"] >= 99.5


def test_rounding_to_clips_costs_map_as_the_switch_says(charades):
    assert perfect(charades, round_windows=True)["mAP"] < 93
