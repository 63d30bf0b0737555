"""Masks of other papers as a Mask for fusion `add`: ALiBi, T5's and Swin's relative position biases; sliding windows.

>>> attention(q, k, v, alibi(heads=8, num_queries=10, num_keys=50), causal=True)  # its own fusion, add
>>> attention(q, k, v, keep=sliding_window(50, 50, before=7))
"""

import math

import torch
from torch import Tensor

from lcaam.factors import Mask
from lcaam.fusion import Fusion


def alibi(
    heads: int,
    num_queries: int,
    num_keys: int,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Mask:
    """ALiBi (Press et al., ICLR 2022): slope_h (j - i) on the score of query i and key j, for causal attention.

    It is a Mask of rank 2, (1, H, N_q, N_k), whose values are exact up to rounding. Queries are aligned at the end, as
    in attention's `causal`: query i stands at position i + N_k - N_q. `causal=True` must be given as well, since
    values for later keys rise. The bias is not scaled, and goes on the score divided by sqrt(d), as published.

    dtype: float32 or float64; in attention of lower precision too, since bfloat16 cannot count to 257.
    Raises ValueError for sizes below 1 or another dtype.
    """
    check_sizes("alibi", heads=heads, num_queries=num_queries, num_keys=num_keys)
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"alibi: dtype must be float32 or float64, which can hold positions, got {dtype}")
    slope = torch.tensor(alibi_slopes(heads), device=device, dtype=dtype)[None, :, None]  # (1, H, 1)
    queries, keys = positions(num_queries, num_keys, device, dtype)
    left = torch.stack([-queries, torch.ones_like(queries)], -1)[None, None]  # (1, 1, N_q, 2)
    right = torch.stack([slope.expand(1, heads, num_keys), slope * keys], -1)  # (1, H, N_k, 2)
    return Mask(left, right, fusion=Fusion.add)


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), ... for n heads, if n is a power of two; else the slopes of the next lower power n, and
    every second of those of 2 n, as in the authors' code."""
    power = 2 ** (heads.bit_length() - 1)
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    if power == heads:
        return slopes
    return slopes + alibi_slopes(2 * power)[::2][: heads - power]


def t5_buckets(
    table: Tensor, num_queries: int, num_keys: int, bidirectional: bool = True, max_distance: int = 128
) -> Mask:
    """T5's relative position bias (Raffel et al., 2020): one learned number per head and bucket of distances.

    table: (buckets, H), learned. Half of the buckets hold one distance each, the others grow logarithmically up to
    `max_distance`, beyond which there is one. bidirectional: half of the buckets for keys behind the query (T5's
    encoder); False puts those into the bucket of distance 0 (its decoder, with attention's `causal`).

    Returns a dense Mask (1, H, N_q, N_k) with gradients for the table. Queries are aligned at the end. T5 does not
    divide scores by sqrt(d): give attention scale=1.0 for the same function. Raises ValueError for a table of another
    shape, too few buckets, or a max_distance that the exact buckets reach already.
    """
    check_sizes("t5_buckets", num_queries=num_queries, num_keys=num_keys)
    check_table("t5_buckets", table, "(buckets, H)")
    buckets = len(table)
    each = buckets // 2 if bidirectional else buckets
    exact = each // 2
    if exact < 1 or (bidirectional and buckets % 2):
        least = "an even number of at least 4" if bidirectional else "at least 2"
        raise ValueError(f"t5_buckets: bidirectional={bidirectional} needs {least} buckets, the table has {buckets}")
    if max_distance <= exact:
        raise ValueError(f"t5_buckets: max_distance must be above {exact}, the exact buckets, got {max_distance}")
    queries, keys = positions(num_queries, num_keys, table.device, torch.long)
    ahead = keys[None, :] - queries[:, None]  # (N_q, N_k), above 0 for keys behind the query
    distance = ahead.abs() if bidirectional else (-ahead).clamp(min=0)
    # float32, as T5 rounds; log of 0 is not used
    share = (distance.float().clamp(min=1) / exact).log() / math.log(max_distance / exact)
    far = (exact + (share * (each - exact)).long()).clamp(max=each - 1)
    bucket = torch.where(distance < exact, distance, far)
    if bidirectional:
        bucket = bucket + each * (ahead > 0)
    return Mask.from_dense(table[bucket].permute(2, 0, 1)[None], fusion=Fusion.add)


def swin_bias(table: Tensor, window: int | tuple[int, int]) -> Mask:
    """Swin's relative position bias (Liu et al., ICCV 2021): one learned number per head and 2-D offset in a window.

    table: ((2 h - 1) (2 w - 1), H), learned, as timm, torchvision and Swin's checkpoints have it. window: (h, w), or
    one number for both. Returns a dense Mask (1, H, h w, h w) with gradients for the table, for attention whose batch
    is the windows. Raises ValueError for a table that does not fit the window.
    """
    height, width = (window, window) if isinstance(window, int) else window
    check_sizes("swin_bias", height=height, width=width)
    check_table("swin_bias", table, "((2 h - 1) (2 w - 1), H)")
    rows = (2 * height - 1) * (2 * width - 1)
    if len(table) != rows:
        raise ValueError(f"swin_bias: a window of {height} x {width} needs a table of {rows} rows, got {len(table)}")
    place = torch.arange(height * width, device=table.device)
    y, x = place // width, place % width
    down, right = y[:, None] - y[None, :] + height - 1, x[:, None] - x[None, :] + width - 1  # (h w, h w), from 0
    return Mask.from_dense(table[down * (2 * width - 1) + right].permute(2, 0, 1)[None], fusion=Fusion.add)


def sliding_window(
    num_queries: int, num_keys: int, before: int, after: int = 0, device: torch.device | str | None = None
) -> Tensor:
    """The bool `keep` of a sliding window, (1, 1, N_q, N_k): query i sees keys from i - before to i + after.

    attention's `window` is the same, and backends that can leave out the keys outside.

    It is structural, and no Mask: a soft mask cannot close a pair for certain under every fusion (a product with 0 is
    a score of 0), and backends have to know pairs that do not exist. Queries are aligned at the end. It has four
    dimensions, so that nobody can read it as padding (B, N_k). Raises ValueError for sizes below 1 or a negative reach.
    """
    check_sizes("sliding_window", num_queries=num_queries, num_keys=num_keys)
    if before < 0 or after < 0:
        raise ValueError(f"sliding_window: before and after are at least 0, got {before} and {after}")
    queries, keys = positions(num_queries, num_keys, device, torch.long)
    ahead = keys[None, :] - queries[:, None]
    return ((ahead >= -before) & (ahead <= after))[None, None]


def positions(
    num_queries: int, num_keys: int, device: torch.device | str | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Positions (N_q,) and (N_k,), counted back from the last query and the last key, which stand at 0."""
    queries, keys = (torch.arange(1 - count, 1, device=device, dtype=dtype) for count in (num_queries, num_keys))
    return queries, keys


def check_sizes(name: str, **sizes: int) -> None:
    for what, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: {what} must be at least 1, got {size}")


def check_table(name: str, table: Tensor, shape: str) -> None:
    if table.dim() != 2 or not table.is_floating_point():
        raise ValueError(f"{name}: table must be {shape} of floating point, got {tuple(table.shape)} {table.dtype}")
