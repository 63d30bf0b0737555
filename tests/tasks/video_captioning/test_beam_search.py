"""Captions: the same with and without the cache, greedy as by hand, beams as transformers' own search."""

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.bert import modeling_bert

from tasks.video_captioning.beam_search import generate
from tasks.video_captioning.masking import hide
from tasks.video_captioning.model import SwinBert
from tests.tasks.video_captioning.small import CONTEXT, MASKS, NONE, SPECIAL, TEXT, VIDEO, VOCABULARY, captioner, videos

BATCH = 4


def ending(mask=None, seed=0, **changes):
    """A model that ends captions at different lengths, some not at all."""
    model = captioner(mask, seed, **changes)
    with torch.no_grad():
        model.head.decoder.bias[SPECIAL.sep] += 4.0
    return model


def options(**changes):
    return {"special": SPECIAL, "max_length": TEXT} | changes


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", MASKS)
def test_captions_with_the_cache_are_those_without(name, beams):
    model = ending(MASKS[name])
    cached, whole = (
        generate(model, videos(BATCH), num_beams=beams, cache=cache, **options()) for cache in (True, False)
    )
    assert torch.equal(cached.ids, whole.ids)
    torch.testing.assert_close(cached.log_probs, whole.log_probs, rtol=0, atol=1e-5)
    torch.testing.assert_close(cached.scores, whole.scores, rtol=0, atol=1e-5)


def test_no_forward_of_transformers_attention_is_called(monkeypatch):
    """What it takes and calls its arguments changes between releases; a name that it swallows would hide the video."""
    model = ending(MASKS[next(iter(MASKS))])
    expected = generate(model, videos(BATCH), **options()).ids

    def forward(*_, **__):
        raise AssertionError("transformers' own attention was called")

    for part in ("Layer", "Attention", "SelfAttention"):
        monkeypatch.setattr(getattr(modeling_bert, f"Bert{part}"), "forward", forward)
    assert torch.equal(generate(model, videos(BATCH), **options()).ids, expected)


def test_the_cache_computes_the_video_once_and_two_rows_a_step():
    model, rows = ending(), []
    model.stack.register_forward_pre_hook(lambda module, inputs: rows.append(tuple(inputs[0].shape[:2])))
    model.head.decoder.bias.data[SPECIAL.sep] = -1e9
    generate(model, videos(BATCH), num_beams=3, **options())
    assert rows == [(BATCH, VIDEO)] + [(3 * BATCH, 2)] * (TEXT - 1)


def by_hand(model, features, length_limit):
    """One video's greedy caption from the model's logits alone."""
    ids, total = [SPECIAL.cls], 0.0
    while len(ids) < length_limit and ids[-1] != SPECIAL.sep:
        given = torch.tensor([[*ids, SPECIAL.mask]])
        log_probs = model(features, given, torch.ones_like(given, dtype=torch.bool))[0, -1].log_softmax(-1)
        ids.append(int(log_probs.argmax()))
        total += log_probs.max().item()
    return ids, total


@pytest.mark.parametrize("length", [2, 5, TEXT])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_captions_are_those_written_by_hand(seed, length):
    model, features = ending(CONTEXT, seed), videos(BATCH, seed=seed)
    found = generate(model, features, **options(max_length=length))
    expected = [by_hand(model, features[i : i + 1], length) for i in range(BATCH)]
    for row, log_prob, (ids, total) in zip(found.ids.tolist(), found.log_probs, expected, strict=True):
        assert row[: len(ids)] == ids and not any(row[len(ids) :])
        assert log_prob.item() == pytest.approx(total, abs=1e-5)
    assert found.ids.shape[1] == max(len(ids) for ids, _ in expected) <= length


def trimmed(row):
    """Without padding, for which transformers takes [SEP] where the id of [PAD] is 0."""
    return row[: row.index(SPECIAL.sep) + 1] if SPECIAL.sep in row else row


