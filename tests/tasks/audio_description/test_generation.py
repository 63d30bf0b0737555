"""Decoding presets, and repetition controls that see the generated words only."""

import pytest
import torch

from tasks.audio_description.generation import Decoding
from tasks.audio_description.prefix import PrefixLlama, Prompts
from tests.tasks.audio_description.test_prefix import config, gates, prompts

LONG = torch.tensor([[1, 5, 9, 4, 7, 5, 9], [1, 8, 3, 3, 6, 8, 3]])


@pytest.fixture
def llm():
    """Greedy answers of this one repeat themselves, so that the controls have something to do."""
    torch.manual_seed(1)
    return PrefixLlama(config(initializer_range=0.3, eos_token_id=None)).eval()


def test_presets_are_the_papers_and_autoads():
    assert Decoding().options() == {"do_sample": False, "max_new_tokens": 64}
    autoad = {"do_sample": False, "num_beams": 5, "repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
    assert Decoding(preset="autoad").options() == {**autoad, "max_new_tokens": 67}
    changed = Decoding(preset="autoad", num_beams=2, length_penalty=0.5, max_new_tokens=9).options()
    assert changed == {**autoad, "num_beams": 2, "length_penalty": 0.5, "max_new_tokens": 9}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"preset": "beam"}, "^preset: 'beam' is not one of greedy, autoad"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0 is out of range; allowed: at least 1"),
        ({"num_beams": 0}, "num_beams: 0 is out of range; allowed: at least 1"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size: -1 is out of range; allowed: at least 0"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty: 0.0 is out of range"),
        ({"repetition_penalty": float("nan")}, "repetition_penalty: nan is out of range"),
        ({"do_sample": True, "top_p": 1.5}, "top_p: 1.5 is out of range; allowed: above 0 and at most 1"),
        ({"do_sample": True, "top_p": 0.0}, "top_p: 0.0 is out of range"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0 leaves nothing to sample; allowed: above 0, or"),
        ({"do_sample": True, "temperature": -1.0}, "temperature: -1.0 is out of range"),
        ({"temperature": 0.5, "top_k": 3}, "temperature, top_k would have no effect; add do_sample=true, or leave it"),
        ({"early_stopping": True}, "early_stopping would have no effect; add num_beams above 1, or leave it out"),
        ({"preset": "autoad", "num_beams": 1, "length_penalty": 2.0}, "length_penalty would have no effect"),
        ({"min_new_tokens": 65}, "min_new_tokens=65 is more than max_new_tokens=64"),
    ],
)
def test_what_cannot_be_decoded_with_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**options)


def test_temperature_0_is_the_greedy_preset():
    assert Decoding(temperature=0.0).options() == Decoding().options()


def test_options_that_go_together_are_taken():
    sampled = Decoding(do_sample=True, temperature=0.1, top_p=1.0, top_k=0, min_new_tokens=64).options()
    assert (sampled["temperature"], sampled["top_p"], sampled["top_k"], sampled["min_new_tokens"]) == (0.1, 1.0, 0, 64)
    assert Decoding(preset="autoad", early_stopping=False, length_penalty=2.0).options()["length_penalty"] == 2.0


def by_hand(llm, ids, prefix, steps, penalty, ngram):
    """Greedy decoding in a loop without a cache: the penalty divides positive and multiplies negative logits of words
    that were generated, and no `ngram` words in a row occur twice."""
    words = []
    for _ in range(steps):
        logits = llm(input_ids=torch.tensor([[*ids, *words]]), prefix=prefix, use_cache=False).logits[0, -1].clone()
        for word in set(words):
            logits[word] = logits[word] / penalty if logits[word] > 0 else logits[word] * penalty
        for start in range(len(words) - ngram + 1):
            if words[start : start + ngram - 1] == words[len(words) - ngram + 1 :]:
                logits[words[start + ngram - 1]] = float("-inf")
        words.append(int(logits.argmax()))
    return words


@pytest.mark.parametrize("ngram", [1, 2, 3])
@torch.no_grad()
def test_repetition_controls_equal_a_loop_by_hand_and_ignore_prompt_and_padding(llm, ngram):
    steps = 12
    decoding = Decoding(max_new_tokens=steps, repetition_penalty=1.2, no_repeat_ngram_size=ngram)
    ids = torch.cat([LONG, torch.tensor([[0, 0, 0, 0, 0, 1, 8]])])  # padded with 0, which may be generated as well
    keep = (ids != 0).long()
    whole = prompts(batch=3)
    prefix = Prompts(llm, whole, gates())
    out = llm.generate(
        input_ids=ids, attention_mask=keep, prefix=prefix, pad_token_id=0, **decoding.generate_options(ids.shape[1])
    )
    for i, row in enumerate(out):
        own = ids[i][keep[i] == 1].tolist()
        expected = by_hand(llm, own, Prompts(llm, whole[i : i + 1], gates()), steps, 1.2, ngram)
        assert row[ids.shape[1] :].tolist() == expected
        plain = by_hand(llm, own, Prompts(llm, whole[i : i + 1], gates()), steps, 1.0, steps + 1)
        assert expected != plain, "the controls change this answer"


@pytest.mark.parametrize("cache", [True, False])
def test_autoads_beams_of_a_batch_equal_those_of_each_row(llm, cache):
    decoding = Decoding(preset="autoad", max_new_tokens=8)
    ids, keep = torch.tensor([[0, 0, 0, 1, 5], [1, 8, 3, 3, 6]]), torch.tensor([[0, 0, 0, 1, 1], [1, 1, 1, 1, 1]])
    whole = prompts()
    prefix, options = Prompts(llm, whole, gates()), decoding.generate_options(5)
    out = llm.generate(input_ids=ids, attention_mask=keep, prefix=prefix, pad_token_id=0, **options)
    for i in range(2):
        own = ids[i : i + 1, keep[i] == 1]
        alone = llm.generate(
            input_ids=own, attention_mask=torch.ones_like(own), prefix=Prompts(llm, whole[i : i + 1], gates()),
            pad_token_id=0, use_cache=cache, **decoding.generate_options(own.shape[1]),
        )  # fmt: skip
        assert out[i, 5:].tolist() == alone[0, own.shape[1] :].tolist()
