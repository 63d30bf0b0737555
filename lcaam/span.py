"""SpanMask: the adaptive attention span of Sukhbaatar et al. (ACL 2019), how far each layer or head looks.

    a[i, j] = w[i, j] exp(s[i, j]) / sum_k w[i, k] exp(s[i, k]),   w[i, j] = clamp((z + R - |i - j|) / R, 0, 1)

>>> masks = LayerMasks("per_layer", num_layers=8, kind="span", num_keys=50, groups=12, ramp=8)
>>> loss = loss + 2e-6 * masks.sparsity_loss()  # the published loss asks for short spans
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.learned import LearnedMask
from lcaam.static import CLOSED


class SpanMask(LearnedMask):
    """A soft window of learned width z around each query: log w is added to the score, so that w multiplies the weight.

    num_keys, num_queries: the longest span is the larger one - 1. num_queries is None if queries and keys are the same
                 tokens.
    groups:      1, or the number of heads for a span of each head, as published.
    ramp:        R, the number of tokens over which the window fades out.
    start:       the span at the start, a share of the longest in [0, 1]. 1 is plain attention. (Their code starts
                 at 0; the paper does not say.)
    fusion:      add; any other would be another function.

    The module learns a share of the longest span, as their code does, so that a learning rate means the same at every
    length. They clamp it to [0, 1] after each step; here it is clamped in use, and gradients pass. Their windows look
    back only, under a causal mask; without one this window has two sides.

    Raises ValueError for a setting out of range.
    """

    fusions: ClassVar[Mapping[str, str]] = {"add": "the logarithm of the published factor"}

    def __init__(
        self,
        num_keys: int,
        num_queries: int | None = None,
        groups: int = 1,
        ramp: int = 32,
        start: float = 1.0,
        fusion: str | Fusion = "add",
    ):
        self.check({"ramp": ramp, "start": start})
        num_queries = num_keys if num_queries is None else num_queries
        self.ramp, self.longest = ramp, max(num_queries, num_keys, 2) - 1
        super().__init__(groups, fusion, (), (num_queries, num_keys), start)

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        ramp, start = settings.get("ramp", 1), settings.get("start", 1.0)
        if ramp < 1:
            raise ValueError(f"ramp: {ramp} is out of range; allowed: at least 1")
        if not 0.0 <= start <= 1.0:
            raise ValueError(f"start: {start} is out of range; allowed: a share of the longest span, from 0 to 1")

    def spans(self) -> Tensor:
        """z (G,), in tokens."""
        share = self.numbers
        return self.longest * (share + (share.clamp(0.0, 1.0) - share).detach())

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        i, j = (torch.arange(count, device=self.change.device) for count in (rows, columns))
        distance = (j - (i + start)[:, None]).abs()  # (N_q, N_k)
        window = (self.spans()[:, None, None] + self.ramp - distance) / self.ramp  # (G, N_q, N_k)
        inside = window > 0
        # a window of 0 has no logarithm: its pairs get a weight that rounds to 0, and no gradient
        values = torch.where(inside, window, 1.0).clamp(max=1.0).log().masked_fill(~inside, CLOSED)
        return Mask.from_dense(values[None], self.fusion)

    def sparsity_loss(self) -> Tensor:
        """Mean span in tokens (the paper's L1 penalty, whose weight is 2e-6 or less there)."""
        return self.spans().mean()
