"""What is said about recorded calls: who took a mask, whether it works against itself, whether it runs off."""

import math
import re

import pytest
import torch
from torch import Tensor, nn

from lcaam import Encoder, Fusion, LayerMasks, Mask, attention
from lcaam.analysis import Record, promoted, record, remarks, report
from tasks.common.measured import measured
from tests.lcaam.names import FUSIONS


class Bare(nn.Module):
    """One attention on given scores: queries are unit vectors, keys the columns of the scores."""

    def forward(self, scores: Tensor, mask: Mask | None, **options) -> Tensor:
        n_q, n_k = scores.shape[-2:]
        query = torch.eye(n_q).expand(*scores.shape[:2], n_q, n_q)
        return attention(
            query, scores.transpose(-2, -1), torch.ones(*scores.shape[:2], n_k, 1), mask, scale=1.0, **options
        )


def recorded(scores, values, fusion: str, **options) -> Record:
    """The record of scores (N_q, N_k) or (B, H, N_q, N_k) and a mask of those values."""
    scores, values = (torch.as_tensor(t, dtype=torch.float32) for t in (scores, values))
    scores, values = (t if t.dim() == 4 else t[None, None] for t in (scores, values))
    with record(model := Bare()) as records:
        model(scores, Mask.from_dense(values, fusion), **options)
    return records[0]


def at(fusion: str, factor: float) -> float:
    """The mask value whose term is `factor`."""
    return {"mul": factor, "temper": math.log(math.expm1(factor))}[fusion]


# -- the weights without the mask --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_record_has_the_weights_without_the_mask(fusion):
    masks = LayerMasks("per_layer", 1, dim=8, num_keys=5, init="kaiming", fusion=fusion)
    encoder, x = Encoder(8, 1, heads=2, masks=masks), torch.randn(2, 5, 8)
    keep = torch.tensor([[True] * 5, [True, True, False, True, False]])
    with record(encoder) as records:
        encoder(x, keep=keep, causal=True)
    plain = Encoder(8, 1, heads=2)
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("masks.")})
    with record(plain) as others:
        plain(x, keep=keep, causal=True)
    torch.testing.assert_close(records[0].plain, others[0].weights, rtol=0, atol=1e-6)
    assert (records[0].weights - records[0].plain).abs().max() > 1e-3
    assert records[0].rank == 8 and others[0].rank is None and others[0].plain is others[0].weights


