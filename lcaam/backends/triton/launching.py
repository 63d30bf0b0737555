"""From tensors to kernels: sizes, strides and constants by the names that the kernels give them."""

import functools
import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor

from lcaam.backends.triton.columns import columns_gradient
from lcaam.backends.triton.delta import row_deltas
from lcaam.backends.triton.forward import forward
from lcaam.backends.triton.rows import rows_gradient
from lcaam.backends.triton.settings import INTERPRETED, NARROWEST, Choice, Tile, choice
from lcaam.backends.triton.terms import device_functions
from lcaam.backends.triton.tiles import ALL_KEYS, BY_KEY, BY_PAIR, DENSE, FACTORS, NO_MASK
from lcaam.backends.triton.values import values_gradient
from lcaam.fusion import Fusion

KERNELS: dict[str, Any] = {
    "forward": forward,
    "delta": row_deltas,
    "rows": rows_gradient,
    "columns": columns_gradient,
    "atomic": columns_gradient,
    "values": values_gradient,
}
WIDE = 64
PRECISIONS = {"highest": "ieee", "high": "tf32x3", "medium": "tf32"}  # torch.get_float32_matmul_precision
TUNED_APART = ("D", "DV", "R", "MASK", "MULTIPLIES", "LOWER", "UPPER", "KEEP", "DROPOUT")  # kinds of call


def padded(width: int) -> int:
    """A width that a tensor core takes: a power of two, at least 16."""
    return max(NARROWEST, triton.next_power_of_2(width))


def side_by_side(tensor: Tensor) -> Tensor:
    """The tensor with the numbers of a row next to each other, as the kernels read them."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def strides(name: str, tensor: Tensor | None, letters: str) -> dict[str, int]:
    """{"q_b": stride of the samples, ...}: 0 for a dimension of size 1, which is repeated."""
    if tensor is None:
        return {f"{name}_{letter}": 0 for letter in letters}
    found = zip(letters, tensor.shape, tensor.stride(), strict=False)
    return {f"{name}_{letter}": stride if size > 1 else 0 for letter, size, stride in found}


def hides(arguments: dict[str, Any]) -> bool:
    """Whether a tile can hold places that no query may see."""
    ragged = arguments["n_q"] % arguments["BLOCK_M"] or arguments["n_k"] % arguments["BLOCK_N"]
    return bool(arguments["KEEP"] != ALL_KEYS or arguments["LOWER"] or arguments["UPPER"] or ragged)


@functools.cache
def prepared(name: str, tiles: tuple[Tile, ...], size: int) -> Any:
    """The kernel with its tile: the first, or the fastest of several, timed once for each kind of call and size."""
    names = KERNELS[name].arg_names
    kernel = triton.heuristics({"HIDES": hides})(KERNELS[name]) if "HIDES" in names else KERNELS[name]
    if INTERPRETED or len(tiles) == 1 or os.environ.get("LCAAM_AUTOTUNE") == "0":
        return Fixed(kernel, blocks(names, tiles[0]), tiles[0])
    configs = [triton.Config(blocks(names, tile), num_warps=tile.warps, num_stages=tile.stages) for tile in tiles]
    adds = ["D_Q", "D_LEFT"] if name == "atomic" else []
    kinds = [word for word in TUNED_APART if word in names]
    return triton.autotune(configs, kinds, reset_to_zero=adds, cache_results=True)(kernel)


def blocks(names: list[str], tile: Tile) -> dict[str, int]:
    """A tile's constants of a kernel with these arguments."""
    return {key: value for key, value in (("BLOCK_M", tile.rows), ("BLOCK_N", tile.columns)) if key in names}


class Fixed:
    """A kernel whose tile is given: launched like one that is tuned, without timing (which needs a device)."""

    def __init__(self, kernel: Any, sizes: dict[str, int], tile: Tile):
        self.kernel = kernel
        self.options = sizes if INTERPRETED else {**sizes, "num_warps": tile.warps, "num_stages": tile.stages}

    def __getitem__(self, grid: Callable) -> Callable:
        return functools.partial(self.kernel[grid], **self.options)


