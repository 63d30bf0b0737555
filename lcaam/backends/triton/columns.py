"""Gradients of what belongs to key columns: keys and values, `right` and the bias.

A program owns BLOCK_N key columns of SHARE heads and walks over the query rows; its tiles are turned: (BLOCK_N,
BLOCK_M). As in rows.py the gradient of a tile of the mask is summed over its heads in registers, without atomics.

ATOMIC: the gradients of rows.py as well, added to memory by whoever comes first. The scores are made once instead of
twice, and the sums depend on the order.
"""

import triton
import triton.language as tl

from lcaam.backends.triton.tiles import (
    FACTORED,
    LOG2E,
    NONE,
    attended,
    bounded,
    mask_values,
    pattern,
    put,
    seen,
    strip,
    through_fusion,
)


@triton.jit
def columns_gradient(
    Q, K, V, LEFT, RIGHT, BIAS, KEEP_AT, GRAD, LSE, DELTA, D_K, D_V, D_RIGHT, D_BIAS, D_Q, D_LEFT, d_left_b, d_left_h,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, grad_b, grad_h, grad_n,
    left_b, left_h, left_n, right_b, right_h, right_n, bias_b, bias_h, bias_q,
    keep_b, keep_h, keep_q, keep_k,
    heads, n_q, n_k, lower, upper, scale, softcap, dropout, seed,
    TERM: tl.constexpr, SLOPE: tl.constexpr, MULTIPLIES: tl.constexpr, MASK: tl.constexpr, HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    HIDES: tl.constexpr, LEARNS: tl.constexpr, ATOMIC: tl.constexpr,
    PRECISION: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, R: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_R: tl.constexpr,
    REPEAT: tl.constexpr, SHARE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_k, BLOCK_N)
    first = tl.program_id(0) % blocks * BLOCK_N
    columns = first + tl.arange(0, BLOCK_N)
    strand = tl.program_id(0) // blocks
    sample, head = (strand // (heads // SHARE)).to(tl.int64), (strand % (heads // SHARE) * SHARE).to(tl.int64)
    BIAS += sample * bias_b + head * bias_h
    KEEP_AT += sample * keep_b + head * keep_h
    LEFT += sample * left_b + head * left_h
    right = 0.0
    if MASK == FACTORED:
        right = strip(RIGHT + sample * right_b + head * right_h, right_n, columns, n_k, R, BLOCK_R)
        if LEARNS:
            d_right = tl.zeros((BLOCK_N, BLOCK_R), tl.float32)
            d_bias = tl.zeros((BLOCK_N,), tl.float32)
    unit = LOG2E if SOFTCAP else scale * LOG2E
    keys, values_of, d_keys, d_values_of = (), (), (), ()
    for h in tl.static_range(SHARE):
        keys = keys + (strip(K + sample * k_b + (head + h) // REPEAT * k_h, k_n, columns, n_k, D, BLOCK_D),)
        values_of = values_of + (strip(V + sample * v_b + (head + h) // REPEAT * v_h, v_n, columns, n_k, DV, BLOCK_DV),)
        d_keys = d_keys + (tl.zeros((BLOCK_N, BLOCK_D), tl.float32),)
        d_values_of = d_values_of + (tl.zeros((BLOCK_N, BLOCK_DV), tl.float32),)

    # as in rows.py
    of_score = (scale if SOFTCAP else 1.0) / LOG2E if MULTIPLIES else scale
    of_term = scale if MULTIPLIES and not SOFTCAP else 1.0
    begin, end = 0, n_q
    if UPPER:
        begin = tl.maximum(first - upper, 0) // BLOCK_M * BLOCK_M
    if LOWER:
        end = tl.minimum(n_q, first + BLOCK_N - lower)
    for start in tl.range(begin, end, BLOCK_M):
        rows = start + tl.arange(0, BLOCK_M)
        term = 0.0
        if MASK != NONE:
            left = strip(LEFT, left_n, rows, n_q, R, BLOCK_R) if MASK == FACTORED else 0.0
            values = mask_values(
                left, right, BIAS, bias_q, rows, columns, n_q, n_k, MASK, HAS_BIAS, PRECISION, TURNED=True
            )
            term = TERM(values) * (unit if MULTIPLIES else LOG2E)
        there = 0
        if HIDES:
            there = seen(
                KEEP_AT, keep_q, keep_k, rows, columns, n_q, n_k, lower, upper, KEEP, LOWER, UPPER, TURNED=True
            )
        d_term = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
        new_keys, new_values = (), ()
        for h in tl.static_range(SHARE):
            at = (sample * heads + head + h) * n_q + rows
            norm = tl.load(LSE + at, mask=rows < n_q, other=float("inf")) * LOG2E
            delta = tl.load(DELTA + at, mask=rows < n_q, other=0.0)
            query = strip(Q + sample * q_b + (head + h) * q_h, q_n, rows, n_q, D, BLOCK_D)
            score = tl.dot(keys[h], tl.trans(query), input_precision=PRECISION)
            if SOFTCAP:
                score = bounded(score * scale, softcap)
            weight = attended(score, term, unit, norm[None, :], there, MASK, MULTIPLIES, HIDES)
            grad = strip(GRAD + sample * grad_b + (head + h) * grad_h, grad_n, rows, n_q, DV, BLOCK_DV)
            d_weight = tl.dot(values_of[h], tl.trans(grad), input_precision=PRECISION)
            used = weight
            if DROPOUT:
                kept = pattern(seed + sample * heads + head + h, rows, columns, n_k, dropout, TURNED=True)
                used = weight * kept
                d_weight *= kept
            d_value = tl.dot(used.to(grad.dtype), grad, d_values_of[h], input_precision=PRECISION)
            new_values = new_values + (d_value,)
            d_score, part = through_fusion(weight, d_weight, delta[None, :], score, term, softcap, MULTIPLIES, SOFTCAP)
            d_term += part
            d_score = d_score.to(query.dtype)
            new_keys = new_keys + (tl.dot(d_score, query, d_keys[h], input_precision=PRECISION),)
            if ATOMIC:
                d_query = tl.dot(tl.trans(d_score), keys[h], input_precision=PRECISION) * of_score
                at = D_Q + (sample * heads + head + h) * n_q * D
                put(at, D, rows, n_q, d_query, D, BLOCK_D, ADDS=True)
        d_keys, d_values_of = new_keys, new_values
        if MASK == FACTORED and LEARNS:
            d_values = d_term * SLOPE(values)
            if HAS_BIAS:
                d_bias += tl.sum(d_values, 1)
            d_values = d_values.to(left.dtype)
            d_right = tl.dot(d_values, left, d_right, input_precision=PRECISION)
            if ATOMIC:
                d_left = tl.dot(tl.trans(d_values), right, input_precision=PRECISION) * of_term
                at = D_LEFT + sample * d_left_b + head * d_left_h
                put(at, R, rows, n_q, d_left, R, BLOCK_R, ADDS=True)

    for h in tl.static_range(SHARE):
        put(D_K + (sample * heads + head + h) * n_k * D, D, columns, n_k, d_keys[h] * of_score, D, BLOCK_D)
        put(D_V + (sample * heads + head + h) * n_k * DV, DV, columns, n_k, d_values_of[h], DV, BLOCK_DV)
    if MASK == FACTORED and LEARNS:
        put(D_RIGHT + strand.to(tl.int64) * n_k * R, R, columns, n_k, d_right * of_term, R, BLOCK_R)
        if HAS_BIAS:
            tl.store(D_BIAS + strand.to(tl.int64) * n_k + columns, d_bias * of_term, mask=columns < n_k)
