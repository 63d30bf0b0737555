"""QD-DETR by the original's schedule, for timing: the wrong texts take a second full pass, decoder included.

Written anew from the paper and from what the released checkpoints hold, under their parameter names, so that it can
have the weights of this project's model: then outputs and loss are the same (tests/scripts/test_benchmark_qd_detr.py).
Plain torch throughout: sequences first, nn.MultiheadAttention with its weights returned, nn.Dropout, one matching with
one transfer per decoder layer, a Python loop over the saliency levels.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from tasks.moment_retrieval.positions import of_clips, of_spans
from tasks.moment_retrieval.spans import generalised_iou, inverse_sigmoid, start_end

PADDED = -1e3  # the score of padding in the rank-contrastive loss


class Projection(nn.Module):
    def __init__(self, inner: int, outer: int, relu: bool):
        super().__init__()
        self.relu, self.LayerNorm = relu, nn.LayerNorm(inner)
        self.net = nn.Sequential(nn.Dropout(0.5), nn.Linear(inner, outer))

    def forward(self, x: Tensor) -> Tensor:
        x = self.net(self.LayerNorm(x))
        return F.relu(x) if self.relu else x


class MLP(nn.Module):
    def __init__(self, *widths: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class EncoderLayer(nn.Module):
    """A layer of either kind: text-to-video with `text`, self-attention without; tensors are (T, B, D)."""

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float = 0.1):
        super().__init__()
        self.heads = heads
        self.self_attn = nn.MultiheadAttention(dim, heads, dropout=dropout)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2, self.activation = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.PReLU()
        self.dropout, self.dropout1, self.dropout2 = nn.Dropout(dropout), nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor, position: Tensor, keep: Tensor, text: Tensor | None = None) -> Tensor:
        if text is None:
            placed = x + position
            x = self.norm1(x + self.dropout1(self.self_attn(placed, placed, x, key_padding_mask=~keep)[0]))
            return self.norm2(x + self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x))))))
        drop = (~keep)[:, None].expand(-1, len(x), -1).repeat_interleave(self.heads, 0)  # (B H, T, N)
        x = x + self.dropout1(self.self_attn(x + position, text, text, attn_mask=drop)[0])
        hidden = self.dropout(self.activation(self.linear1(self.norm1(x))))
        return self.norm2(x + self.dropout2(self.linear2(hidden)))


class Attention(nn.Module):
    """Attention of projected queries (Q, B, E), keys (T, B, E) and values (T, B, D); E may be wider than D."""

    def __init__(self, dim: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout, self.out_proj = heads, nn.Dropout(dropout), nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor | None = None) -> Tensor:
        batch = query.shape[1]
        query = query * (query.shape[-1] // self.heads) ** -0.5
        q, k, v = (t.reshape(len(t), batch * self.heads, -1).transpose(0, 1) for t in (query, key, value))
        score = torch.bmm(q, k.transpose(1, 2))  # (B H, Q, T)
        if keep is not None:
            score = score.view(batch, self.heads, *score.shape[1:]).masked_fill(~keep[:, None, None], -torch.inf)
            score = score.flatten(0, 1)
        out = torch.bmm(self.dropout(score.softmax(-1)), v)
        return self.out_proj(out.transpose(0, 1).reshape(len(query), batch, -1))


class DecoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int, first: bool, dropout: float = 0.1):
        super().__init__()
        self.first, self.heads = first, heads
        names = ["sa_qcontent", "sa_qpos", "sa_kcontent", "sa_kpos", "sa_v"]
        names += ["ca_qcontent", "ca_kcontent", "ca_kpos", "ca_v", "ca_qpos_sine"] + ["ca_qpos"] * first
        for name in names:
            setattr(self, f"{name}_proj", nn.Linear(dim, dim))
        self.self_attn, self.cross_attn = Attention(dim, heads, dropout), Attention(dim, heads, dropout)
        self.linear1, self.linear2 = nn.Linear(dim, feedforward), nn.Linear(feedforward, dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout, self.activation = nn.Dropout(dropout), nn.PReLU()

    def beside(self, content: Tensor, place: Tensor) -> Tensor:
        """Content and place of each head: (N, B, D) twice -> (N, B, 2 D)."""
        parts = (t.unflatten(-1, (self.heads, -1)) for t in (content, place))
        return torch.cat([*parts], -1).flatten(2)

    def forward(self, x, memory, position, keep, query_position, query_sine) -> Tensor:
        query = self.sa_qcontent_proj(x) + self.sa_qpos_proj(query_position)
        key = self.sa_kcontent_proj(x) + self.sa_kpos_proj(query_position)
        x = self.norm1(x + self.dropout(self.self_attn(query, key, self.sa_v_proj(x))))
        query, key, place = self.ca_qcontent_proj(x), self.ca_kcontent_proj(memory), self.ca_kpos_proj(position)
        if self.first:
            query, key = query + self.ca_qpos_proj(query_position), key + place
        query, key = self.beside(query, self.ca_qpos_sine_proj(query_sine)), self.beside(key, place)
        x = self.norm2(x + self.dropout(self.cross_attn(query, key, self.ca_v_proj(memory), keep)))
        return self.norm3(x + self.dropout(self.linear2(self.dropout(self.activation(self.linear1(x))))))


class Encoder(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, feedforward) for _ in range(2))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *others)
        return x


class Decoder(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, feedforward, number == 0) for number in range(2))
        self.norm, self.query_scale, self.ref_point_head = nn.LayerNorm(dim), MLP(dim, dim, dim), MLP(dim, dim, dim)
        self.bbox_embed, self.ref_anchor_head = MLP(dim, dim, dim, 2), MLP(dim, dim, 1)

    def forward(self, memory: Tensor, position: Tensor, keep: Tensor, spans: Tensor) -> tuple[Tensor, Tensor]:
        """memory, position (T, B, D), keep (B, T), spans (Q, 2) -> (L, Q, B, D), (L, Q, B, 2)."""
        dim, span = memory.shape[-1], spans[:, None].repeat(1, memory.shape[1], 1).sigmoid()
        x = torch.zeros(*span.shape[:2], dim, device=memory.device)
        features, references = [], [span]
        for number, layer in enumerate(self.layers):
            sine = of_spans(span, dim)
            query_position = self.ref_point_head(sine)
            sine = sine * (1.0 if number == 0 else self.query_scale(x))
            sine = sine * (self.ref_anchor_head(x).sigmoid() / span[..., 1:])
            x = layer(x, memory, position, keep, query_position, sine)
            features.append(self.norm(x))
            span = (self.bbox_embed(x) + inverse_sigmoid(span)).sigmoid()
            references.append(span)
            span = span.detach()
        return torch.stack(features), torch.stack(references[:-1])


class Transformer(nn.Module):
    def __init__(self, dim: int, heads: int, feedforward: int):
        super().__init__()
        self.t2v_encoder, self.encoder = Encoder(dim, heads, feedforward), Encoder(dim, heads, feedforward)
        self.decoder = Decoder(dim, heads, feedforward)


class PlainQDDETR(nn.Module):
    """Inputs and outputs are those of tasks.moment_retrieval.upstream.Published."""

    def __init__(self, video_dim: int, text_dim: int, width: int = 256, feedforward: int = 1024, queries: int = 10):
        super().__init__()
        self.width = width
        self.transformer = Transformer(width, width // 32, feedforward)
        self.input_vid_proj = nn.Sequential(Projection(video_dim, width, True), Projection(width, width, False))
        self.input_txt_proj = nn.Sequential(Projection(text_dim, width, True), Projection(width, width, False))
        self.global_rep_token, self.global_rep_pos = (nn.Parameter(torch.randn(width)) for _ in range(2))
        self.query_embed = nn.Embedding(queries, 2)
        self.class_embed, self.span_embed = nn.Linear(width, 2), MLP(width, width, width, 2)
        self.saliency_proj1, self.saliency_proj2 = nn.Linear(width, width), nn.Linear(width, width)
        for parameter in self.transformer.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def one_pass(self, video, keep, text, text_keep, position) -> tuple[Tensor, Tensor, Tensor]:
        """Decoder features, their spans and saliency of projected video (T, B, D) and text (N, B, D)."""
        clips = self.transformer.t2v_encoder(video, position, text_keep, text)
        batch = video.shape[1]
        x = torch.cat([self.global_rep_token.expand(1, batch, -1), clips])
        placed = torch.cat([self.global_rep_pos.expand(1, batch, -1), position])
        x = self.transformer.encoder(x, placed, torch.cat([keep.new_ones(batch, 1), keep], 1))
        memory = x[1:]
        features, spans = self.transformer.decoder(memory, position, keep, self.query_embed.weight)
        score = (self.saliency_proj1(memory) * self.saliency_proj2(x[:1])).sum(-1) / math.sqrt(self.width)
        return features, spans, score.transpose(0, 1)

    def forward(self, video: Tensor, video_keep: Tensor, text: Tensor, text_keep: Tensor) -> dict:
        position = of_clips(video_keep, self.width).transpose(0, 1)
        video, text = self.input_vid_proj(video).transpose(0, 1), self.input_txt_proj(text).transpose(0, 1)
        features, references, saliency = self.one_pass(video, video_keep, text, text_keep, position)
        wrong, wrong_keep = torch.cat([text[:, 1:], text[:, :1]], 1), torch.cat([text_keep[1:], text_keep[:1]])
        saliency_negative = self.one_pass(video, video_keep, wrong, wrong_keep, position)[2]
        logits = self.class_embed(features).transpose(1, 2)
        spans = (self.span_embed(features) + inverse_sigmoid(references)).sigmoid().transpose(1, 2)
        layers = [{"logits": a, "spans": b} for a, b in zip(logits, spans, strict=True)]
        return layers[-1] | {"saliency": saliency, "saliency_negative": saliency_negative, "aux": layers[:-1]}


def plain_loss(outputs: dict, batch: dict) -> Tensor:
    """The total of QD-DETR's losses at their published weights."""
    total = saliency_loss(outputs, batch)
    for layer in (outputs, *outputs["aux"]):
        pairs = matches(layer, batch["spans"])
        sample = torch.cat([torch.full_like(query, number) for number, (query, _) in enumerate(pairs)])
        query = torch.cat([query for query, _ in pairs])
        wanted = torch.cat([spans[target] for spans, (_, target) in zip(batch["spans"], pairs, strict=True)])
        found = layer["spans"][sample, query]
        labels = torch.ones(layer["logits"].shape[:2], dtype=torch.long, device=query.device)
        labels[sample, query] = 0
        weights = torch.tensor([1.0, 0.1], device=query.device)
        entropy = F.cross_entropy(layer["logits"].transpose(1, 2), labels, weights, reduction="none").mean()
        overlap = torch.diag(generalised_iou(start_end(found)[:, None], start_end(wanted)))
        total = total + 10 * F.l1_loss(found, wanted) + (1 - overlap).mean() + 4 * entropy
    return total


