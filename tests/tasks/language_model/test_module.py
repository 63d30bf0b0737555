"""The Lightning module: losses of what is scored, floors by hand, rates, and what a run reports."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs.errors import ConfigError
from datamodules.language_model.files import code_points
from lcaam.interventions import averaging
from scripts.table.items import Items
from tasks.common.optimisation import rate_factor
from tasks.language_model.items import item_scores
from tasks.language_model.module import IGNORED, scores
from tasks.language_model.references import floors
from tasks.language_model.vocabulary import Vocabulary
from tests.tasks.language_model.small import CHARACTERS, CONTEXT, MASKS, batch_of, module, texts


def nats_by_hand(made, window: str) -> list[float]:
    """-log p of each character but the first, read one prefix at a time."""
    ids = torch.tensor([[CHARACTERS.index(one) for one in window]])
    found = []
    for end in range(1, len(window)):
        with torch.no_grad():
            found.append(-made.model(ids[:, :end])[0, -1].log_softmax(-1)[ids[0, end]].item())
    return found


def test_a_window_s_loss_is_that_of_each_character_given_those_before_it() -> None:
    made = module("fixed").eval()
    with torch.no_grad():
        nats, _, _ = made.losses(batch_of("abc def"[:7], "gad"))
    assert nats[0].tolist() == pytest.approx(nats_by_hand(made, "abc def"), rel=1e-5)
    assert nats[1, :2].tolist() == pytest.approx(nats_by_hand(made, "gad"), rel=1e-5)
    assert nats[1, 2:].tolist() == [0.0] * 4


def test_what_training_did_not_have_is_read_as_a_blank_and_not_scored() -> None:
    made = module()
    found = made.read(batch_of("abXde a"))
    blank = CHARACTERS.index(" ")
    assert found.ids[0].tolist() == [1, 2, blank, 4, 5, blank]
    assert found.targets[0].tolist() == [2, IGNORED, 4, 5, blank, 1]
    assert found.real.all()
    assert made.read(batch_of("ab")).real.tolist() == [[True, True, False, False, False, False]]
    assert Vocabulary("abc").unknown == 0  # there is no blank


def test_a_vocabulary_reads_back_what_it_wrote() -> None:
    text = "日本 🎭 für\n"
    vocabulary = Vocabulary("".join(sorted(set(text))))
    ids, known = vocabulary.encode(torch.tensor([[ord(one) for one in text]]))
    assert known.all() and vocabulary.decode(ids[0]) == text and len(vocabulary) == len(set(text))
    assert vocabulary.lacks("für Elise") == "Elise"


def test_blind_models_read_nothing() -> None:
    made = module(blind=True)
    first, second = made.read(batch_of("abc def")), made.read(batch_of("gfedcba"))
    assert torch.equal(first.ids, second.ids) and not torch.equal(first.targets, second.targets)


@pytest.mark.parametrize("mask", ["fixed", "content"])
def test_padding_is_told_to_whoever_averages_masks(mask: str) -> None:
    made = module(mask).eval()
    batch = batch_of("abc def", "gad")
    (masks,) = made.masks()
    assert made.real_tokens(batch)[masks][0].sum(1).tolist() == [6, 3]
    with torch.no_grad(), averaging(made) as means:
        means.real = made.real_tokens(batch)
        made.read_inputs(batch)
    counts = next(iter(means.counts.values()))[0]
    assert counts[0, 0] == 2 and counts[4, 4] == 1 and counts[0, 4] == 1


# -- floors -----------------------------------------------------------------------------------------------------------


def test_floors_are_frequencies_by_hand() -> None:
    train, text = "aabab", "abXb"
    found = floors(code_points(train), code_points(text), Vocabulary("ab"))
    assert found["uniform"].tolist() == pytest.approx([math.log(2), math.log(2), math.nan, math.log(2)], nan_ok=True)
    a, b = -math.log(3 / 5), -math.log(2 / 5)
    assert found["constant"].tolist() == pytest.approx([a, b, math.nan, b], nan_ok=True)
    # a is followed by a once and by b twice; X is read as the first character, a
    pair = -math.log((2 + 1) / (3 + 2))
    assert found["bigram"].tolist() == pytest.approx([a, pair, math.nan, pair], nan_ok=True)
    unseen = floors(code_points("ab"), code_points("bb"), Vocabulary("ab"))["bigram"]
    assert unseen[1] == pytest.approx(-math.log(1 / 2))  # no pair of training begins with b


def test_the_floors_of_a_test_count_the_characters_that_it_scored(tmp_path: Path) -> None:
    data, made = texts(tmp_path, parts=[0.8, 0.1, 0.1]), module()
    data.prepare_data()
    made = module(characters=data.facts()["characters"]).eval()
    for number, batch in enumerate(data.test_dataloader()):
        if number < 2:  # as with trainer.limit_test_batches
            with torch.no_grad():
                made.test_step(batch, number)
    assert sum(row["characters"] for row in made.predictions) == 2 * 3 * CONTEXT
    found = made.reference_scores(data)
    nats = floors(data.text("train"), data.text("test"), made.vocabulary)
    assert found.keys() == {"uniform", "constant", "bigram"}
    for name in found:
        assert found[name]["loss"] == pytest.approx(nats[name][1 : 1 + 36].mean())
    assert found["uniform"]["loss"] > found["constant"]["loss"] > found["bigram"]["loss"]


def test_who_knows_the_grammar_is_the_ceiling(tmp_path: Path) -> None:
    data, made = texts(tmp_path), module()
    made.predictions = [{"name": "test 0", "reference": "abc"}]
    nats = np.arange(len(data.text("test")), dtype=np.float32)
    data.oracle = lambda: nats
    assert made.reference_scores(data)["ceiling"]["loss"] == pytest.approx(2.0)


# -- what a run reports -----------------------------------------------------------------------------------------------


def test_scores_are_one_number_in_three_units() -> None:
    assert scores(2 * math.log(2)) == pytest.approx(
        {"loss": 1.3863, "bits_per_character": 2.0, "perplexity": 4.0}, rel=1e-4
    )
    assert math.isfinite(scores(1e5)["perplexity"])


def test_the_mean_of_windows_is_the_loss(tmp_path: Path) -> None:
    rows = [{"name": "test 0", "loss": 2.0, "characters": 6}, {"name": "test 6", "loss": 1.0, "characters": 2}]
    found = item_scores(rows)["loss"]
    assert sum(found.values()) / 2 == pytest.approx((6 * 2.0 + 2 * 1.0) / 8)
    assert found == pytest.approx({"test 0": 3.0, "test 6": 0.5})
    assert Items("language_model").scorer() is item_scores


def test_rows_hold_the_text_and_the_most_probable_characters() -> None:
    made = module().eval()
    with torch.no_grad():
        made.test_step(batch_of("abX def", "gad"), 0)
    first, second = made.predictions
    assert (first["reference"], first["characters"], first["unseen"]) == ("bX def", 5, 1)
    assert (second["reference"], second["characters"], len(second["predicted"])) == ("ad", 2, 2)
    assert second["loss"] == pytest.approx(np.mean(nats_by_hand(made, "gad")), rel=1e-5)


@pytest.mark.parametrize("relative", ["none", "entmax15"])
def test_every_layer_is_analysed_unless_it_is_no_softmax(relative: str) -> None:
    found = module("fixed", relative=relative).analyse(batch_of("abc def", "gad"))
    names = ["layer 1", "layer 2"] if relative == "none" else []
    assert list(found["records"]) == list(found["masks"]) == names
    if names:
        assert found["records"]["layer 1"].keep[1, 0, 3:].sum() == 0  # padding


def test_parts_and_flops_are_counted(tmp_path: Path) -> None:
    made = module("fixed")
    assert sum(made.parts().values()) == sum(parameter.numel() for parameter in made.parameters())
    plain = module()
    # 2 FLOPs per multiply-add: projections, feed-forward, scores and values, head
    layer = 4 * 12 * 12 + 2 * 12 * 16 + 2 * CONTEXT * 12
    assert plain.flops(batch_of("abc def", "gad")) == 2 * CONTEXT * (2 * layer + 12 * len(CHARACTERS))


def test_a_schedule_falls_to_its_final_share() -> None:
    rates = [rate_factor(step, 100, 0.1, "cosine", 0.1) for step in (0, 9, 10, 55, 100)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1])
    made = module()
    made._trainer = SimpleNamespace(estimated_stepping_batches=100, precision_plugin=None)
    found = made.configure_optimizers()
    assert found["lr_scheduler"]["scheduler"].lr_lambdas[0](100) == pytest.approx(0.1)
    decays = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in found["optimizer"].param_groups}
    assert decays == {0.1: {2}, 0.0: {1}}


def test_arguments_out_of_range_are_told() -> None:
    with pytest.raises(ConfigError, match="task.positions: 'rotery' is not one of .*did you mean 'rotary'"):
        module(positions="rotery")
    with pytest.raises(ConfigError, match="task.final: 1.0 is out of range; allowed: at least 0 and below 1"):
        module(final=1.0)


@pytest.mark.slow
def test_every_mask_trains_a_step() -> None:
    for mask in MASKS:
        made = module(mask)
        loss = made.training_loss(batch_of("abc def", "gfedcba"), 0)
        loss.backward()
        assert torch.isfinite(loss)