class Call:
    """One attention: what its kernels have in common, and how they are launched.

    tensors: query (B, H, N_q, d), key (B, H_k, N_k, d), value (B, H_k, N_k, d_v), H a multiple of H_k, and left, right
    and bias of a mask: its factors, of a rank up to 256; or bias alone, the values, (B or 1, 1 or H, N_q, N_k); or
    nothing. keep: bool, broadcasts to (B, H, N_q, N_k). lower, upper: diagonals; query i sees keys i + lower <= j <=
    i + upper, None sees all on that side. seed: of the dropout pattern.
    """

    def __init__(
        self,
        tensors: tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None],
        keep: Tensor | None,
        fusion: Fusion,
        scale: float,
        lower: int | None,
        upper: int | None,
        dropout: float,
        softcap: float | None,
        seed: int,
    ):
        query, key, value, left, right, bias = tensors
        self.architecture = architecture_of(query.device)
        self.query, self.key, self.value = (side_by_side(t) for t in (query, key, value))
        self.batch, self.heads, self.n_q, d = query.shape
        self.n_k, dv = value.shape[2:]
        self.repeat = self.heads // key.shape[1]  # heads of the query per head of the key
        self.left, self.right, self.bias = (None if t is None else side_by_side(t) for t in (left, right, bias))
        kept = None if keep is None else keep.view(torch.uint8)
        mask = FACTORS if left is not None else NO_MASK if bias is None else DENSE
        given = [t for t in (left, right, bias) if t is not None]
        self.one_mask = all(t.shape[1] == 1 for t in given) and (kept is None or kept.shape[1] == 1) and mask != NO_MASK
        rank = left.shape[-1] if left is not None else 1
        term, slope = device_functions(fusion)
        by = ALL_KEYS if kept is None else BY_KEY if kept.shape[2] == 1 else BY_PAIR
        like = self.query
        self.arguments: dict[str, Any] = {
            "Q": self.query, "K": self.key, "V": self.value,
            "LEFT": like if left is None else self.left, "RIGHT": like if right is None else self.right,
            "BIAS": like if bias is None else self.bias, "KEEP_AT": like if kept is None else kept,
            **strides("q", self.query, "bhn"), **strides("k", self.key, "bhn"), **strides("v", self.value, "bhn"),
            **strides("left", self.left, "bhn"), **strides("right", self.right, "bhn"),
            **strides("bias", self.bias, "bhq"), **strides("keep", kept, "bhqk"),
            "batch": self.batch, "heads": self.heads, "n_q": self.n_q, "n_k": self.n_k,
            "scale": float(scale), "softcap": float(softcap or 1.0), "dropout": float(dropout), "seed": seed,
            "TERM": term, "SLOPE": slope, "MULTIPLIES": fusion.multiplies and mask != NO_MASK, "MASK": mask,
            "HAS_BIAS": left is not None and bias is not None, "KEEP": by,
            "lower": lower or 0, "upper": upper or 0, "LOWER": lower is not None, "UPPER": upper is not None,
            "SOFTCAP": softcap is not None, "DROPOUT": dropout > 0.0,
            "PRECISION": PRECISIONS[torch.get_float32_matmul_precision()],
            "D": d, "DV": dv, "R": rank, "BLOCK_D": padded(d), "BLOCK_DV": padded(dv), "BLOCK_R": padded(rank),
            "REPEAT": self.repeat,
        }  # fmt: skip

    def choice(self, name: str) -> Choice:
        """The tiles of a kernel, and how many heads its programs take."""
        widths = [self.arguments["BLOCK_D"], self.arguments["BLOCK_DV"]]
        size = max([*widths, self.arguments["BLOCK_R"]]) * self.query.element_size() // 2
        return choice(name, self.architecture, size, self.heads, self.one_mask)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Output (B, H, N_q, d_v) and log-sum-exp (B, H, N_q), float32."""
        out = self.query.new_empty(*self.query.shape[:3], self.value.shape[-1])
        lse = self.query.new_empty(self.query.shape[:3], dtype=torch.float32)
        self.launch("forward", self.n_q, OUT=out, LSE=lse, **strides("out", out, "bhn"))
        return out, lse

    def gradients(
        self, out: Tensor, lse: Tensor, grad: Tensor, grad_lse: Tensor | None, learns: bool, atomic: bool
    ) -> list[Tensor | None]:
        """Gradients of query, key, value, left, right and bias; None for what is None, and for a mask if not learns.

        atomic: those of rows in the kernel of the columns, whose sums depend on the order.
        """
        grad, delta = side_by_side(grad), torch.empty_like(lse)
        of_lse = {"GRAD_LSE": lse if grad_lse is None else grad_lse.contiguous(), "HAS_LSE": grad_lse is not None}
        places = {**strides("out", out, "bhn"), **strides("grad", grad, "bhn")}
        self.launch("delta", self.n_q, OUT=out, GRAD=grad, DELTA=delta, **of_lse, **places)

        given = {"GRAD": grad, "LSE": lse, "DELTA": delta, **strides("grad", grad, "bhn")}
        factored, rank = learns and self.left is not None, self.arguments["R"]
        name = "atomic" if atomic else "columns"
        if atomic:
            groups = 1 if self.one_mask else self.heads
            d_query = torch.zeros(self.query.shape, dtype=torch.float32, device=self.query.device)
            d_left = d_query.new_zeros(self.batch, groups, self.n_q, rank) if factored else d_query
        else:
            d_query = torch.empty(self.query.shape, dtype=self.query.dtype, device=self.query.device)
            d_left = self.partial("rows", factored, self.n_q, rank)
            self.launch("rows", self.n_q, LEARNS=factored, D_Q=d_query, D_LEFT=d_left, **given)
        d_key, d_value = (self.by_head(t) for t in (self.key, self.value))
        d_right = self.partial(name, factored, self.n_k, rank)
        d_bias = self.partial(name, factored and self.bias is not None, 1, self.n_k)
        written = {"D_K": d_key, "D_V": d_value, "D_RIGHT": d_right, "D_BIAS": d_bias, "D_Q": d_query, "D_LEFT": d_left}
        places = strides("d_left", d_left, "bh")
        self.launch(name, self.n_k, LEARNS=factored, ATOMIC=atomic, **places, **written, **given)
        if learns and self.left is None and self.bias is not None:
            d_bias = self.query.new_empty(self.bias.shape, dtype=torch.float32)
            matrices = {"OF_SAMPLE": d_bias.shape[0] > 1, "OF_HEAD": d_bias.shape[1] > 1}
            self.launch("values", self.n_q, D_VALUES=d_bias, **matrices, **given)
        mask = zip((d_left, d_right, d_bias), (self.left, self.right, self.bias), strict=True)
        sums = (None if t is None or not learns else d.sum_to_size(t.shape).to(t.dtype) for d, t in mask)
        return [d_query, self.over_heads(d_key), self.over_heads(d_value), *sums]

    def by_head(self, tensor: Tensor) -> Tensor:
        """Room for the gradient of keys or values, with a part for each head of the query that one serves."""
        shape = (self.batch, self.heads, *tensor.shape[2:])
        return self.query.new_empty(shape, dtype=tensor.dtype if self.repeat == 1 else torch.float32)

    def over_heads(self, grad: Tensor) -> Tensor:
        """The sum of those parts, in order."""
        return grad if self.repeat == 1 else grad.unflatten(1, (-1, self.repeat)).sum(2)

    def partial(self, name: str, wanted: bool, rows: int, width: int) -> Tensor:
        """What each program of a kernel, for its heads, adds to a part of the mask; they are summed in order."""
        if not wanted:
            return self.query  # no kernel writes to it
        strands = self.heads // self.choice(name).share
        return self.query.new_empty(self.batch, strands, rows, width, dtype=torch.float32)

    def launch(self, name: str, length: int, **more: Any) -> None:
        """A program for each block of `length` rows or columns, of each sample and each share of the heads; of `values`
        for each tile of the mask."""
        choice = self.choice(name)
        strands = self.batch * self.heads // choice.share
        if name == "values":
            strands = more["D_VALUES"].shape[0] * more["D_VALUES"].shape[1]

        def grid(sizes: dict[str, int]) -> tuple[int]:
            block = sizes["BLOCK_N" if name in ("columns", "atomic") else "BLOCK_M"]
            across = triton.cdiv(self.n_k, sizes["BLOCK_N"]) if name == "values" else 1
            return (strands * triton.cdiv(length, block) * across,)

        arguments = self.arguments | more | {"SHARE": choice.share}
        if name == "atomic":  # narrower products beside its wide ones make the compiler spill
            arguments["BLOCK_R"] = max(arguments["BLOCK_R"], WIDE)
        self.run(name, choice, grid, {key: arguments[key] for key in KERNELS[name].arg_names if key in arguments})

    def run(self, name: str, choice: Choice, grid: Callable, arguments: dict[str, Any]) -> None:
        """Launches a kernel."""
        size = (max(self.n_q, self.n_k) - 1).bit_length() // 2  # lengths that differ by less than four times are alike
        with torch.cuda.device(self.query.device) if self.query.is_cuda else nullcontext():
            prepared(name, choice.tiles, size)[grid](**arguments)


def architecture_of(device: torch.device) -> int:
    """90 for sm_90; 0 for a device without one."""
    if device.type != "cuda":
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
