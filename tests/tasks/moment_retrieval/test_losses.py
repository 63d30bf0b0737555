"""The losses against slow, literal statements of them, and at values at which the original overflows."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from tasks.common.errors import NonFiniteLossError
from tasks.moment_retrieval.losses import MomentLosses
from tasks.moment_retrieval.spans import generalised_iou, inverse_sigmoid, start_end

B, T, Q = 3, 6, 4


def example(**changes) -> tuple[dict, dict]:
    torch.manual_seed(0)
    keep = torch.arange(T) < torch.tensor([6, 1, 4])[:, None]
    layer = {"logits": torch.randn(B, Q, 2), "spans": torch.rand(B, Q, 2)}
    outputs = layer | {"saliency": torch.randn(B, T), "saliency_negative": torch.randn(B, T), "aux": []}
    batch = {
        "video_keep": keep,
        "spans": [torch.tensor([[0.5, 0.4], [0.9, 0.1]]), torch.tensor([[0.5, 1.0]]), torch.zeros(0, 2)],
        "saliency": (torch.randint(0, 13, (B, T)) * keep).float(),
        "saliency_pos": torch.tensor([[0, 3], [0, 0], [1, 2]]),
        "saliency_neg": torch.tensor([[5, 4], [0, 0], [0, 3]]),
    }
    return outputs | changes, batch


def test_generalised_iou_by_hand():
    a = torch.tensor([[0.0, 4.0], [0.0, 1.0], [2.0, 2.0], [0.0, 2.0]])
    b = torch.tensor([[2.0, 6.0], [3.0, 4.0], [2.0, 2.0], [0.0, 2.0]])
    torch.testing.assert_close(generalised_iou(a, b), torch.tensor([2 / 6, -2 / 4, 0.0, 1.0]))
    torch.testing.assert_close(start_end(torch.tensor([0.5, 0.4])), torch.tensor([0.3, 0.7]))


def test_inverse_sigmoid_is_finite_and_inverse():
    x = torch.tensor([0.01, 0.3, 0.99])
    torch.testing.assert_close(inverse_sigmoid(x).sigmoid(), x)
    assert torch.isfinite(inverse_sigmoid(torch.tensor([0.0, 1.0]))).all()


def test_the_matching_is_the_cheapest_of_all():
    outputs, batch = example()
    losses = MomentLosses()
    ((sample, query, target),) = losses.match([outputs], batch["spans"])
    wanted = torch.cat(batch["spans"])
    probability = outputs["logits"].softmax(-1)[..., 0]

    def cost(b: int, q: int, t: int) -> float:
        span = outputs["spans"][b, q]
        overlap = generalised_iou(start_end(span), start_end(wanted[t]))
        return float(10 * (span - wanted[t]).abs().sum() - overlap - 4 * probability[b, q])

    found = {
        b: {(q, t) for s, q, t in zip(sample.tolist(), query.tolist(), target.tolist(), strict=True) if s == b}
        for b in range(B)
    }
    first = min(itertools.permutations(range(Q), 2), key=lambda pair: sum(cost(0, q, t) for t, q in enumerate(pair)))
    assert found[0] == {(q, t) for t, q in enumerate(first)}
    assert found[1] == {(min(range(Q), key=lambda q: cost(1, q, 2)), 2)}
    assert found[2] == set()


def test_rank_contrastive_is_the_published_loop():
    outputs, batch = example()
    keep, labels = batch["video_keep"], batch["saliency"]
    scores = torch.cat([outputs["saliency"], outputs["saliency_negative"]], 1)
    both = torch.cat([keep, keep], 1)
    total = 0.0
    for level in range(1, 12):
        for b in range(B):
            real = [(scores[b, i] / 0.5).item() for i in range(2 * T) if both[b, i]]
            normaliser = torch.tensor(real).logsumexp(0).item()
            relevant = [i for i in range(T) if keep[b, i] and labels[b, i] >= level]
            if relevant:
                total += -sum((scores[b, i] / 0.5).item() - normaliser for i in relevant) / len(relevant) / B
    found = MomentLosses().rank_contrastive(scores, both, labels)
    assert float(found) == pytest.approx(total / 12, rel=1e-5)


def test_a_confident_wrong_text_costs_its_score_and_does_not_overflow():
    scores = torch.full((B, T), 40.0, requires_grad=True)
    outputs, batch = example(saliency_negative=scores)
    loss = MomentLosses().of_saliency(outputs, batch)
    without = MomentLosses().of_saliency({**outputs, "saliency_negative": torch.full((B, T), -40.0)}, batch)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()
    assert (loss - without).item() > 40 * 11 / 3 - 1  # 11 real clips, 40 each; padding costs nothing
    assert not scores.grad[~batch["video_keep"]].any()


def test_a_batch_without_windows_or_saliency_has_the_losses_that_remain():
    outputs, batch = example()
    batch["spans"] = [torch.zeros(0, 2)] * B
    total, terms = MomentLosses()(outputs, batch)
    assert terms["span"] == terms["giou"] == 0
    expected = F.cross_entropy(outputs["logits"].flatten(0, 1), torch.ones(B * Q, dtype=torch.long), reduction="none")
    assert float(terms["label"]) == pytest.approx(0.1 * float(expected.mean()), rel=1e-5)
    assert torch.isfinite(total)
    without = {name: value for name, value in batch.items() if not name.startswith("saliency")}
    assert "saliency" not in MomentLosses()(outputs, without)[1]


def test_more_windows_than_predictions_match_as_many_as_there_are():
    outputs, batch = example()
    batch["spans"] = [torch.rand(Q + 3, 2) * 0.5 for _ in range(B)]
    ((sample, query, _),) = MomentLosses().match([outputs], batch["spans"])
    assert len(sample) == B * Q
    assert len(set(zip(sample.tolist(), query.tolist(), strict=True))) == B * Q


def test_a_prediction_that_is_no_number_is_said_at_once():
    outputs, batch = example()
    outputs["spans"][0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteLossError, match="is not finite"):
        MomentLosses()(outputs, batch)


def test_a_rate_too_high_is_told_with_step_and_causes(compose_run) -> None:
    from train import train

    run = ("experiment=qvhighlights_lcaam", "scale=smoke", "callbacks=none", "floors.enabled=false", "logger=csv")
    message = (
        r"^MomentRetrieval: a predicted .* not finite, .* at global step 1 \(epoch \d\)\. Usual causes: .*task\.lr"
    )
    with pytest.raises(NonFiniteLossError, match=message):
        train(compose_run(*run, "task.lr=1e30"))
