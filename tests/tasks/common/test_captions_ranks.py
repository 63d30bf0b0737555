"""Caption scores over ranks: those of one process, bit for bit, on every rank; an error reaches every rank."""

import json

import pytest
import torch

from tasks.common.caption_tokens import has_java
from tasks.common.captions import CaptionScorer
from tasks.common.gather import gather_rows, on_first_rank
from tests.ranks import on_two_ranks

REFERENCES = {  # the tokenizer reads on over a line's end after an abbreviation: order matters to it
    f"video{n}": [f"a man goes to the U.S. {n % 3} times in {'a car' if n % 2 else 'an aeroplane'}", "A man etc."]
    for n in range(11)
}
GENERATED = {f"video{n}": f"{'A' if n % 4 else 'a'} man goes {n % 5} times to the U.S." for n in range(11)}
SHARES = {  # what either of two ranks gets: uneven, overlapping, in another order, nothing
    "overlapping": ([10, 8, 6, 4, 2, 0], [9, 7, 5, 3, 1, 10, 8]),
    "empty": ([], list(range(11))),
}


def score_everywhere(share):
    rows = gather_rows([{"id": f"video{n}", "generated": GENERATED[f"video{n}"]} for n in share], "id")
    captions = {row["id"]: row["generated"] for row in rows}
    return on_first_rank(lambda: CaptionScorer(REFERENCES).score(captions, meteor=False))


def rank_main(rank, folder):
    found = {name: score_everywhere(shares[rank]) for name, shares in SHARES.items()}
    found["computing"] = on_first_rank(torch.distributed.get_rank)
    with pytest.raises((ValueError, RuntimeError)) as caught:  # a caption too few
        score_everywhere([0, 1, 2])
    found["error"] = [caught.type.__name__, str(caught.value)]
    (folder / f"{rank}.json").write_text(json.dumps(found))


@pytest.mark.skipif(not has_java(), reason="the PTB tokenizer needs Java")
def test_two_ranks_score_as_one_process_and_both_know_the_scores_and_the_error(tmp_path):
    on_two_ranks(rank_main, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    alone = CaptionScorer(REFERENCES).score(GENERATED, meteor=False)
    for name in SHARES:
        assert first[name] == second[name] == alone
    assert first["computing"] == second["computing"] == 0
    assert first["error"][0] == "ValueError"
    assert second["error"] == ["OtherRankError", f"rank 0 failed with ValueError: {first['error'][1]}"]
    assert "8 of 11 ids have no caption" in second["error"][1]


def test_a_single_process_computes_itself_and_raises_its_own_error():
    assert on_first_rank(lambda: {"cider": 1.5}) == {"cider": 1.5}
    with pytest.raises(KeyError, match="lost"):
        on_first_rank(lambda: {}["lost"])
