"""Which clips are for training, validation and test.

    by_split(clips, {"train": "train", "val": "validate", "test": "test"}, OFFICIAL)   # {"train": [Clip, ...], ...}

Clips are split by the names of splits in the annotations if all of them are there; otherwise by the number at the end
of a video's id, as in the official split of MSR-VTT: video0 to video6512, video6513 to video7009, video7010 to
video9999.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from datamodules.errors import DataError, some
from datamodules.video_captioning.captions import Clip, near

SPLITS = ("train", "val", "test")


def by_split(
    clips: Sequence[Clip], names: Mapping[str, str | None], ranges: Mapping[str, Sequence[int]] | None
) -> dict[str, list[Clip]]:
    """names: split -> its name in the annotations (None: no such split); ranges: split -> first and last number.

    Raises DataError: neither names nor numbers tell the splits apart, a clip outside all ranges, no training clip.
    """
    wanted = {split: name for split, name in names.items() if name is not None}
    found = Counter(clip.split for clip in clips if clip.split is not None)
    if all(name in found for name in wanted.values()):
        chosen = {split: [clip for clip in clips if clip.split == name] for split, name in wanted.items()}
    elif ranges is not None:
        chosen = by_number(clips, {split: ranges[split] for split in wanted})
    else:
        lacking = [name for name in wanted.values() if name not in found]
        there = ", ".join(f"{name} ({count} clips)" for name, count in found.items()) or "none"
        raise DataError(
            f"no clip of split {some(lacking)}.{near(lacking[0], found)} The annotations have: {there}. Name their "
            "splits in data.splits, give a file for each (data.annotations), or ranges of numbers (data.id_ranges)."
        )
    for split in wanted:
        if not chosen[split]:
            raise DataError(f"no clip in the {split} split; the annotations have {len(clips)} clips in all.")
    return {split: chosen.get(split, []) for split in SPLITS}


def by_number(clips: Sequence[Clip], ranges: Mapping[str, Sequence[int]]) -> dict[str, list[Clip]]:
    """Clips by the number at the end of their ids. DataError: no number, or one that is in no range."""
    chosen: dict[str, list[Clip]] = {split: [] for split in ranges}
    outside = []
    for clip in clips:
        number = re.search(r"(?<!\d)0*(\d{1,18})$", clip.media)  # a longer number is in no range
        homes = [split for split, (first, last) in ranges.items() if number and first <= int(number[1]) <= last]
        if homes:
            chosen[homes[0]].append(clip)
        else:
            outside.append(clip.id)
    if outside:
        allowed = ", ".join(f"{split} {first}..{last}" for split, (first, last) in ranges.items())
        raise DataError(
            f"the annotations do not name all of the splits, and {len(outside)} ids are in none of the ranges "
            f"({allowed}): {some(outside)}."
        )
    return chosen


def disjoint(chosen: Mapping[str, Sequence[Clip]]) -> None:
    """DataError if two splits share a video."""
    home: dict[str, str] = {}
    for split, clips in chosen.items():
        shared = [clip.media for clip in clips if home.setdefault(clip.media, split) != split]
        if shared:
            raise DataError(
                f"{len(set(shared))} videos are in the {home[shared[0]]} and in the {split} split: "
                f"{some(dict.fromkeys(shared))}."
            )
