"""Whole tasks on two ranks are one process: predictions, metrics, losses, weights (scripts/torture/ranks.py)."""

from pathlib import Path

import pytest

from scripts.torture.ranks import DOUBLE, EXACT, METHOD, PER_RANK, ROWS, apart, difference, imported, row_of, run
from tests.tiers import slow


@pytest.mark.parametrize(
    "name", ["captions", slow("audio description"), slow("moments, no saliency loss"), slow("images")]
)
def test_two_ranks_train_as_one_process_with_both_batches_and_test_as_it_does(name, tmp_path, generated):
    """In float64, so that what is left is of the method. 3 batches of the test set are not shared equally."""
    imported()
    task, changes = ROWS[name]
    options = (f"paths.data_dir={generated}", "data.eval_batch_size=4", *DOUBLE, *changes)
    (alone,) = run(tmp_path / "one", task, 1, *options, steps=4)
    ranks = run(tmp_path / "two", task, 2, *options, steps=4)
    for one in ranks:
        assert difference(alone["weights"], one["weights"]) < METHOD
        assert one["predictions"] == alone["predictions"]
        assert one["metrics"].keys() == alone["metrics"].keys()
        for metric in alone["metrics"].keys() - {"test_loss", "train_loss"}:
            assert one["metrics"][metric] == alone["metrics"][metric], metric
        for loss in ("test_loss", "train_loss"):
            assert apart(alone["metrics"], one["metrics"], loss) < EXACT
    assert "sync_dist" not in Path(tmp_path, "two", "output.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_torture_is_as_promised(name, tmp_path):
    imported()
    row = row_of(tmp_path, name)
    assert row["promised"], row
    if name in PER_RANK:  # else its name would promise too little
        assert float(row["trained, float64"]) > METHOD


def test_a_rank_without_a_validation_batch_holds_up_no_other(tmp_path, generated):
    """Checkpoints make ranks agree in every validation batch that all have; here the second rank has none."""
    imported()
    options = (f"paths.data_dir={generated}", "data.eval_batch_size=100", "callbacks=checkpoint")
    ranks = run(tmp_path / "two", "video_captioning", 2, *options, steps=4)
    assert [len(one["predictions"]) for one in ranks] == [len(ranks[0]["predictions"])] * 2
    assert Path(tmp_path, "two", "checkpoints", "last.ckpt").is_file()