@torch.no_grad()
def matches(layer: dict[str, Tensor], targets: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(queries, targets) of each sample; the costs of all predictions and all targets go to the CPU."""
    spans, wanted = layer["spans"].flatten(0, 1), torch.cat(targets)
    cost = 10 * torch.cdist(spans, wanted, p=1) - generalised_iou(start_end(spans)[:, None], start_end(wanted))
    cost = cost - 4 * layer["logits"].softmax(-1)[..., 0].flatten()[:, None]
    parts = cost.view(len(targets), -1, len(wanted)).cpu().split([len(target) for target in targets], -1)
    found = (linear_sum_assignment(part[number]) for number, part in enumerate(parts))
    return [tuple(torch.as_tensor(index, device=spans.device) for index in pair) for pair in found]


def saliency_loss(outputs: dict, batch: dict, margin=0.2, temperature=0.5, levels=12) -> Tensor:
    scores, wrong, keep = outputs["saliency"], outputs["saliency_negative"], batch["video_keep"].float()
    of_wrong = (-torch.log(1 - torch.sigmoid(wrong)) * keep).sum(1).mean()

    both, both_keep = torch.cat([scores, wrong], 1), torch.cat([keep, keep], 1)
    labels = torch.cat([batch["saliency"], torch.zeros_like(batch["saliency"])], 1)
    contrastive = torch.zeros((), device=scores.device)
    for level in range(1, levels):
        relevant = labels >= level
        if relevant.sum() == 0:  # the host waits here
            continue
        logits = both_keep * both / temperature + (1 - both_keep) * PADDED
        logits = logits - logits.max(1, keepdim=True)[0]
        log_share = logits - torch.log(logits.exp().sum(1, keepdim=True) + 1e-6)
        mean = (relevant * log_share * both_keep).sum(1) / (relevant.sum(1) + 1e-6)
        contrastive = contrastive - (mean * relevant.any(1)).mean()

    row = torch.arange(len(scores), device=scores.device)
    pairs = zip(batch["saliency_pos"].unbind(1), batch["saliency_neg"].unbind(1), strict=True)
    hinge = sum((margin + scores[row, less] - scores[row, more]).clamp(min=0).sum() for more, less in pairs)
    return hinge / batch["saliency_pos"].numel() * 2 + contrastive / levels + of_wrong
