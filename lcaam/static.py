"""StaticMask: SwinBERT's learned mask, the same for every input; what context-aware masks are compared with.

>>> mask_net = StaticMask(834, 834, rows=(0, 784), columns=(0, 784))  # video attends to video; text is left alone
>>> loss = loss + 0.5 * mask_net.sparsity_loss()
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.memory import Memory
from lcaam.module import MaskModule

CLOSED = -1e4  # SwinBERT's bias of a weight of 0
OPEN = 40.0  # log sigmoid of it is 0 in float32: nothing is held back


class StaticMask(MaskModule):
    """A learned table t of one region of the score matrix, read as weights sigmoid(t) in (0, 1).

    num_queries, num_keys: size of the score matrix; shorter sequences keep its upper left part.
    rows, columns: (start, stop) of the region; None is all. In a square region every token has weight 1 on itself.
    fusion: "add" - as published: the bias (1 - sigmoid(t)) * -1e4. At initialisation it is closed everywhere, and next
            to no entry gets a gradient. "gate" - the same weights through log sigmoid(t) (not in the paper): every
            entry learns.
    hard:   as published, optional: weights are 0 or 1, by the threshold 0.5; they get no gradient then.

    The table starts as N(0, 1), as published. Raises ValueError for another fusion or a region outside the matrix.
    """

    fusions: ClassVar[Mapping[str, str]] = {"add": "published", "gate": "every entry learns"}
    grows = False

    def __init__(
        self,
        num_queries: int,
        num_keys: int,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
        fusion: str | Fusion = "add",
        hard: bool = False,
    ):
        super().__init__()
        fusion = Fusion.parse(fusion)
        if fusion.name not in self.fusions:
            allowed = ", ".join(f"{name} ({remark})" for name, remark in self.fusions.items())
            raise ValueError(f"StaticMask: fusion {fusion.name!r} has no static form; allowed: {allowed}")
        self.rows, self.columns = tuple(rows or (0, num_queries)), tuple(columns or (0, num_keys))
        for name, (start, stop), size in (("rows", self.rows, num_queries), ("columns", self.columns, num_keys)):
            if not 0 <= start < stop <= size:
                raise ValueError(f"StaticMask: {name} {(start, stop)} are not a region of a matrix with {size} {name}")
        self.num_queries, self.num_keys, self.fusion, self.hard = num_queries, num_keys, fusion, hard
        height, width = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        self.table = nn.Parameter(torch.empty(height, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table again."""
        nn.init.normal_(self.table)

    @property
    def own(self) -> Tensor | None:
        """(rows, columns) bool, True where a token meets itself; None if the region is not square."""
        height, width = self.table.shape
        return torch.eye(height, dtype=torch.bool, device=self.table.device) if height == width else None

    def logits(self) -> Tensor:
        """The table with what `hard` and the fixed diagonal make of it."""
        logits: Tensor = self.table
        if self.hard:
            logits = torch.where(logits >= 0, OPEN, -OPEN).to(logits.dtype)
        return logits if self.own is None else logits.masked_fill(self.own, OPEN)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Mask:
        """x (B, N_q, D), keys (B, N_k, D) or None for all -> the dense Mask (1, 1, N_q, N_k). Only the counts matter.

        Raises ValueError for a sequence that ends inside a region behind which there are other tokens.
        """
        num_queries, num_keys = x.shape[1], self.num_keys if keys is None else keys.shape[1]
        below, behind = num_queries - self.rows[1], num_keys - self.columns[1]
        # a region that ends with the matrix is cut with it; one that other tokens follow would lose its meaning
        if (below < 0 and self.rows[1] < self.num_queries) or (behind < 0 and self.columns[1] < self.num_keys):
            raise ValueError(
                f"StaticMask: the region rows {self.rows}, columns {self.columns} does not fit {num_queries} queries "
                f"and {num_keys} keys"
            )
        if self.fusion is Fusion.add:
            values, outside = (1 - self.logits().sigmoid()) * CLOSED, 0.0
        else:
            values, outside = self.logits(), OPEN
        values = F.pad(values, (self.columns[0], behind, self.rows[0], below), value=outside)
        return Mask.from_dense(values[None, None], self.fusion)

    def sparsity_loss(self) -> Tensor:
        """Mean weight of the region with its fixed diagonal counted as 0 (SwinBERT's regulariser, weight 0.5)."""
        weights = self.table.sigmoid()
        return (weights if self.own is None else weights.masked_fill(self.own, 0.0)).mean()

    def grow(self, x: Tensor, memory: Memory, name: Any) -> Mask | None:
        """As in MaskModule. ValueError if the region is not filled in the first step."""
        if not memory.kept:
            return self(x, keys=x)
        if memory.kept < max(self.rows[1], self.columns[1]):
            raise ValueError(
                f"StaticMask: the region rows {self.rows}, columns {self.columns} must be filled in the first step of "
                f"decoding, which had {memory.kept} tokens"
            )
        return None
