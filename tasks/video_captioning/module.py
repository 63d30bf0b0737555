"""Video captioning as a Lightning module: SwinBERT with masks (paper Table 1d).

datamodules/video_captioning/datamodule.py says which keys and shapes a batch has; captions are tokenised here.
"""

import zlib
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from configs.errors import ConfigError
from configs.knobs import Betas, Count, NotNegative, Positive, PositiveShare, Share
from lcaam import LayerMasks
from lcaam.analysis import record
from tasks.common.caption_tokens import has_java
from tasks.common.captions import CaptionScorer, best_constant, cider_remarks
from tasks.common.errors import CheckpointError
from tasks.common.flops import count_flops
from tasks.common.gather import largest, on_first_rank, place_among_ranks, share_of_items
from tasks.common.means import Means
from tasks.common.measured import measured
from tasks.common.meteor import METEOR
from tasks.common.optimisation import Schedule
from tasks.common.task import Task, first_of
from tasks.video_captioning import tokenizer as words
from tasks.video_captioning.masking import IGNORED, hide
from tasks.video_captioning.model import SwinBert
from tasks.video_captioning.optimisation import adamw_of_captioner
from tasks.video_captioning.rules import RULES
from tasks.video_captioning.settings import Backbone, Decoding, Spoken, build_backbone

ANALYSED = 2**28  # most attention weights (1 GB); at least two videos, since the masks of several are compared
SCORES = ("bleu_4", "meteor", "rouge_l", "cider", "bleu_4_plain", "rouge_l_plain", "cider_plain", "exact")


