"""Masks in a timm Vision Transformer (ViT, Eva, NaFlexVit): grafted onto a model that exists, and taken off again.

>>> vit = timm.create_model("vit_base_patch16_224", pretrained=True)
>>> graft(vit, scope="per_layer", fusion="mul", depth=3, hidden=192)  # Multi-LCAAM; logits as before, until it learns
>>> ungraft(vit)

The model stays what it was: the same blocks and weights under the same names. What is new is one module, `vit.lcaam`,
and so one prefix in the state dict; a pretrained checkpoint loads with strict=False and only `lcaam.` keys are missing.
timm's layer-wise learning rates count `lcaam.` to the head: new weights learn at the full rate.
How a mask gets to the attention without any state between forwards: lcaam/integrations/timm_forward.py.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

try:
    from timm.layers import Attention, AttentionRope, PatchDropout, PatchDropoutWithIndices
    from timm.models import named_apply
    from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
    from timm.models.naflexvit import NaFlexVit
    from timm.models.vision_transformer import Block, ParallelThingsBlock, ResPostBlock, VisionTransformer
    from timm.models.vision_transformer import init_weights_vit_timm as timm_init
except ImportError as error:
    raise ImportError(
        "lcaam.integrations.timm needs timm 1.0.26 or newer: pip install 'timm>=1.0.26', or all of the laboratory with "
        "pip install 'lcaam[lab]'"
    ) from error

from lcaam.attention import find_backend
from lcaam.drawing import drawn_apart
from lcaam.fusion import Fusion, agreed
from lcaam.integrations.timm_eva import MaskedAttentionRope, MaskedEvaAttention
from lcaam.integrations.timm_forward import Graft, Grafted, MaskedAttention, grafted_class
from lcaam.plan import mask_options
from lcaam.stack import LayerMasks, find_kind

MODELS = (VisionTransformer, Eva, NaFlexVit)
BLOCKS = (Block, ResPostBlock, ParallelThingsBlock, EvaBlock, EvaBlockPostNorm)
MASKED = {Attention: MaskedAttention, EvaAttention: MaskedEvaAttention, AttentionRope: MaskedAttentionRope}


def graft(
    vit: Any,
    scope: str = "shared",
    fusion: str | Fusion | None = None,
    depth: int = 3,
    hidden: int | None = None,
    rank: int | None = None,
    groups: int = 1,
    length: str = "fixed",
    init: str = "identity",
    residual: bool = False,
    backend: str = "auto",
    kind: str = "context",
    hard: bool = False,
    control: str = "none",
    control_residual: bool = False,
    **of_kind: Any,
) -> Any:
    """Puts masks into every block of `vit`, in place, and returns it.

    vit:     any timm VisionTransformer (ViT, DeiT with or without distillation, CLIP, DINOv2, ...) whose blocks are
             Block, ResPostBlock or ParallelThingsBlock with timm.layers.Attention; any Eva (EVA02, PE, DINOv3, ...);
             or a NaFlexVit, which needs length="content", because each of its images has a grid of its own.
    scope:   "shared" (LCAAM) - one mask from the input of block 0, used in every block; "per_layer" (Multi-LCAAM) and
             "tied" read each block's input, before its norm; "none" - no masks, only attention that can be recorded.
    fusion:  None is the default of the kind of mask: mul for context, add for static. backend: as in lcaam.attention.
    depth, hidden, rank, groups, init, residual: as in ContextAwareMask; groups is 1 or the number of heads.
    length:  "fixed" (the paper's) works for the token grid that the model has now, and says so at another one.
             "interpolate" resizes the mask's columns over the grid of patches; class and register tokens keep theirs.
             "content" reads the keys' tokens; the one that goes with patch dropout.
    kind:    "context", or "static" - StaticMask on the patches (class and register tokens are left alone), of fusion
             add or gate; `hard` is its option, and only scope, fusion and backend of the others matter. Where the class
             token is all that the head reads, the last block's patches, and so its static mask, get no gradient.
             Another kind of lcaam.stack.KINDS takes its own settings as further keywords.
    control: spends the parameters that such masks have on something else, and builds no mask. "extra_linear" -
             linear layers on every block's attention, before its dropout, with `control_residual` or without; a
             pretrained model does not survive them unchanged. "extra_layers" - pre-norm Blocks of solved feed-forward
             width behind the others; with init="identity" their output layers start at zero.

    Where masks start as identity the outputs are those of `vit` up to rounding; with scope none, to the bit (same
    attention kernel). `attn_mask` of the forward pass stays possible if it is bool. New parameters are on the device
    and in the precision of the model's weights. timm's `init_weights` is refused from now on, so call it before.

    Raises TypeError for a model whose attention cannot be masked and for a keyword that the kind does not have,
    ValueError for what does not go together; `vit` is untouched then.
    """
    check_model(vit)
    attentions = [module for block in vit.blocks for module in attentions_of(block)]
    heads = attentions[0].num_heads
    fusion = None if fusion is None else Fusion.parse(fusion)
    if backend != "auto":
        find_backend(backend)
    if groups not in (1, heads):
        raise ValueError(f"graft: groups is 1 or the model's number of heads, {heads}; got {groups}")
    module = find_kind(kind)
    if unknown := of_kind.keys() - module.settings().keys():
        raise TypeError(
            f"graft: unknown keyword {', '.join(sorted(unknown))}; a mask of kind {kind!r} has the settings "
            f"{', '.join(module.settings())}"
        )
    if length != "fixed" and "length" not in module.settings():
        raise ValueError(f"graft: a {kind} mask has length 'fixed', got {length!r}; kind 'context' has the others")
    if scope != "none" and length != "content":
        check_tokens_stay(vit, length)

    layers, dim, prefix = len(vit.blocks), vit.embed_dim, vit.num_prefix_tokens
    grid = grid_of(vit)
    tokens = None if grid is None else prefix + grid[0] * grid[1]
    settings: dict[str, Any] = dict(
        scope=scope, kind=kind, fusion=fusion, control=control, control_residual=control_residual
    )
    settings |= dict(depth=depth, hidden=hidden, rank=rank, groups=groups, length=length, init=init, residual=residual)
    built = mask_options({**settings, "hard": hard, **of_kind}, layers, dim, tokens, grid=grid, prefix=prefix)
    masks, after = built.get("masks", LayerMasks(num_layers=layers)), built.get("after_attention", [])
    with drawn_apart("extra layers"):
        extra = [extra_block(vit, width, init) for width in built.get("extra_feedforward", ())]

    like = next(vit.blocks.parameters())
    part = Graft(masks, after, extra, agreed(fusion, masks.fusion), backend, length, grid, prefix)
    vit.lcaam = part.to(like.device, like.dtype).train(vit.training)
    for attention in (*attentions, *(block.attn for block in extra)):
        attention.__class__ = MASKED[type(attention)]
    vit.__class__ = grafted_class(type(vit))
    return vit


def graft_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a configuration's `mask` node that `graft` takes: its own and those of the kind."""
    known = {*inspect.signature(graft).parameters, *find_kind(settings.get("kind", "context")).settings()}
    return {name: value for name, value in settings.items() if name in known}


def ungraft(vit: Any) -> Any:
    """Takes off what `graft` put on, in place, and returns the model: its own classes, weights and outputs.

    Raises ValueError for a model without a graft.
    """
    if not isinstance(vit, Grafted):
        raise ValueError(f"ungraft: this {type(vit).__name__} has no graft")
    model: Any = vit
    model.__class__ = model.plain_class
    originals: dict[type, Any] = {masked: original for original, masked in MASKED.items()}
    for module in model.modules():
        if type(module) in originals:
            module.__class__ = originals[type(module)]
    del model.lcaam
    return model


def attentions_of(block: nn.Module) -> list[nn.Module]:
    """The attention modules of a block, of whatever class: one, or several in parallel."""
    return [module for name, module in block.named_modules() if name.split(".")[-1] == "attn"]


def grid_of(vit: Any) -> tuple[int, int] | None:
    """The (rows, columns) of patches that a model is built for; None if it is built for none in particular."""
    return None if isinstance(vit, NaFlexVit) else vit.patch_embed.grid_size


def check_model(vit: Any) -> None:
    def listed(classes: Any) -> str:
        return ", ".join(each.__name__ for each in classes)

    allowed = (
        "graft takes timm's VisionTransformer (ViT, DeiT, CLIP, DINOv2, ...), Eva (EVA02, DINOv3, PE, ...) and "
        f"NaFlexVit with blocks of class {listed(BLOCKS)} and attention of class {listed(MASKED)}"
    )
    if isinstance(vit, Grafted):
        raise ValueError("graft: this model has a graft already; ungraft(vit) first")
    family: Any = next((each for each in MODELS if isinstance(vit, each)), None)
    if family is None:
        given = f"{type(vit).__module__}.{type(vit).__name__}"
        raise TypeError(f"{given} is not supported: {allowed}. Wrappers (compile, DDP, EMA) go around a grafted model")
    for name in ("forward_features", "forward_intermediates"):
        if getattr(type(vit), name) is not getattr(family, name):
            raise TypeError(f"{type(vit).__name__} has a {name} of its own, which masks would not get into: {allowed}")
    if len(vit.blocks) == 0:
        raise ValueError("graft: this model has no blocks (depth 0), so there is no attention to mask")
    for block in vit.blocks:
        if type(block) not in BLOCKS:
            raise TypeError(f"blocks of class {type(block).__name__} are not supported: {allowed}")
        for module in attentions_of(block):
            if type(module) not in MASKED:
                raise TypeError(f"attention of class {type(module).__name__} is not supported: {allowed}")


def check_tokens_stay(vit: Any, length: str) -> None:
    """A mask that knows positions needs to know how many there are, and that none gets lost."""
    if isinstance(vit, NaFlexVit):
        raise ValueError(
            f"graft: length {length!r} needs one grid of patches for all images, and those of a NaFlexVit have their "
            "own: use length='content'"
        )
    if grid_of(vit) is None:
        raise ValueError(
            f"graft: length {length!r} needs the model's token grid, and this model was built without img_size: call "
            "vit.set_input_size, or use length='content'"
        )
    if isinstance(vit.patch_drop, PatchDropout | PatchDropoutWithIndices) and vit.patch_drop.prob > 0:
        raise ValueError(
            f"graft: patch dropout removes tokens, so that a mask of length {length!r} would not know which key stands "
            "where: build the model with patch_drop_rate=0, or use length='content'"
        )


def extra_block(vit: Any, width: int, init: str) -> Block:
    """A pre-norm Block like the model's last in heads and dropout rates, with `width` hidden feed-forward units.

    It has neither LayerScale nor norms on queries and keys, whatever the model has: its size is solved for that.
    """
    last = vit.blocks[-1]
    if type(last) is not Block:
        raise ValueError(f"graft: extra_layers are pre-norm Blocks; this model has {type(last).__name__}")
    attention: Any = last.attn
    block: Any = Block(
        vit.embed_dim,
        attention.num_heads,
        mlp_ratio=(width + 0.5) / vit.embed_dim,  # which Block rounds down to width / embed_dim
        qkv_bias=True,
        attn_drop=attention.attn_drop.p,
        proj_drop=attention.proj_drop.p,
        drop_path=getattr(last.drop_path1, "drop_prob", 0.0),
    )
    named_apply(timm_init, block)
    if init == "identity":
        with torch.no_grad():
            block.attn.proj.weight.zero_()
            block.mlp.fc2.weight.zero_()
    return block
