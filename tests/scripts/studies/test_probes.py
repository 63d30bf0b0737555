"""The probes: their data say what they promise, and all masks of a seed start alike."""

from collections import Counter

import pytest
import torch
from torch import Generator

from scripts.studies.probes import data, training
from scripts.studies.probes.masks import ROWS
from scripts.studies.probes.probes import PROBES, Value
from scripts.studies.probes.training import Reader, batches, interventions, run, trained

BY_NAME = {row.name: row for row in ROWS}
PROBE = {probe.name: probe for probe in PROBES}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def symbols_of(batch: data.Batch, notes: int = 1) -> torch.Tensor:
    """The symbols (B, N), read back one by one."""
    return torch.tensor([[token[:10].argmax().item() for token in row[1 + notes :]] for row in batch.tokens])


# -- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aim, share, fixed", [("fixed", 0.0, 200), ("query", 0.0, None), ("query", 1.0, 200)])
def test_the_answer_is_the_symbol_at_the_place_that_is_fixed_or_named(aim, share, fixed):
    batch = data.pointer(aim, seeded(), 200, share)
    assert batch.tokens.shape == (200, 14, 25)
    places = batch.tokens[:, 0, 10:22].argmax(-1) if aim == "query" else torch.full((200,), 4)
    named_place = batch.tokens[:, :, 10:22]
    assert named_place[:, 0].sum().item() == (400 if aim == "query" else 0)
    assert named_place[:, 1:].sum() == 0
    symbols = symbols_of(batch)
    assert batch.answers.tolist() == [
        [row[place]] for row, place in zip(symbols.tolist(), places.tolist(), strict=True)
    ]
    assert (places == 4).sum() == fixed or (fixed is None and len(places.unique()) == 12)


def test_the_share_of_fixed_places_is_that_of_the_knob():
    batch = data.pointer("query", seeded(), 6000, share=0.5)
    counts = Counter(batch.tokens[:, 0, 10:22].argmax(-1).tolist())
    assert counts[4] / 6000 == pytest.approx(0.5 + 0.5 / 12, abs=0.03)
    assert counts[0] / 6000 == pytest.approx(0.5 / 12, abs=0.015)


@pytest.mark.parametrize("notes", [1, 2])
def test_one_note_names_the_place_or_two_name_it_together(notes):
    batch = data.hop(notes, seeded(), 90)
    symbols, tokens = symbols_of(batch, notes=2), batch.tokens
    first, second = tokens[:, 1, 10:13].argmax(-1), tokens[:, 2, 10:13].argmax(-1)
    for row in range(90):
        place = (first[row] + second[row]) % 3 if notes == 2 else first[row]
        assert batch.answers[row, 0] == symbols[row, place]
    assert (tokens[:, 2, 10:13].sum() > 0) == (notes == 2)
    assert (tokens[:, 1, -2] == 2).all() and (tokens[:, 2, -3] == 2).all() and (tokens[:, 0, -1] == 2).all()


def test_exactly_one_symbol_carries_the_mark_and_it_is_the_answer():
    batch = data.marked(0.25, seeded(), 50)
    marks = batch.tokens[..., 22]
    assert marks.count_nonzero(dim=1).tolist() == [1] * 50 and marks.max() == 0.5
    at = marks.argmax(1) - 2
    assert batch.answers[:, 0].tolist() == [row[place] for row, place in zip(symbols_of(batch), at, strict=True)]
    assert len(at.unique()) == 12


def test_the_place_is_the_exclusive_or_of_two_bits_and_no_linear_function_of_them():
    batch = data.exclusive_or(seeded(), 200)
    seen = set()
    for row, symbols in enumerate(symbols_of(batch)):
        bits = tuple(batch.tokens[row, 0, 10:12].tolist())
        assert set(bits) <= {-2.0, 2.0}
        assert batch.answers[row, 0] == symbols[4 if bits[0] != bits[1] else 8]
        seen.add(bits)
    assert len(seen) == 4
    half = data.accuracy(data.one_of_two(batch), batch.answers)
    assert half == pytest.approx(55, abs=10)  # right for one place, by chance for the other


def test_two_places_have_their_answers_in_order():
    batch = data.two_places(seeded(), 40)
    assert batch.answers.tolist() == symbols_of(batch)[:, [5, 10]].tolist()


def test_the_floor_is_that_of_naming_the_most_frequent_symbol():
    batch = data.two_places(seeded(), 60)
    for found, symbols in zip(data.most_frequent(batch).tolist(), symbols_of(batch).tolist(), strict=True):
        assert found[0] == found[1] and symbols.count(found[0]) == max(Counter(symbols).values())


def test_four_columns_carry_the_class_and_twelve_carry_noise():
    batch = data.columns(seeded(), 1500)
    prototypes = torch.randn(10, 16, generator=seeded(3))
    good = data.informative_places().tolist()
    of_class = batch.tokens[batch.answers[:, 0] == 7][:, 1:, :16]
    for column in range(16):
        expected = prototypes[7] if column in good else torch.zeros(16)
        noise = 1.8 if column in good else 3.0
        torch.testing.assert_close(of_class[:, column].mean(0), expected, atol=5 * noise / len(of_class) ** 0.5, rtol=0)
        assert of_class[:, column].std(0).mean().item() == pytest.approx(noise, rel=0.1)


def test_permuted_columns_take_their_positions_with_them():
    batch = data.columns(seeded(), 800, permuted=True)
    assert (batch.order[:, 0] == 0).all() and (batch.order.sort(1).values == torch.arange(17)).all()
    assert len({tuple(row) for row in batch.order[:50].tolist()}) == 50
    back = batch.tokens.gather(1, batch.order.argsort(1)[..., None].expand_as(batch.tokens))
    quiet = back[:, 1:, :16].std(0).mean(-1).argsort()[:4]  # the informative columns have less noise
    assert sorted(quiet.tolist()) == sorted(data.informative_places().tolist())


