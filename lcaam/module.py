"""MaskModule: what a kind of mask owes the rest of the library, and nobody asks which kind it is.

A new kind is a file with a subclass and one line in lcaam.stack.KINDS:

    class Constant(MaskModule):
        def __init__(self, num_keys: int, start: float = 0.0): ...
        def forward(self, x, keys=None): ...                       # -> lcaam.Mask

Its own settings are the keywords of its constructor that are not SIZES; a configuration's `mask` node takes them too.
"""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.memory import Memory

# keywords that the model answers, not the user
SIZES = ("dim", "key_dim", "num_queries", "num_keys", "rows", "columns", "grid", "prefix", "boundaries")


class MaskModule(nn.Module):
    """Base of the mask modules: tokens -> Mask.

    fusion:  the fusion that its masks are made for; None if it does not say.
    fusions: names of the fusions that the kind has a form for, each with a remark; None is every fusion.
    grows:   False for a mask that covers only the tokens that are there from the start (captioning: the video's),
             not those that are written one by one behind them.
    rows_have_places: True for a mask whose row is made from the query's place in the sequence, and not from the token.
    """

    fusion: Fusion | None = None
    fusions: ClassVar[Mapping[str, str] | None] = None
    grows: ClassVar[bool] = True
    rows_have_places: ClassVar[bool] = False

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Mask:
        """x (B, N_q, dim), keys (B, N_k, dim) or None for self-attention -> Mask (B or 1, G, N_q, N_k)."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(x, keys)")

    @classmethod
    def settings(cls) -> dict[str, inspect.Parameter]:
        """The keywords of the kind that are the user's choice, by name."""
        parameters = inspect.signature(cls).parameters.items()
        collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return {name: p for name, p in parameters if name not in SIZES and p.kind not in collecting}

    @classmethod
    def options_from(cls, settings: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords to build the kind with: those settings and those sizes of the model (SIZES) that it takes."""
        own = {name: settings[name] for name in cls.settings() if name in settings}
        return {name: sizes[name] for name in inspect.signature(cls).parameters if name in sizes} | own

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Raises ValueError, beginning with the setting's name, for one of the kind's own that is out of range."""

    def sparsity_loss(self) -> Tensor | float:
        """The regulariser that the setting `sparsity` weights; 0 for a kind without one."""
        return 0.0

    def resized_state(
        self, state: Mapping[str, Tensor], how: str = "first", grid: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """This module's own entries of a state dict that may be of another number of keys, resized to this one's.

        Arguments as in lcaam.resize. ValueError for a kind that cannot resize what is of another size.
        """
        for name, own in self.state_dict(keep_vars=True).items():
            if name in state and state[name].shape != own.shape:
                raise ValueError(
                    f"{type(self).__name__}: {name} of shape {tuple(state[name].shape)} cannot be resized to "
                    f"{tuple(own.shape)}"
                )
        return dict(state)

    def grow(self, x: Tensor, memory: Memory, name: Any) -> Mask | None:
        """The mask in decoding with a cache: x (B, n, dim) are the rows behind those that `memory` has kept.

        Its columns are those of all rows, or more (attention uses the first ones); None if the mask does not touch the
        new rows. name: distinguishes what is kept for this mask from what is kept for those of other layers.
        """
        return self(x, keys=None if memory.kept else x)
