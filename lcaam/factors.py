"""Mask: the value that mask modules return, kept as low-rank factors M = left right^T + bias.

The paper's last linear layer already has this form (H W^T + b), so nobody has to hold N_q x N_k numbers unless
a backend decides that it is cheaper, or somebody wants to look:

    >>> m = Mask(left, right, bias)
    >>> m.dense()  # (B, G, N_q, N_k)
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """A soft attention mask.

    left:   (B or 1, G or 1, N_q, R)
    right:  (B or 1, G, N_k, R)
    bias:   (B or 1, G, 1, N_k) or None; of a mask without factors (`from_dense`) the mask itself, (B or 1, G, N_q, N_k)
    whole:  it was stretched to exactly this sequence, so it must not be cut, nor used for a part of a growing one

    G is 1 (one mask for all heads, the paper) or the number of heads. Values are any finite real numbers; what
    they do to a score is the fusion's affair. What must never be attended to belongs in `keep`, not here.
    """

    left: Tensor | None
    right: Tensor | None
    bias: Tensor | None = None
    whole: bool = False

    def __post_init__(self):
        if (self.left is None) != (self.right is None):
            raise ValueError("a Mask has both factors or none: left and right go together")
        if self.left is None and self.bias is None:
            raise ValueError("a Mask without factors needs its values: use Mask.from_dense(values)")
        for name in ("left", "right", "bias"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.dim() != 4:
                raise ValueError(f"Mask.{name} must have 4 dimensions, has shape {tuple(tensor.shape)}")
        if self.left is not None and self.left.shape[-1] != self.right.shape[-1]:
            raise ValueError(
                f"Mask factors disagree on the rank: left {tuple(self.left.shape)}, right {tuple(self.right.shape)}"
            )
        if self.left is not None and self.left.shape[1] not in (1, self.groups):
            raise ValueError(f"Mask.left has {self.left.shape[1]} groups, right {self.groups}: left has 1 or as many")
        if self.left is not None and self.bias is not None:
            _, groups, rows, columns = self.bias.shape
            if groups not in (1, self.groups) or rows != 1 or columns != self.num_keys:
                raise ValueError(
                    f"Mask.bias must be (B or 1, G or 1, 1, N_k) with G = {self.groups} and N_k = {self.num_keys}, has "
                    f"shape {tuple(self.bias.shape)}"
                )

    @classmethod
    def from_dense(cls, values: Tensor) -> "Mask":
        """A mask that has no factors. values: (B or 1, G, N_q, N_k)."""
        return cls(None, None, values)

    @property
    def factored(self) -> bool:
        return self.left is not None

    @property
    def values(self) -> Tensor:
        """The mask itself where it has no factors, (B or 1, G, N_q, N_k)."""
        return cast(Tensor, self.bias)

    @property
    def num_queries(self) -> int:
        return (self.values if self.left is None else self.left).shape[-2]

    @property
    def num_keys(self) -> int:
        return self.values.shape[-1] if self.right is None else self.right.shape[-2]

    @property
    def groups(self) -> int:
        return (self.values if self.right is None else self.right).shape[1]

    def dense(self) -> Tensor:
        """The mask multiplied out: (B or 1, G, N_q, N_k)."""
        if self.left is None or self.right is None:
            return self.values
        product = self.left @ self.right.transpose(-2, -1)  # (B, G, N_q, N_k)
        return product if self.bias is None else product + self.bias

    def first_keys(self, count: int) -> "Mask":
        """The mask of the first `count` keys: what zero-padding the keys and masking the padding would use."""
        if count == self.num_keys:
            return self
        bias = None if self.bias is None else self.bias[..., :count]
        right = None if self.right is None else self.right[..., :count, :]
        return Mask(self.left, right, bias)

    def of_batch(self, size: int) -> "Mask":
        """The mask of a batch that repeats this one's samples, in order, until there are `size` of them."""

        def repeated(tensor: Tensor | None) -> Tensor | None:
            if tensor is None or tensor.shape[0] in (1, size):
                return tensor
            return tensor.repeat(size // tensor.shape[0], 1, 1, 1)

        return Mask(repeated(self.left), repeated(self.right), repeated(self.bias), self.whole)
