"""Language model of characters as a Lightning module: a causal Transformer with masks.

datamodules/language_model/datamodule.py says which keys and shapes a batch has; characters become ids here.
"""

import logging
import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from configs.knobs import Betas, Count, NotNegative, Positive, Share
from datamodules.language_model.windows import PADDING
from lcaam import LayerMasks
from lcaam.analysis import record
from tasks.common.flops import count_flops
from tasks.common.means import Means
from tasks.common.measured import measured
from tasks.common.optimisation import Schedule, adamw
from tasks.common.task import Task, first_of
from tasks.language_model.model import CharacterModel, Positions, Relative
from tasks.language_model.references import floors
from tasks.language_model.rules import RULES
from tasks.language_model.vocabulary import Vocabulary

log = logging.getLogger(__name__)

IGNORED = -100  # a target that is not scored: behind the text's end, or a character that training did not have
ANALYSED = 32  # windows
MOST = 700.0  # nats whose exponential is still a number


class Read(NamedTuple):
    """A batch as the model has it: ids (B, T), targets (B, T) with IGNORED, and real (B, T) bool, False for padding."""

    ids: Tensor
    targets: Tensor
    real: Tensor


class LanguageModel(Task):
    """A causal Transformer of characters.

    mask: the configuration's mask node; of fixed length it has a column for each place of the context.
    facts: the data module's: context, characters.
    width ... relative: see CharacterModel. warmup: share of all steps. schedule: see tasks.common.optimisation.
    final: the share of the learning rate to which the schedule falls.
    blind: the input-blind floor: every character is read as the same one.
    """

    headline = ("loss", "bits_per_character", "perplexity", "train_loss")
    logged = (
        "train/loss", "train/loss_step", "train/loss_epoch", "val/loss", "val/bits_per_character", "val/perplexity",
    )  # fmt: skip
    row_id = "name"
    rules = RULES
    weights_depend_on = ("heads", "positions", "position_scale", "relative")

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        lr: Positive,
        width: Count = 128,
        layers: Count = 4,
        heads: Count = 4,
        feedforward: Count | None = None,
        positions: Positions = "learned",
        position_scale: Positive = 0.03,
        relative: Relative = "none",
        dropout: Share = 0.0,
        bias: bool = False,
        tied: bool = True,
        backend: Literal["auto", "reference", "sdpa", "chunked", "triton"] = "auto",
        weight_decay: NotNegative = 0.1,
        betas: Betas = (0.9, 0.99),
        warmup: Share = 0.05,
        schedule: Schedule = "cosine",
        final: Share = 0.1,
        blind: bool = False,
    ):
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(logger=False)
        self.vocabulary = Vocabulary(facts["characters"])
        self.model = CharacterModel(
            len(self.vocabulary),
            facts["context"],
            **self.settings("width", "layers", "heads", "feedforward", "positions", "position_scale", "relative"),
            **self.settings("dropout", "bias", "tied", "mask", "backend"),
        )
        self.val_loss, self.test_loss = Means(["loss"]), Means(["loss"])

    # -- one batch ----------------------------------------------------------------------------------------------------

    def read(self, batch: dict) -> Read:
        """The batch's ids and targets."""
        characters = batch["characters"].to(self.device)
        ids, known = self.vocabulary.encode(characters)
        targets = ids.masked_fill(~known, IGNORED)[:, 1:]
        inputs = torch.zeros_like(ids[:, :-1]) if self.hparams.blind else ids[:, :-1]
        return Read(inputs, targets, characters[:, :-1] != PADDING)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, characters)."""
        return self.model(ids)

    def losses(self, batch: dict) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy (B, T) in nats, 0 for what is not scored; which places are (B, T) bool; the most probable ids
        (B, T)."""
        found = self.read(batch)
        logits = self(found.ids).float()
        nats = F.cross_entropy(logits.transpose(1, 2), found.targets, ignore_index=IGNORED, reduction="none")
        return nats, found.targets != IGNORED, logits.argmax(-1)

    def counted(self, batch: dict, loss: Means) -> tuple[Tensor, Tensor, Tensor]:
        """The `losses` of a batch of validation or test, counted in `loss`; every scored character counts the same."""
        nats, scored, best = self.losses(batch)
        if number := int(scored.sum()):
            loss.update({"loss": nats.sum() / number}, number)
        return nats, scored, best

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def training_loss(self, batch: dict, index: int) -> Tensor:
        return self.losses(batch)[0].mean()  # windows of training are whole, and all of their characters are known

    def validation_step(self, batch: dict, index: int) -> None:
        self.counted(batch, self.val_loss)

    def on_validation_epoch_end(self) -> None:
        found = self.val_loss.compute()
        self.val_loss.reset()
        self.log_of_all("val", scores(found["loss"]) if found else {}, prog_bar=True)

    def test_step(self, batch: dict, index: int) -> None:
        nats, scored, best = (tensor.cpu() for tensor in self.counted(batch, self.test_loss))
        for number, name in enumerate(batch["name"]):
            codes = batch["characters"][number].cpu()
            codes = codes[codes != PADDING][1:].tolist()
            at = scored[number]
            self.predictions.append(
                {
                    "name": name,
                    "loss": float(nats[number].sum() / max(1, int(at.sum()))),
                    "characters": int(at.sum()),
                    "unseen": len(codes) - int(at.sum()),
                    "reference": "".join(map(chr, codes)),
                    "predicted": self.vocabulary.decode(best[number][: len(codes)]),
                }
            )

    def on_test_epoch_end(self) -> None:
        self.predictions = self.gather_predictions()
        loss = self.test_loss.compute().get("loss", math.nan)
        self.test_loss.reset()
        self.log_of_all("test", scores(loss))
        self.report(scores(loss), loss)
        if unseen := sum(row["unseen"] for row in self.predictions):
            log.warning(
                "%d characters of the test are not in the training text: they are read as blanks and not scored", unseen
            )

    def configure_optimizers(self):
        # Lightning refuses to clip the gradients of a fused optimiser under mixed precision
        fused = not isinstance(self.trainer.precision_plugin, MixedPrecision)
        recipe = self.recipe("lr", "weight_decay", "betas", "warmup", "schedule", "final")
        return adamw(self.model, fused=fused, **recipe)

    # -- what a run reports -------------------------------------------------------------------------------------------

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of what needs no model, on the characters of the last test: equal chances, the characters' frequencies
        in training, those of pairs; and of who knows the grammar, if the data module's oracle does."""
        found = floors(datamodule.text("train"), datamodule.text("test"), self.vocabulary)
        if (oracle := datamodule.oracle()) is not None:
            found["ceiling"] = np.where(np.isnan(found["uniform"]), np.nan, oracle)
        tested = np.zeros(len(found["uniform"]), dtype=bool)
        for row in self.predictions:
            first = int(row["name"].split()[-1]) + 1
            tested[first : first + len(row["reference"])] = True
        return {name: scores(float(np.nanmean(nats[tested]))) for name, nats in found.items()}

    def masks(self) -> list[LayerMasks]:
        return [self.model.encoder.masks]

    def read_inputs(self, batch: dict) -> Tensor:
        return self(self.read(batch).ids)

    def real_tokens(self, batch: dict) -> dict[LayerMasks, tuple[Tensor, Tensor]]:
        real = self.read(batch).real
        return {self.model.encoder.masks: (real, real)}

    def parts(self) -> dict[str, int]:
        return self.model.parts()

    def flops(self, batch: dict) -> int:
        """FLOPs of one window of the batch, its first."""
        return count_flops(self.model, lambda: self(self.read(first_of(batch)).ids))

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention of every layer on the batch's first windows; nothing with task.relative, which is not
        softmax attention."""
        found = self.read({name: value[:ANALYSED] for name, value in batch.items()})
        with record(self.model.encoder) as records:
            self(found.ids)
        names = {f"layer {number + 1}": r.of_queries(found.real) for number, r in enumerate(records)}
        return measured(names) | {"tokens": {}}


def scores(loss: float) -> dict[str, float]:
    """The loss in nats per character, in bits, and its exponential."""
    return {"loss": loss, "bits_per_character": loss / math.log(2), "perplexity": math.exp(min(loss, MOST))}
