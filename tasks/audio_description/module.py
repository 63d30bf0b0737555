"""Audio description as a Lightning module: train, describe, score (paper section 4.1, Table 1a).

datamodules/audio_description/datamodule.py says which keys, shapes and polarity a batch has; sentences are tokenised
here. If the data module has context, a batch also has `previous` and `subtitles`, each a list of B lists of sentences,
oldest first: they go into the prompt (context.py).

    python train.py experiment=madv2_multi_lcaam scale=mini
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from configs.knobs import Betas, Count, NotNegative, Positive, Share
from lcaam import Encoder, LayerMasks
from lcaam.analysis import record
from lcaam.plan import mask_options
from tasks.audio_description import tokenizer as scratch_tokenizer
from tasks.audio_description.base_model import WithoutBase, describe_base
from tasks.audio_description.context import IGNORED, Context, History, PromptBuilder
from tasks.audio_description.generation import Decoding
from tasks.audio_description.language_model import LanguageModel, checkpoint_activations, from_scratch, pretrained
from tasks.audio_description.lora import add_lora
from tasks.audio_description.metrics import recall_over_movies
from tasks.audio_description.model import AudioVisualEncoder, Bridge, Describer
from tasks.audio_description.quantization import quantization_of
from tasks.audio_description.rules import RULES
from tasks.audio_description.sharding import is_sharded, missing_batches, shard
from tasks.audio_description.start import start_prefix
from tasks.common.captions import best_constant, cider_remarks, score_captions
from tasks.common.flops import count_flops
from tasks.common.gather import on_first_rank, share_of_items
from tasks.common.measured import measured
from tasks.common.optimisation import Schedule, adamw
from tasks.common.task import Task, first_of


class AudioDescription(WithoutBase, Task):
    """Audiovisual encoder with masks -> bridge -> gated prefix -> LLaMA.

    mask: the configuration's mask node (lcaam.plan). facts: the data module's: video_dim, audio_dim, tokens (of each
        modality), train_texts; if batches have context: previous, previous_count, subtitles.
    width, layers, heads, feedforward, dropout, norm, position_base, position_scale: see Encoder, AudioVisualEncoder.
    bridge, bridge_layers, bridge_heads, prompts, prompt_std: how encoder tokens become prompts (model.Bridge).
    prefix_layers: how many of the language model's last layers read the prefix. gate_init: the gates before tanh.
    init_prefix: a checkpoint with whose learned prompts and gates a training begins (start.py).
    llm, decoding, context: the fields of LanguageModel, Decoding and Context, as plain dicts.
    prompt: text before every description, after the context; never part of the loss.
    validate_text: also generate and score sentences in validation.
    blind: the input-blind floor: no context and no prefix; a frozen language model gets the learned prompts alone.
    tokenizer: a tokenizer as JSON; set when a checkpoint is loaded.

    A checkpoint of a model whose language model is frozen holds everything else, and loads onto the same one only.
    Raises CheckpointError if the language model is not available, or has fewer positions than the context may take.
    """

    headline = ("rouge_l", "rouge_l_plain", "cider", "cider_plain", "R@5/16[rougeL]", "R@1/16[rougeL]", "exact")
    headline += ("token_accuracy", "test_loss", "train_loss")
    logged = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss", "val/token_accuracy")
    logged += tuple(f"val/{name}" for name in headline[:-2])  # with validate_text
    row_id = "ann_id"
    rules = RULES
    weights_depend_on = ("heads",)
    modalities = ("visual", "audio")

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        width: Count,
        layers: Count,
        heads: Count,
        llm: LanguageModel,
        lr: Positive,
        feedforward: Count | None = None,
        dropout: Share = 0.0,
        norm: Literal["pre", "post"] = "pre",
        position_base: Positive = 10_000.0,
        position_scale: NotNegative = 1.0,
        bridge: Literal["queries", "tokens"] = "queries",
        bridge_layers: Count = 1,
        bridge_heads: Count = 8,
        prompts: Count = 10,
        prompt_std: NotNegative = 1.0,
        prefix_layers: Count = 30,
        gate_init: float = 0.0,
        init_prefix: str | None = None,
        prompt: str = "",
        context: Context | None = None,
        decoding: Decoding | None = None,
        weight_decay: NotNegative = 0.0,
        betas: Betas = (0.9, 0.999),
        warmup: Share = 0.0,
        schedule: Schedule = "cosine",
        backend: Literal["auto", "reference", "sdpa", "chunked", "triton"] = "auto",
        validate_text: bool = False,
        blind: bool = False,
        tokenizer: str | None = None,
    ):
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(ignore=["facts", "tokenizer"], logger=False)
        self.hparams["facts"] = {name: value for name, value in facts.items() if name != "train_texts"}

        llm = LanguageModel(**llm)
        self.base_model = None  # what the language model was before this training; None for one from scratch
        if llm.pretrained is not None:
            loading = (llm.dtype, llm.frozen, llm.quantization, prefix_layers)
            self.tokenizer, language_model = pretrained(llm.pretrained, *loading)
            self.base_model = describe_base(llm.pretrained, language_model, llm.lora)
        else:
            if tokenizer is None:
                self.tokenizer = scratch_tokenizer.train(facts["train_texts"], llm.vocab_size or 512)
            else:
                self.tokenizer = scratch_tokenizer.load(tokenizer)
            self.hparams["tokenizer"] = scratch_tokenizer.dump(self.tokenizer)
            language_model = from_scratch(llm.config or {}, self.tokenizer)
        self.frozen = llm.pretrained is not None and llm.frozen
        self.strict_loading = not self.frozen  # load_state_dict is strict about everything else
        if llm.gradient_checkpointing:
            checkpoint_activations(language_model)
        self.decoding = Decoding(**(decoding or {}))
        self.prompts = PromptBuilder(self.tokenizer, prompt, Context(**(context or {})))
        self.history: History | None = None  # what this model said before, if that is its context
        self.evaluated = 0  # batches of this validation or test

        backbone = mask_options(mask, layers, width, num_keys=2 * facts["tokens"], boundaries=(facts["tokens"],))
        stack = Encoder(width, layers, heads, feedforward, dropout=dropout, norm=norm, backend=backend, **backbone)
        widths = (facts["video_dim"], facts["audio_dim"])
        encoder = AudioVisualEncoder(stack, *widths, facts["tokens"], position_base, position_scale)
        llm_width = language_model.config.hidden_size
        joint = Bridge(bridge, width, llm_width, prefix_layers, prompts, bridge_layers, bridge_heads, prompt_std)
        if llm.lora is not None:  # its random numbers come last: the rest starts as it does without
            add_lora(language_model, llm.lora)
        self.model = Describer(encoder, joint, language_model, gate_init)
        kinds = (facts.get("previous", "none") != "none", bool(facts.get("subtitles", False)))
        written = self.decoding.options()["max_new_tokens"]
        self.prompts.check_positions(*kinds, written, language_model.config.max_position_embeddings)

        options = {"num_classes": language_model.config.vocab_size, "average": "micro", "ignore_index": IGNORED}
        self.val_accuracy, self.test_accuracy = MulticlassAccuracy(**options), MulticlassAccuracy(**options)
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()  # self.log's own mean over ranks rounds their sizes

    def start(self) -> None:
        if self.hparams.init_prefix:
            start_prefix(self, self.hparams.init_prefix)

    # -- one batch ----------------------------------------------------------------------------------------------------

    def prefix(self, batch: dict) -> dict[str, Any]:
        if self.hparams.blind:
            return self.model.constant_prefix(len(batch["video"])) if self.frozen else {}
        return self.model.prefix(batch["video"], batch["audio"], batch["video_keep"], batch["audio_keep"])

    def prompt_rows(self, batch: dict) -> list[list[int]]:
        """Token ids before every description: the context that the batch has, and the prompt."""
        context = {name: batch[name] for name in ("previous", "subtitles") if name in batch and not self.hparams.blind}
        return self.prompts.rows(len(batch["video"]), **context)

    def predict_tokens(self, batch: dict) -> tuple[Tensor, Tensor]:
        """Logits (B x T, vocabulary) of every next token given the true ones before it, and labels (B x T,)."""
        rows = self.prompt_rows(batch)
        inputs, labels = (part.to(self.device) for part in self.prompts.for_training(rows, batch["text"]))
        logits = self.model.llm(input_ids=inputs, use_cache=False, **self.prefix(batch)).logits
        return logits.flatten(0, 1).float(), labels.flatten()

    def sentence_loss(self, batch: dict, accuracy: Metric | None = None, over_ranks: bool = False) -> Tensor:
        """Mean cross-entropy (nats per token, the end of the sentence included); also updates `accuracy`.

        over_ranks: scaled so that the mean of all ranks' losses is the mean over all their tokens.
        """
        logits, labels = self.predict_tokens(batch)
        if accuracy is not None:
            accuracy.update(logits, labels)
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED)
        return loss * share_of_items((labels != IGNORED).sum()) if over_ranks else loss

    @torch.no_grad()
    def describe(self, batch: dict) -> list[str]:
        """One sentence per scene."""
        ids, keep = (x.to(self.device) for x in self.prompts.for_generation(self.prompt_rows(batch)))
        options = self.decoding.generate_options(prompt_length=ids.shape[1])
        options |= {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": self.tokenizer.eos_token_id}
        options["synced_gpus"] = is_sharded(self.model)  # all ranks write until the longest sentence has ended
        out = self.model.llm.generate(input_ids=ids, attention_mask=keep, **options, **self.prefix(batch))
        return [s.strip() for s in self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)]

    def rows(self, batch: dict) -> list[dict]:
        """The generated sentences beside the references."""
        columns = {name: batch[name] for name in ("ann_id", "movie")}
        columns |= {name: batch[name].tolist() for name in ("start", "end")}
        columns |= {"reference": batch["text"], "generated": self.describe(batch)}
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def configure_model(self) -> None:
        if self.device_mesh is not None:  # a strategy that shards; called before every fit and test
            shard(self.model, self.device_mesh["data_parallel"])

    def training_loss(self, batch: dict, index: int) -> Tensor:
        return self.sentence_loss(batch, over_ranks=True)

    def on_validation_epoch_start(self) -> None:
        self.history, self.evaluated = self.new_history(), 0

    def validation_step(self, batch: dict, index: int) -> None:
        text = self.hparams.validate_text and not self.trainer.sanity_checking
        self.evaluate(batch, self.val_accuracy, self.val_loss, text)

    def evaluate(self, batch: dict, accuracy: MulticlassAccuracy, mean: MeanMetric, text: bool) -> None:
        """Counts the loss and keeps the generated sentences for the scores (`text`), later rows' context, or both."""
        self.evaluated += 1
        if self.history is not None:
            batch = {**batch, "previous": self.history.before(batch["movie"])}
        mean.update(self.sentence_loss(batch, accuracy), len(batch["text"]))
        if not text and self.history is None:
            return
        rows = self.rows(batch)
        if self.history is not None:
            self.history.add(rows)
        if text:
            self.predictions += rows

    def catch_up(self, text: bool) -> None:
        """Calls a sharded model as often as the rank that has the most batches; what it says does not count."""
        for batch in missing_batches(self.trainer, self.evaluated) if is_sharded(self.model) else ():
            batch = self.transfer_batch_to_device(batch, self.device, 0)
            self.sentence_loss(batch)
            if text or self.history is not None:
                self.describe(batch)

    def new_history(self) -> History | None:
        """An empty history if the data have previous=predicted, which an evaluation may choose for any model."""
        datamodule = self.trainer.datamodule
        facts = self.hparams.facts if datamodule is None else datamodule.facts()
        predicted = facts.get("previous", "none") == "predicted" and not self.hparams.blind
        return History(facts["previous_count"]) if predicted else None

    def counted(self, stage: str, accuracy: MulticlassAccuracy, mean: MeanMetric) -> dict[str, float]:
        """Loss and token accuracy (in [0, 1]) over the batches of all ranks, which are logged."""
        found = {}
        for name, metric in (("loss", mean), ("token_accuracy", accuracy)):
            found[name] = float(metric.compute())
            metric.reset()
            self.log_of_all(stage, {name: found[name]}, prog_bar=name == "loss")
        return found

    def on_validation_epoch_end(self) -> None:
        self.catch_up(self.hparams.validate_text and not self.trainer.sanity_checking)
        self.counted("val", self.val_accuracy, self.val_loss)
        rows, self.predictions = self.gather_predictions(), []
        if rows:
            self.log_of_all("val", on_first_rank(lambda: self.score(rows)))

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.history, self.evaluated = self.new_history(), 0

    def test_step(self, batch: dict, index: int) -> None:
        self.evaluate(batch, self.test_accuracy, self.test_loss, text=True)

    def on_test_epoch_end(self) -> None:
        self.catch_up(text=True)
        self.predictions = sorted(self.gather_predictions(), key=lambda row: (row["movie"], row["start"]))
        scores = on_first_rank(lambda: self.score(self.predictions))
        self.log_of_all("test", scores)
        loss, accuracy = self.counted("test", self.test_accuracy, self.test_loss).values()
        self.report({**scores, "token_accuracy": 100 * accuracy}, loss)
        self.remarks = cider_remarks([row["ann_id"] for row in self.predictions])

    def configure_optimizers(self):
        return adamw(self, **self.recipe("lr", "weight_decay", "betas", "warmup", "schedule"))

    # -- what a run reports -------------------------------------------------------------------------------------------

    def score(self, rows: list[dict]) -> dict[str, float]:
        """Corpus metrics in percent; `exact` is the share of sentences that equal their reference word for word."""
        generated, references = ({row["ann_id"]: row[name] for row in rows} for name in ("generated", "reference"))
        scores = score_captions(generated, {name: [text] for name, text in references.items()})
        exact = sum(row["generated"] == row["reference"] for row in rows) / len(rows)
        return scores | recall_over_movies(rows) | {"exact": 100 * exact}

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of answers that read no input, or more than any model may, on the rows of the last test.

        constant: the one of 60 training sentences with the best CIDEr on 200 others, given for every scene.
        ceiling:  the answers of the data module's oracle, if it has one.
        """
        constant = best_constant(datamodule.facts()["train_texts"], candidates=60, references=200)
        scores = {"constant": self.score([{**row, "generated": constant} for row in self.predictions])}
        if oracle := datamodule.oracle():
            scores["ceiling"] = self.score([{**row, "generated": oracle[row["ann_id"]]} for row in self.predictions])
        return scores

    def masks(self) -> list[LayerMasks]:
        return [self.model.encoder.encoder.masks]

    def read_inputs(self, batch: dict) -> Any:
        return self.prefix(batch)

    def real_tokens(self, batch: dict) -> dict[LayerMasks, tuple[Tensor | None, Tensor | None]]:
        keep = torch.cat([batch["video_keep"], batch["audio_keep"]], 1)
        return {masks: (keep, keep) for masks in self.masks()}

    def parts(self) -> dict[str, int]:
        return self.model.parts()

    def flops(self, batch: dict) -> int | None:
        """FLOPs of one teacher-forced forward pass of the batch's first scene; None if they cannot be counted.

        With sharded weights only the first rank asks, and it cannot run the model alone. With quantised weights torch's
        counter does not see the products of bitsandbytes.
        """
        if is_sharded(self.model) or quantization_of(self.model.llm) != "none":
            return None
        return count_flops(self.model, lambda: self.sentence_loss(first_of(batch)))

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention of every encoder layer on one batch, for figures and for the run's record."""
        with record(self.model.encoder) as records:
            self.prefix(batch)
        real = torch.cat([batch["video_keep"], batch["audio_keep"]], 1)
        names = {f"layer {number + 1}": r.of_queries(real) for number, r in enumerate(records)}
        tokens = {"boundaries": [self.hparams.facts["tokens"]], "labels": ["visual", "audio"]}
        return measured(names) | {"tokens": tokens}
