"""What the softmax's gradient subtracts in each row: the sum of grad x out, less the gradient of the log-sum-exp."""

import triton
import triton.language as tl

from lcaam.backends.triton.tiles import strip


@triton.jit
def row_deltas(
    OUT, GRAD, GRAD_LSE, DELTA, out_b, out_h, out_n, grad_b, grad_h, grad_n,
    heads, n_q, HAS_LSE: tl.constexpr, DV: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_q, BLOCK_M)
    rows = tl.program_id(0) % blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    strand = tl.program_id(0) // blocks
    sample, head = (strand // heads).to(tl.int64), (strand % heads).to(tl.int64)
    out = strip(OUT + sample * out_b + head * out_h, out_n, rows, n_q, DV, BLOCK_DV).to(tl.float32)
    grad = strip(GRAD + sample * grad_b + head * grad_h, grad_n, rows, n_q, DV, BLOCK_DV).to(tl.float32)
    delta = tl.sum(out * grad, 1)
    at = strand.to(tl.int64) * n_q + rows
    if HAS_LSE:
        delta -= tl.load(GRAD_LSE + at, mask=rows < n_q, other=0.0)
    tl.store(DELTA + at, delta, mask=rows < n_q)