class VideoCaptioning(Task):
    """SwinBERT with masks.

    mask: the configuration's mask node (lcaam.plan); num_keys None is all tokens, the video's and text_tokens.
    facts: the data module's: frames, image_size, grid and feature_dim (None if the data are frames), train_texts.
    backbone: the fields of Backbone, as a plain dict; not built if the data are features. A checkpoint of this module
        holds its weights, so it does not ask for the file again.
    tokenizer: folder or hub id of a BERT's tokenizer; None learns one of at most `vocab_size` entries, or as many as
        the characters need, from the training captions.
    text_tokens: length of the longest caption with [CLS] and [SEP]; longer ones are cut.
    video_dim ... dropout, video_positions, backend: as in SwinBert. bert: its `pretrained`.
    mask_probability, most_masked: see masking.hide. decoding: the fields of Decoding, as a plain dict.
    warmup, schedule: see tasks.common.optimisation.scheduled.
    validate_text: also write and score captions in validation. meteor: whether it is among the scores.
    blind: the input-blind floor: every feature is zero.
    tokenizer_json: the tokenizer itself; set when a checkpoint is loaded.
    """

    headline = (*SCORES, "test_loss", "train_loss")
    logged = ("train/loss", "train/loss_step", "train/loss_epoch", "val/loss", *(f"val/{name}" for name in SCORES))
    row_id = "video"
    rules = RULES
    weights_depend_on = ("heads", "tokenizer", "vocab_size")
    modalities = ("video", "text")

    def __init__(
        self,
        *,
        mask: dict[str, Any],
        facts: dict[str, Any],
        lr: Positive,
        backbone: Backbone | None = None,
        tokenizer: str | None = None,
        vocab_size: Count = 30522,
        text_tokens: Spoken = 50,
        video_dim: Count | None = 512,
        width: Count = 768,
        layers: Count = 12,
        heads: Count = 12,
        feedforward: Count = 3072,
        positions: Spoken = 512,
        dropout: Share = 0.1,
        video_positions: bool = False,
        bert: str | None = None,
        mask_probability: PositiveShare = 0.5,
        most_masked: Count = 45,
        decoding: Decoding | None = None,
        weight_decay: NotNegative = 0.2,
        betas: Betas = (0.9, 0.999),
        warmup: Share = 0.1,
        schedule: Schedule = "linear",
        backend: Literal["auto", "reference", "sdpa", "chunked", "triton"] = "auto",
        validate_text: bool = False,
        meteor: Literal["never", "test", "always"] = "test",
        blind: bool = False,
        tokenizer_json: str | None = None,
    ):
        super().__init__()
        self.check_arguments(locals())
        self.save_hyperparameters(ignore=["facts"], logger=False)
        self.hparams["facts"] = {name: value for name, value in facts.items() if name != "train_texts"}
        if tokenizer_json is not None:
            self.tokenizer = words.load(tokenizer_json)
        elif tokenizer is not None:
            self.tokenizer = words.pretrained(tokenizer)
        else:
            self.tokenizer = words.train(facts["train_texts"], vocab_size)
        self.hparams["tokenizer_json"] = words.dump(self.tokenizer)
        self.special, self.decoding = words.special(self.tokenizer), Decoding(**(decoding or {}))
        if self.decoding.num_beams > (most := len(self.tokenizer) // 2):
            raise ConfigError(
                f"task.decoding.num_beams: {self.decoding.num_beams} is more than half of the tokenizer's "
                f"{len(self.tokenizer)} entries; allowed: 1 to {most}"
            )

        swin, self.backbone_lr = None, 1.0
        if facts["grid"] is None:
            swin, self.backbone_lr = build_backbone(Backbone(**(backbone or {})))
            swin.requires_grad_(bool(self.backbone_lr) and not blind)  # DDP waits for the gradient of all that have one
            self.hparams["backbone"] = {**(backbone or {}), "weights": None}
        side = facts["image_size"]
        tokens = facts["grid"] if swin is None else swin.tokens(facts["frames"], side, side)
        self.model = SwinBert(
            vocab_size=len(self.tokenizer),
            feature_dim=facts["feature_dim"] if swin is None else swin.dim,
            video_tokens=tokens,
            backbone=swin,
            pretrained=bert,
            **self.settings("text_tokens", "video_dim", "width", "layers", "heads", "feedforward", "positions"),
            **self.settings("dropout", "mask", "backend", "video_positions"),
        )
        self.hparams["bert"] = None  # its weights are in every checkpoint
        self.val_loss, self.test_loss = Means(["loss"]), Means(["loss"])
        self.val_scorer: CaptionScorer | None = None

    # -- one batch ----------------------------------------------------------------------------------------------------

    def features(self, batch: dict) -> Tensor:
        """The features of the videos that BERT reads, (B, V, feature_dim)."""
        if self.hparams.blind:
            size = (len(batch["video"]), self.model.video_tokens, self.model.feature_dim)
            return torch.zeros(size, device=self.device)
        if ("features" in batch) != (self.model.backbone is None):
            kinds = ("features of videos (data.source=features)", "frames (data.source=frames or video)")
            mine, given = kinds if self.model.backbone is None else reversed(kinds)
            raise CheckpointError(f"the model was trained on {mine}, these are {given}")
        if "features" in batch:
            return batch["features"]
        if self.backbone_lr:
            return self.model.encode(batch["frames"])
        self.model.backbone.eval()  # frozen: its stochastic depth as well
        with torch.no_grad():
            return self.model.encode(batch["frames"])

    def hidden_loss(self, batch: dict, draw: tuple[int, ...] | None) -> tuple[Tensor, int]:
        """Mean cross-entropy (nats) of the hidden words, and how many they are.

        draw: numbers that decide what is hidden in the batches of all ranks, as if they were one. None: each video's
            name decides, whatever the batch.
        """
        ids, keep = words.encode(self.tokenizer, batch["caption"], self.hparams.text_tokens)
        lengths = keep.sum(1)
        if draw is not None:
            longest = largest(ids.shape[1])  # of the ranks' captions, which would be padded to it in one batch
            more = (0, longest - ids.shape[1])
            ids, keep = F.pad(ids, more, value=self.special.pad), F.pad(keep, more, value=False)
            inputs, labels = self.hidden(ids, lengths, draw, *place_among_ranks())
        else:
            rows = zip(ids.split(1), lengths.split(1), batch["video"], strict=True)
            pairs = [self.hidden(row[:, : int(size)], size, (zlib.crc32(name.encode()),)) for row, size, name in rows]
            pad = {"batch_first": True}
            inputs = pad_sequence([one[0] for one, _ in pairs], padding_value=self.special.pad, **pad)
            labels = pad_sequence([one[0] for _, one in pairs], padding_value=IGNORED, **pad)
        device = self.device
        loss = self.model.loss(self.features(batch), inputs.to(device), labels.to(device), keep.to(device))
        return loss, int((labels != IGNORED).sum())

    def hidden(self, ids: Tensor, lengths: Tensor, draw: tuple[int, ...], *of_ranks: int) -> tuple[Tensor, Tensor]:
        """masking.hide with the choices of `draw`."""
        state = np.random.SeedSequence(draw).generate_state(1, np.uint64)[0]
        random = torch.Generator().manual_seed(int(state) >> 1)
        options = (self.hparams.mask_probability, self.hparams.most_masked, random)
        return hide(ids, lengths, self.special.mask, self.model.vocab_size, *options, *of_ranks)

    @torch.no_grad()
    def write(self, batch: dict) -> list[str]:
        """A caption for each video."""
        captions = self.model.generate(self.features(batch), self.special, **asdict(self.decoding))
        return words.decode(self.tokenizer, captions.ids)

    def rows(self, batch: dict) -> list[dict]:
        """The generated captions beside their references."""
        found = zip(batch["video"], batch["references"], self.write(batch), strict=True)
        return [{"video": name, "references": right, "generated": caption} for name, right, caption in found]

    # -- Lightning ----------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """ConfigError if a callback needs a score that is not computed; Lightning would notice only after an epoch."""
        for callback in self.trainer.callbacks:
            wanted = getattr(callback, "monitor", None) if isinstance(callback, Checkpoint | EarlyStopping) else None
            name = (wanted or "").removeprefix("val/")
            if name not in SCORES:
                continue
            if not self.hparams.validate_text:
                raise ConfigError(f"a callback watches {wanted}, which needs task.validate_text=true")
            if name == "meteor" and not (self.hparams.meteor == "always" and has_java()):
                raise ConfigError(f"a callback watches {wanted}, which needs task.meteor=always and Java")
            if name != "exact" and name.endswith("_plain") == has_java():
                here = name.removesuffix("_plain") if has_java() else f"{name}_plain"
                raise ConfigError(
                    f"a callback watches {wanted}; {'with' if has_java() else 'without'} Java scores are called "
                    f"val/{here}: callbacks.checkpoint.monitor=val/{here}"
                )

    def training_loss(self, batch: dict, index: int) -> Tensor:
        draw = (torch.initial_seed(), self.current_epoch, index, 0)
        loss, words_hidden = self.hidden_loss(batch, draw)
        return loss * share_of_items(words_hidden)

    def validation_step(self, batch: dict, index: int) -> None:
        self.count(batch, self.val_loss)
        if self.hparams.validate_text and not self.trainer.sanity_checking:
            self.predictions += self.rows(batch)

    def count(self, batch: dict, loss: Means) -> None:
        """The loss on each video's first caption. Every hidden word counts the same, so batches may be of any size."""
        found, number = self.hidden_loss(batch, None)
        loss.update({"loss": found}, number)

    def on_validation_epoch_end(self) -> None:
        found = self.val_loss.compute()
        self.val_loss.reset()
        rows, self.predictions = self.gather_predictions(), []
        if rows:
            meteor = self.hparams.meteor == "always"
            found |= on_first_rank(lambda: self.score(rows, self.scorer_of_validation(rows), meteor))
        self.log_of_all("val", found, prog_bar=True)

    def scorer_of_validation(self, rows: list[dict]) -> CaptionScorer:
        """The references of these videos, tokenised once for all validations."""
        references = {row["video"]: row["references"] for row in rows}
        if self.val_scorer is None or self.val_scorer.references.keys() != references.keys():
            self.val_scorer = CaptionScorer(references)
        return self.val_scorer

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        if self.hparams.meteor != "never" and self.trainer.is_global_zero and has_java():
            METEOR.start()  # it reads its tables while captions are written

    def test_step(self, batch: dict, index: int) -> None:
        self.count(batch, self.test_loss)
        self.predictions += self.rows(batch)

    def on_test_epoch_end(self) -> None:
        self.predictions = self.gather_predictions()
        found = on_first_rank(lambda: self.score(self.predictions, self.scorer_of_test()))
        loss = self.test_loss.compute()["loss"]
        self.test_loss.reset()
        self.log_of_all("test", {**found, "loss": loss})
        self.report({name: found[name] for name in SCORES if name in found}, loss)
        self.remarks = cider_remarks([row["video"] for row in self.predictions])

    def scorer_of_test(self) -> CaptionScorer:
        return CaptionScorer({row["video"]: row["references"] for row in self.predictions})

    def configure_optimizers(self):
        recipe = self.recipe("lr", "weight_decay", "betas", "warmup", "schedule")
        return adamw_of_captioner(self.model, backbone_lr=self.backbone_lr, **recipe)

    # -- what a run reports -------------------------------------------------------------------------------------------

    def score(self, rows: list[dict], scorer: CaptionScorer, meteor: bool | None = None) -> dict[str, float]:
        """Corpus metrics in percent; `exact` is the share of captions that equal one of their references."""
        meteor = self.hparams.meteor != "never" if meteor is None else meteor
        scores = scorer.score({row["video"]: row["generated"] for row in rows}, meteor=meteor)
        exact = sum(row["generated"] in row["references"] for row in rows) / len(rows)
        return {name: scores[name] for name in SCORES if name in scores} | {"exact": 100 * exact}

    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Scores of answers that read no video, or more than any model may, on the rows of the last test.

        constant: the one of 60 training captions with the best CIDEr on 200 others, given for every video.
        ceiling:  the answers of the data module's oracle, if it has one.
        """
        constant = best_constant(datamodule.facts()["train_texts"], candidates=60, references=200)
        scorer = self.scorer_of_test()
        scores = {"constant": self.score([{**row, "generated": constant} for row in self.predictions], scorer)}
        if oracle := datamodule.oracle():
            answers = [{**row, "generated": oracle[row["video"]]} for row in self.predictions]
            scores["ceiling"] = self.score(answers, scorer)
        return scores

    def masks(self) -> list[LayerMasks]:
        return [self.model.stack.masks]

    def read_inputs(self, batch: dict) -> list[str]:
        return self.write(batch)

    def parts(self) -> dict[str, int]:
        return self.model.parts()

    def flops(self, batch: dict) -> int:
        """FLOPs of predicting the words of the batch's first caption at once, from its video's pixels or features."""
        one = first_of(batch)
        ids, keep = (
            part.to(self.device) for part in words.encode(self.tokenizer, one["caption"], self.model.text_tokens)
        )
        return count_flops(self.model, lambda: self.model(self.features(one), ids, keep))

    @torch.no_grad()
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention of every BERT layer on the batch's first videos, for figures and for the run's record."""
        ids, keep = words.encode(self.tokenizer, batch["caption"], self.model.text_tokens)
        weights = self.model.stack.masks.num_layers * self.hparams.heads * (self.model.video_tokens + ids.shape[1]) ** 2
        some = slice(max(2, ANALYSED // weights))
        ids, keep = ids[some].to(self.device), keep[some].to(self.device)
        one = {name: value[some] for name, value in batch.items()}
        with record(self.model.stack) as records:
            self.model.text_states(self.features(one), ids, keep)
        video = keep.new_ones(len(keep), self.model.video_tokens)
        real = torch.cat([video, keep], 1)  # (B, N)
        names = {f"layer {number + 1}": r.of_queries(real) for number, r in enumerate(records)}
        tokens = {"boundaries": [self.model.video_tokens], "labels": ["video", "text"]}
        return measured(names) | {"tokens": tokens}
