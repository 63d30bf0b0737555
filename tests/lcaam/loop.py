"""The equation written as a plain loop over single numbers: the judge of every backend, in float64."""

import math

import torch
from torch import Tensor

FUSIONS = {
    "none": lambda s, m: s,
    "add": lambda s, m: s + m,
    "mul": lambda s, m: s * m,
    "gate": lambda s, m: s - torch.log1p(torch.exp(-m)),
    "temper": lambda s, m: s * torch.log1p(torch.exp(m)),
}


def attention_loop(query, key, value, mask, fusion, keep=None, causal=False) -> Tensor:
    """query (B, H, N_q, d), key (B, H, N_k, d), value (B, H, N_k, d_v), mask (B, G, N_q, N_k), keep (B, N_k)."""
    b, h, n_q, d = query.shape
    n_k, d_v = value.shape[2:]
    rows = []
    for sample in range(b):
        for head in range(h):
            for i in range(n_q):
                exponentials, values = [], []
                for j in range(n_k):
                    if keep is not None and not keep[sample, j]:
                        continue
                    if causal and j > i + n_k - n_q:
                        continue
                    score = sum(query[sample, head, i, c] * key[sample, head, j, c] for c in range(d)) / math.sqrt(d)
                    if mask is not None:
                        score = FUSIONS[fusion](score, mask[sample, head % mask.shape[1], i, j])
                    exponentials.append(torch.exp(score))
                    values.append(value[sample, head, j])
                if exponentials:
                    total = sum(exponentials)
                    row = sum(e / total * v for e, v in zip(exponentials, values, strict=True))
                else:  # no key to attend to
                    row = query.new_zeros(d_v)
                rows.append(row)
    return torch.stack(rows).view(b, h, n_q, d_v)
