"""Writing a caption: [CLS], then again and again a [MASK] at the end and the word that the model sees in it.

>>> captions = generate(model, features, special, num_beams=4)
>>> captions.ids, captions.log_probs   # (B, up to 20), (B,)

With cache=True the video goes through the encoder once and each step computes two rows, those of the last word and of
[MASK]. Without the cache, as in the original by default, every step computes all rows again. Both give the same
captions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcaam import Memory


@dataclass(frozen=True)
class Special:
    """Ids of the tokenizer's special tokens; bert-base-uncased's."""

    pad: int = 0
    cls: int = 101
    sep: int = 102
    mask: int = 103


@dataclass(frozen=True)
class Captions:
    """ids (B, L): [CLS] words [SEP], padded; without [SEP] if a caption of the largest allowed length had not ended.
    log_probs (B,): sum over the generated tokens, [SEP] included. scores (B,): numbers by which beams are compared.
    """

    ids: Tensor
    log_probs: Tensor
    scores: Tensor


@torch.no_grad()
def generate(
    model,
    features: Tensor,
    special: Special | None = None,
    num_beams: int = 1,
    max_length: int = 20,
    length_penalty: float = 1.0,
    cache: bool = True,
) -> Captions:
    """A caption for each video. model: a SwinBert (model.py), put in eval mode by the caller. features (B, V, C).

    num_beams: 1 is greedy. max_length: most tokens of a caption with [CLS] and [SEP].
    length_penalty: as in transformers, captions are compared by log-probability / generated tokens ^ length_penalty:
        a value above 0 favours long ones. The search goes on until no running beam can become better than those that
        ended (transformers' early_stopping="never").

    Raises ValueError for less than one beam, or a length that the model has no positions for.
    """
    special = special or Special()
    if num_beams < 1:
        raise ValueError(f"generate: num_beams must be at least 1, got {num_beams}")
    if not 2 <= max_length <= model.text_tokens:
        raise ValueError(f"generate: max_length is from 2 to the model's {model.text_tokens}, got {max_length}")
    if num_beams > model.vocab_size // 2:
        raise ValueError(f"generate: {num_beams} beams are too many for a vocabulary of {model.vocab_size}")
    kind = CachedWords if cache else Words
    next_word = kind(model, features, special, num_beams, max_length)
    if num_beams == 1:
        return greedy(next_word, len(features), special, max_length, length_penalty)
    return beam_search(next_word, len(features), special, max_length, length_penalty, num_beams)


class Words:
    """Log-probabilities of the next word. Everything is computed again, by the model's forward pass."""

    def __init__(self, model, features: Tensor, special: Special, beams: int, max_length: int):
        self.model, self.mask, self.device = model, special.mask, features.device
        self.features = features.repeat_interleave(beams, 0)

    def with_mask(self, ids: Tensor) -> Tensor:
        return torch.cat([ids, ids.new_full((len(ids), 1), self.mask)], 1)

    def __call__(self, ids: Tensor, order: Tensor | None = None) -> Tensor:
        """ids (R, t) -> (R, vocabulary). order (R,): the row of the last call that each row continues; None: itself."""
        ids = self.with_mask(ids)
        states = self.model.text_states(self.features, ids, torch.ones_like(ids, dtype=torch.bool))
        return self.model.head(states[:, -1]).float().log_softmax(-1)


class CachedWords(Words):
    """The same from rows that are kept: those of the video, and those of the words before the last."""

    def __init__(self, model, features: Tensor, special: Special, beams: int, max_length: int):
        self.model, self.mask, self.device = model, special.mask, features.device
        self.memory = Memory(max_length, beams)
        model.stack(model.embed_video(features), memory=self.memory)
        self.memory.keep()

    def __call__(self, ids: Tensor, order: Tensor | None = None) -> Tensor:
        memory, start = self.memory, ids.shape[1] - 1
        if order is not None:
            memory.reorder(order)
        words = self.model.embed_text(self.with_mask(ids[:, -1:]), start)  # (R, 2, D)
        keys = memory.kept + 2
        keep = torch.ones(2, keys, dtype=torch.bool, device=ids.device).tril(keys - 2)[None, None]
        states = self.model.stack(words, keep, memory)
        memory.keep(1)  # [MASK] is forgotten
        return self.model.head(states[:, -1]).float().log_softmax(-1)


def greedy(next_word: Words, batch: int, special: Special, max_length: int, length_penalty: float) -> Captions:
    """Takes the most probable word in every step."""
    ids = torch.full((batch, 1), special.cls, device=next_word.device)
    total = torch.zeros(batch, device=next_word.device)
    length, done = torch.zeros_like(total), torch.zeros(batch, dtype=torch.bool, device=next_word.device)
    while ids.shape[1] < max_length and not done.all():
        best, word = next_word(ids).max(-1)
        total, length = total + best.masked_fill(done, 0.0), length + ~done
        ids = torch.cat([ids, word.masked_fill(done, special.pad)[:, None]], 1)
        done = done | (word == special.sep)
    return Captions(ids, total, total / length**length_penalty)


def beam_search(
    next_word: Words, batch: int, special: Special, max_length: int, length_penalty: float, beams: int
) -> Captions:
    """The best caption that a search with `beams` running captions per video finds.

    Each step looks at the 2 x beams best continuations. Those that end and are among the `beams` best join the ended
    captions, of which the `beams` best are kept; the best of the others go on.
    """
    device = next_word.device
    ids = torch.full((batch, beams, 1), special.cls, device=device)
    total = torch.full((batch, beams), -torch.inf, device=device)
    total[:, 0] = 0.0  # the same caption several times would fill all beams
    ended = torch.full((batch, beams, max_length), special.pad, device=device)
    ended_total, ended_score = torch.full_like(total, -torch.inf), torch.full_like(total, -torch.inf)
    first_row = beams * torch.arange(batch, device=device)[:, None]
    order = None
    while (length := ids.shape[2]) < max_length:
        log_probs = next_word(ids.flatten(0, 1), order).view(batch, beams, -1)
        vocabulary = log_probs.shape[-1]
        best, index = (total[..., None] + log_probs).flatten(1).topk(2 * beams)  # (B, 2 beams)
        beam, word = index // vocabulary, index % vocabulary
        grown = torch.cat([ids.gather(1, beam[..., None].expand(-1, -1, length)), word[..., None]], 2)
        ends = (word == special.sep) | (length + 1 == max_length)

        score = best / length**length_penalty  # `length` words have been generated, [CLS] was given
        score = score.masked_fill(~ends, -torch.inf)
        score[:, beams:] = -torch.inf
        padding = ended.new_full((batch, 2 * beams, max_length - length - 1), special.pad)
        every = torch.cat([ended, torch.cat([grown, padding], 2)], 1)
        every_total, every_score = torch.cat([ended_total, best], 1), torch.cat([ended_score, score], 1)
        ended_score, kept = every_score.topk(beams)
        ended_total = every_total.gather(1, kept)
        ended = every.gather(1, kept[..., None].expand(-1, -1, max_length))

        total, running = best.masked_fill(ends, -torch.inf).topk(beams)
        ids = grown.gather(1, running[..., None].expand(-1, -1, length + 1))
        order = (first_row + beam.gather(1, running)).flatten()
        # the best that a running caption can still reach: no further loss, at the length that is best for it
        reachable = total[:, 0] / (max_length - 1 if length_penalty > 0 else length + 1) ** length_penalty
        if (ended_score[:, -1] >= reachable).all():
            break
    winner = ended_score.argmax(1)
    rows = torch.arange(batch, device=device)
    ids = ended[rows, winner]
    used = int((ids != special.pad).any(0).nonzero().max()) + 1
    return Captions(ids[:, :used], ended_total[rows, winner], ended_score[rows, winner])
