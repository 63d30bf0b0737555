"""The data of the probes: sequences whose answer is read at the query token, token 0.

>>> pointer("query", torch.Generator().manual_seed(0), 32).tokens.shape  # (B, N, E)
torch.Size([32, 14, 25])

Two families. In the pointer family, tokens carry symbols and the answer is the symbol at a place: the probes differ in
what says which place. In the columns family, every token carries a noisy copy of the answer or noise alone.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SYMBOLS = 10  # kinds; also the number of classes of every answer
SCALE = 2.0  # of all features, so that they are as loud as the positions


@dataclass(frozen=True)
class Batch:
    """tokens (B, N, E) float32; answers (B, A) int64, A answers per sample; order (B, N) int64: which position each
    token has, None if it is that of its place."""

    tokens: Tensor
    answers: Tensor
    order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        """Some of the samples."""
        order = None if self.order is None else self.order[rows]
        return Batch(self.tokens[rows], self.answers[rows], order)


# -- the pointer family -----------------------------------------------------------------------------------------------


def laid_out(symbols: Tensor, notes: int = 1) -> Tensor:
    """Symbols (B, N) as tokens: the query token, then the notes, then a token per symbol.

    Features: SYMBOLS for the symbol, N for a place that a token names, the mark, one per note, and the query token's.
    """
    count, places = symbols.shape
    tokens = torch.zeros(count, 1 + notes + places, SYMBOLS + places + 1 + notes + 1)
    tokens[:, 1 + notes :, :SYMBOLS] = F.one_hot(symbols, SYMBOLS).float()
    tokens[:, 0, -1] = 1
    for note in range(notes):
        tokens[:, 1 + note, -2 - note] = 1
    return tokens


def drawn(places: int, count: int, generator: Generator) -> Tensor:
    return torch.randint(SYMBOLS, (count, places), generator=generator)


def read_at(symbols: Tensor, *places: Tensor) -> Tensor:
    """The answers (B, A): the symbols (B, N) at A places (B,) of each sample."""
    return symbols.gather(1, torch.stack(places, 1))


def name_place(tokens: Tensor, token: int, place: Tensor, places: int) -> None:
    """Lets a token of every sample name a place (B,), in place."""
    tokens[:, token, SYMBOLS : SYMBOLS + places] = F.one_hot(place, places).float()


def pointer(aim: str, generator: Generator, count: int, share: float = 0.0, places: int = 12) -> Batch:
    """The symbol at one place. aim: "fixed" - the place is always the same one, and no token names it; "query" - the
    query token names it, and in a share of the samples it is the fixed one, in the others a random one."""
    symbols = drawn(places, count, generator)
    place = torch.randint(places, (count,), generator=generator)
    fixed = torch.rand(count, generator=generator) < (1.0 if aim == "fixed" else share)
    place = torch.where(fixed, places // 3, place)
    tokens = laid_out(symbols)
    if aim == "query":
        name_place(tokens, 0, place, places)
    return Batch(SCALE * tokens, read_at(symbols, place))


def hop(named_by: int, generator: Generator, count: int, places: int = 3) -> Batch:
    """Notes name the place p: one note names p itself, or two name a and b with p = a + b mod N."""
    symbols = drawn(places, count, generator)
    first, second = torch.randint(places, (2, count), generator=generator)
    tokens = laid_out(symbols, notes=2)
    name_place(tokens, 1, first, places)
    if named_by == 2:
        name_place(tokens, 2, second, places)
    place = (first + second) % places if named_by == 2 else first
    return Batch(SCALE * tokens, read_at(symbols, place))


def marked(strength: float, generator: Generator, count: int, places: int = 12) -> Batch:
    """The symbol that carries a mark, at a random place."""
    symbols = drawn(places, count, generator)
    place = torch.randint(places, (count,), generator=generator)
    tokens = laid_out(symbols)
    tokens[torch.arange(count), 2 + place, SYMBOLS + places] = strength
    return Batch(SCALE * tokens, read_at(symbols, place))


def exclusive_or(generator: Generator, count: int, places: int = 12) -> Batch:
    """Two bits of the query token, as -1 and 1, say which of two places: that at N / 3 if they differ, else 2 N / 3."""
    symbols = drawn(places, count, generator)
    bits = torch.randint(2, (count, 2), generator=generator)
    place = torch.where(bits[:, 0] != bits[:, 1], places // 3, 2 * places // 3)
    tokens = laid_out(symbols)
    tokens[:, 0, SYMBOLS : SYMBOLS + 2] = 2.0 * bits - 1.0
    return Batch(SCALE * tokens, read_at(symbols, place))


def two_places(generator: Generator, count: int, places: int = 16) -> Batch:
    """The symbols at two places that are always the same ones, in their order: two answers."""
    symbols = drawn(places, count, generator)
    both = (torch.full((count,), place) for place in (places // 3, 2 * places // 3))
    return Batch(SCALE * laid_out(symbols), read_at(symbols, *both))


def most_frequent(batch: Batch) -> Tensor:
    """The answers (B, A) of a reader that weighs all tokens alike: the most frequent symbol. The floor of most."""
    return batch.tokens[..., :SYMBOLS].sum(1).argmax(-1, keepdim=True).expand_as(batch.answers)


def one_of_two(batch: Batch, notes: int = 1, places: int = 12) -> Tensor:
    """The answers (B, 1) of a reader that knows both places of `exclusive_or`, and not which of them: it takes the
    first one."""
    return batch.tokens[:, 1 + notes + places // 3, :SYMBOLS].argmax(-1, keepdim=True)


# -- the columns family -----------------------------------------------------------------------------------------------

COLUMNS, INFORMATIVE, WIDTH = 16, 4, 16  # tokens, those that carry the answer, features
NOISE = 3.0  # standard deviation of a feature of a token without the answer
FAINTER = 0.6  # the noise of a token with the answer, as a share of that
PROTOTYPES_FROM, PLACES_FROM = 3, 5  # seeds: the same classes and places in all samples of all runs


def columns(generator: Generator, count: int, permuted: bool = False) -> Batch:
    """A class, seen with noise by four columns that are always the same ones, and not at all by the other twelve.

    permuted: the columns of each sample come in a random order, and their positions go with them.
    """
    prototypes = torch.randn(SYMBOLS, WIDTH, generator=Generator().manual_seed(PROTOTYPES_FROM))
    places = informative_places()
    answers = torch.randint(SYMBOLS, (count,), generator=generator)
    noise = NOISE * torch.randn(count, COLUMNS, WIDTH, generator=generator)
    tokens = torch.zeros(count, COLUMNS + 1, WIDTH + 1)
    tokens[:, 1:, :WIDTH] = noise
    tokens[:, 1 + places, :WIDTH] = prototypes[answers][:, None] + FAINTER * noise[:, places]
    tokens[:, 0, -1] = 1
    order = None
    if permuted:
        shuffled = torch.rand(count, COLUMNS, generator=generator).argsort(1)
        order = torch.cat([torch.zeros(count, 1, dtype=torch.long), 1 + shuffled], 1)
        tokens = tokens.gather(1, order[..., None].expand_as(tokens))
    return Batch(tokens, answers[:, None], order)


def informative_places() -> Tensor:
    """Which columns carry the answer, (INFORMATIVE,)."""
    return torch.randperm(COLUMNS, generator=Generator().manual_seed(PLACES_FROM))[:INFORMATIVE]


def accuracy(found: Tensor, answers: Tensor) -> float:
    """Percent of right answers."""
    return 100.0 * (found == answers).double().mean().item()
