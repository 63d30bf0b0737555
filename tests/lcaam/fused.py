"""What the tests of the fused kernels share: tensors, the outcome of a backend, the comparison with the equation."""

import os

import pytest
import torch

from lcaam import Fusion, Mask, attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
FUSED = [fusion.name for fusion in Fusion if not fusion.ignores_mask]
LIMITS = {torch.float32: (1e-4, 1e-3), torch.float16: (2e-2, 2e-2), torch.bfloat16: (2e-2, 4e-2)}


def leaves(b=2, h=2, n_q=17, n_k=17, d=16, d_v=16, rank=5, groups=1, of="batch", kind="factors", repeat=1, seed=0):
    """float64 query, key, value and the tensors of a mask. of: whether samples have masks of their own. repeat: query
    heads per key head."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    found = [drawn(b, h, n_q, d), drawn(b, h // repeat, n_k, d), drawn(b, h // repeat, n_k, d_v)]
    samples = b if of == "batch" else 1
    if kind == "dense":
        return [*found, drawn(samples, groups, n_q, n_k)]
    found += [drawn(samples, 1, n_q, rank) / rank**0.5, drawn(1, groups, n_k, rank)]
    return found if kind == "no bias" else [*found, 1 + drawn(1, groups, 1, n_k)]


def kept(structure, b, h, n_q, n_k):
    """Padding with a sample that has no key at all; a matrix with a query that has none; a matrix for each head."""
    generator = torch.Generator().manual_seed(7)
    if structure == "padding":
        keep = torch.rand(b, 1, 1, n_k, generator=generator) < 0.7
        keep[0] = False
        return keep
    if structure == "pairs":
        keep = torch.rand(b, 1, n_q, n_k, generator=generator) < 0.7
        keep[:, :, n_q // 2] = False
        return keep
    return torch.rand(b, h, n_q, n_k, generator=generator) < 0.7 if structure == "heads" else None


def outcome(tensors, backend, fusion, dtype=torch.float64, keep=None, causal=False, **options):
    """Output, log-sum-exp and the gradients of all tensors, of a fixed random function of both outputs."""
    device = DEVICE if backend == "triton" else "cpu"
    inputs = [t.to(device, dtype).detach().requires_grad_() for t in tensors]
    mask = Mask.from_dense(inputs[3]) if len(inputs) == 4 else Mask(*inputs[3:])
    keep = None if keep is None else keep.to(device)
    options["enable_gqa"] = inputs[0].shape[1] != inputs[1].shape[1]
    how = dict(fusion=fusion, keep=keep, causal=causal, backend=backend, return_lse=True, **options)
    out, lse = attention(*inputs[:3], mask, **how)
    lse = torch.where(lse.isinf(), 0.0, lse)  # of queries without keys
    weights = torch.Generator().manual_seed(1)
    total = (out.double() * torch.randn(out.shape, generator=weights, dtype=torch.float64).to(device)).sum()
    total = total + (lse.double() * torch.randn(lse.shape, generator=weights, dtype=torch.float64).to(device)).sum()
    return [t.detach().cpu().double() for t in (out, lse, *torch.autograd.grad(total, inputs))]


def check(tensors, fusion, dtype=torch.float32, **options):
    """Values and gradients equal the equation's, relative to the largest number."""
    expected = outcome(tensors, "reference", fusion, **options)
    found = outcome(tensors, "triton", fusion, dtype, **options)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        limit = LIMITS[dtype][0 if number < 2 else 1] * max(theirs.abs().max().item(), 1e-2)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit)


def skip_without_kernels():
    """Skips the module that calls it if the kernels can run nowhere here."""
    pytest.importorskip("triton")
    if not (INTERPRETED or torch.cuda.is_available()):
        pytest.skip("no CUDA device, and TRITON_INTERPRET is not 1", allow_module_level=True)
