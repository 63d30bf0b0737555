"""The forward pass of a grafted timm ViT, Eva or NaFlexVit (lcaam/integrations/timm.py puts it on).

    forward_features(images)                 timm's own code, run on a `View` of the model
      patch_embed, _pos_embed, norm_pre      -> the stack's input; here the shared mask is made
      blocks: step 0, step 1, ...            step l makes block l's mask from its input and calls block l with it
        block(x, attn_mask=Attend(mask...))  timm passes attn_mask down as it is
          MaskedAttention                    timm's projections and norms around lcaam.attention

Nothing is kept between forwards, so nothing can be stale: not after an exception, not in another thread or replica. A
View lives for one forward and reads everything but `blocks` and `norm_pre` from the model. The shared mask is made
outside the checkpointed steps and reaches them by closure, like any tensor from outside; other masks are made inside
their step and, with gradient checkpointing, made again in backward. The shared one keeps its activations. Re-entrant
checkpointing cannot send gradients to a closure, so it is refused for scope shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.layers import Attention, use_reentrant_ckpt
from timm.models.naflexvit import NaFlexVit
from torch import Tensor, nn

from lcaam.attention import WATCHERS, Call, as_autocast, attention, without_autocast
from lcaam.encoder import Masked
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.stack import LayerMasks
from lcaam.structure import allowed


class Graft(Masked):
    """What a grafted model has more than its original, as `vit.lcaam`; its parts have no other place in the model.

    grid, prefix: the (rows, columns) of patches and the number of tokens before them that masks were made for.
    """

    def __init__(
        self,
        masks: LayerMasks,
        after_attention: Sequence[nn.Module],
        extra_layers: Sequence[nn.Module],
        fusion: Fusion,
        backend: str,
        length: str,
        grid: tuple[int, int] | None,
        prefix: int,
    ):
        super().__init__()
        self.masks = masks
        self.after_attention, self.extra_layers = nn.ModuleList(after_attention), nn.ModuleList(extra_layers)
        self.fusion, self.backend, self.length, self.grid, self.prefix = fusion, backend, length, grid, prefix

    def controls(self) -> list[nn.Module]:
        """As in lcaam.encoder.Masked."""
        return [*self.after_attention, *self.extra_layers]

    def extra_repr(self) -> str:
        return f"scope={self.masks.scope}, fusion={self.fusion.value}, length={self.length}, backend={self.backend}"

    def check(self, x: Tensor, grid: tuple[int, int] | None) -> None:
        """ValueError if the masks cannot serve x (B, N, D), the sequence of an image with `grid` patches."""
        if self.masks.scope == "none" or self.length == "content" or grid is None:
            return
        tokens = self.prefix + grid[0] * grid[1]
        if x.shape[1] != tokens:
            raise ValueError(
                f"{x.shape[1]} tokens came to the blocks instead of {tokens} ({self.prefix} and a grid of {grid}): a "
                f"mask of length {self.length!r} needs every token at its place. graft with length='content'"
            )
        if self.length == "fixed" and grid != self.grid:
            raise ValueError(
                f"the masks were made for a grid of {self.grid} patches, and these images have {grid}. graft with "
                "length='interpolate' (resizes the masks' columns) or length='content'; or, to start with new masks, "
                "ungraft, set_input_size and graft again"
            )


@dataclass(frozen=True)
class Attend:
    """How one block attends; handed to it in place of timm's `attn_mask`."""

    mask: Mask | None
    keep: Tensor | None  # bool, True = attend
    causal: bool
    fusion: Fusion
    backend: str
    after: nn.Module | None  # (B, N, D) -> (B, N, D) on the attention's output


