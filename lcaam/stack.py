"""LayerMasks: which mask a layer gets, whatever the backbone (paper section 3: LCAAM and Multi-LCAAM).

>>> masks = LayerMasks(scope="per_layer", num_layers=8, dim=768, num_keys=50, depth=31)
>>> shared = masks(x)  # a Mask for scope shared, else None
>>> mask = masks(x, layer=0, shared=shared)  # what layer 0 uses
"""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.learned import BlockMask, ColumnMask, OffsetMask, TableMask, TemperatureMask
from lcaam.mask import ContextAwareMask
from lcaam.memory import Memory
from lcaam.module import MaskModule
from lcaam.span import SpanMask
from lcaam.static import StaticMask

KINDS: dict[str, type[MaskModule]] = {  # what a mask is made from
    "context": ContextAwareMask,  # the query tokens
    "static": StaticMask,  # nothing: SwinBERT's learned table
    "temperature": TemperatureMask,  # nothing: one number
    "blocks": BlockMask,  # the tokens' modalities
    "columns": ColumnMask,  # the key's position
    "offsets": OffsetMask,  # the distance between key and query
    "table": TableMask,  # both positions
    "span": SpanMask,  # the distance: an adaptive attention span
}
SCOPES = {  # which layers get which mask
    "none": "plain attention",
    "shared": "LCAAM: one mask from the stack's input, used in every layer",
    "tied": "one module, applied to each layer's own input",
    "per_layer": "Multi-LCAAM: a module and a mask per layer",
}


def find_kind(name: str) -> type[MaskModule]:
    """The mask module of a kind. ValueError for an unknown one."""
    if name not in KINDS:
        raise ValueError(f"unknown kind {name!r}; allowed: {', '.join(KINDS)}")
    return KINDS[name]


class LayerMasks(nn.Module):
    """The masks of a stack of `num_layers` layers.

    scope: "none"; "shared" - one module, one mask from the stack's input, used in every layer (LCAAM); "tied" - one
           module, applied to each layer's own input; "per_layer" - a module and a mask per layer (Multi-LCAAM).
    kind:  "context" - ContextAwareMask; the others of KINDS do not depend on the input: "static" - StaticMask;
           "temperature", "blocks", "columns", "offsets", "table" - lcaam.learned; "span" - SpanMask.
    The other keywords are those of the kind; scope none needs none of them.

    Raises ValueError for an unknown scope or kind, or no layers.
    """

    alter: Callable[..., Mask] | None = None  # set by lcaam.interventions: what becomes of each mask that is made

    def __init__(
        self,
        scope: str = "none",
        num_layers: int = 1,
        kind: str = "context",
        **mask_options: Any,
    ):
        super().__init__()
        if scope not in SCOPES:
            raise ValueError(f"LayerMasks: unknown scope {scope!r}; allowed: {', '.join(SCOPES)}")
        module = find_kind(kind)
        if num_layers < 1:
            raise ValueError(f"LayerMasks: num_layers must be at least 1, got {num_layers}")
        self.scope, self.num_layers = scope, num_layers
        count = {"none": 0, "shared": 1, "tied": 1, "per_layer": num_layers}[scope]
        self.nets = nn.ModuleList(module(**mask_options) for _ in range(count))

    def forward(
        self,
        x: Tensor,
        layer: int | None = None,
        shared: Mask | None = None,
        keys: Tensor | None = None,
        memory: Memory | None = None,
        **of_mask: Any,
    ) -> Mask | None:
        """Without `layer`: x is the stack's input (B, N_q, dim); the Mask for scope shared, else None.
        With `layer`: x is that layer's input; the Mask it uses, or None for scope none.
        keys (B, N_k, dim): the key tokens of cross-attention; None for self-attention.
        memory: in decoding with a cache, what it has kept: x are then the rows behind those, and `keys` is not used;
        None is returned as well if the masks do not touch these rows. Other keywords (grid) are the mask module's.
        """
        if layer is None:
            return self.made(0, x, layer, keys, memory, of_mask) if self.scope == "shared" else None
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"LayerMasks: layer {layer} of {self.num_layers}")
        if self.scope == "none":
            return None
        if self.scope == "shared":
            if shared is None and not (memory and memory.kept):
                raise ValueError("LayerMasks: scope 'shared' needs shared=masks(x0), the mask of the stack's input")
            return shared
        return self.made(layer if self.scope == "per_layer" else 0, x, layer, keys, memory, of_mask)

    @property
    def fusion(self) -> Fusion | None:
        """The fusion that the masks are made for; None for scope none, or a kind that does not say."""
        return next((cast(MaskModule, net).fusion for net in self.nets), None)

    def made(
        self, net: int, x: Tensor, layer: int | None, keys: Tensor | None, memory: Memory | None, of_mask: dict
    ) -> Mask | None:
        """The mask that module number `net` makes for a layer, or for the whole stack (None)."""
        module: Any = self.nets[net]
        mask = module(x, keys=keys, **of_mask) if memory is None else module.grow(x, memory, layer, **of_mask)
        return mask if mask is None or self.alter is None else self.alter(mask, layer, x, keys, memory)

    def sparsity_loss(self) -> Tensor | float:
        """The sum of the mask modules' regularisers; 0 for kinds that have none."""
        nets: Any = self.nets
        return sum(net.sparsity_loss() for net in nets)
