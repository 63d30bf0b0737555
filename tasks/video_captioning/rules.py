"""Settings of video captioning that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any

from lcaam.stack import KINDS


def words_fit_the_caption(cfg: dict[str, Any]) -> Iterator[str]:
    """A caption is [CLS], words and [SEP]: BERT needs a position for each, and no longer caption can be written."""
    task = cfg["task"]
    longest, positions = task.get("text_tokens"), task.get("positions")
    if longest and positions and 3 <= positions < longest:
        yield (
            f"task.text_tokens: {longest} is more than task.positions={positions}, BERT's places for words; allowed: 3 "
            f"to {positions}"
        )
    written = (task.get("decoding") or {}).get("max_length")
    if longest and written and 2 <= longest < written:
        yield (
            f"task.decoding.max_length: {written} is more than task.text_tokens={longest}, the longest caption of "
            f"training; allowed: 2 to {longest}"
        )


def captioning_masks_grow_with_the_caption(cfg: dict[str, Any]) -> Iterator[str]:
    """A mask of [video; text] keeps its columns while words are written; a kind that cannot grow covers the video."""
    mask, longest = cfg["mask"], cfg["task"].get("text_tokens")
    if longest is None or mask["scope"] == "none":
        return
    if not KINDS[mask["kind"]].grows:
        if mask["num_keys"] is not None:
            yield (
                f"mask.num_keys: {mask['num_keys']} with mask.kind={mask['kind']}: it covers the video's tokens; "
                "allowed: null"
            )
    elif mask["length"] == "interpolate":
        yield (
            "mask.length: interpolate would move a mask's columns with every word that is written; allowed: fixed, "
            "content"
        )


def backbone_has_a_size_or_its_parts(cfg: dict[str, Any]) -> Iterator[str]:
    """Video Swin has one of torchvision's sizes, or given stages, with features doubled from stage to stage."""
    backbone = cfg["task"].get("backbone") or {}
    if not backbone or cfg["data"].get("source") == "features":
        return
    size, own = backbone.get("size", "base"), {name: backbone.get(name) for name in ("embed_dim", "depths", "heads")}
    lacking = [f"task.backbone.{name}" for name, value in own.items() if value is None]
    if size is not None and len(lacking) < len(own):
        yield (
            f"task.backbone.size: {size} has its own embed_dim, depths and heads; set those to null, or "
            "task.backbone.size=null"
        )
    if size is None and lacking:
        yield f"task.backbone.size: null needs {', '.join(lacking)} as well; or choose tiny, small or base"
    if size is not None or lacking:
        return
    width, depths, heads = own.values()
    if len(depths) != len(heads) or sum(depths) < 2:
        yield (
            f"task.backbone.depths: {list(depths)} with task.backbone.heads={list(heads)}: both have a number for each "
            "stage, and there are at least 2 blocks"
        )
    for stage, number in enumerate(heads):
        if number > 0 and width * 2**stage % number:
            yield (
                f"task.backbone.heads: {number} does not divide the {width * 2**stage} features of stage {stage + 1} "
                f"(task.backbone.embed_dim={width}, doubled from stage to stage)"
            )


RULES = (words_fit_the_caption, captioning_masks_grow_with_the_caption, backbone_has_a_size_or_its_parts)
