"""One run of a probe: a small encoder with a mask, trained on the probe's data and tested with its last weights.

>>> run(PROBES[0], PROBES[0].values[0], ROWS[0], factor=1.0, seed=0)

All masks of a seed start from the same other weights and see the same batches. Seeds below SEEDS are reported; a
search of rates uses others, whose training data and test data are other ones too.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lcaam import Encoder
from lcaam.interventions import averaging, intervened
from lcaam.plan import mask_options
from lcaam.relatives import with_contextual_positions, with_sparse_softmax
from scripts.studies.probes.data import SYMBOLS, Batch, accuracy
from scripts.studies.probes.masks import Row
from scripts.studies.probes.probes import Probe, Value

WIDTH, LAYERS, FEEDFORWARD = 32, 2, 64
RATE, BETAS, DECAY, CLIP, BATCH = 4e-3, (0.9, 0.98), 0.01, 1.0, 32
WARMUP = 0.1  # of the steps
POSITION_STD = 0.5
TESTED, WATCHED, AVERAGED = 2000, 500, 512  # test samples: all, those that curves are read on, those of frozen masks
EVERY = 50  # steps between two readings
# seeds of data: batches and pools are drawn from them plus the run's seed, so reported seeds must stay below SEEDS
BATCHES_FROM, POOLS_FROM, TEST_FROM, SEARCH_TEST_FROM = 100, 50, 99, 98
SEEDS = 40


@dataclass(frozen=True)
class Result:
    """What a run leaves. All but seconds and steps are None if its loss was not a number.

    accuracy: percent on the test samples. frozen, swapped, shuffled: the same with the masks of an intervention; None
    for masks that do not read tokens. reached: the first reading at the threshold or above; None if there was none.
    loss: nats on the test samples.
    """

    steps: int
    seconds: float
    accuracy: float | None = None
    loss: float | None = None
    reached: int | None = None
    frozen: float | None = None
    swapped: float | None = None
    shuffled: float | None = None


class Reader(nn.Module):
    """Linear embedding, positions, encoder with masks; the answers are read at the query token."""

    def __init__(self, value: Value, row: Row, like: Batch):
        super().__init__()
        tokens, features = like.tokens.shape[1:]
        options = mask_options(value.settings(row), LAYERS, WIDTH, num_keys=tokens)
        self.causal, self.answers = row.causal, like.answers.shape[1]
        self.embed = nn.Linear(features, WIDTH)
        positions = POSITION_STD * torch.randn(tokens, WIDTH)  # drawn in any case, so that the rest is the same
        self.positions = nn.Parameter(positions) if value.positions else None
        self.encoder = Encoder(WIDTH, LAYERS, value.heads, FEEDFORWARD, backend="reference", **options)
        self.head = nn.Linear(WIDTH, SYMBOLS * self.answers)
        if row.rung == "entmax":
            with_sparse_softmax(self.encoder)
        if row.rung == "cope":
            with_contextual_positions(self.encoder, tokens)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, A, SYMBOLS)."""
        x = self.embed(batch.tokens)
        if self.positions is not None:
            x = x + (self.positions if batch.order is None else self.positions[batch.order])
        # causal: the query token last, or it would see nothing
        asked = self.encoder(x.flip(1), causal=True)[:, -1] if self.causal else self.encoder(x)[:, 0]
        return self.head(asked).unflatten(-1, (self.answers, SYMBOLS))

    def own_parameters(self) -> list[nn.Parameter]:
        """Those of the masks, or of the relative in their place."""
        cope = [p for name, p in self.encoder.named_parameters() if name.endswith("attention.positions")]
        return [*self.encoder.masks.parameters(), *cope]

    @torch.no_grad()
    def score(self, batch: Batch) -> float:
        return accuracy(self(batch).argmax(-1), batch.answers)


def run(probe: Probe, value: Value, row: Row, factor: float, seed: int, search: bool = False) -> Result:
    """Trains and tests. factor: on the learning rate of the mask's own parameters. search: on the search's test data,
    without curves and interventions."""
    start = time.process_time()
    generator = Generator().manual_seed(BATCHES_FROM + seed)
    test = value.draw(Generator().manual_seed(SEARCH_TEST_FROM if search else TEST_FROM), TESTED)
    pool = None if value.pool is None else value.draw(Generator().manual_seed(POOLS_FROM + seed), value.pool)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = Reader(value, row, test)
    watched = None if search else test[: min(WATCHED, TESTED)]
    reached = trained(model, batches(value.draw, pool, generator), value.steps, factor, watched, probe.threshold)
    with torch.no_grad():
        logits = model(test)
    loss = entropy(logits, test).item()
    if reached == NOT_FINITE or not math.isfinite(loss):
        return Result(value.steps, time.process_time() - start)
    changed = {} if search or not row.reads_tokens else interventions(model, test, seed)
    score = accuracy(logits.argmax(-1), test.answers)
    return Result(value.steps, time.process_time() - start, score, loss, reached, **changed)


def entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy of logits (B, A, SYMBOLS), in nats."""
    return F.cross_entropy(logits.flatten(0, 1), batch.answers.flatten())


def batches(draw: Callable[[Generator, int], Batch], pool: Batch | None, generator: Generator) -> Callable[[], Batch]:
    """A function that gives the next batch: new samples, or some of the pool, drawn with replacement."""
    if pool is None:
        return lambda: draw(generator, BATCH)
    return lambda: pool[torch.randint(len(pool), (BATCH,), generator=generator)]


NOT_FINITE = -1


def trained(
    model: Reader,
    batch: Callable[[], Batch],
    steps: int,
    factor: float,
    watched: Batch | None,
    threshold: float,
) -> int | None:
    """Trains `model`. The first reading at the threshold or above, None without one, NOT_FINITE for a loss that is
    not a number."""
    parameters, own = list(model.parameters()), model.own_parameters()
    known = set(map(id, own))
    rest = [parameter for parameter in parameters if id(parameter) not in known]
    groups = [{"params": rest, "lr": RATE}, *([{"params": own, "lr": factor * RATE}] if own else [])]
    optimiser = torch.optim.AdamW(groups, betas=BETAS, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, steps))
    reached = None
    for step in range(1, steps + 1):
        samples = batch()
        loss = entropy(model(samples), samples)
        if not math.isfinite(loss.item()):
            return NOT_FINITE
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()
        schedule.step()
        read = watched is not None and reached is None and (step % EVERY == 0 or step == steps)
        if read and model.score(watched) >= threshold:
            reached = step
    return reached


def rate_at(step: int, steps: int) -> float:
    """The factor on all learning rates: a linear rise times a cosine that falls to 0 over all steps."""
    return min(1.0, (step + 1) / (WARMUP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


@torch.no_grad()
def interventions(model: Reader, test: Batch, seed: int) -> dict[str, float]:
    """Percent right with frozen, swapped and shuffled masks."""
    with averaging(model) as means:
        model(test[:AVERAGED])
    found = {}
    for name in ("frozen", "swapped", "shuffled"):
        with intervened(model, name, means if name == "frozen" else None, seed):
            found[name] = model.score(test)
    return found
