"""Image classification as a Lightning module: a Vision Transformer with masks, DeiT's recipe (paper Tables 1d, 5).

datamodules/image_classification/datamodule.py says which keys and shapes a batch has.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from configs.errors import ConfigError
from configs.knobs import Betas, Inside, NotNegative, Positive, PositiveShare, Probability, Share
from datamodules.errors import some
from datamodules.image_classification.matching import classes_of, matched, shown
from lcaam import LayerMasks
from lcaam.analysis import record
from tasks.common.measured import measured
from tasks.common.optimisation import Schedule
from tasks.common.task import Task
from tasks.image_classification.details import details_of, write_details
from tasks.image_classification.mixing import Mixing
from tasks.image_classification.model import build_vit, flops, parts, train_only
from tasks.image_classification.optimisation import adamw_by_layer

log = logging.getLogger(__name__)

BEST = 5  # classes of a prediction; top-5 means nothing with as few classes
ANALYSED = 32  # images: attention of a ViT-B/16 takes 22 MB per image


class ImageClassification(Task):
    """A timm Vision Transformer with masks.

    mask: the configuration's mask node. facts: the data module's: classes, image_size, class_names, train_counts.
    model_name, pretrained, weights, weights_masks, model_options, drop_path, grad_checkpointing, backend: see
        build_vit. A checkpoint of this module holds all weights, so it asks for neither a download nor the file again.
    trains: "all", "head" - a linear probe: everything else stays as it was loaded - or "head_and_masks".
    warmup: share of all steps. schedule: see tasks.common.optimisation.
    layer_decay: 1 gives all layers the same rate (optimisation.py).
    mixup, cutmix, mix_probability, mix_switch, mix_mode, smoothing: see Mixing. Only training targets are smoothed.
    loss: that of training. "bce" takes every class as a question of its own, with the targets of Mixing; with
        bce_threshold a target above it is 1, else 0 (timm). Scores and test_loss are those of a softmax either way.
    among: the classes that a test chooses among: all "trained" ones, or those that the test images have ("tested"), as
        is usual for ImageNet-A and -R.
    ema: decay of a moving average of the weights, updated once per optimiser step; None is without. If there is one,
        it is what is validated, tested, analysed and counted, and checkpoints hold both.
    blind: the input-blind floor: every image is zeros.
    """

    headline = ("top1", "top5", "test_loss", "train_loss")
    logged = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss", "val/top1", "val/top5")
    row_id = "name"

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        lr: Positive,
        model_name: str = "vit_base_patch16_224",
        pretrained: bool = False,
        weights: str | None = None,
        weights_masks: Literal["keep", "anew"] = "keep",
        trains: Literal["all", "head", "head_and_masks"] = "all",
        model_options: dict[str, Any] | None = None,
        drop_path: Share = 0.0,
        grad_checkpointing: bool = False,
        backend: Literal["auto", "reference", "sdpa", "chunked", "triton"] = "auto",
        weight_decay: NotNegative = 0.05,
        betas: Betas = (0.9, 0.999),
        warmup: Share = 0.0,
        schedule: Schedule = "cosine",
        layer_decay: PositiveShare = 1.0,
        mixup: NotNegative = 0.0,
        cutmix: NotNegative = 0.0,
        mix_probability: Probability = 1.0,
        mix_switch: Probability = 0.5,
        mix_mode: Literal["batch", "pair", "elem"] = "batch",
        smoothing: Share = 0.0,
        loss: Literal["cross_entropy", "bce"] = "cross_entropy",
        bce_threshold: Share | None = None,
        among: Literal["trained", "tested"] = "trained",
        ema: Inside | None = None,
        blind: bool = False,
    ):
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(logger=False)
        self.vit = build_vit(
            model_name,
            classes=facts["classes"],
            image_size=facts["image_size"],
            mask=mask,
            pretrained=pretrained,
            weights=weights,
            weights_masks=weights_masks,
            facts=facts,
            drop_path=drop_path,
            grad_checkpointing=grad_checkpointing,
            backend=backend,
            options=model_options,
        )
        if bce_threshold is not None and loss != "bce":
            raise ConfigError(f"task.bce_threshold={bce_threshold} does nothing with task.loss={loss}; set it to null")
        train_only(self.vit, trains)
        self.hparams["pretrained"], self.hparams["weights"] = False, None
        self.average = None
        if ema is not None:
            self.average = AveragedModel(self.vit, multi_avg_fn=get_ema_multi_avg_fn(ema)).requires_grad_(False)
        probabilities = {"probability": mix_probability, "switch": mix_switch, "mode": mix_mode, "smoothing": smoothing}
        self.mixing = Mixing(facts["classes"], mixup=mixup, cutmix=cutmix, **probabilities)

        ranks = {"top1": 1, "top5": BEST} if facts["classes"] > BEST else {"top1": 1}
        options = {"num_classes": facts["classes"], "average": "micro"}
        accuracies = {name: MulticlassAccuracy(top_k=k, **options) for name, k in ranks.items()}
        self.val_accuracy, self.test_accuracy = MetricCollection(accuracies).clone(), MetricCollection(accuracies)
        self.names = shown(classes_of(facts)) if facts.get("class_names") else None  # of the classes
        self.chosen_among: Tensor | None = None  # classes of a test, None: all
        self.val_loss, self.test_loss = MeanMetric(nan_strategy="error"), MeanMetric(nan_strategy="error")

    @property
    def evaluated(self) -> VisionTransformer:
        """The model whose scores count: the averaged one if there is one."""
        return self.vit if self.average is None else self.average.module

    def seen(self, batch: dict) -> Tensor:
        """The images as the model sees them."""
        return torch.zeros_like(batch["image"]) if self.hparams.blind else batch["image"]

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, S, S), normalised -> logits (B, classes)."""
        return self.evaluated(images)

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def training_loss(self, batch: dict, index: int) -> Tensor:
        draw = (torch.initial_seed(), self.current_epoch, index, self.global_rank)
        images, targets = self.mixing(self.seen(batch), batch["label"], draw)
        logits = self.vit(images).float()
        if self.hparams.loss == "cross_entropy":
            return F.cross_entropy(logits, targets)
        if (threshold := self.hparams.bce_threshold) is not None:
            targets = (targets > threshold).to(targets)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def optimizer_step(self, *args, **kwargs) -> None:
        super().optimizer_step(*args, **kwargs)
        if self.average is not None:
            self.average.update_parameters(self.vit)

    def validation_step(self, batch: dict, index: int) -> None:
        self.answer(batch, self.val_accuracy, self.val_loss)

    def answer(self, batch: dict, accuracy: MetricCollection, loss: MeanMetric) -> Tensor:
        """The logits (B, classes), after they were counted in `accuracy` and `loss`.

        self.log(..., sync_dist=True) is not used: if ranks have different numbers of images, it rounds down their mean
        number per rank, and the loss is off by the difference.
        """
        logits = self(self.seen(batch)).float()
        if self.chosen_among is not None:
            others = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
            others[self.chosen_among] = False
            logits = logits.masked_fill(others, -torch.inf)
        accuracy.update(logits, batch["label"])
        loss.update(F.cross_entropy(logits, batch["label"], reduction="none"))
        return logits

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val", self.val_accuracy, self.val_loss)

    def log_scores(self, stage: str, accuracy: MetricCollection, loss: MeanMetric) -> dict[str, float]:
        """Percent right and loss over all ranks, logged as <stage>/<name>."""
        found = {name: round(100 * float(value), 4) for name, value in accuracy.compute().items()}
        found["loss"] = float(loss.compute())
        accuracy.reset()
        loss.reset()
        self.log_of_all(stage, found, prog_bar=stage == "val")
        return found

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self.chosen_among = None
        if self.hparams.among == "tested":
            self.chosen_among = self.trainer.datamodule.tested_classes().to(self.device)

    def on_test_end(self) -> None:
        self.chosen_among = None

    def test_step(self, batch: dict, index: int) -> None:
        self.predictions += rows(self.answer(batch, self.test_accuracy, self.test_loss), batch, self.names)

    def on_test_epoch_end(self) -> None:
        self.predictions = sorted(self.gather_predictions(), key=lambda row: row["name"])
        found = self.log_scores("test", self.test_accuracy, self.test_loss)
        loss = found.pop("loss")
        self.report(found, loss)

    def configure_optimizers(self):
        recipe = self.recipe("lr", "weight_decay", "betas", "warmup", "schedule", "layer_decay")
        return adamw_by_layer(self.vit, **recipe)

    # -- what a run reports -------------------------------------------------------------------------------------------

    def same_data(self, before: Mapping[str, Any]) -> None:
        """Raises ConfigError if the classes are not those of the checkpoint, in their order; warns of other images."""
        now, old = (classes_of(facts) for facts in (self.hparams.facts, before))
        if matched(now, old) != list(range(len(old))):
            raise ConfigError(
                f"resume: the classes of data.root are not those that the checkpoint was trained on. There: "
                f"{some(shown(old), 12)} ({len(old)}). Here: {some(shown(now), 12)} ({len(now)}). task.weights=<the "
                "checkpoint> begins a training on other classes from its weights"
            )
        if before.get("train_counts") != self.hparams.facts["train_counts"]:
            log.warning("resume: the training images are %d; those of the checkpoint were %d, or other ones of a class",
                        sum(self.hparams.facts["train_counts"]), sum(before.get("train_counts", [])))  # fmt: skip

    def details(self) -> dict[str, Any]:
        return details_of(self.predictions, classes_of(self.hparams.facts))

    def write_details(self, folder: Path) -> None:
        write_details(folder, self.details(), self.predictions)

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of answers that read no image, or more than any model may, on the rows of the last test.

        constant: the classes in the order of their frequency in training. linear: a linear model on the pixels, and
        ceiling: the answers of the data module's oracle, both only if the data module has them.
        """
        counts = torch.tensor(datamodule.facts()["train_counts"])
        order = counts.argsort(descending=True, stable=True)[:BEST].tolist()
        scores = {"constant": score([{**row, "top5": order} for row in self.predictions], self.hparams.facts)}
        if (linear := datamodule.linear_floor()) is not None:
            scores["linear"] = {"top1": 100 * linear}
        if oracle := datamodule.oracle():
            right = sum(oracle[row["name"]] == row["label"] for row in self.predictions)
            scores["ceiling"] = {"top1": 100 * right / len(self.predictions)}
        return scores

    def masks(self) -> list[LayerMasks]:
        return [self.vit.lcaam.masks]

    def read_inputs(self, batch: dict) -> Tensor:
        return self(self.seen(batch))

    def parts(self) -> dict[str, int]:
        return parts(self.vit)

    def flops(self, batch: dict) -> int:
        """FLOPs of classifying one image of the batch, its first."""
        return flops(self.evaluated, self.seen(batch)[:1])

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention of every block on the batch's first images, for figures and for the run's record."""
        with record(self.evaluated) as records:
            self(self.seen(batch)[:ANALYSED])
        first = self.vit.num_prefix_tokens
        tokens = {"boundaries": [first], "labels": ["class", "patches"]} if first else {}
        return measured({f"layer {number + 1}": r for number, r in enumerate(records)}) | {"tokens": tokens}


def rows(logits: Tensor, batch: dict, names: Sequence[str] | None = None) -> list[dict]:
    """The answers beside the labels: classes, best first, and the probability in [0, 1] of the best.

    names: those of the classes, put beside the numbers if they are known.
    """
    found = logits.softmax(-1).topk(min(BEST, logits.shape[-1]))
    each = zip(batch["name"], batch["label"].tolist(), found.indices.tolist(), found.values.tolist(), strict=True)
    return [
        {"name": name, "label": label, "predicted": best[0], "top5": best, "probability": probabilities[0]}
        | (named(names, label, best) if names else {})
        for name, label, best, probabilities in each
    ]


def named(names: Sequence[str], label: int, best: list[int]) -> dict[str, Any]:
    words = [names[number] for number in best]
    return {"label_name": names[label], "predicted_name": words[0], "top5_names": words}


def score(rows: list[dict], facts: dict[str, Any]) -> dict[str, float]:
    """Percent of rows whose label is the first of "top5" and, if there are enough classes, among its first five."""
    ranks = {"top1": 1, "top5": BEST} if facts["classes"] > BEST else {"top1": 1}
    return {name: 100 * sum(row["label"] in row["top5"][:k] for row in rows) / len(rows) for name, k in ranks.items()}
