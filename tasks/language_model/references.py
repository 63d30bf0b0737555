"""Nats of a text by what needs no model: equal chances, frequencies of characters, frequencies of pairs.

>>> floors(training_text, test_text, vocabulary)  # {"uniform": (N,), "constant": (N,), "bigram": (N,)}

Each gives the nats of every character of the second text, given those before it.
"""

import math

import numpy as np
import torch

from tasks.language_model.vocabulary import Vocabulary


def floors(train: np.ndarray, text: np.ndarray, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """Code points -> nats of each character; not a number for one that the vocabulary lacks.

    uniform: every character is as probable. constant: as probable as it is frequent in training. bigram: as frequent
    behind the character before it; one more is counted for every pair, so that none has the probability 0. The first
    character of the text has the nats of `constant` there.
    """
    size, cpu = len(vocabulary), torch.device("cpu")
    vocabulary = Vocabulary(vocabulary.characters).to(cpu)
    seen, _ = vocabulary.encode(torch.from_numpy(train.astype(np.int64)))
    ids, known = vocabulary.encode(torch.from_numpy(text.astype(np.int64)))
    seen, ids, known = seen.numpy(), ids.numpy(), known.numpy()

    singles = np.bincount(seen, minlength=size)
    frequencies = np.log(len(seen)) - np.log(np.maximum(singles, 1))
    constant = frequencies[ids]
    bigram = constant.copy()
    followed = np.bincount(seen[:-1], minlength=size)
    counts = occurrences(seen[:-1] * size + seen[1:], ids[:-1] * size + ids[1:])
    bigram[1:] = np.log(followed[ids[:-1]] + size) - np.log(counts + 1)
    found = {"uniform": np.full(len(ids), math.log(size)), "constant": constant, "bigram": bigram}
    return {name: np.where(known, nats, np.nan) for name, nats in found.items()}


def occurrences(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """How often each of `wanted` is among `values`; no table of all possible pairs, which may be millions."""
    distinct, counts = np.unique(values, return_counts=True)
    if not len(distinct):
        return np.zeros(len(wanted), dtype=int)
    places = np.searchsorted(distinct, wanted).clip(max=len(distinct) - 1)
    return np.where(distinct[places] == wanted, counts[places], 0)
