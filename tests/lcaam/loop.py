"""The equation written as a plain loop over single numbers: the judge of every backend, in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lcaam import Fusion
from lcaam.backends import BACKENDS

EXACT = tuple(name for name in BACKENDS if name != "triton")  # also in float64; test_triton.py is about the other

EQUATIONS = {  # written here once more, in another form if there is one
    "none": lambda s, m: s,
    "add": lambda s, m: s + m,
    "mul": lambda s, m: s * m,
    "gate": lambda s, m: s - torch.log1p(torch.exp(-m)),
    "temper": lambda s, m: s * torch.log1p(torch.exp(m)),
}


def equation(fusion: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The equation of a fusion, or the record of one that was registered later: then gradients check its slope."""
    return EQUATIONS.get(fusion) or Fusion.parse(fusion)


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
                        score = equation(fusion)(score, mask[sample, head % mask.shape[1], i, j])
                    exponentials.append(torch.exp(score))
                    values.append(value[sample, head, j])
                if exponentials:
                    total = sum(exponentials)
                    row = sum(e / total * v for e, v in zip(exponentials, values, strict=True))
                else:  # no key to attend to
                    row = query.new_zeros(d_v)
                rows.append(row)
    return torch.stack(rows).view(b, h, n_q, d_v)


def inputs(n_q, n_k, groups=1, rank=3, b=2, h=2, d=3, d_v=5, seed=0, dtype=torch.float64):
    """Leaf tensors query, key, value, left, right, bias."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (b, h, n_q, d),
        (b, h, n_k, d),
        (b, h, n_k, d_v),
        (b, 1, n_q, rank),
        (1, groups, n_k, rank),
        (1, groups, 1, n_k),
    ]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def padding(b, n_k):
    """Keys kept: the first sample keeps all but the last, the second none at all."""
    keep = torch.ones(b, n_k, dtype=torch.bool)
    keep[0, -1] = n_k == 1
    keep[1] = False
    return keep


def gradients(out, leaves):
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    grads = torch.autograd.grad(
        (out * weight).sum(), leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return [g.double() for g in grads]
