"""The forward kernel: softmax(fusion(q k^T, left right^T + bias)) v, a tile at a time.

A program owns BLOCK_M query rows of SHARE heads. It walks over the keys once; the tile of the mask is made once for its
heads, each of which has its own running maximum, sum and output (online softmax: Milakov and Gimelshein 2018, Dao et
al. 2022; float32, base 2). No (N_q, N_k) matrix is ever in memory.
"""

import triton
import triton.language as tl

from lcaam.backends.triton.tiles import (
    FACTORED,
    LN2,
    LOG2E,
    NONE,
    bounded,
    fused,
    keys_of,
    mask_values,
    pattern,
    put,
    seen,
    strip,
)


@triton.jit
def forward(
    Q, K, V, LEFT, RIGHT, BIAS, KEEP_AT, OUT, LSE,
    q_b, q_h, q_n, k_b, k_h, k_n, v_b, v_h, v_n, out_b, out_h, out_n,
    left_b, left_h, left_n, right_b, right_h, right_n, bias_b, bias_h, bias_q,
    keep_b, keep_h, keep_q, keep_k,
    heads, n_q, n_k, lower, upper, scale, softcap, dropout, seed,
    TERM: tl.constexpr, MULTIPLIES: tl.constexpr, MASK: tl.constexpr, HAS_BIAS: tl.constexpr,
    KEEP: tl.constexpr, LOWER: tl.constexpr, UPPER: tl.constexpr, SOFTCAP: tl.constexpr, DROPOUT: tl.constexpr,
    HIDES: tl.constexpr,
    PRECISION: tl.constexpr, D: tl.constexpr, DV: tl.constexpr, R: tl.constexpr,
    BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr, BLOCK_R: tl.constexpr,
    REPEAT: tl.constexpr, SHARE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(n_q, BLOCK_M)
    first = tl.program_id(0) % blocks * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    strand = tl.program_id(0) // blocks  # a sample and SHARE of its heads
    sample, head = (strand // (heads // SHARE)).to(tl.int64), (strand % (heads // SHARE) * SHARE).to(tl.int64)
    BIAS += sample * bias_b + head * bias_h
    KEEP_AT += sample * keep_b + head * keep_h
    RIGHT += sample * right_b + head * right_h
    left = 0.0
    if MASK == FACTORED:
        left = strip(LEFT + sample * left_b + head * left_h, left_n, rows, n_q, R, BLOCK_R)
    unit = LOG2E if SOFTCAP else scale * LOG2E
    queries, tops, sums, outs = (), (), (), ()
    for h in tl.static_range(SHARE):
        queries = queries + (strip(Q + sample * q_b + (head + h) * q_h, q_n, rows, n_q, D, BLOCK_D),)
        tops = tops + (tl.full((BLOCK_M,), float("-inf"), tl.float32),)
        sums = sums + (tl.zeros((BLOCK_M,), tl.float32),)
        outs = outs + (tl.zeros((BLOCK_M, BLOCK_DV), tl.float32),)

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
        if HIDES:
            there = seen(
                KEEP_AT, keep_q, keep_k, rows, columns, n_q, n_k, lower, upper, KEEP, LOWER, UPPER, TURNED=False
            )
        new_tops, new_sums, new_outs = (), (), ()
        for h in tl.static_range(SHARE):
            key = strip(K + sample * k_b + (head + h) // REPEAT * k_h, k_n, columns, n_k, D, BLOCK_D)
            score = tl.dot(queries[h], tl.trans(key), input_precision=PRECISION)
            if SOFTCAP:
                score = bounded(score * scale, softcap)
            score = fused(score, term, unit, MASK, MULTIPLIES)
            if HIDES:
                score = tl.where(there, score, float("-inf"))
            top = tl.maximum(tops[h], tl.max(score, 1))
            base = tl.where(top == float("-inf"), 0.0, top) if HIDES else top  # a row that has seen no key yet
            weight = tl.exp2(score - base[:, None])
            fade = tl.exp2(tops[h] - base)
            new_tops = new_tops + (top,)
            new_sums = new_sums + (sums[h] * fade + tl.sum(weight, 1),)
            if DROPOUT:
                weight *= pattern(seed + sample * heads + head + h, rows, columns, n_k, dropout, TURNED=False)
            value = strip(V + sample * v_b + (head + h) // REPEAT * v_h, v_n, columns, n_k, DV, BLOCK_DV)
            out = tl.dot(weight.to(value.dtype), value, outs[h] * fade[:, None], input_precision=PRECISION)
            new_outs = new_outs + (out,)
        tops, sums, outs = new_tops, new_sums, new_outs

    for h in tl.static_range(SHARE):
        alone = sums[h] == 0.0  # a query without any key: zeros, and a logarithm of -inf
        out = outs[h] / tl.where(alone, 1.0, sums[h])[:, None]
        put(OUT + sample * out_b + (head + h) * out_h, out_n, rows, n_q, out, DV, BLOCK_DV)
        lse = tl.where(alone, float("-inf"), tops[h] * LN2 + tl.log(tl.where(alone, 1.0, sums[h])))
        tl.store(LSE + (sample * heads + head + h) * n_q + rows, lse, mask=rows < n_q)