class NextWord(PreTrainedModel, GenerationMixin):
    """The captioner as transformers' generation sees a language model."""

    config_class = PretrainedConfig

    def __init__(self, model, features):
        super().__init__(PretrainedConfig(vocab_size=VOCABULARY))
        self.model, self.features = [model], features  # hidden from parameters
        self.generation_config = GenerationConfig()
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def prepare_inputs_for_generation(self, input_ids, **_):
        return {"input_ids": input_ids}

    def forward(self, input_ids, **_):
        ids = torch.cat([input_ids, input_ids.new_full((len(input_ids), 1), SPECIAL.mask)], 1)
        features = self.features.repeat_interleave(len(ids) // len(self.features), 0)
        logits = self.model[0](features, ids, torch.ones_like(ids, dtype=torch.bool))
        return CausalLMOutput(logits=logits[:, 1:])  # the last is [MASK]'s


@pytest.mark.parametrize("beams", [2, 3, 5])
@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -1.0])
def test_beams_find_what_transformers_beam_search_finds(beams, penalty):
    for seed in range(3):
        model, features = ending(MASKS["per_layer mul"], seed), videos(BATCH, seed=seed)
        found = generate(model, features, num_beams=beams, length_penalty=penalty, **options())
        theirs = NextWord(model, features).generate(
            torch.full((BATCH, 1), SPECIAL.cls),
            num_beams=beams,
            length_penalty=penalty,
            early_stopping="never",
            max_length=TEXT,
            do_sample=False,
            use_cache=False,
            eos_token_id=SPECIAL.sep,
            pad_token_id=SPECIAL.pad,
            output_scores=True,
            return_dict_in_generate=True,
        )
        assert [trimmed(row) for row in found.ids.tolist()] == [trimmed(row) for row in theirs.sequences.tolist()]
        torch.testing.assert_close(found.scores, theirs.sequences_scores.float(), rtol=0, atol=1e-5)


def test_log_probs_of_beams_are_those_of_their_words():
    model, features = ending(CONTEXT, seed=2), videos(BATCH)
    found = generate(model, features, num_beams=4, length_penalty=0.7, **options())
    for i, row in enumerate(found.ids.tolist()):
        words = trimmed(row)
        total = 0.0
        for end in range(1, len(words)):
            given = torch.tensor([[*words[:end], SPECIAL.mask]])
            logits = model(features[i : i + 1], given, torch.ones_like(given, dtype=torch.bool))[0, -1]
            total += logits.log_softmax(-1)[words[end]].item()
        assert found.log_probs[i].item() == pytest.approx(total, abs=1e-5)
        assert found.scores[i].item() == pytest.approx(total / (len(words) - 1) ** 0.7, abs=1e-5)


def test_a_video_s_caption_does_not_depend_on_its_batch():
    model, features = ending(CONTEXT), videos(BATCH)
    whole = generate(model, features, num_beams=3, **options()).ids
    for i in range(BATCH):
        alone = generate(model, features[i : i + 1], num_beams=3, **options()).ids[0]
        assert torch.equal(whole[i, : len(alone)], alone) and not whole[i, len(alone) :].any()


@pytest.mark.parametrize("name", ["none", "shared mul"])
def test_it_learns_five_captions_by_heart(name):
    """Training as in the original, then decoding: the two halves fit each other."""
    torch.manual_seed(0)
    model = SwinBert(VOCABULARY, 5, VIDEO, TEXT, 6, 32, 2, 4, 64, 16, dropout=0.0, mask=MASKS[name])
    captions = [[4, 5, 6], [4, 5, 7, 8], [9], [5, 4, 4, 10, 11, 12], [13, 6, 5, 4]]
    ids = torch.tensor([[SPECIAL.cls, *c, SPECIAL.sep] + [SPECIAL.pad] * (TEXT - 2 - len(c)) for c in captions])
    lengths = torch.tensor([len(c) + 2 for c in captions])
    keep, features = torch.arange(TEXT) < lengths[:, None], videos(5).float()
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        optimiser.param_groups[0]["lr"] = 5e-3 if step < 110 else 5e-4  # at the full rate a step may undo much
        inputs, labels = hide(ids, lengths, SPECIAL.mask, VOCABULARY)
        loss = model.loss(features, inputs, labels, keep)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for beams in (1, 3):
        found = generate(model.eval(), features, num_beams=beams, **options()).ids
        assert found.tolist() == ids[:, : found.shape[1]].tolist()


def test_impossible_options_are_refused():
    model = captioner(NONE)
    with pytest.raises(ValueError, match="num_beams must be at least 1, got 0"):
        generate(model, videos(), num_beams=0, **options())
    with pytest.raises(ValueError, match="12 beams are too many for a vocabulary of 23"):
        generate(model, videos(), num_beams=12, **options())
    for length in (1, TEXT + 1):
        with pytest.raises(ValueError, match=f"max_length is from 2 to the model's 11, got {length}"):
            generate(model, videos(), **options(max_length=length))
