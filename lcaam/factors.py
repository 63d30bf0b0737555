"""Mask: the value that mask modules return, kept as low-rank factors M = left right^T + bias.

The paper's last linear layer already has this form (H W^T + b), so nobody has to hold N_q x N_k numbers unless
a backend decides that it is cheaper, or somebody wants to look:

    >>> m = Mask(left, right, bias)
    >>> m.dense()  # (B, G, N_q, N_k)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lcaam.fusion import Fusion
from lcaam.reentrant import arguments_outside


@dataclass(frozen=True, eq=False)
class Mask:
    """A soft attention mask.

    left:   (B or 1, G or 1, N_q, R)
    right:  (B or 1, G, N_k, R)
    bias:   (B or 1, G or 1, 1, N_k) or None; of a dense mask, which has rank R = 0, the values (B or 1, G, N_q, N_k)
    whole:  it was stretched to exactly this sequence, so it must not be cut, nor used for a part of a growing one
    fusion: the fusion that the mask was made for, by which attention uses it; None if it does not say

    G is 1 (one mask for all heads, the paper) or the number of heads. Values are any finite real numbers; what they do
    to a score is defined by the fusion. What must never be attended to belongs in `keep`, not here.

    A Mask is a pytree node whose leaves are its tensors, so torch.export and torch.func look inside, and torch.load
    opens it with weights_only=True.
    """

    left: Tensor
    right: Tensor
    bias: Tensor | None = None
    whole: bool = False
    fusion: Fusion | None = None
    lost: ClassVar[bool] = False  # True for a mask whose network gets no gradient, see lcaam/reentrant.py

    def __post_init__(self):
        if self.fusion is not None and not isinstance(self.fusion, Fusion):
            object.__setattr__(self, "fusion", Fusion.parse(self.fusion))
        if not torch.compiler.is_compiling() and arguments_outside() is not None:
            object.__setattr__(self, "lost", True)
        for name in ("left", "right", "bias"):
            tensor = getattr(self, name)
            if tensor is None and name != "bias":
                raise ValueError(f"Mask.{name} is None: a Mask has both factors or none, Mask.from_dense(values)")
            if tensor is not None and tensor.dim() != 4:
                raise ValueError(f"Mask.{name} must have 4 dimensions, has shape {tuple(tensor.shape)}")
        if self.left.shape[-1] != self.right.shape[-1]:
            raise ValueError(
                f"Mask factors disagree on the rank: left {tuple(self.left.shape)}, right {tuple(self.right.shape)}"
            )
        if self.left.shape[1] not in (1, self.groups):
            raise ValueError(f"Mask.left has {self.left.shape[1]} groups, right {self.groups}: left has 1 or as many")
        if self.factored and self.bias is not None:
            _, groups, rows, columns = self.bias.shape
            if groups not in (1, self.groups) or rows != 1 or columns != self.num_keys:
                raise ValueError(
                    f"Mask.bias must be (B or 1, G or 1, 1, N_k) with G = {self.groups} and N_k = {self.num_keys}, has "
                    f"shape {tuple(self.bias.shape)}"
                )
        shape = (self.groups, self.num_queries, self.num_keys)
        if not self.factored and (self.bias is None or self.bias.shape[1:] != shape):
            given = None if self.bias is None else tuple(self.bias.shape)
            raise ValueError(
                "Mask.bias of a mask of rank 0 must be its values, (B or 1, G, N_q, N_k) with (G, N_q, N_k) = "
                f"{shape}, is {given}"
            )

    @classmethod
    def from_dense(cls, values: Tensor, fusion: str | Fusion | None = None) -> "Mask":
        """A mask that has no factors: rank 0. values: (B or 1, G, N_q, N_k); fusion: the one it was made for."""
        if values.dim() != 4:
            raise ValueError(f"Mask.from_dense: values must have 4 dimensions, have shape {tuple(values.shape)}")
        batch, groups, queries, keys = values.shape
        made_for = None if fusion is None else Fusion.parse(fusion)
        left, right = values.new_empty(batch, 1, queries, 0), values.new_empty(1, groups, keys, 0)
        return cls(left, right, values, fusion=made_for)

    @property
    def rank(self) -> int:
        """R, the width of the factors; 0 for a dense mask."""
        return self.right.shape[-1]

    @property
    def factored(self) -> bool:
        """True if the mask has factors; False for a dense one."""
        return self.rank > 0

    @property
    def values(self) -> Tensor:
        """The values of a dense mask, (B or 1, G, N_q, N_k). ValueError for one that has to be multiplied out."""
        if self.factored or self.bias is None:
            raise ValueError(f"Mask.values: this mask has factors of rank {self.rank}, multiply them out with dense()")
        return self.bias

    @property
    def num_queries(self) -> int:
        return self.left.shape[-2]

    @property
    def num_keys(self) -> int:
        return self.right.shape[-2]

    @property
    def groups(self) -> int:
        return self.right.shape[1]

    @property
    def shape(self) -> torch.Size:
        """(B or 1, G, N_q, N_k), the shape of `dense()`."""
        batch = max(t.shape[0] for t in self.tensors())
        return torch.Size((batch, self.groups, self.num_queries, self.num_keys))

    @property
    def dtype(self) -> torch.dtype:
        return self.left.dtype

    @property
    def device(self) -> torch.device:
        return self.left.device

    def tensors(self) -> list[Tensor]:
        """Its two or three tensors."""
        return [self.left, self.right] if self.bias is None else [self.left, self.right, self.bias]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Mask":
        """The mask of `function` of each of its tensors."""
        bias = None if self.bias is None else function(self.bias)
        return Mask(function(self.left), function(self.right), bias, self.whole, self.fusion)

    def to(self, *where: Any, **options: Any) -> "Mask":
        """The mask on another device or in another dtype; arguments as in torch.Tensor.to."""
        return self.map(lambda tensor: tensor.to(*where, **options))

    def detach(self) -> "Mask":
        """The same values without their gradients."""
        return self.map(lambda tensor: tensor.detach())

    def dense(self) -> Tensor:
        """The mask multiplied out: (B or 1, G, N_q, N_k)."""
        if not self.factored:
            return self.values
        product = self.left @ self.right.transpose(-2, -1)  # (B, G, N_q, N_k)
        return product if self.bias is None else product + self.bias

    def fit(self, num_keys: int) -> "Mask":
        """The mask for a sequence of `num_keys` keys: its first columns; ValueError if it has too few of them.

        A mask that was made for one whole sequence (dense, or interpolated) must fit exactly.
        """
        if self.whole or not self.factored:
            if self.num_keys == num_keys:
                return self
            kind = "an interpolated" if self.factored else "a dense"
            raise ValueError(f"{kind} mask of {self.num_keys} key columns does not fit a sequence of {num_keys} keys")
        if self.num_keys < num_keys:
            raise ValueError(
                f"the mask has {self.num_keys} key columns and the sequence {num_keys} keys. A mask of length='fixed' "
                f"serves at most num_keys={self.num_keys} keys: build it with num_keys={num_keys} or more, or use one "
                "that takes any length (length='interpolate' or length='content')"
            )
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and self.num_keys == num_keys:
            return self  # in a graph, this branch would fix the length that it was made with
        return self.first_keys(num_keys)

    def first_keys(self, count: int) -> "Mask":
        """The mask of the first `count` keys: what zero-padding the keys and masking the padding would use."""
        bias = None if self.bias is None else self.bias[..., :count]
        return Mask(self.left, self.right[..., :count, :], bias, fusion=self.fusion)

    def of_batch(self, size: int) -> "Mask":
        """The mask of a batch that repeats this one's samples, in order, until there are `size` of them."""

        def repeated(tensor: Tensor) -> Tensor:
            return tensor if tensor.shape[0] in (1, size) else tensor.repeat(size // tensor.shape[0], 1, 1, 1)

        return self.map(repeated)

    def __reduce__(self):
        return Mask, (self.left, self.right, self.bias, self.whole, None if self.fusion is None else self.fusion.name)


def flattened(mask: Mask) -> tuple[list[Tensor], tuple]:
    return mask.tensors(), (mask.bias is not None, mask.whole, None if mask.fusion is None else mask.fusion.name)


def flattened_with_names(mask: Mask) -> tuple[list, tuple]:
    tensors, context = flattened(mask)
    return [(pytree.GetAttrKey(name), t) for name, t in zip(("left", "right", "bias"), tensors, strict=False)], context


def unflattened(leaves: Any, context: Any) -> Mask:
    """Without the checks of a new mask: the leaves of a tree may be anything."""
    left, right, *bias = leaves
    _, whole, fusion = context
    mask = object.__new__(Mask)
    fields = dict(left=left, right=right, bias=bias[0] if bias else None, whole=whole)
    for name, value in (fields | {"fusion": None if fusion is None else Fusion.parse(fusion)}).items():
        object.__setattr__(mask, name, value)
    return mask


pytree.register_pytree_node(
    Mask,
    flattened,
    unflattened,
    serialized_type_name="lcaam.Mask",
    to_dumpable_context=list,
    from_dumpable_context=tuple,
    flatten_with_keys_fn=flattened_with_names,
)
torch.serialization.add_safe_globals([Mask])
