"""Gradients of what belongs to query rows: the queries and `left`.

A program owns BLOCK_M query rows of SHARE heads and walks over the keys. The gradient of a tile of the mask is summed
over its heads in registers, so it meets `right` once. What programs of other heads add to `left` is summed afterwards,
in order: no atomics, so the same bits every time.
"""

import triton
import triton.language as tl

from lcaam.backends.triton.tiles import (
    FACTORED,
    LOG2E,
    NONE,
    attended,
    bounded,
    keys_of,
    mask_values,
    pattern,
    put,
    seen,
    strip,
    through_fusion,
)


@triton.jit
def rows_gradient(
    Q, K, V, LEFT, RIGHT, BIAS, KEEP_AT, GRAD, LSE, DELTA, D_Q, D_LEFT,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n,
    left_b, left_h, left_n, right_b, right_h, right_n, bias_b, bias_h, bias_q,
    keep_b, keep_h, keep_q, keep_k,
    heads, n_q, n_k, lower, upper, scale, softcap, dropout, seed,
    TERM: tl.constexpr, SLOPE: tl.constexpr, MULTIPLIES: tl.constexpr, MASK: tl.constexpr, HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    HIDES: tl.constexpr,
    LEARNS: tl.constexpr, PRECISION: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, R: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_R: tl.constexpr,
    REPEAT: tl.constexpr, SHARE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_q, BLOCK_M)
    first = tl.program_id(0) % blocks * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    strand = tl.program_id(0) // blocks
    sample, head = (strand // (heads // SHARE)).to(tl.int64), (strand % (heads // SHARE) * SHARE).to(tl.int64)
    BIAS += sample * bias_b + head * bias_h
    KEEP_AT += sample * keep_b + head * keep_h
    RIGHT += sample * right_b + head * right_h
    left = 0.0
    if MASK == FACTORED:
        left = strip(LEFT + sample * left_b + head * left_h, left_n, rows, n_q, R, BLOCK_R)
        if LEARNS:
            d_left = tl.zeros((BLOCK_M, BLOCK_R), tl.float32)
    unit = LOG2E if SOFTCAP else scale * LOG2E
    queries, grads, norms, deltas, d_queries = (), (), (), (), ()
    for h in tl.static_range(SHARE):
        queries = queries + (strip(Q + sample * q_b + (head + h) * q_h, q_n, rows, n_q, D, BLOCK_D),)
        grads = grads + (strip(GRAD + sample * grad_b + (head + h) * grad_h, grad_n, rows, n_q, DV, BLOCK_DV),)
        at = (sample * heads + head + h) * n_q + rows
        norms = norms + (tl.load(LSE + at, mask=rows < n_q, other=float("inf")) * LOG2E,)
        deltas = deltas + (tl.load(DELTA + at, mask=rows < n_q, other=0.0),)
        d_queries = d_queries + (tl.zeros((BLOCK_M, BLOCK_D), tl.float32),)

    begin, end = keys_of(first, n_k, lower, upper, LOWER, UPPER, BLOCK_M, BLOCK_N)
    for start in tl.range(begin, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        term = 0.0
        if MASK != NONE:
            right = strip(RIGHT, right_n, columns, n_k, R, BLOCK_R) if MASK == FACTORED else 0.0
            values = mask_values(
                left, right, BIAS, bias_q, rows, columns, n_q, n_k, MASK, HAS_BIAS, PRECISION, TURNED=False
            )
            term = TERM(values) * (unit if MULTIPLIES else LOG2E)
        there = 0
        if HIDES:
            there = seen(
                KEEP_AT, keep_q, keep_k, rows, columns, n_q, n_k, lower, upper, KEEP, LOWER, UPPER, TURNED=False
            )
        d_term = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        new = ()
        for h in tl.static_range(SHARE):
            key = strip(K + sample * k_b + (head + h) // REPEAT * k_h, k_n, columns, n_k, D, BLOCK_D)
            score = tl.dot(queries[h], tl.trans(key), input_precision=PRECISION)
            if SOFTCAP:
                score = bounded(score * scale, softcap)
            weight = attended(score, term, unit, norms[h][:, None], there, MASK, MULTIPLIES, HIDES)
            value = strip(V + sample * v_b + (head + h) // REPEAT * v_h, v_n, columns, n_k, DV, BLOCK_DV)
            d_weight = tl.dot(grads[h], tl.trans(value), input_precision=PRECISION)
            if DROPOUT:
                d_weight *= pattern(seed + sample * heads + head + h, rows, columns, n_k, dropout, TURNED=False)
            d_score, part = through_fusion(
                weight, d_weight, deltas[h][:, None], score, term, softcap, MULTIPLIES, SOFTCAP
            )
            d_term += part
            new = new + (tl.dot(d_score.to(key.dtype), key, d_queries[h], input_precision=PRECISION),)
        d_queries = new
        if MASK == FACTORED and LEARNS:
            d_values = d_term * SLOPE(values)
            d_left = tl.dot(d_values.to(right.dtype), right, d_left, input_precision=PRECISION)

    for h in tl.static_range(SHARE):
        # `term` of a fusion that multiplies carried unit = scale log2(e); of one that adds it had no part in d_score
        d_query = d_queries[h] * ((scale if SOFTCAP else 1.0) / LOG2E if MULTIPLIES else scale)
        put(D_Q + (sample * heads + head + h) * n_q * D, D, rows, n_q, d_query, D, BLOCK_D)
    if MASK == FACTORED and LEARNS:
        if MULTIPLIES and not SOFTCAP:
            d_left *= scale  # the score of d_term was without its scale
        put(D_LEFT + strand.to(tl.int64) * n_q * R, R, rows, n_q, d_left, R, BLOCK_R)
