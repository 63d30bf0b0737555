"""What a Vision Transformer looks at, drawn on the pictures: class attention and the class token's row of the mask.

>>> seen = looked_at(module.evaluated, images, layer=-1)
>>> attention_on_pictures(pictures, {"baseline": other.attention, "LCAAM": seen.attention}).savefig("attention.png")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lcaam.analysis import record

PANEL = 1.6  # inches


@dataclass(frozen=True)
class LookedAt:
    """One layer's view of B images.

    attention: (B, rows, columns) of patches, weights of the class token, mean over heads.
    mask: the class token's mask values for the same patches, or None. whole_mask: (N, N), mean over images, or None.
    logits: (B, classes).
    """

    attention: np.ndarray
    mask: np.ndarray | None
    whole_mask: np.ndarray | None
    logits: np.ndarray


@torch.no_grad()
def looked_at(vit: VisionTransformer, images: Tensor, layer: int = -1) -> LookedAt:
    """What one layer of the grafted `vit`, in evaluation mode, does with images (B, 3, S, S). For a model without a
    class token it is the mean over all tokens. layer: 0..L-1, or counted from the end. Raises IndexError for another.
    """
    with record(vit) as records:
        logits = vit(images)
    if not -len(records) <= layer < len(records):
        raise IndexError(f"layer {layer} of {len(records)}: allowed are 0 to {len(records) - 1}, or -1 for the last")
    found, grid = records[layer], vit.patch_embed.grid_size

    def on_patches(values: Tensor) -> np.ndarray:
        """(B, heads or groups, N, N) -> (B, rows, columns)"""
        of_class = values[:, :, 0] if vit.cls_token is not None else values.mean(2)
        return of_class.mean(1)[:, vit.num_prefix_tokens :].unflatten(-1, grid).numpy()

    mask = found.mask if found.mask is None else found.mask.expand(len(images), -1, -1, -1)
    attention = on_patches(found.weights.float())
    whole = None if mask is None else mask.mean((0, 1)).numpy()
    return LookedAt(attention, None if mask is None else on_patches(mask), whole, logits.float().cpu().numpy())


def attention_on_pictures(
    pictures: np.ndarray, columns: Mapping[str, np.ndarray], titles: Sequence[str] = (), captions: Sequence[str] = ()
) -> Figure:
    """One row per picture: the picture, then each column's values laid over it.

    pictures: (B, S, S, 3) in [0, 1]. columns: name -> (B, rows, columns); each panel has its own colour scale, from
    its least to its largest value, so that a column shows where and not how much. titles: names of the rows. captions:
    texts under each panel but the picture, row by row, e.g. the predicted class.
    Raises ValueError for another number of values than of pictures.
    """
    for name, values in columns.items():
        if values.ndim != 3 or len(values) != len(pictures):
            raise ValueError(f"{name!r} has shape {values.shape}; {len(pictures)} pictures need (B, rows, columns)")
    width, height = len(columns) + 1, len(pictures)
    figure = Figure(figsize=(PANEL * width, PANEL * height * 1.12 + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, width, squeeze=False)
    notes = iter(captions)
    extent = (0, pictures.shape[2], pictures.shape[1], 0)  # so that patches lie on their pixels
    for row, picture in enumerate(pictures):
        for column, axes in enumerate(panels[row]):
            axes.set(xticks=[], yticks=[])
            if column == 0:
                axes.imshow(picture, extent=extent)
                axes.set_ylabel(titles[row] if row < len(titles) else "", fontsize=8)
                continue
            grey = picture.mean(-1, keepdims=True).repeat(3, -1)
            axes.imshow(grey, extent=extent)
            values = list(columns.values())[column - 1][row]
            axes.imshow(values, extent=extent, cmap="inferno", alpha=0.6, interpolation="nearest")
            axes.set_xlabel(next(notes, ""), fontsize=7)
    for axes, name in zip(panels[0], ("picture", *columns), strict=True):
        axes.set_title(name, fontsize=6)
    return figure
