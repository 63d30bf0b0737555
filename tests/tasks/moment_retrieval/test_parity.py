"""QD-DETR's own outputs, losses and training curve, with its parameters in this project's model."""

import json

import numpy as np
import pytest
import torch

from tasks.moment_retrieval.losses import MomentLosses
from tasks.moment_retrieval.upstream import qd_detr_from_upstream
from tests.parity import PARITY, fill, needs_parity

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def case() -> dict:
    """Parameters, a batch and what the original made of it."""
    numbers, recorded = json.loads((PARITY / "qd_detr.json").read_text()), np.load(PARITY / "qd_detr.npz")
    normal, parameter, seed = fill().normal, fill().parameter, numbers["seed"]
    state = {name: torch.tensor(parameter(name, shape, seed)) for name, shape in numbers["shapes"].items()}
    inputs = {}
    for name, source, key, width in (("video", "src_vid", "vlens", 2818), ("text", "src_txt", "tlens", 512)):
        lengths = torch.tensor(numbers[key])
        keep = torch.arange(int(lengths.max())) < lengths[:, None]
        values = torch.tensor(0.05 * normal(source, (*keep.shape, width), seed))
        inputs |= {name: values * keep[..., None], f"{name}_keep": keep}
    batch = {
        "video_keep": inputs["video_keep"],
        "spans": [torch.tensor(spans) for spans in numbers["spans"]],
        "saliency": torch.tensor(numbers["saliency"], dtype=torch.float32),
        "saliency_pos": torch.tensor(numbers["pos"]),
        "saliency_neg": torch.tensor(numbers["neg"]),
    }
    return {"numbers": numbers, "recorded": recorded, "state": state, "inputs": inputs, "batch": batch}


def close(found: torch.Tensor, expected) -> bool:
    return bool((found.detach() - torch.as_tensor(expected)).abs().max() <= TOLERANCE)


@needs_parity
def test_outputs_equal_the_original_s(case):
    with torch.no_grad():
        out = qd_detr_from_upstream(case["state"])(**case["inputs"])
    recorded = case["recorded"]
    assert close(out["logits"], recorded["pred_logits"])
    assert close(out["spans"], recorded["pred_spans"])
    assert close(out["saliency"], recorded["saliency_scores"])
    assert close(out["saliency_negative"], recorded["saliency_scores_neg"])
    (aux,) = out["aux"]
    assert close(aux["logits"], recorded["aux_pred_logits"])
    assert close(aux["spans"], recorded["aux_pred_spans"])


@needs_parity
def test_a_sample_alone_and_unpadded_is_the_sample_in_its_batch(case):
    tokens, inputs = case["numbers"]["tlens"][1], case["inputs"]
    model = qd_detr_from_upstream(case["state"])
    with torch.no_grad():
        whole = model(**inputs)
        alone = model(
            inputs["video"][1:2],
            inputs["video_keep"][1:2],
            inputs["text"][1:2, :tokens],
            inputs["text_keep"][1:2, :tokens],
        )
    assert close(alone["spans"], case["recorded"]["alone_pred_spans"])
    assert close(alone["spans"], whole["spans"][1:2])
    assert close(alone["saliency"], whole["saliency"][1:2])


@needs_parity
def test_every_loss_term_and_the_total_equal_the_original_s(case):
    with torch.no_grad():
        outputs = qd_detr_from_upstream(case["state"])(**case["inputs"])
        total, terms = MomentLosses()(outputs, case["batch"])
    expected = {name.removeprefix("loss_"): value for name, value in case["numbers"]["losses"].items()}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=TOLERANCE, abs=1e-7), name
    assert float(total) == pytest.approx(case["numbers"]["total"], rel=TOLERANCE)


@needs_parity
def test_eight_training_steps_follow_the_original_s_curve(case):
    model = qd_detr_from_upstream(case["state"], dropout=0.0, input_dropout=0.0).train()
    losses, optimiser = MomentLosses(), torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)
    curve = []
    for _ in case["numbers"]["train_curve_dropout0"]:
        total, _ = losses(model(**case["inputs"]), case["batch"])
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimiser.step()
        curve.append(total.item())
    assert curve == pytest.approx(case["numbers"]["train_curve_dropout0"], rel=1e-3)


@needs_parity
def test_other_weights_are_refused_by_name(case):
    state = case["state"]
    with pytest.raises(ValueError, match=r"'backbone\.weight' is not a parameter of QD-DETR"):
        qd_detr_from_upstream({**state, "backbone.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="is missing"):
        qd_detr_from_upstream({name: value for name, value in state.items() if name != "query_embed.weight"})
    with pytest.raises(ValueError, match=r"classify\.bias"):
        qd_detr_from_upstream({name: value for name, value in state.items() if name != "class_embed.bias"})
