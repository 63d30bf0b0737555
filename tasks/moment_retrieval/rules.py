"""Settings of moment retrieval that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any


def keys_by_place(cfg: dict[str, Any]) -> dict[str, int]:
    """Keys that a masked query sees, by attention; {"": num_keys} for a task with one kind. Empty if not known."""
    keys, clips = cfg.get("num_keys"), cfg["data"].get("max_clips")
    places = cfg["task"].get("masked")
    if places is None or clips is None:
        return {} if keys is None else {"": keys}
    known = {"text_to_video": keys, "encoder": clips + 1, "decoder": clips}  # the encoder has a global token as well
    return {place: known[place] for place in places if known[place] is not None}


def masked_places_are_used(cfg: dict[str, Any]) -> Iterator[str]:
    """If a task has a choice of places, masks (or the control that replaces them) need at least one, each only once."""
    mask, places = cfg["mask"], cfg["task"].get("masked")
    if places is None or mask["scope"] == "none":
        return
    if not places:
        yield (
            f"task.masked: [] with mask.scope={mask['scope']}: no attention would have a mask; name one, or choose "
            "mask=none"
        )
    if twice := sorted({place for place in places if places.count(place) > 1}):
        yield f"task.masked: {', '.join(twice)} is listed more than once in {list(places)}"
    if mask["control"] == "extra_layers" and "decoder" in places:
        yield (
            "mask.control: extra_layers with task.masked=decoder: the decoder takes no additional layers; choose "
            "mask=extra_linear, or leave decoder out of task.masked"
        )


def interpolated_masks_see_whole_sequences(cfg: dict[str, Any]) -> Iterator[str]:
    """Columns are resized to the number of keys, padding included, so those of a query would depend on its batch."""
    mask, places = cfg["mask"], cfg["task"].get("masked")
    if mask["length"] == "interpolate" and mask["scope"] != "none" and places:
        yield (
            f"mask.length: interpolate with task.masked={places}: texts and videos of a batch differ in length; "
            "allowed: mask.length=fixed, mask.length=content"
        )


def positions_need_four_parts(cfg: dict[str, Any]) -> Iterator[str]:
    """A span's position is the sine and cosine of its centre and its width, each a quarter of the features."""
    width = cfg["task"].get("width")
    if "first_spans" in cfg["task"] and width and width % 4:
        below = width // 4 * 4
        yield (
            f"task.width: {width} is not a multiple of 4, as the positions of spans need; the nearest are "
            f"{f'{below} and ' * (below > 0)}{below + 4}"
        )


RULES = (masked_places_are_used, interpolated_masks_see_whole_sequences, positions_need_four_parts)
