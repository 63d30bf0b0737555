"""Moment retrieval and highlight detection as a Lightning module (paper section 4.2, Table 1b and c).

datamodules/moment_retrieval/datamodule.py says which keys, shapes and polarity a batch has.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from configs.errors import ConfigError
from configs.knobs import Betas, Count, NotNegative, Positive, Share
from lcaam import LayerMasks
from lcaam.analysis import record
from lcaam.plan import mask_options
from tasks.common.errors import NonFiniteLossError
from tasks.common.flops import count_flops
from tasks.common.means import Means
from tasks.common.measured import measured
from tasks.common.non_finite import non_finite
from tasks.common.optimisation import Schedule, adamw
from tasks.common.task import Named, Task, first_of
from tasks.moment_retrieval.constant import constant_answer
from tasks.moment_retrieval.losses import LossSettings, MomentLosses
from tasks.moment_retrieval.metric_settings import MetricSettings
from tasks.moment_retrieval.metrics import MomentMetrics, metrics_of
from tasks.moment_retrieval.model import PLACES, QDDETR
from tasks.moment_retrieval.postprocessing import submission_rows, whole_curve
from tasks.moment_retrieval.remarks import outside
from tasks.moment_retrieval.rules import RULES, keys_by_place
from tasks.moment_retrieval.scores import HEADLINE, headline
from tasks.moment_retrieval.start import start_from
from tasks.moment_retrieval.submission import SALIENCY

TERMS = ("span", "giou", "label", "saliency")
LOGGED = ("loss", *TERMS, "class_error")  # terms of the last decoder layer


def names_of(figures: Iterable[str]) -> Named:
    """What a run with these figures reports and logs."""
    losses = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss")
    terms = tuple(f"{stage}/{name}" for stage in ("train", "val") for name in (*TERMS, "class_error"))
    return Named((*figures, "test_loss", "train_loss"), (*losses, *(f"val/{name}" for name in figures), *terms))


class MomentRetrieval(Task):
    """QD-DETR with masks in its text-to-video layers (or elsewhere).

    mask: the configuration's mask node (lcaam.plan); num_keys None is the data's.
    facts: the data module's: video_dim, text_dim, clips, tokens, clip_length (seconds), duration (seconds), saliency.
    masked: the attentions that have masks, some of PLACES.
    width ... input_dropout, first_spans, backend: as in QDDETR. losses: the fields of LossSettings, as a plain dict.
    wrong_texts: which text is the wrong one of a video. "rolled": that of the batch's next sample, as published;
        "other_video": that of the next sample about another video.
    round_windows: the published protocol: predicted windows end at whole clips and are shares of the video's duration.
        False: they end anywhere and are shares of the clips that were read, as the labels are.
    longest: "duration": no window ends after its video; "facts": none after the data's longest video, as published.
    metrics: the fields of MetricSettings, as a plain dict.
    init_from: a checkpoint of this project from whose weights a training begins (tasks/common/initial_weights.py).
    schedule, decay, warmup: see tasks.common.optimisation.adamw.
    blind: the input-blind floor: the text is one token of zeros.
    """

    headline, logged = names_of(HEADLINE)
    row_id = "qid"
    rules = RULES
    weights_depend_on = ("heads",)

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        lr: Positive,
        width: Count = 256,
        heads: Count = 8,
        feedforward: Count = 1024,
        text_to_video_layers: Count = 2,
        encoder_layers: Count = 2,
        decoder_layers: Count = 2,
        queries: Count = 10,
        dropout: Share = 0.1,
        input_dropout: Share = 0.5,
        masked: Sequence[Literal["text_to_video", "encoder", "decoder"]] = ("text_to_video",),
        first_spans: Literal["normal", "grid"] = "normal",
        losses: LossSettings | None = None,
        wrong_texts: Literal["rolled", "other_video"] = "other_video",
        round_windows: bool = False,
        longest: Literal["duration", "facts"] = "duration",
        metrics: MetricSettings | None = None,
        init_from: str | None = None,
        weight_decay: NotNegative = 1e-4,
        betas: Betas = (0.9, 0.999),
        warmup: Share = 0.0,
        schedule: Schedule = "constant",
        decay: Literal["matrices", "all"] = "all",
        backend: Literal["auto", "reference", "sdpa", "chunked", "triton"] = "auto",
        blind: bool = False,
    ):
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(logger=False)
        layers = dict(zip(PLACES, (text_to_video_layers, encoder_layers, decoder_layers), strict=True))
        sizes = {  # of the score matrix: queries, keys
            "text_to_video": (facts["clips"], facts["tokens"]),
            "encoder": (facts["clips"] + 1, facts["clips"] + 1),
            "decoder": (queries, facts["clips"]),
        }
        options = {
            place: mask_options(
                mask,
                layers[place],
                width,
                num_queries=sizes[place][0],
                num_keys=sizes[place][1],
                purpose=f"masks of {place}",
            )
            for place in masked
        }
        self.model = QDDETR(
            video_dim=facts["video_dim"],
            text_dim=facts["text_dim"],
            masked=options,
            **self.settings("width", "heads", "feedforward", "queries", "dropout", "input_dropout"),
            **self.settings("text_to_video_layers", "encoder_layers", "decoder_layers", "first_spans", "backend"),
        )
        if not facts.get("saliency", True):  # no loss reads these; DDP needs to know what gets no gradient
            for head in (self.model.saliency_clip, self.model.saliency_global):
                head.requires_grad_(False)
        self.losses = MomentLosses(**(losses or {}))
        self.metrics = MetricSettings(**(metrics or {}))
        self.figures = self.metrics.figures()
        self.headline, self.logged = names_of(self.figures)
        self.val_scores, self.test_scores = (metrics_of(facts, self.metrics) for _ in range(2))
        self.val_means, self.test_means = Means(LOGGED), Means(LOGGED)

    @classmethod
    def named(cls, settings: Mapping[str, Any]) -> Named:
        return names_of(MetricSettings(**(settings.get("metrics") or {})).figures())

    def start(self) -> None:
        if self.hparams.init_from:
            start_from(self, self.hparams.init_from)

    # -- one batch ----------------------------------------------------------------------------------------------------

    def predict(self, batch: dict, wrong: Tensor | None = None) -> dict[str, Any]:
        """The outputs of QDDETR; `wrong` as in QDDETR.forward."""
        text, keep = batch["text"], batch["text_keep"]
        if self.hparams.blind:
            text, keep, wrong = torch.zeros_like(text[:, :1]), torch.ones_like(keep[:, :1]), None
        return self.model(batch["video"], batch["video_keep"], text, keep, wrong)

    def batch_losses(self, batch: dict, **options: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Any]]:
        """Total, terms (tasks/moment_retrieval/losses.py, also for the options), outputs. Raises NonFiniteLossError."""
        wrong = None
        if "saliency" in batch:
            videos = [row["vid"] for row in batch["annotation"]]
            wrong = wrong_texts(videos, other=self.hparams.wrong_texts == "other_video")
        outputs = self.predict(batch, None if wrong is None else torch.tensor(wrong, device=self.device))
        try:
            return *self.losses(outputs, batch, **options), outputs
        except NonFiniteLossError as error:
            raise non_finite(self, str(error)) from error

    def rows(self, outputs: dict[str, Tensor], batch: dict) -> list[dict]:
        """Rows of a submission beside their annotations; both without saliency if none is trained."""
        facts, h = self.hparams.facts, self.hparams
        clip_length, longest = facts["clip_length"], facts["duration"] if h.longest == "facts" else None
        rows = submission_rows(outputs, batch, clip_length, longest, h.round_windows)
        if not facts.get("saliency", True):
            return [
                {name: row[name] for name in row if name not in (*SALIENCY, "pred_saliency_scores")} for row in rows
            ]
        for row in rows:
            relevant = row.get("relevant_clip_ids", ())
            row["pred_saliency_scores"] = whole_curve(
                row["pred_saliency_scores"], row["duration"], clip_length, relevant
            )
            if "highlights" in facts:  # nothing says where a moment would begin or end
                row["pred_relevant_windows"] = []
        return rows

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def training_loss(self, batch: dict, index: int) -> Tensor:
        loss, terms, _ = self.batch_losses(batch, over_ranks=True)
        found = {f"train/{name}": terms[name] for name in (*TERMS, "class_error") if name in terms}
        self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(batch["spans"]), sync_dist=True)
        return loss

    def validation_step(self, batch: dict, index: int) -> None:
        self.val_scores.update(self.evaluated(batch, self.val_means))

    def evaluated(self, batch: dict, means: Means) -> list[dict]:
        """The rows of a batch, whose losses are counted in `means`."""
        loss, terms, outputs = self.batch_losses(batch)
        found = {"loss": loss, **{name: value for name, value in terms.items() if name in LOGGED}}
        means.update(found, len(batch["spans"]))
        return self.rows(outputs, batch)

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.val_scores, self.val_means)

    def log_scores(self, stage: str, metrics: MomentMetrics, means: Means) -> dict[str, float]:
        """Metrics and losses over all ranks, logged as <stage>/<name>."""
        found = headline(metrics.compute(), self.figures) | means.compute()
        metrics.reset()
        means.reset()
        self.log_of_all(stage, found)
        return found

    def test_step(self, batch: dict, index: int) -> None:
        if has_answers(batch["annotation"]):
            rows = self.evaluated(batch, self.test_means)
            self.test_scores.update(rows)
        else:  # the benchmark's own test file: predictions only
            rows = self.rows(self.predict(batch), batch)
        self.predictions += rows

    def on_test_epoch_end(self) -> None:
        self.predictions = self.gather_predictions()
        if not has_answers(self.predictions):
            return
        self.remarks = self.remarks_on(self.predictions)
        found = self.log_scores("test", self.test_scores, self.test_means)
        self.report({name: found[name] for name in self.figures if name in found}, found["loss"])

    def remarks_on(self, rows: list[dict]) -> tuple[str, ...]:
        """Whether windows were rounded, and which true windows of these rows no length range counts."""
        seconds = self.hparams.facts["clip_length"]
        ends = "are as predicted (task.round_windows=false)"
        if self.hparams.round_windows:
            ends = f"end at whole clips of {seconds:g} s, as published (task.round_windows=true)"
        true = [(end - start, row["qid"]) for row in rows for start, end in row.get("relevant_windows", ())]
        if not true:
            return ()
        length, query = (np.array(values) for values in zip(*true, strict=True))
        return f"windows {ends}", *outside(length, query, self.metrics.ranges)

    def configure_optimizers(self):
        # Lightning refuses to clip the gradients of a fused optimiser under mixed precision
        fused = not isinstance(self.trainer.precision_plugin, MixedPrecision)
        return adamw(self, fused=fused, **self.recipe("lr", "weight_decay", "betas", "warmup", "schedule", "decay"))

    # -- what a run reports -------------------------------------------------------------------------------------------

    def score(self, rows: list[dict]) -> dict[str, float]:
        """The headline metrics of rows that hold predictions and their truth, in percent."""
        return headline(self.test_scores.scored(rows), self.figures)

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of answers that read no input, or more than any model may, on the rows of the last test.

        constant: one list of windows and one saliency curve for all videos (constant.py), chosen on training queries.
        ceiling:  the answers of the data module's oracle, if it has one.
        The result is empty for a test split without answers.
        """
        if not has_answers(self.predictions):
            return {}
        answer = constant_answer(datamodule.annotations("train"), self.hparams.facts, self.hparams.queries)
        scores = {"constant": self.score([row | answer(row) for row in self.predictions])}
        if oracle := datamodule.oracle():
            scores["ceiling"] = self.score([row | oracle[row["qid"]] for row in self.predictions])
        return scores

    @classmethod
    def masked_keys(cls, cfg: Mapping[str, Any]) -> dict[str, int]:
        return keys_by_place(cfg)

    def masks(self) -> list[LayerMasks]:
        return [stack.masks for stack in self.model.masked().values()]

    def masked_places(self) -> list[LayerMasks]:
        """Raises ConfigError for a decoder without masks: which of its two attentions would have them is not marked."""
        found = [self.model.masked()[place].masks for place in dict.fromkeys(self.hparams.masked)]
        if "decoder" in self.hparams.masked and not len(self.model.masked()["decoder"].masks.nets):
            raise ConfigError("task.masked: a decoder without masks cannot be pruned; leave decoder out of task.masked")
        return found

    def read_inputs(self, batch: dict) -> dict[str, Any]:
        return self.predict(batch)

    def real_tokens(self, batch: dict) -> dict[LayerMasks, tuple[Tensor | None, Tensor | None]]:
        clips, words = batch["video_keep"], None if self.hparams.blind else batch["text_keep"]
        placed = torch.cat([torch.ones_like(clips[:, :1]), clips], 1)  # the global token before them
        found = {"text_to_video": (clips, words), "encoder": (placed, placed), "decoder": (None, clips)}
        return {stack.masks: found[place] for place, stack in self.model.masked().items()}

    def parts(self) -> dict[str, int]:
        return self.model.parts()

    def flops(self, batch: dict) -> int:
        """FLOPs of predicting one query of the batch, its first."""
        return count_flops(self.model, lambda: self.predict(first_of(batch)))

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention on one batch, for figures and for the run's record, in the text-to-video layers ("layer
        1", ...) and in the other places that have masks ("encoder layer 1", ...)."""
        places = dict.fromkeys(("text_to_video", *self.hparams.masked))
        with ExitStack() as stack:
            records = {place: stack.enter_context(record(self.model.masked()[place])) for place in places}
            self.predict(batch)
        real = {place: self.real_tokens(batch)[self.model.masked()[place].masks][0] for place in places}
        found = {}
        for place, recorded in records.items():
            if place == "decoder":  # each layer's attention among the spans comes before that on the clips
                recorded = recorded[1::2]
            prefix = "" if place == "text_to_video" else f"{place} "
            for number, r in enumerate(recorded):
                found[f"{prefix}layer {number + 1}"] = r if real[place] is None else r.of_queries(real[place])
        only_text = list(places) == ["text_to_video"]
        return measured(found) | {"tokens": {"queries": "clip", "keys": "word piece"} if only_text else {}}


def has_answers(rows: list[dict]) -> bool:
    """Whether annotations say what is to be found."""
    return "relevant_windows" in rows[0] or "label" in rows[0]


def wrong_texts(videos: Sequence[str], other: bool) -> list[int] | None:
    """For each sample of the batch the sample whose text is its wrong one; None if one of them has no wrong text.

    It is the next sample or, with `other`, the next one about another video. (The original gives a batch of one its own
    text as the wrong one.)
    """
    size, chosen = len(videos), []
    for number, video in enumerate(videos):
        later = ((number + step) % size for step in range(1, size))
        found = next((index for index in later if not other or videos[index] != video), None)
        if found is None:
            return None
        chosen.append(found)
    return chosen
