"""Which words are hidden in training, how many, and behind what."""

import pytest
import torch

from tasks.video_captioning.masking import IGNORED, hide

MASK, VOCABULARY, TEXT = 3, 1000, 50


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def captions(*lengths):
    """Ids from 1000 on, so that a word of the vocabulary below is never one of the caption's own."""
    ids = torch.randint(1000, 2000, (len(lengths), TEXT), generator=generator())
    return ids, torch.tensor(lengths)


def literal_number(length, probability=0.5, most=45):
    return min(max(round(probability * length), 1), most, length - 1)


@pytest.mark.parametrize("probability, most", [(0.5, 45), (0.15, 45), (1.0, 45), (0.5, 4), (0.01, 45)])
def test_every_caption_hides_the_published_number_of_words(probability, most):
    lengths = list(range(2, TEXT + 1))
    ids, given = captions(*lengths)
    _, labels = hide(ids, given, MASK, VOCABULARY, probability, most, generator())
    assert (labels != IGNORED).sum(1).tolist() == [literal_number(n, probability, most) for n in lengths]


def test_a_label_is_the_word_that_was_there_and_all_others_stay():
    ids, lengths = captions(50, 2, 7, 31)
    inputs, labels = hide(ids, lengths, MASK, VOCABULARY, generator=generator())
    hidden = labels != IGNORED
    assert torch.equal(labels[hidden], ids[hidden]) and torch.equal(inputs[~hidden], ids[~hidden])
    assert not hidden[:, 0].any() and not (hidden & (torch.arange(TEXT) >= lengths[:, None])).any()
    assert hidden[1].nonzero().tolist() == [[1]]  # of [CLS] [SEP] only [SEP] can be


def test_every_word_and_the_separator_are_hidden_equally_often():
    ids, lengths = captions(*[10] * 4000)
    _, labels = hide(ids, lengths, MASK, VOCABULARY, generator=generator())
    share = (labels != IGNORED).float().mean(0)
    assert share[0] == 0 and not share[10:].any()
    torch.testing.assert_close(share[1:10], torch.full((9,), 5 / 9), rtol=0, atol=0.04)


def test_eight_in_ten_become_mask_one_another_word_and_one_stays():
    ids, lengths = captions(*[50] * 2000)
    inputs, labels = hide(ids, lengths, MASK, VOCABULARY, generator=generator())
    hidden = labels != IGNORED
    masked, stays = inputs[hidden] == MASK, inputs[hidden] == ids[hidden]
    random = ~masked & ~stays
    assert [x.float().mean().item() for x in (masked, random, stays)] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    words = inputs[hidden][random]
    assert words.min() >= 0 and words.max() < VOCABULARY and words.float().mean() == pytest.approx(499.5, abs=15)


def test_the_generator_decides_everything():
    ids, lengths = captions(20, 9)
    first, same, other = (hide(ids, lengths, MASK, VOCABULARY, generator=generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[1], other[1])
    torch.manual_seed(5)
    first = hide(ids, lengths, MASK, VOCABULARY)
    torch.manual_seed(5)
    assert all(torch.equal(a, b) for a, b in zip(first, hide(ids, lengths, MASK, VOCABULARY), strict=True))


@pytest.mark.parametrize("lengths", [(1, 5), (51, 5), (5,)])
def test_captions_without_a_word_and_wrong_lengths_are_refused(lengths):
    ids, _ = captions(5, 5)
    with pytest.raises(ValueError, match=r"lengths must be \(2,\), each from 2 .* to 50; got"):
        hide(ids, torch.tensor(lengths), MASK, VOCABULARY)


@pytest.mark.parametrize("options", [{"probability": 0.0}, {"probability": 1.5}, {"most": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="probability is in"):
        hide(*captions(5), MASK, VOCABULARY, **options)
