"""SwinBERT's outputs from its weights: equal to those of the original implementation."""

import json

import numpy as np
import pytest
import torch

from tasks.video_captioning.upstream import captioner_from_upstream
from tests.parity import PARITY, fill, needs_parity

TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def case():
    numbers = json.loads((PARITY / "swinbert.json").read_text())
    normal, parameter, seed = fill().normal, fill().parameter, numbers["seed"]
    state = {name: torch.tensor(parameter(name, shape, seed)) for name, shape in numbers["shapes"].items()}
    video, text = numbers["V"], numbers["T"]
    inputs = {
        "video_features": torch.tensor(normal("video_features", (numbers["B"], video, 512), seed)),
        "input_ids": torch.tensor(numbers["input_ids"]),
        "text_keep": torch.arange(text) < torch.tensor(numbers["lens"])[:, None],
    }
    logits = torch.tensor(normal("learn_vid_att.weight", (video, video), seed))
    recorded = np.load(PARITY / "swinbert.npz")
    return {"state": state, "inputs": inputs, "static": logits, "recorded": recorded, "heads": numbers["heads"]}


def largest_difference(found, expected, keep) -> float:
    return float((found - torch.as_tensor(expected))[keep].abs().max())


@needs_parity
def test_logits_with_full_video_attention_equal_the_original_s(case):
    with torch.no_grad():
        found = captioner_from_upstream(case["state"], case["heads"])(**case["inputs"])
    expected = case["recorded"]["logits_full"]
    assert found.shape == expected.shape
    assert largest_difference(found, expected, case["inputs"]["text_keep"]) <= TOLERANCE


@needs_parity
def test_logits_with_the_published_static_mask_equal_the_original_s(case):
    model = captioner_from_upstream(case["state"], case["heads"])
    with torch.no_grad():
        found = model(**case["inputs"], mask="static", static_logits=case["static"])
        full = model(**case["inputs"])
    keep = case["inputs"]["text_keep"]
    assert largest_difference(found, case["recorded"]["logits_static"], keep) <= TOLERANCE
    assert largest_difference(full, case["recorded"]["logits_static"], keep) > 1e-2


@needs_parity
def test_a_caption_alone_and_unpadded_gives_what_it_gives_in_its_batch(case):
    model, inputs = captioner_from_upstream(case["state"], case["heads"]), case["inputs"]
    length = int(inputs["text_keep"][1].sum())
    with torch.no_grad():
        alone = model(
            inputs["video_features"][1:], inputs["input_ids"][1:, :length], torch.ones(1, length, dtype=torch.bool)
        )
    assert largest_difference(alone[0], case["recorded"]["logits_full"][1, :length], slice(None)) <= TOLERANCE


@needs_parity
def test_weights_of_something_else_are_refused_by_name(case):
    state = case["state"]
    with pytest.raises(ValueError, match=r"'bert\.embeddings\.word_embeddings\.weight' is missing"):
        captioner_from_upstream({"a": torch.zeros(1)}, 6)
    with pytest.raises(ValueError, match=r"'detector\.weight' is not a parameter of SwinBERT"):
        captioner_from_upstream({**state, "detector.weight": torch.zeros(1)}, 6)
    with pytest.raises(ValueError, match=r"head\.decoder\.weight"):
        captioner_from_upstream({n: t for n, t in state.items() if n != "cls.predictions.decoder.weight"}, 6)
    with pytest.raises(ValueError, match=r"'video_embedding\.weight' is missing"):
        captioner_from_upstream({n: t for n, t in state.items() if n != "bert.img_embedding.weight"}, 6)
    with pytest.raises(ValueError, match="heads=5 does not divide width=96"):
        captioner_from_upstream(state, 5)


@needs_parity
def test_another_mask_or_a_table_of_another_size_is_refused(case):
    model = captioner_from_upstream(case["state"], case["heads"])
    with pytest.raises(ValueError, match="unknown mask 'sparse'"):
        model(**case["inputs"], mask="sparse")
    with pytest.raises(ValueError, match=r"static_logits of shape \(98, 98\), got None"):
        model(**case["inputs"], mask="static")
    with pytest.raises(ValueError, match=r"got \(3, 98\)"):
        model(**case["inputs"], mask="static", static_logits=case["static"][:3])
