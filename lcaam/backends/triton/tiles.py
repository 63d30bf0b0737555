"""What every kernel works on: tiles of query rows and key columns, the mask of a tile, the places it may see.

A tile is (rows, columns) = (BLOCK_M, BLOCK_N), or the other way round where `turned`. Exponentials are to the base 2,
the one that the hardware has: scores carry a factor log2(e).
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
NO_MASK, FACTORS, DENSE = 0, 1, 2  # MASK: how the learned mask is given
ALL_KEYS, BY_KEY, BY_PAIR = 0, 1, 2  # KEEP: what the structural mask says
NONE, FACTORED, VALUES = tl.constexpr(NO_MASK), tl.constexpr(FACTORS), tl.constexpr(DENSE)
KEYS, PAIRS = tl.constexpr(BY_KEY), tl.constexpr(BY_PAIR)


@triton.jit
def strip(start, stride, places, limit, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Rows `places` of a matrix whose rows lie `stride` apart: (places, BLOCK); zeros outside of (limit, WIDTH)."""
    column = tl.arange(0, BLOCK)
    there = (places < limit)[:, None]
    if BLOCK != WIDTH:
        there = there & (column < WIDTH)[None, :]
    return tl.load(start + places.to(tl.int64)[:, None] * stride + column[None, :], mask=there, other=0.0)


@triton.jit
def put(start, stride, places, limit, values, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ADDS: tl.constexpr = False):
    """Writes what `strip` would read, or adds to it."""
    column = tl.arange(0, BLOCK)
    there = (places < limit)[:, None]
    if BLOCK != WIDTH:
        there = there & (column < WIDTH)[None, :]
    at = start + places.to(tl.int64)[:, None] * stride + column[None, :]
    if ADDS:
        tl.atomic_add(at, values.to(start.dtype.element_ty), mask=there, sem="relaxed")
    else:
        tl.store(at, values.to(start.dtype.element_ty), mask=there)


@triton.jit
def pair_values(start, row_stride, rows, columns, n_q, n_k, TURNED: tl.constexpr):
    """Values of a (n_q, n_k) matrix with columns side by side, (rows, columns); turned: (columns, rows)."""
    if TURNED:
        at = start + rows.to(tl.int64)[None, :] * row_stride + columns[:, None]
        there = (rows < n_q)[None, :] & (columns < n_k)[:, None]
    else:
        at = start + rows.to(tl.int64)[:, None] * row_stride + columns[None, :]
        there = (rows < n_q)[:, None] & (columns < n_k)[None, :]
    return tl.load(at, mask=there, other=0.0)


@triton.jit
def seen(
    KEEP_AT,
    keep_q,
    keep_k,
    rows,
    columns,
    n_q,
    n_k,
    lower,
    upper,
    KEEP: tl.constexpr,
    LOWER: tl.constexpr,
    UPPER: tl.constexpr,
    TURNED: tl.constexpr,
):
    """Where a query may attend to a key: padding, the end of the sequence, causality and a window, as one tile."""
    row, column = (rows[None, :], columns[:, None]) if TURNED else (rows[:, None], columns[None, :])
    there = (column < n_k) & (row < n_q)
    if LOWER:
        there = there & (column >= row + lower)
    if UPPER:
        there = there & (column <= row + upper)
    if KEEP == KEYS:
        kept = tl.load(KEEP_AT + columns.to(tl.int64) * keep_k, mask=columns < n_k, other=0) != 0
        there = there & (kept[:, None] if TURNED else kept[None, :])
    if KEEP == PAIRS:
        at = KEEP_AT + row.to(tl.int64) * keep_q + column.to(tl.int64) * keep_k
        there = there & (tl.load(at, mask=(column < n_k) & (row < n_q), other=0) != 0)
    return there


@triton.jit
def keys_of(
    first, n_k, lower, upper, LOWER: tl.constexpr, UPPER: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    """Where the keys begin and end that any of BLOCK_M query rows from `first` on may see, in whole tiles of them."""
    begin, end = 0, n_k
    if LOWER:
        begin = tl.maximum(first + lower, 0) // BLOCK_N * BLOCK_N
    if UPPER:
        end = tl.minimum(n_k, first + BLOCK_M + upper)
    return begin, end


@triton.jit
def pattern(seed, rows, columns, n_k, dropout, TURNED: tl.constexpr):
    """1 / (1 - dropout) for a weight that stays and 0 for one that goes: a function of seed and place alone."""
    place = rows[None, :] * n_k + columns[:, None] if TURNED else rows[:, None] * n_k + columns[None, :]
    return tl.where(tl.rand(seed, place) >= dropout, 1.0 / (1.0 - dropout), 0.0)


@triton.jit
def bounded(score, softcap):
    """softcap * tanh(score / softcap)."""
    return softcap * (2.0 * tl.sigmoid(2.0 * score / softcap) - 1.0)


@triton.jit
def mask_values(
    left,
    right,
    BIAS,
    bias_q,
    rows,
    columns,
    n_q,
    n_k,
    MASK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
    TURNED: tl.constexpr,
):
    """The learned mask of a tile, float32: left (BLOCK_M, R) right (BLOCK_N, R)^T + bias, or stored values."""
    if MASK == VALUES:
        values = pair_values(BIAS, bias_q, rows, columns, n_q, n_k, TURNED).to(tl.float32)
    else:
        if TURNED:
            values = tl.dot(right, tl.trans(left), input_precision=PRECISION)
        else:
            values = tl.dot(left, tl.trans(right), input_precision=PRECISION)
        if HAS_BIAS:
            bias = tl.load(BIAS + columns, mask=columns < n_k, other=0.0).to(tl.float32)
            values += bias[:, None] if TURNED else bias[None, :]
    return values


@triton.jit
def fused(score, term, unit, MASK: tl.constexpr, MULTIPLIES: tl.constexpr):
    """The fused score times log2(e). term: of the mask, times `unit` if it multiplies and times log2(e) if it adds."""
    if MASK == NONE:
        return score * unit
    if MULTIPLIES:
        return score * term
    return score * unit + term


@triton.jit
def attended(
    score, term, unit, norm, there, MASK: tl.constexpr, MULTIPLIES: tl.constexpr, HIDES: tl.constexpr
):  # fmt: skip
    """The weights of a tile, from the logarithm of each row's sum (times log2(e), in the tile's form)."""
    weight = tl.exp2(fused(score, term, unit, MASK, MULTIPLIES) - norm)
    return tl.where(there, weight, 0.0) if HIDES else weight


@triton.jit
def through_fusion(
    weight, d_weight, delta, score, term, softcap, MULTIPLIES: tl.constexpr, SOFTCAP: tl.constexpr
):  # fmt: skip
    """From the gradient of the weights to those of the score (times `term` if it multiplies) and of the term."""
    d_fused = weight * (d_weight - delta)
    d_term = d_fused * score if MULTIPLIES else d_fused
    d_score = d_fused * term if MULTIPLIES else d_fused
    if SOFTCAP:
        d_score *= 1.0 - (score / softcap) * (score / softcap)
    return d_score, d_term
