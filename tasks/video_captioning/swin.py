"""Video Swin Transformer (Liu et al., 2022), torchvision's: from frames to a grid of tokens.

>>> swin = VideoSwin("base", weights="KINETICS400_IMAGENET22K_V1")
>>> swin(torch.randn(1, 32, 3, 224, 224)).shape  # 16 x 7 x 7 tokens
torch.Size([1, 784, 1024])

weights: the name of weights in torchvision, or a file from torchvision, Video Swin (Kinetics-600) or SwinBERT.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.video import Swin3D_B_Weights, Swin3D_S_Weights, Swin3D_T_Weights, SwinTransformer3d

from configs.guard import reading
from tasks.common.checkpoint_files import verify
from tasks.common.errors import CheckpointError

PATCH = (2, 4, 4)
WINDOW = (8, 7, 7)
SIZES = {  # embed_dim, depths, heads
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
WEIGHTS = {"tiny": Swin3D_T_Weights, "small": Swin3D_S_Weights, "base": Swin3D_B_Weights}
SETTING = "task.backbone.weights"
INDEX = "relative_position_index"  # a buffer that follows from the window


class VideoSwin(nn.Module):
    """frames -> grid of tokens, without the head that classifies.

    size: "tiny", "small" or "base"; or None with embed_dim, depths and heads, a number for each stage.
    window: (time, rows, columns) of an attention window, in patches of 2 frames x 4 x 4 pixels.
    drop_path: rate of the last block (SwinBERT: 0.2). weights: see above; None starts at random.
    checkpointing: blocks are computed again in the backward pass, which saves most of the memory.

    Raises ValueError for sizes that do not fit each other, CheckpointError for weights that do not exist or fit.
    """

    def __init__(
        self,
        size: str | None = "base",
        weights: str | None = None,
        embed_dim: int | None = None,
        depths: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        window: Sequence[int] = WINDOW,
        drop_path: float = 0.2,
        checkpointing: bool = False,
    ):
        super().__init__()
        own = (embed_dim, depths, heads)
        if size is not None and size not in SIZES:
            near = get_close_matches(str(size), SIZES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"VideoSwin: unknown size {size!r}; allowed: {', '.join(SIZES)}, null.{hint}")
        if (size is None) == any(part is None for part in own) or (size is not None and own != (None,) * 3):
            raise ValueError("VideoSwin: give a size, or with size=null all of embed_dim, depths and heads")
        embed_dim, depths, heads = own if size is None else SIZES[size]
        if len(depths) != len(heads) or sum(depths) < 2:
            raise ValueError(f"VideoSwin: a depth and a number of heads for each stage, got {depths} and {heads}")
        for stage, number in enumerate(heads):
            if (embed_dim * 2**stage) % number:
                raise ValueError(
                    f"VideoSwin: {number} heads do not divide the {embed_dim * 2**stage} features of stage {stage + 1}"
                )
        if len(window) != 3:
            raise ValueError(f"VideoSwin: window is (time, rows, columns), got {tuple(window)}")
        sizes = {"embed_dim": embed_dim, "depths": list(depths), "num_heads": list(heads)}
        swin = SwinTransformer3d(list(PATCH), window_size=list(window), stochastic_depth_prob=drop_path, **sizes)
        del swin.head, swin.avgpool
        self.swin, self.dim, self.stages, self.checkpointing = swin, swin.num_features, len(depths), checkpointing
        if weights is not None:
            load(swin, weights, size)

    def tokens(self, frames: int, height: int, width: int) -> int:
        """How many tokens such a video has: frames / 2 x (pixels / 32)^2, rounded up at every step."""
        sizes = [-(-length // patch) for length, patch in zip((frames, height, width), PATCH, strict=True)]
        for _ in range(self.stages - 1):
            sizes[1:] = [(length + 1) // 2 for length in sizes[1:]]
        return sizes[0] * sizes[1] * sizes[2]

    def forward(self, frames: Tensor) -> Tensor:
        """frames (B, F, 3, height, width), normalised as the weights want -> (B, V, dim), time first, then rows.

        Raises ValueError for another shape.
        """
        if frames.dim() != 5 or frames.shape[2] != 3:
            raise ValueError(f"frames must be (B, F, 3, height, width), got {tuple(frames.shape)}")
        x = self.swin.pos_drop(self.swin.patch_embed(frames.transpose(1, 2)))  # (B, F / 2, height / 4, width / 4, C)
        again = self.checkpointing and torch.is_grad_enabled()
        for stage in self.swin.features:
            for block in stage if isinstance(stage, nn.Sequential) else (stage,):
                x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.swin.norm(x).flatten(1, 3)


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Video Swin state dict of any source under torchvision's names; what is not part of a backbone is left out.

    Raises ValueError if there is no Video Swin in it.
    """
    stem = "patch_embed.proj.weight"
    prefixes = [name.removesuffix(stem) for name in state if name.endswith(stem)]
    if len(prefixes) != 1:
        raise ValueError(f"no Video Swin: {len(prefixes)} parameters are called '{stem}', one is expected")
    renames = (  # Video Swin's own names; torchvision's stay what they are
        (r"^layers\.(\d+)\.blocks\.", lambda match: f"features.{2 * int(match[1])}."),
        (r"^layers\.(\d+)\.downsample\.", lambda match: f"features.{2 * int(match[1]) + 1}."),
        (r"\.mlp\.fc1\.", lambda match: ".mlp.0."),
        (r"\.mlp\.fc2\.", lambda match: ".mlp.3."),
    )
    out = {}
    for name, value in state.items():
        ours = name.removeprefix(prefixes[0])
        for pattern, to in renames:
            ours = re.sub(pattern, to, ours)
        belongs = name.startswith(prefixes[0]) and ours.startswith(("patch_embed.", "features.", "norm."))
        if belongs and not ours.endswith(INDEX):
            out[ours] = value
    return out


