"""The losses of QD-DETR: matched spans, foreground, saliency (Moon et al., section 3; weights of the released runs)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from configs.knobs import Count, NotNegative, Positive
from tasks.common.errors import NonFiniteLossError
from tasks.common.gather import share_of_items
from tasks.moment_retrieval.model import BACKGROUND, FOREGROUND
from tasks.moment_retrieval.spans import generalised_iou, start_end


@dataclass
class LossSettings:
    """The numbers of the released runs."""

    span: NotNegative = 10.0  # weights of the terms; the matching uses the first three as its costs
    giou: NotNegative = 1.0
    label: NotNegative = 4.0
    saliency: NotNegative = 1.0
    background: NotNegative = 0.1  # weight of spans that match nothing, in the cross-entropy
    margin: NotNegative = 0.2  # margin of the hinge between a relevant and an irrelevant clip
    temperature: Positive = 0.5  # temperature of the rank-contrastive loss
    levels: Count = 12  # the highest possible saliency score: three annotators who give 0 to 4


class MomentLosses(nn.Module):
    """Outputs of QDDETR and a batch -> total and terms. Keywords: those of LossSettings."""

    def __init__(self, **settings: float):
        super().__init__()
        s = LossSettings(**settings)
        self.weights = {"span": s.span, "giou": s.giou, "label": s.label, "saliency": s.saliency}
        self.margin, self.temperature, self.levels = s.margin, s.temperature, s.levels
        self.register_buffer("class_weights", torch.tensor([1.0, s.background]), persistent=False)

    def forward(
        self, outputs: dict[str, Any], batch: dict[str, Any], over_ranks: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the weighted total and every unweighted term: span, giou, label, class_error (percent, not part of
        the total) of the last decoder layer; the same of layer i as span_i, ...; saliency if the batch has it.

        over_ranks: terms that are means over matched pairs are scaled so that their mean over ranks is the mean over
            the pairs of all ranks (tasks.common.gather); all ranks call this function then.
        """
        layers = [*outputs["aux"], outputs]
        matches = self.match(layers, batch["spans"])
        wanted = torch.cat(batch["spans"])
        share = share_of_items(len(matches[0][0])) if over_ranks else 1.0  # every layer has as many pairs
        terms: dict[str, Tensor] = {}
        for number, (layer, (sample, query, target)) in enumerate(zip(layers, matches, strict=True)):
            suffix = f"_{number}" if number < len(layers) - 1 else ""
            found = self.of_spans(layer["spans"][sample, query], wanted[target])
            found |= self.of_labels(layer["logits"], sample, query)
            if over_ranks:
                found |= {name: share * found[name] for name in ("span", "giou", "class_error")}
            terms |= {name + suffix: value for name, value in found.items()}
        if "saliency" in batch:
            terms["saliency"] = self.of_saliency(outputs, batch)
        weighted = (self.weights[name.split("_")[0]] * value for name, value in terms.items() if "error" not in name)
        return sum(weighted), terms

    @torch.no_grad()
    def match(self, layers: list[dict[str, Tensor]], targets: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The cheapest one-to-one assignment of predicted to true spans, for every layer: (sample, query, target) of
        each pair, the target as an index into all targets of the batch in a row.

        All costs reach the CPU in one transfer. Raises NonFiniteLossError if a prediction is not finite.
        """
        logits = torch.stack([layer["logits"] for layer in layers]).float()  # (L, B, Q, 2)
        spans = torch.stack([layer["spans"] for layer in layers]).float()
        counts = [len(target) for target in targets]
        wanted = nn.utils.rnn.pad_sequence(targets, batch_first=True)[None, :, None]  # (1, B, 1, M, 2)
        cost = self.weights["span"] * (spans[..., None, :] - wanted).abs().sum(-1)
        cost = cost - self.weights["giou"] * generalised_iou(start_end(spans)[..., None, :], start_end(wanted))
        cost = cost - self.weights["label"] * logits.softmax(-1)[..., FOREGROUND, None]
        costs = cost.cpu().numpy()  # (L, B, Q, M)
        if not np.isfinite(costs).all():
            raise NonFiniteLossError("a predicted span or logit is not finite, so nothing can be matched,")
        first = [sum(counts[:number]) for number in range(len(counts))]
        matches = []
        for of_layer in costs:
            triples = [
                (sample, query, first[sample] + target)
                for sample, count in enumerate(counts)
                for query, target in zip(*linear_sum_assignment(of_layer[sample, :, :count]), strict=True)
            ]
            indices = torch.tensor(triples, dtype=torch.long, device=cost.device).reshape(-1, 3)
            matches.append(tuple(indices.unbind(1)))
        return matches

    def of_spans(self, spans: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """L1 over centre and width, and 1 - generalised IoU, each a mean over matched pairs; 0 without any."""
        if len(spans) == 0:
            return {"span": spans.sum(), "giou": spans.sum()}
        overlap = generalised_iou(start_end(spans), start_end(wanted))
        return {"span": F.l1_loss(spans, wanted), "giou": (1 - overlap).mean()}

    def of_labels(self, logits: Tensor, sample: Tensor, query: Tensor) -> dict[str, Tensor]:
        """Cross-entropy with the background weighted down, averaged over all B Q predictions (not over the weights, as
        published); and the share of matched predictions that are taken for background, in percent."""
        labels = torch.full(logits.shape[:2], BACKGROUND, device=logits.device)
        labels[sample, query] = FOREGROUND
        weights = self.class_weights.float()
        loss = F.cross_entropy(logits.transpose(1, 2).float(), labels, weights, reduction="none").mean()
        wrong = logits.detach()[sample, query].argmax(-1) != FOREGROUND
        return {"label": loss, "class_error": 100 * wrong.float().mean() if len(wrong) else logits.new_zeros(())}

    def of_saliency(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> Tensor:
        """Hinge + rank-contrastive + wrong texts; without `saliency_negative` only what does not need it."""
        scores, keep = outputs["saliency"].float(), batch["video_keep"]
        positive = scores.gather(1, batch["saliency_pos"])  # (B, P)
        hinge = 2 * (self.margin + scores.gather(1, batch["saliency_neg"]) - positive).clamp(min=0).mean()
        if "saliency_negative" not in outputs:
            return hinge + self.rank_contrastive(scores, keep, batch["saliency"])
        wrong = outputs["saliency_negative"].float()
        both, both_keep = torch.cat([scores, wrong], 1), torch.cat([keep, keep], 1)
        # -log(1 - sigmoid(s)), which the original writes out: infinite from s = 17 on
        of_wrong = (F.softplus(wrong) * keep).sum(1).mean()
        return hinge + self.rank_contrastive(both, both_keep, batch["saliency"]) + of_wrong

    def rank_contrastive(self, scores: Tensor, keep: Tensor, labels: Tensor) -> Tensor:
        """For every level: clips of at least that score against all others, and against all clips with a wrong text.

        scores (B, T) or (B, 2T), keep alike, labels (B, T): summed scores. The published loop ends one level early and
        is divided by the number of levels all the same.
        """
        log_share = (scores / self.temperature).masked_fill(~keep, -torch.inf).log_softmax(1)[:, : labels.shape[1]]
        level = torch.arange(1, self.levels, device=labels.device)[:, None, None]
        relevant = (labels >= level) & keep[:, : labels.shape[1]]  # (levels - 1, B, T)
        total = log_share.masked_fill(~relevant, 0.0).sum(-1)
        return -(total / relevant.sum(-1).clamp(min=1)).mean(1).sum() / self.levels
