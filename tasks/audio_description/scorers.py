"""How well two sentences agree: the scores behind recall within neighbours (metrics.py).

    >>> scorer = build_scorer("rougeL")                      # or "tokenF1", "BERTScore", "BERTScore=PATH-or-ID"
    >>> encoded = scorer.encode(["a man runs", "the man runs away"])
    >>> scorer.score(encoded, np.array([[0, 1]]))            # pairs (generated, reference)
    array([0.5570...])

A scorer of your own is an object with `name`, `encode` and `score`: neighbour_recalls(rows, scorers=[Mine()]).
Letters: P pairs, T word pieces, D width of the encoder.
"""

import difflib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from tasks.common.caption_tokens import plain_tokens
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import WEIGHTS, check_files, from_pretrained

log = logging.getLogger(__name__)


class Scorer(Protocol):
    """name: part of the names of recalls, `R@5/16[name]`."""

    name: str

    def encode(self, sentences: Sequence[str]) -> list[Any]:
        """What `score` needs of each sentence; an empty sentence is legal."""

    def score(self, encoded: Sequence[Any], pairs: np.ndarray) -> np.ndarray:
        """One finite number per pair, (P,), higher if they agree; pairs (P, 2): places of generated, reference."""


def batches(costs: np.ndarray, budget: float) -> Iterator[np.ndarray]:
    """Batches of indices of similar cost, as many as fit the budget if each is padded to the size of the costliest."""
    order = np.argsort(-costs, kind="stable")
    start = 0
    while start < len(order):
        stop = start + max(1, int(budget // max(costs[order[start]], 1)))
        yield order[start:stop]
        start = stop


# -- words ------------------------------------------------------------------------------------------------------------


class WordScorer(ABC):
    """Sentences as numbers of words; `compare` gets two padded tables and the lengths of their rows."""

    name: str

    def __init__(self):
        self.vocabulary: dict[Any, int] = {}

    @abstractmethod
    def words(self, sentence: str) -> list[Any]:
        """The words of a sentence that are compared."""

    @abstractmethod
    def compare(self, left: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """One score per row; lengths (P, 2) without padding."""

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        number = self.vocabulary
        return [[number.setdefault(word, len(number)) for word in self.words(sentence)] for sentence in sentences]

    def score(self, encoded: Sequence[list[int]], pairs: np.ndarray) -> np.ndarray:
        lengths = np.array([len(words) for words in encoded])[pairs]  # (P, 2)
        scores = np.zeros(len(pairs))
        for batch in batches(lengths.max(1, initial=0) ** 2, budget=4e6):
            left, right = (padded(encoded, pairs[batch, side], -1 - side) for side in (0, 1))
            scores[batch] = self.compare(left, right, lengths[batch])
        return scores


def padded(encoded: Sequence[list[int]], which: np.ndarray, padding: int) -> np.ndarray:
    """One row per sentence; the paddings of the two sides differ, so that they never match."""
    table = np.full((len(which), max([1, *(len(encoded[i]) for i in which)])), padding)
    for row, i in zip(table, which, strict=True):
        row[: len(encoded[i])] = encoded[i]
    return table


class RougeL(WordScorer):
    """ROUGE-L F-measure with beta 1.2, in [0, 1]; words are separated by blanks and compared in lower case."""

    name = "rougeL"

    def words(self, sentence: str) -> list[str]:
        return sentence.lower().split()

    def compare(self, left: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        common = np.zeros((len(left), right.shape[1] + 1), dtype=np.int16)  # with the first j words of the right side
        for word in left.T:
            longer = np.where(word[:, None] == right, common[:, :-1] + 1, common[:, 1:])
            common[:, 1:] = np.maximum.accumulate(longer, axis=1)
        return f_measure(common[:, -1], lengths, beta=1.2)


class TokenF1(WordScorer):
    """F1 of the words in common, each as often as both sentences have it, in [0, 1]; case and punctuation ignored."""

    name = "tokenF1"

    def words(self, sentence: str) -> list[tuple[str, int]]:
        seen: dict[str, int] = {}
        words = plain_tokens({"": [sentence]})[""][0].split()
        for word in words:
            seen[word] = seen.get(word, 0) + 1
        return [(word, time) for word, times in seen.items() for time in range(times)]  # "the" and the second "the"

    def compare(self, left: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        common = sum((word[:, None] == right).any(1) for word in left.T)
        return f_measure(np.asarray(common, dtype=np.float64), lengths, beta=1.0)


def f_measure(common: np.ndarray, lengths: np.ndarray, beta: float) -> np.ndarray:
    """The F-measure of each pair (P,), 0 if nothing is in common."""
    precision, recall = (common / np.maximum(side, 1) for side in lengths.T)
    denominator = recall + beta**2 * precision
    return np.divide((1 + beta**2) * precision * recall, denominator, out=np.zeros(len(common)), where=denominator > 0)


# -- BERTScore --------------------------------------------------------------------------------------------------------


class Pieces(NamedTuple):
    """An encoded sentence: vectors (T, D) of length 1; counts (T,) 0 for the tokens that open and close it, else 1."""

    vectors: torch.Tensor
    counts: torch.Tensor


class BERTScore:
    """BERTScore F1 (Zhang et al. 2020, arXiv 1904.09675) without idf weights and without a baseline.

    Every word piece is matched with the most similar one of the other sentence. The opening and closing tokens can be
    matched but do not count, as in the authors' program. Its baseline rescaling maps all scores by one rising line, so
    it cannot change a recall. An empty sentence scores 0 with everything.

    model: folder or hub id of an encoder with its tokenizer (BERT, RoBERTa and their relatives). layer: the layer whose
    output is compared, 0 being the embeddings; later layers are not computed. The defaults are AutoAD's.
    Raises CheckpointError for a model that is not there, incomplete or of another kind; ValueError for a layer that it
    does not have.
    """

    def __init__(
        self,
        model: str = "roberta-large",
        layer: int = 17,
        *,
        device: str = "cpu",
        batch_size: int = 64,
        name: str = "BERTScore",
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.model, self.layer, self.batch_size, self.name = str(model), layer, batch_size, name
        self.tokenizer, network = load_encoder(self.model)
        layers = network.encoder.layer
        if not 0 <= layer <= len(layers):
            raise ValueError(f"{self.model} has {len(layers)} layers: layer must be between 0 and that, got {layer}")
        expected = states_of(network, self.tokenizer, layer)
        network.encoder.layer = layers[:layer]
        if not torch.allclose(states_of(network, self.tokenizer, None), expected, atol=1e-4):
            raise CheckpointError(
                f"BERTScore: {self.model} without the layers after layer {layer} does not put out what that layer does"
            )
        try:
            self.network = network.eval().to(device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            raise ValueError(f"device {device!r} cannot be used ({str(error).splitlines()[0]})") from error
        positions = network.config.max_position_embeddings
        longest = self.tokenizer.model_max_length
        self.longest = longest if longest <= positions else positions - 2  # RoBERTa's first place is number 2
        # RoBERTa's tokenizer writes the first word of a text like all others only if a blank is before it
        self.blank = " " if network.config.model_type == "roberta" else ""
        ends = (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        self.ends = torch.tensor([end for end in ends if end is not None], device=device)

    @torch.no_grad()
    def encode(self, sentences: Sequence[str]) -> list[Pieces]:
        tokenizer, device = self.tokenizer, self.network.device
        texts = [sentence.strip() for sentence in sentences]
        width = self.network.config.hidden_size
        nothing = Pieces(torch.zeros(1, width, device=device), torch.zeros(1, device=device))
        encoded = [nothing] * len(texts)
        filled = [i for i, text in enumerate(texts) if text]
        if not filled:
            return encoded
        given = tokenizer([self.blank + texts[i] for i in filled], truncation=True, max_length=self.longest)[
            "input_ids"
        ]
        ids = {i: torch.tensor(pieces) for i, pieces in zip(filled, given, strict=True)}
        order = sorted(ids, key=lambda i: -len(ids[i]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            table = pad_sequence([ids[i] for i in batch], True, tokenizer.pad_token_id).to(device)  # (B, T)
            lengths = torch.tensor([len(ids[i]) for i in batch], device=device)
            keep = torch.arange(table.shape[1], device=device) < lengths[:, None]
            states = self.network(input_ids=table, attention_mask=keep.long()).last_hidden_state.float()  # (B, T, D)
            states = torch.nn.functional.normalize(states, dim=-1)
            counts = (~torch.isin(table, self.ends)).float()
            for i, vectors, count, length in zip(batch, states, counts, lengths.tolist(), strict=True):
                encoded[i] = Pieces(vectors[:length].clone(), count[:length].clone())
        return encoded

    @torch.no_grad()
    def score(self, encoded: Sequence[Pieces], pairs: np.ndarray) -> np.ndarray:
        lengths = np.array([len(pieces.counts) for pieces in encoded])[pairs].max(1, initial=0)  # (P,)
        scores = np.zeros(len(pairs))
        for batch in batches(lengths * (2 * self.network.config.hidden_size + lengths), budget=2**24):
            left, right = ([encoded[i] for i in pairs[batch, side]] for side in (0, 1))
            scores[batch] = f1(left, right).double().cpu().numpy()
        return scores


def f1(left: Sequence[Pieces], right: Sequence[Pieces]) -> torch.Tensor:
    """The BERTScore F1 of each pair (P,), 0 if a sentence is empty."""
    a, b = (pad_sequence([pieces.vectors for pieces in side], True) for side in (left, right))  # (P, T, D)
    a_counts, b_counts = (pad_sequence([pieces.counts for pieces in side], True) for side in (left, right))  # (P, T)
    a_real, b_real = (
        pad_sequence([torch.ones_like(pieces.counts, dtype=torch.bool) for pieces in side], True)
        for side in (left, right)
    )
    similar = a @ b.transpose(1, 2)  # (P, T, T)
    precision = similar.masked_fill(~b_real[:, None, :], -math.inf).amax(2)
    recall = similar.masked_fill(~a_real[:, :, None], -math.inf).amax(1)
    precision = (precision * a_counts).sum(1) / a_counts.sum(1)
    recall = (recall * b_counts).sum(1) / b_counts.sum(1)
    return (2 * precision * recall / (precision + recall)).nan_to_num(0.0)


@torch.no_grad()
def states_of(network: Any, tokenizer: Any, layer: int | None) -> torch.Tensor:
    """The states (1, T, D) of a fixed sentence after a layer (0: the embeddings), None for the network's output."""
    network.eval()
    ids = torch.tensor([tokenizer("A man opens the door.")["input_ids"]])
    out = network(input_ids=ids, output_hidden_states=layer is not None)
    return out.last_hidden_state if layer is None else out.hidden_states[layer]


def load_encoder(name: str) -> tuple[Any, Any]:
    """Tokenizer and network, float32. Raises CheckpointError."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise CheckpointError(
            f"BERTScore needs the package transformers: pip install transformers ({error})"
        ) from error
    check_files("BERTScore", name)
    with from_pretrained("BERTScore", name, "an encoder and its tokenizer", "config.json", "tokenizer*", *WEIGHTS):
        tokenizer = AutoTokenizer.from_pretrained(name)
        network, found = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    if not hasattr(getattr(network, "encoder", None), "layer"):
        raise CheckpointError(
            f"BERTScore needs an encoder such as BERT or RoBERTa, with its layers at encoder.layer; "
            f"{name!r} is a {type(network).__name__}"
        )
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise CheckpointError(f"BERTScore: {name!r} lacks {len(missing)} weights, the first of them {missing[0]}")
    if len(tokenizer) > network.config.vocab_size:
        raise CheckpointError(
            f"BERTScore: the tokenizer of {name!r} has {len(tokenizer)} word pieces, its encoder "
            f"{network.config.vocab_size}"
        )
    if tokenizer.pad_token_id is None:
        raise CheckpointError(f"BERTScore: the tokenizer of {name!r} has no padding token")
    return tokenizer, network


# -- by name ----------------------------------------------------------------------------------------------------------

SCORERS = ("rougeL", "tokenF1", "BERTScore")


def build_scorer(name: str, *, layer: int = 17, device: str = "cpu") -> Scorer:
    """A scorer from its name; "BERTScore=PATH-or-ID" chooses the encoder. Raises ValueError, or as BERTScore does."""
    kind, _, model = name.partition("=")
    if kind not in SCORERS:
        near = {known.lower(): known for known in SCORERS}
        found = difflib.get_close_matches(kind.lower(), near, 1)
        hint = f"; did you mean {near[found[0]]!r}?" if found else ""
        raise ValueError(f"there is no scorer {kind!r}, only {', '.join(SCORERS)}{hint}")
    if kind == "BERTScore":
        return BERTScore(model or "roberta-large", layer, device=device)
    if "=" in name:
        raise ValueError(f"{kind} takes no model, got {name!r}; only BERTScore=PATH-or-ID does")
    return RougeL() if kind == "rougeL" else TokenF1()
