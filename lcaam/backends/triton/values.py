"""The gradient of a mask that is given by its values, (N_q, N_k) numbers: dense masks, and factors of full rank.

A program owns one tile and walks over the heads, and over the samples if they share the mask, so that each value is
written once, without atomics.
"""

import triton
import triton.language as tl

from lcaam.backends.triton.tiles import LOG2E, attended, bounded, mask_values, pattern, seen, strip, through_fusion


@triton.jit
def values_gradient(
    Q, K, V, BIAS, KEEP_AT, GRAD, LSE, DELTA, D_VALUES,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n,
    bias_b, bias_h, bias_q, keep_b, keep_h, keep_q, keep_k,
    batch, heads, n_q, n_k, lower, upper, scale, softcap, dropout, seed,
    TERM: tl.constexpr, SLOPE: tl.constexpr, MULTIPLIES: tl.constexpr, MASK: tl.constexpr, HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    HIDES: tl.constexpr,
    PRECISION: tl.constexpr, D: tl.constexpr, DV: tl.constexpr,
    OF_SAMPLE: tl.constexpr, OF_HEAD: tl.constexpr, REPEAT: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    across, down = tl.cdiv(n_k, BLOCK_N), tl.cdiv(n_q, BLOCK_M)
    first_row, first_column = tl.program_id(0) // across % down * BLOCK_M, tl.program_id(0) % across * BLOCK_N
    rows, columns = first_row + tl.arange(0, BLOCK_M), first_column + tl.arange(0, BLOCK_N)
    strand = tl.program_id(0) // (across * down)  # which matrix of the mask: (samples, groups) in order
    groups = heads if OF_HEAD else 1
    first_sample, first_head = (strand // groups).to(tl.int64), (strand % groups).to(tl.int64)
    samples, own_heads = 1 if OF_SAMPLE else batch, 1 if OF_HEAD else heads
    values = mask_values(
        0.0, 0.0, BIAS + first_sample * bias_b + first_head * bias_h, bias_q, rows, columns, n_q, n_k,
        MASK, HAS_BIAS, PRECISION, TURNED=False,
    )  # fmt: skip
    unit = LOG2E if SOFTCAP else scale * LOG2E
    term = TERM(values) * (unit if MULTIPLIES else LOG2E)
    d_term = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    steps = samples * own_heads
    if LOWER:  # a tile that no query may see
        steps = tl.where(first_column + BLOCK_N <= first_row + lower, 0, steps)
    if UPPER:
        steps = tl.where(first_column > first_row + BLOCK_M - 1 + upper, 0, steps)
    for number in tl.range(0, steps):
        sample, head = first_sample + number // own_heads, first_head + number % own_heads
        query = strip(Q + sample * q_b + head * q_h, q_n, rows, n_q, D, BLOCK_D)
        key = strip(K + sample * k_b + head // REPEAT * k_h, k_n, columns, n_k, D, BLOCK_D)
        score = tl.dot(query, tl.trans(key), input_precision=PRECISION)
        if SOFTCAP:
            score = bounded(score * scale, softcap)
        at = (sample * heads + head) * n_q + rows
        norm = tl.load(LSE + at, mask=rows < n_q, other=float("inf")) * LOG2E
        there = 0
        if HIDES:
            keep_at = KEEP_AT + sample * keep_b + head * keep_h
            there = seen(
                keep_at, keep_q, keep_k, rows, columns, n_q, n_k, lower, upper, KEEP, LOWER, UPPER, TURNED=False
            )
        weight = attended(score, term, unit, norm[:, None], there, MASK, MULTIPLIES, HIDES)
        grad = strip(GRAD + sample * grad_b + head * grad_h, grad_n, rows, n_q, DV, BLOCK_DV)
        value = strip(V + sample * v_b + head // REPEAT * v_h, v_n, columns, n_k, DV, BLOCK_DV)
        d_weight = tl.dot(grad, tl.trans(value), input_precision=PRECISION)
        if DROPOUT:
            d_weight *= pattern(seed + sample * heads + head, rows, columns, n_k, dropout, TURNED=False)
        delta = tl.load(DELTA + at, mask=rows < n_q, other=0.0)
        _, part = through_fusion(weight, d_weight, delta[:, None], score, term, softcap, MULTIPLIES, SOFTCAP)
        d_term += part
    d_values = d_term * SLOPE(values) * (scale if MULTIPLIES and not SOFTCAP else 1.0)
    inside = (rows < n_q)[:, None] & (columns < n_k)[None, :]
    at = strand.to(tl.int64) * n_q * n_k + rows.to(tl.int64)[:, None] * n_k + columns[None, :]
    tl.store(D_VALUES + at, d_values, mask=inside)
