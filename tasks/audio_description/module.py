"""Audio description as a Lightning module: train, describe, score (paper section 4.1, Table 1a).

The batch is the data module's (datamodules/madv2.py says its keys, shapes and polarity); sentences are tokenised here.
"""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from lcaam import Encoder
from lcaam.analysis import record
from tasks.audio_description import tokenizer as scratch_tokenizer
from tasks.audio_description.language_model import Decoding, LanguageModel, from_scratch, pretrained
from tasks.audio_description.metrics import recall_over_movies
from tasks.audio_description.model import AudioVisualEncoder, Bridge, Describer
from tasks.common.captions import best_constant, score_captions
from tasks.common.flops import count_flops
from tasks.common.gather import gather_rows
from tasks.common.masks import mask_options
from tasks.common.measured import measured
from tasks.common.optimisation import adamw

IGNORED = -100  # label of positions that do not count in the loss


class AudioDescription(pl.LightningModule):
    """Audiovisual encoder with masks -> bridge -> gated prefix -> LLaMA.

    mask: the configuration's mask node (tasks.common.masks); num_keys None is all 2 x tokens.
    facts: the data module's: video_dim, audio_dim, tokens (per modality), train_texts (for a tokenizer from scratch).
    width, layers, heads, feedforward, dropout, norm, position_base, position_scale: of the audiovisual encoder.
    bridge, bridge_layers, bridge_heads, prompts, prompt_std: how encoder tokens become prompts (model.Bridge).
    prefix_layers: how many of the language model's last layers read the prefix. gate_init: the gates before tanh.
    llm, decoding: the fields of LanguageModel and Decoding, as plain dicts.
    prompt: text before every description, never part of the loss.
    validate_text: also generate and score sentences in validation.
    blind: the input-blind floor: the language model gets no prefix.
    tokenizer: a tokenizer as JSON; set when a checkpoint is loaded.
    """

    headline = ("rouge_l", "rouge_l_plain", "cider", "cider_plain", "R@5/16[rougeL]", "R@1/16[rougeL]", "exact")
    headline += ("token_accuracy", "test_loss", "train_loss")
    logged = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss", "val/token_accuracy")
    logged += tuple(f"val/{name}" for name in headline[:-2])  # with validate_text

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        width: int,
        layers: int,
        heads: int,
        llm: LanguageModel,
        lr: float,
        feedforward: int | None = None,
        dropout: float = 0.0,
        norm: Literal["pre", "post"] = "pre",
        position_base: float = 10_000.0,
        position_scale: float = 1.0,
        bridge: Literal["queries", "tokens"] = "queries",
        bridge_layers: int = 1,
        bridge_heads: int = 8,
        prompts: int = 10,
        prompt_std: float = 1.0,
        prefix_layers: int = 30,
        gate_init: float = 0.0,
        prompt: str = "",
        decoding: Decoding | None = None,
        weight_decay: float = 0.0,
        betas: list[float] = (0.9, 0.999),
        warmup: float = 0.0,
        backend: Literal["auto", "reference", "sdpa", "chunked"] = "auto",
        validate_text: bool = False,
        blind: bool = False,
        tokenizer: str | None = None,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["facts", "tokenizer"], logger=False)
        self.hparams["facts"] = {name: value for name, value in facts.items() if name != "train_texts"}

        llm = LanguageModel(**llm)
        if llm.pretrained is not None:
            self.tokenizer, language_model = pretrained(llm.pretrained, llm.dtype, llm.frozen)
        else:
            if tokenizer is None:
                self.tokenizer = scratch_tokenizer.train(facts["train_texts"], llm.vocab_size or 512)
            else:
                self.tokenizer = scratch_tokenizer.load(tokenizer)
            self.hparams["tokenizer"] = scratch_tokenizer.dump(self.tokenizer)
            language_model = from_scratch(llm.config or {}, self.tokenizer)
        self.decoding = Decoding(**(decoding or {}))

        backbone = mask_options(mask, layers, width, num_keys=2 * facts["tokens"])
        stack = Encoder(width, layers, heads, feedforward, dropout=dropout, norm=norm, backend=backend, **backbone)
        widths = (facts["video_dim"], facts["audio_dim"])
        encoder = AudioVisualEncoder(stack, *widths, facts["tokens"], position_base, position_scale)
        llm_dim = language_model.config.hidden_size
        joint = Bridge(bridge, width, llm_dim, prefix_layers, prompts, bridge_layers, bridge_heads, prompt_std)
        self.model = Describer(encoder, joint, language_model, gate_init)

        self.prompt_ids = [self.tokenizer.bos_token_id, *self.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        options = {"num_classes": len(self.tokenizer), "average": "micro", "ignore_index": IGNORED}
        self.val_accuracy, self.test_accuracy = MulticlassAccuracy(**options), MulticlassAccuracy(**options)
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()  # self.log's own mean over ranks rounds their sizes
        self.predictions: list[dict] = []
        self.test_metrics: dict[str, float] = {}
        self.last_train_loss: float | None = None  # mean over the last epoch, as far as it got

    # -- one batch ----------------------------------------------------------------------------------------------------

    def prefix(self, batch: dict) -> dict[str, Tensor | None]:
        if self.hparams.blind:
            return {}
        return self.model.prefix(batch["video"], batch["audio"], batch["video_keep"], batch["audio_keep"])

    def predict_tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Logits (B x T, vocabulary) of every next token given the true ones before it, and labels (B x T,)."""
        tokenised = self.tokenizer(batch["text"], add_special_tokens=False)["input_ids"]
        rows = [torch.tensor([*self.prompt_ids, *ids, self.tokenizer.eos_token_id]) for ids in tokenised]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED).to(self.device)  # (B, T)
        labels = ids[:, 1:].clone()
        labels[:, : len(self.prompt_ids) - 1] = IGNORED
        # right padding under causal attention reaches no real position: no mask is needed
        inputs = ids[:, :-1].masked_fill(ids[:, :-1] == IGNORED, self.tokenizer.pad_token_id)
        logits = self.model.llm(input_ids=inputs, use_cache=False, **self.prefix(batch)).logits
        return logits.flatten(0, 1).float(), labels.flatten()

    def sentence_loss(self, batch: dict, accuracy: MulticlassAccuracy | None = None) -> Tensor:
        """Mean cross-entropy (nats per token, the end of the sentence included); also updates `accuracy`."""
        logits, labels = self.predict_tokens(batch)
        if accuracy is not None:
            accuracy.update(logits, labels)
        return F.cross_entropy(logits, labels, ignore_index=IGNORED)

    @torch.no_grad()
    def describe(self, batch: dict) -> list[str]:
        """A sentence per scene."""
        size = len(batch["video"])
        ids = torch.tensor([self.prompt_ids], device=self.device).expand(size, -1)
        options = self.decoding.options()
        options |= {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": self.tokenizer.eos_token_id}
        out = self.model.llm.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), **options, **self.prefix(batch)
        )
        sentences = self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        return [sentence.strip() for sentence in sentences]

    def rows(self, batch: dict) -> list[dict]:
        """What was generated beside what was wanted."""
        return [
            {"ann_id": name, "movie": movie, "start": start, "end": end, "reference": reference, "generated": generated}
            for name, movie, start, end, reference, generated in zip(
                batch["ann_id"],
                batch["movie"],
                batch["start"].tolist(),
                batch["end"].tolist(),
                batch["text"],
                self.describe(batch),
                strict=True,
            )
        ]

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: dict, index: int) -> Tensor:
        loss = self.sentence_loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=len(batch["text"]))
        if weight := self.hparams.mask.get("sparsity"):
            loss = loss + weight * self.model.encoder.encoder.masks.sparsity_loss()
        return loss

    def on_train_epoch_end(self) -> None:
        # a run that was taken up at an epoch's end has none yet
        if (loss := self.trainer.callback_metrics.get("train/loss_epoch")) is not None:
            self.last_train_loss = float(loss)

    def validation_step(self, batch: dict, index: int) -> None:
        self.log_evaluation("val", batch, self.val_accuracy, self.val_loss)
        if self.hparams.validate_text and not self.trainer.sanity_checking:
            self.predictions += self.rows(batch)

    def log_evaluation(self, stage: str, batch: dict, accuracy: MulticlassAccuracy, mean: MeanMetric) -> None:
        loss, size = self.sentence_loss(batch, accuracy), len(batch["text"])
        mean.update(loss, size)
        self.log(f"{stage}/loss", mean, batch_size=size, prog_bar=True)
        self.log(f"{stage}/token_accuracy", accuracy, batch_size=size)

    def on_validation_epoch_end(self) -> None:
        if self.predictions:
            scores = self.score(gather_rows(self.predictions, "ann_id"))
            self.log_dict({f"val/{name}": value for name, value in scores.items()}, rank_zero_only=True)
            self.predictions = []

    def on_test_epoch_start(self) -> None:
        self.predictions = []

    def test_step(self, batch: dict, index: int) -> None:
        self.log_evaluation("test", batch, self.test_accuracy, self.test_loss)
        self.predictions += self.rows(batch)

    def on_test_epoch_end(self) -> None:
        rows = gather_rows(self.predictions, "ann_id")
        self.predictions = sorted(rows, key=lambda row: (row["movie"], row["start"]))
        scores = self.score(self.predictions)
        self.log_dict({f"test/{name}": value for name, value in scores.items()}, rank_zero_only=True)
        logged = self.trainer.callback_metrics
        self.test_metrics = scores | {"token_accuracy": 100 * float(self.test_accuracy.compute())}
        self.test_metrics["test_loss"] = float(logged["test/loss"])
        if self.last_train_loss is not None:
            self.test_metrics["train_loss"] = self.last_train_loss

    def configure_optimizers(self):
        h = self.hparams
        steps = int(self.trainer.estimated_stepping_batches)
        return adamw(self, h.lr, h.weight_decay, h.betas, h.warmup, steps)

    # -- what a run reports -------------------------------------------------------------------------------------------

    def score(self, rows: list[dict]) -> dict[str, float]:
        """Corpus metrics in percent; `exact` is the share of sentences that equal their reference word for word."""
        generated = {row["ann_id"]: row["generated"] for row in rows}
        scores = score_captions(generated, {row["ann_id"]: [row["reference"]] for row in rows})
        exact = sum(row["generated"] == row["reference"] for row in rows) / len(rows)
        return scores | recall_over_movies(rows) | {"exact": 100 * exact}

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of answers that read no input, or more than any model may, on the rows of the last test.

        constant: of 60 training sentences the one with the best CIDEr on 200 others, given for every scene.
        ceiling:  what the data module's oracle answers, where it has one.
        """
        constant = best_constant(datamodule.facts()["train_texts"], candidates=60, references=200)
        scores = {"constant": self.score([{**row, "generated": constant} for row in self.predictions])}
        if oracle := datamodule.oracle():
            scores["ceiling"] = self.score([{**row, "generated": oracle[row["ann_id"]]} for row in self.predictions])
        return scores

    def parts(self) -> dict[str, int]:
        return self.model.parts()

    def flops(self, batch: dict) -> int:
        """FLOPs of one teacher-forced forward pass of the batch's first scene."""
        one = {name: value[:1] for name, value in batch.items()}
        return count_flops(self.model, lambda: self.sentence_loss(one))

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention of every encoder layer on one batch, for figures and for the run's record."""
        with record(self.model.encoder) as records:
            self.prefix(batch)
        real = torch.cat([batch["video_keep"], batch["audio_keep"]], 1)
        names = {f"layer {number + 1}": r.of_queries(real) for number, r in enumerate(records)}
        tokens = {"boundaries": [self.hparams.facts["tokens"]], "labels": ["visual", "audio"]}
        return measured(names) | {"tokens": tokens}