def load_backbone(swin: SwinTransformer3d, state: Mapping[str, Tensor]) -> None:
    """Loads all weights of `swin` from any state dict. Raises ValueError if one is missing or does not fit."""
    found = torchvision_names(state)
    expected = {name: value for name, value in swin.state_dict().items() if not name.endswith(INDEX)}
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is unknown" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    if problems:
        listed = "; ".join(sorted(problems)[:4])
        raise ValueError(f"{len(problems)} weights do not fit this Video Swin: {listed}")
    swin.load_state_dict(found, strict=False)  # all but the buffer


def load(swin: SwinTransformer3d, weights: str, size: str | None, option: str = SETTING) -> None:
    """Loads torchvision's weights of that name, or a file. CheckpointError if there are none, or they do not fit.

    option: what the user sets to name them; null is a choice for SETTING alone.
    """
    names = {} if size is None else {weight.name: weight for weight in WEIGHTS[size]}
    path = Path(weights)
    if weights in names:
        try:
            state = names[weights].get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:  # no network; a file that is not the published one
            raise CheckpointError(
                f"VideoSwin: weights {weights!r} cannot be fetched from {names[weights].url} ({error}); "
                + (
                    f"{SETTING}=<a file of them>, or null to start at random"
                    if option == SETTING
                    else f"{option} takes a file of them"
                )
            ) from error
    elif path.is_file():
        state = read(path)
    else:
        near = get_close_matches(weights, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CheckpointError(
            f"VideoSwin: weights {weights!r} ({option}) are neither a file nor torchvision's for size "
            f"{size}; those are {', '.join(names) or 'none'}.{hint}"
        )
    try:
        load_backbone(swin, state)
    except ValueError as error:
        raise CheckpointError(f"{weights}: {error}") from error


def read(path: Path) -> Mapping[str, Any]:
    """The state dict in a file, alone or as its "state_dict", "model" or "module". Only tensors and plain values are
    read."""
    with reading(f"{path} is not a file of weights, or it is cut off", CheckpointError):
        verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "module"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} holds {type(content).__name__}, expected weights by name")
    return content
