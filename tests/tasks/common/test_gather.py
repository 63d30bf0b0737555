"""What ranks exchange: rows in the order of the data, and means over what they have unequally many of."""

import json

import pytest
import torch

from tasks.common.gather import gather_rows, largest, mean_of_ranks, place_among_ranks, share_of_items
from tasks.video_captioning.masking import IGNORED, hide
from tests.ranks import on_two_ranks

BATCHES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]  # dealt to the ranks in turn
WORDS = (5, 2)  # of the two ranks
IDS = torch.arange(2, 8 * 7 + 2).reshape(8, 7)
LENGTHS = torch.tensor([7, 3, 5, 2, 7, 4, 6, 5])


def hidden(first=0, step=1):
    random = torch.Generator().manual_seed(3)
    return hide(IDS[first::step], LENGTHS[first::step], 1, 60, 0.5, 45, random, first, step)


def rank_main(rank, folder):
    mine = [sample for batch in BATCHES[rank::2] for sample in batch]
    rows = [{"name": f"clip{sample}"} for sample in mine]
    torch.manual_seed(0)
    losses = torch.randn(sum(WORDS)).split(WORDS)
    weight = torch.tensor(1.0, requires_grad=True)
    (weight * losses[rank].mean() * share_of_items(WORDS[rank])).backward()
    found = {
        "rows": gather_rows(rows, "name", mine),
        "twice": gather_rows([*rows, {"name": "clip0"}, {"name": f"late{rank}"}], "name", mine),
        "gradient": mean_of_ranks(weight.grad).item(),
        "nothing": float(share_of_items(0)),
        "largest": largest(rank + 4),
        "place": place_among_ranks(),
        "hidden": [part.tolist() for part in hidden(rank, 2)],
    }
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_two_ranks_are_one_process(tmp_path):
    on_two_ranks(rank_main, tmp_path)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    torch.manual_seed(0)
    alone = torch.randn(sum(WORDS)).mean().item()
    inputs, labels = hidden()
    for rank, one in enumerate(found):
        assert one["rows"] == [{"name": f"clip{sample}"} for sample in range(10)]
        assert one["twice"] == [*one["rows"], {"name": "late0"}, {"name": "late1"}]
        assert one["gradient"] == pytest.approx(alone, rel=1e-6)
        assert (one["nothing"], one["largest"], one["place"]) == (0, 5, [rank, 2])
        assert one["hidden"] == [inputs[rank::2].tolist(), labels[rank::2].tolist()]
    assert (labels != IGNORED).any(1).all()


def test_one_process_keeps_its_order_and_its_losses():
    rows = [{"name": "b"}, {"name": "a"}, {"name": "b"}]
    assert gather_rows(rows, "name", [1, 0, 2]) == [{"name": "b"}, {"name": "a"}]
    assert (share_of_items(7), largest(3), place_among_ranks()) == (1.0, 3, (0, 1))