class MaskedAttention(Attention):
    """timm's Attention with lcaam.attention inside; made from one, with its weights, by changing its class."""

    def forward(self, x: Tensor, attn_mask: Attend | Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x (B, N, D) -> (B, N, D). Outside a grafted model's forward, without an Attend: what timm's does."""
        how = attn_mask
        if not isinstance(how, Attend):
            return super().forward(x, how, is_causal) if is_causal else super().forward(x, how)
        gate = getattr(self, "gate", None)  # older timm has none
        gate = None if gate is None else gate(x).sigmoid()
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, N, d)
        return finished(self, how, attended(self, how, self.q_norm(q), self.k_norm(k), v), gate)


def attended(module: Any, how: Attend, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q, k, v (B, H, N, d) of one of timm's attention modules -> (B, H, N, d).

    Hooks on `attn_drop`, by which timm.utils.AttentionExtract reads attention weights, see them: then the equation is
    computed, whatever the backend.
    """
    drop = module.attn_drop
    if drop._forward_hooks or drop._forward_pre_hooks:
        q, k, v = as_autocast(q, k, v)
        mask = None if how.mask is None or how.fusion.ignores_mask else how.mask.fit(k.shape[2])
        call = Call(q, k, mask, how.fusion, allowed(how.keep, how.causal, q, k), module.scale)
        if not torch.compiler.is_compiling():
            for watcher in WATCHERS.get():
                watcher(call)
        with without_autocast(q.device.type):
            weight = call.weights().to(v.dtype)
        return drop(weight) @ v
    plain = how.mask is None or how.fusion.ignores_mask
    return attention(
        q,
        k,
        v,
        how.mask,
        fusion=how.fusion,
        keep=how.keep,
        causal=how.causal,
        dropout=drop.p if module.training else 0.0,
        scale=None if module.fused_attn else module.scale,
        backend="reference" if plain and how.backend == "auto" and not module.fused_attn else how.backend,
    )


def finished(module: Any, how: Attend, out: Tensor, gate: Tensor | None) -> Tensor:
    """What timm's attention modules do behind the attention: out (B, H, N, d) -> (B, N, D)."""
    out = module.norm(out.transpose(1, 2).flatten(2))  # (B, N, H d)
    out = module.proj(out if gate is None else out * gate)
    return module.proj_drop(out if how.after is None else how.after(out))


@dataclass
class Forward:
    """What the steps of one forward pass share."""

    part: Graft
    grid: tuple[int, int] | None  # of these images' patches; None if each image has its own
    shared: Mask | None = None

    def mask(self, x: Tensor, layer: int | None = None) -> Mask | None:
        """The stack's shared mask, or without one None; with `layer`, what that layer uses. x (B, N, D): its input."""
        of_mask = {"grid": self.grid} if self.part.length == "interpolate" else {}
        return self.part.masks(x, layer=layer, shared=self.shared, **of_mask)


def step(
    block: nn.Module, number: int, run: Forward, x: Tensor, attn_mask: Tensor | None = None, is_causal=False, **of_block
):
    """Block `number` with its mask; additional ones, behind those that have masks, have none. of_block: rope, if any"""
    part = run.part
    masked = number < part.masks.num_layers
    mask = run.mask(x, layer=number) if masked else None
    after = part.after_attention[number] if masked and len(part.after_attention) else None
    how = Attend(mask, check_keep(attn_mask), is_causal, part.fusion, part.backend, after)
    return block(x, attn_mask=how, **of_block)


def check_keep(attn_mask: Tensor | None) -> Tensor | None:
    """timm's attn_mask, broadcastable to (B, H, N, N), as `keep` of lcaam.attention."""
    if attn_mask is None:
        return None
    if attn_mask.dtype != torch.bool:
        raise ValueError(
            f"attn_mask of a grafted model must be bool (True = attend), got {attn_mask.dtype}: numbers on the scores "
            "come from the masks"
        )
    return attn_mask[(None,) * (4 - attn_mask.dim())]


class Steps(list):
    """The blocks as timm sees them in a forward pass: to call, to count, to cut and to checkpoint one by one."""

    def __call__(self, x: Tensor) -> Tensor:
        for run_block in self:
            x = run_block(x)
        return x


class View:
    """A model as timm's forward functions see it for one pass over `images` (B, C, height, width)."""

    def __init__(self, vit: Any, images: Any):
        if isinstance(images, torch.fx.Proxy):
            raise TypeError(
                "a grafted model cannot be traced symbolically by torch.fx, because its blocks and masks are put "
                "together anew in every forward. For features use forward_intermediates or timm's features_only, for "
                "attention weights lcaam.analysis.record or AttentionExtract(method='hook'), for graphs torch.export"
            )
        part: Graft = vit.lcaam
        reentrant = vit.grad_checkpointing and use_reentrant_ckpt() and torch.is_grad_enabled()
        if part.masks.scope == "shared" and reentrant:
            raise ValueError(
                "re-entrant gradient checkpointing gives a shared mask no gradients: call "
                "timm.layers.set_reentrant_ckpt(False)"
            )
        self.vit = vit
        self.run = Forward(part, self.grid_of(images))
        blocks = (*vit.blocks, *part.extra_layers)
        self.blocks = Steps(partial(step, block, number, self.run) for number, block in enumerate(blocks))

    def __getattr__(self, name: str):
        return getattr(self.vit, name)

    def grid_of(self, images: Tensor) -> tuple[int, int] | None:
        rows, columns = self.vit.patch_embed.dynamic_feat_size(images.shape[-2:])
        return rows, columns

    def norm_pre(self, x: Tensor) -> Tensor:
        """The last thing before the blocks: x (B, N, D) -> the stack's input (B, N, D)."""
        x = self.vit.norm_pre(x)
        self.start(x)
        return x

    def start(self, x: Tensor) -> None:
        """Makes the shared mask from the stack's input, x (B, N, D)."""
        self.run.part.check(x, self.run.grid)
        self.run.shared = self.run.mask(x)


class NaFlexView(View):
    """A NaFlexVit, whose images can have different grids, with padding behind the patches of the smaller ones."""

    def grid_of(self, images: Any) -> None:
        return None

    def _forward_embeds(self, x: Any, patch_coord: Any, patch_valid: Any, attn_mask: Tensor | None) -> dict[str, Any]:
        embeds = self.vit._forward_embeds(x, patch_coord, patch_valid, attn_mask)
        tokens, valid = embeds["patches"], embeds.get("patch_valid")
        if attn_mask is None and valid is not None:  # timm's own mask consists of numbers
            prefix = valid.new_ones((len(valid), self.vit.num_prefix_tokens), dtype=torch.bool)
            embeds["attn_mask"] = torch.cat([prefix, valid.bool()], dim=1)[:, None, None]  # (B, 1, 1, N)
        self.start(tokens)
        return embeds


class Grafted:
    """Mixed into the class of a grafted model. Everything else of its forward pass goes through these two."""

    plain_class: Any

    def forward_features(self, *args, **kwargs):
        return self.plain_class.forward_features(view_of(self, args, kwargs), *args, **kwargs)

    def forward_intermediates(self, *args, **kwargs):
        return self.plain_class.forward_intermediates(view_of(self, args, kwargs), *args, **kwargs)

    def init_weights(self, *args, **kwargs):
        """Refused: it would draw the masks' weights by timm's rules too, or stop halfway, by timm's version."""
        raise ValueError("init_weights of a grafted model would undo the masks' start: ungraft, init_weights, graft")

    def __reduce_ex__(self, protocol):
        """Pickled and copied as its plain class, since the mixed one cannot be imported by name."""
        _, _, *state = super().__reduce_ex__(max(protocol, 2))
        return empty, (self.plain_class,), *state


def view_of(vit: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The view for one call of a forward function, whose first argument, `x` or `patches`, are the images."""
    images = args[0] if args else kwargs.get("x", kwargs.get("patches"))
    return (NaFlexView if isinstance(vit, NaFlexVit) else View)(vit, images)


GRAFTED: dict[type, type] = {}  # by what a model's class was before


def grafted_class(plain: type) -> type:
    """The class of grafted models that were `plain` before, made once."""
    if plain not in GRAFTED:
        members = {"plain_class": plain, "__module__": __name__}
        GRAFTED[plain] = type(f"Grafted{plain.__name__}", (Grafted, plain), members)
    return GRAFTED[plain]


def empty(plain: type) -> Any:
    """A grafted model of that class whose state is yet to come."""
    mixed: Any = grafted_class(plain)
    return mixed.__new__(mixed)