# -- promoted ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", ["mul", "temper"])
def test_a_demoting_factor_raises_a_negative_score(fusion):
    """Issue and docs: -2 x 0.5 is larger than -2, and no mask value is negative."""
    half, one = at(fusion, 0.5), at(fusion, 1.0)
    assert promoted(recorded([[-2.0, 1.0]], [[half, one]], fusion)) == 1.0
    assert promoted(recorded([[2.0, 1.0]], [[half, one]], fusion)) == 0.0
    assert promoted(recorded([[-2.0, 1.0]], [[one, one]], fusion)) == 0.0, "nothing is demoted"
    flat = recorded([[3.0, 1.0, 0.0]], [[half] * 3], fusion)  # flatter: the first loses, the two others gain
    assert promoted(flat) == pytest.approx(2 / 3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_share_is_counted_pair_by_pair(fusion):
    torch.manual_seed(0)
    scores, values = torch.randn(2, 3, 5, 6), torch.randn(2, 1, 5, 6)
    keep = torch.rand(2, 5, 6) > 0.3
    found = recorded(scores, values, fusion, keep=keep)
    demoted = grown = 0
    for b in range(2):
        for h in range(3):
            for i in range(5):
                keys = [j for j in range(6) if keep[b, i, j]]
                if not keys:
                    continue
                term = {j: Fusion.parse(fusion).term(values[b, 0, i, j]).item() for j in keys}
                score = {j: scores[b, h, i, j].item() for j in keys}
                plain = {j: math.exp(score[j]) / sum(math.exp(s) for s in score.values()) for j in keys}
                if Fusion.parse(fusion).multiplies:
                    fused, level = {j: score[j] * term[j] for j in keys}, 1.0
                else:
                    fused = {j: score[j] + term[j] for j in keys}
                    level = math.log(sum(plain[j] * math.exp(term[j]) for j in keys))
                weight = {j: math.exp(fused[j]) / sum(math.exp(s) for s in fused.values()) for j in keys}
                demoted += sum(term[j] < level for j in keys)
                grown += sum(term[j] < level and weight[j] > 1.001 * plain[j] for j in keys)
    assert promoted(found) == pytest.approx(grown / demoted)
    assert (promoted(found) > 0.1) == Fusion.parse(fusion).multiplies


@pytest.mark.parametrize("fusion", ["add", "gate"])
@pytest.mark.parametrize("scale", [1.0, 30.0, 5000.0])
def test_fusions_that_add_promote_nothing_whatever_the_scores(fusion, scale):
    torch.manual_seed(0)
    found = recorded(3 * torch.randn(4, 2, 20, 20), scale * torch.randn(4, 1, 20, 20), fusion, causal=True)
    assert promoted(found) == 0.0


@pytest.mark.parametrize("fusion", ["add", "gate"])
def test_a_pair_of_an_adding_fusion_falls_with_its_value_whatever_its_score(fusion):
    for score in (-5.0, 0.0, 5.0):
        weights = [recorded([[score, 1.0]], [[m, 0.0]], fusion).weights[0, 0, 0, 0] for m in (0.0, -1.0, -9.0)]
        assert weights[0] > weights[1] > weights[2]


def test_temper_keeps_the_order_of_keys_whose_values_agree_and_no_other():
    scores = torch.tensor([[-3.0, -1.0, 2.0]])
    alike = recorded(scores, [[-2.0, -2.0, -2.0]], "temper").weights[0, 0, 0]
    assert alike.argsort().tolist() == [0, 1, 2]
    apart = recorded(scores, [[-9.0, 0.5, 0.5]], "temper").weights[0, 0, 0]
    assert apart.argsort().tolist() == [1, 0, 2]


def test_promoted_needs_a_mask_and_pairs():
    with record(model := Bare()) as records:
        model(torch.zeros(1, 1, 2, 2), None)
    with pytest.raises(ValueError, match="used no mask, or its weights without the mask are not recorded"):
        promoted(records[0])
    nothing = recorded([[1.0, 2.0]], [[0.5, 0.5]], "mul", keep=torch.zeros(1, 2, dtype=torch.bool))
    assert promoted(nothing) == 0.0 and remarks([nothing]) == []


# -- remarks -----------------------------------------------------------------------------------------------------------

SCORES = torch.zeros(4, 4)


@pytest.mark.parametrize(
    "values, fusion, expected",
    [
        (torch.ones(4, 4), "mul", None),
        (torch.full((4, 4), 19.0), "mul", None),
        (
            torch.full((4, 4), 464.0),
            "mul",
            "100% of the scores are multiplied by more than 20, up to 464 .fusion mul, values from 464 to 464",
        ),
        (torch.full((4, 4), 21.0), "temper", "multiplied by more than 20, up to 21 .fusion temper"),
        (torch.full((4, 4), -300.0), "temper", None),
        (torch.tensor([[0.5] * 5, [0.5] * 4 + [400.0]] + [[0.5] * 5] * 4), "mul", None),
        (torch.tensor([[0.0] * 3 + [90.0]] + [[0.0] * 4] * 19), "add", None),
        (torch.full((4, 4), -300.0), "add", None),
        (
            torch.tensor([[0.0, 0.0, 0.0, 30.0]] * 4),
            "add",
            "100% of the rows lift a key by more than 20 above their mean, up to 22.5 .fusion add",
        ),
        (torch.tensor([[0.0, 0.0, 0.0, -30.0]] * 4), "add", None),
        (torch.tensor([[-60.0, -60.0, -60.0, 9.0]] * 4), "gate", "100% of the rows lift a key .* .fusion gate"),
        (torch.tensor([[40.0, 40.0, 40.0, -9.0]] * 4), "gate", None),
        (torch.tensor([[1.0, 1.0, 1.0, -1.0]] * 4), "mul", None),
        (torch.tensor([[1.0, 1.0, -1.0, -1.0]] * 4), "mul", "50% of the mask's factors are negative .more than 25%"),
        (torch.tensor([[1.0, 1.0, -1.0, -1.0]] * 4), "temper", None),
        (torch.tensor([[1.0, 1.0, -1.0, math.nan]] * 4), "add", "25.0% of the mask values are not finite"),
    ],
)
def test_remarks_on_masks_that_run_off(values, fusion, expected):
    found = remarks([recorded(torch.zeros_like(values), values, fusion)])
    assert len(found) == (expected is not None)
    if expected:
        assert found[0].startswith("attention 0: ") and re.search(expected, found[0]), found


def test_remarks_look_at_kept_pairs_only_and_name_layers_once():
    wild = torch.tensor([[1.0, 1.0, 1.0, 1e6]] * 4)
    keep = torch.tensor([True, True, True, False]).expand(1, 4)
    for fusion in FUSIONS:
        assert remarks([recorded(SCORES, wild, fusion, keep=keep)]) == []
    masks = LayerMasks("shared", 3, dim=8, num_keys=5)
    nn.init.constant_(masks.nets[0].last.bias, -50.0)
    with record(encoder := Encoder(8, 3, heads=2, masks=masks)) as records:
        encoder(torch.randn(2, 5, 8))
    found = remarks(records)
    assert len(found) == 2
    assert all(remark.startswith("layers.0.attention, layers.1.attention, layers.2.attention: ") for remark in found)


def test_a_task_hands_on_the_remarks_and_its_statistics_stay_as_they_were():
    wild = recorded(SCORES, torch.full((4, 4), -50.0), "mul")
    found = measured({"layer 1": wild, "layer 2": recorded(SCORES, torch.ones(4, 4), "mul")})
    assert [remark.partition(":")[0] for remark in found["remarks"]] == ["layer 1", "layer 1"]
    names = {"attention_below_0.01", "context_sensitivity", "sign_flips", "token_deviation", "effective_rank"}
    assert found["statistics"].keys() == {f"layer {n}/{name}" for n in (1, 2) for name in names}


# -- report ------------------------------------------------------------------------------------------------------------


def test_the_report_lists_who_took_which_mask():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.masked = Encoder(8, 1, 2, masks=LayerMasks("shared", 1, dim=8, num_keys=5, groups=2, rank=3))
            self.static = Encoder(8, 1, 4, masks=LayerMasks("shared", 1, "static", num_queries=5, num_keys=5))
            self.plain = Encoder(8, 1, 4)

        def forward(self, x):
            keep = (torch.arange(5) < 4).expand(2, 5)
            return self.plain(self.static(self.masked(x, keep=keep)), causal=True)

    with record(model := Model()) as records:
        model(torch.randn(2, 5, 8))
    head, *rows, last = report(records).splitlines()
    cells = [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in (head, *rows)]
    assert cells[0] == ["attention", "heads", "queries x keys", "fusion", "mask", "kept pairs"]
    assert cells[1] == ["masked.layers.0.attention", "2", "5 x 5", "mul", "2 groups, rank 3, 1 to 1", "80.0%"]
    assert cells[2][:4] == ["static.layers.0.attention", "4", "5 x 5", "add"]
    assert cells[2][4].startswith("1 group, dense, -") and cells[2][5] == "all"
    assert cells[3] == ["plain.layers.0.attention", "4", "5 x 5", "-", "no mask", "60.0%"]
    assert last == "with a mask: 2 of 3"


def test_the_report_of_nothing_says_so():
    with record(nn.Linear(2, 2)) as records:
        pass
    assert report(records) == "no attention of lcaam was called"