# -- pairing, and what a mask may train -------------------------------------------------------------------------------


def reader(value: Value, row, seed: int = 3) -> Reader:
    torch.manual_seed(seed)
    return Reader(value, row, value.draw(seeded(), 2))


@pytest.mark.parametrize("name, label", [("fixed", "on"), ("xor", "8, default"), ("two", "heads, 4")])
def test_all_masks_of_a_seed_start_from_the_same_other_weights(name, label):
    value = PROBE[name].value(label)
    plain = dict(reader(value, BY_NAME["none"]).named_parameters())
    for row in ROWS:
        model = reader(value, row)
        own = set(map(id, model.own_parameters()))
        others = {path: p for path, p in model.named_parameters() if id(p) not in own}
        assert others.keys() == plain.keys(), row.name
        assert all(torch.equal(p, plain[path]) for path, p in others.items()), row.name
        assert bool(own) == row.own_rate


def test_batches_of_a_seed_do_not_depend_on_the_mask(monkeypatch):
    seen = []

    def watched(model, batch, *others):
        seen.append([batch().tokens, batch().tokens])

    monkeypatch.setattr(training, "trained", watched)
    monkeypatch.setattr(training, "TESTED", 4)
    value = PROBE["columns"].value("100")
    for row in ("none", "content-mul"):
        run(PROBE["columns"], value, BY_NAME[row], 1.0, seed=1)
    run(PROBE["columns"], value, BY_NAME["none"], 1.0, seed=2)
    assert all(map(torch.equal, seen[0], seen[1]))
    assert not torch.equal(seen[0][0], seen[2][0])


@pytest.mark.parametrize("name", ["multi_lcaam-add", "cope"])
def test_a_factor_changes_the_rate_of_the_masks_own_parameters_alone(name):
    value = PROBE["fixed"].values[0]
    model = reader(value, BY_NAME[name])
    before = {path: p.detach().clone() for path, p in model.named_parameters()}
    trained(model, batches(value.draw, None, seeded()), steps=3, factor=0.0, watched=None, threshold=90)
    own = set(map(id, model.own_parameters()))
    for path, p in model.named_parameters():
        assert torch.equal(p, before[path]) == (id(p) in own), path


def test_the_rate_rises_over_a_tenth_of_the_steps_and_falls_to_nothing():
    rates = [training.rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[4] == pytest.approx(
        0.5 * (0.5 + 0.5 * torch.cos(torch.tensor(0.04 * torch.pi)).item())
    )
    assert rates[9:] == sorted(rates[9:], reverse=True) and rates[99] < 0.001


def test_plain_attention_sees_permuted_columns_as_the_others():
    value = PROBE["permuted"].value("yes")
    model, batch = reader(value, BY_NAME["none"]), value.draw(seeded(1), 5)
    back = batch.order.argsort(1)
    ordered = data.Batch(batch.tokens.gather(1, back[..., None].expand_as(batch.tokens)), batch.answers)
    torch.testing.assert_close(model(batch), model(ordered))
    masked = reader(value, BY_NAME["columns-add"])
    masked.encoder.masks.nets[0].change.data.normal_()
    assert not torch.allclose(masked(batch), masked(ordered), atol=1e-3)


def test_under_a_causal_mask_the_query_token_sees_all_others():
    value = PROBE["fixed"].values[0]
    model, batch = reader(value, BY_NAME["cope"]), value.draw(seeded(), 2)
    tokens = batch.tokens.clone().requires_grad_()
    model(data.Batch(tokens, batch.answers)).sum().backward()
    assert (tokens.grad.abs().amax(-1) > 0).all()


def test_curves_are_read_at_intervals_and_at_the_end(monkeypatch):
    value, read = PROBE["fixed"].values[0], []
    monkeypatch.setattr(training, "entropy", lambda logits, batch: logits.square().mean())
    model = reader(value, BY_NAME["none"])
    monkeypatch.setattr(Reader, "score", lambda self, batch: read.append(len(batch)) or 10.0 * len(read))
    assert training.EVERY == 50
    monkeypatch.setattr(training, "EVERY", 5)
    one = value.draw(seeded(), 4)
    assert trained(model, lambda: one, 12, 1.0, one, threshold=30.0) == 12
    assert trained(model, lambda: one, 12, 1.0, one, threshold=50.0) == 10 and len(read) == 5
    assert trained(model, lambda: one, 2, 1.0, one, threshold=90.0) is None


def test_a_run_whose_loss_is_not_a_number_has_no_score(monkeypatch):
    monkeypatch.setattr(training, "entropy", lambda logits, batch: logits.sum() * float("nan"))
    monkeypatch.setattr(training, "TESTED", 4)
    probe = PROBE["fixed"]
    found = run(probe, probe.values[0], BY_NAME["none"], 1.0, 0)
    assert (found.accuracy, found.loss, found.reached, found.steps) == (None, None, None, 160)


def test_a_static_mask_is_not_changed_by_freezing_and_a_context_aware_one_is():
    value = PROBE["query"].values[0]
    model, test = reader(value, BY_NAME["lcaam-add"]), value.draw(seeded(), 300)
    net = model.encoder.masks.nets[0]
    net.last.weight.data.normal_(std=3.0)
    found = interventions(model, test, seed=0)
    assert set(found) == {"frozen", "swapped", "shuffled"}
    net.last.weight.data.zero_()
    assert set(interventions(model, test, seed=0).values()) == {model.score(test)}
