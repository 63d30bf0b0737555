"""Which clips are for training, validation and test, and what says so.

    chosen = by_names_or_numbers(clips, {"train": "train", "val": "validate", "test": "test"}, OFFICIAL)
    chosen.clips["test"], chosen.origin     # [Clip, ...], "split names in the annotations (train, validate, test)"

Clips are split by lists of ids if there are any (data.lists), else by the names of splits in the annotations if all of
them are there. Only if nothing in the annotations contradicts it, the number at the end of a video's id decides, as in
the official split of MSR-VTT: video0 to video6512, video6513 to video7009, video7010 to video9999.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from datamodules.errors import DataError, near, some
from datamodules.evaluated import added
from datamodules.video_captioning.annotations import Annotations, Clip

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

Names = Mapping[str, str | None]  # split -> its name in the annotations; None: no such split
Ranges = Mapping[str, Sequence[int]]  # split -> first and last number


@dataclass
class Chosen:
    """The clips of each split (of SPLITS, empty if there is no such split), and where the split comes from."""

    clips: dict[str, list[Clip]]
    origin: str
    left_out: dict[str, dict[str, int]] = field(default_factory=dict)  # split -> reason -> how many
    notes: list[str] = field(default_factory=list)

    def leave_out(self, split: str, reason: str, count: int) -> None:
        self.left_out = added(self.left_out, {split: {reason: count}})


def by_split(clips: Sequence[Clip], names: Names, ranges: Ranges | None) -> dict[str, list[Clip]]:
    """The clips of `by_names_or_numbers`."""
    return by_names_or_numbers(clips, names, ranges).clips


def by_names_or_numbers(clips: Sequence[Clip], names: Names, ranges: Ranges | None) -> Chosen:
    """Splits by the names in the annotations if all of `names` are there, else by number.

    Raises DataError: neither tells the splits apart, names that disagree with the numbers, a clip outside all ranges, a
    split without a clip.
    """
    wanted = {split: name for split, name in names.items() if name is not None}
    found = Counter(clip.split for clip in clips if clip.split is not None)
    lacking = [name for name in wanted.values() if name not in found]
    if not lacking:
        of = {split: [clip for clip in clips if clip.split == name] for split, name in wanted.items()}
        chosen = Chosen(of, f"split names in the annotations ({', '.join(wanted.values())})", notes=_unused(clips, of))
    elif ranges is not None:
        ranges = {split: ranges[split] for split in wanted if split in ranges}
        why = _nothing_contradicts(clips, names, ranges, found, lacking)
        chosen = Chosen(by_number(clips, ranges), f"id numbers (data.id_ranges), as {why}")
        if found:
            log.warning("the splits are by id numbers (data.id_ranges), as %s", why)
    else:
        there = ", ".join(f"{name} ({count} clips)" for name, count in found.items()) or "none"
        raise DataError(
            f"no clip of split {some(lacking)}.{near(lacking[0], found)} The annotations have: {there}. Name their "
            "splits in data.splits, give a file for each (data.annotations), lists of ids (data.lists), or ranges of "
            "numbers (data.id_ranges)."
        )
    for split in wanted:
        if not any(clip.captions for clip in chosen.clips.get(split, [])):
            silent = f", {len(chosen.clips[split])} without a caption" if chosen.clips.get(split) else ""
            raise DataError(f"no clip in the {split} split{silent}; the annotations have {len(clips)} clips in all.")
    return _every_split(chosen)


def _every_split(chosen: Chosen) -> Chosen:
    chosen.clips = {split: chosen.clips.get(split, []) for split in SPLITS}
    return chosen


def _unused(clips: Sequence[Clip], of: Mapping[str, Sequence[Clip]]) -> list[str]:
    """What to tell about clips that are in no split."""
    used = {clip.id for own in of.values() for clip in own}
    others = Counter(clip.split for clip in clips if clip.id not in used and clip.captions)
    named = ", ".join(f"{count:,} of split {name}" for name, count in others.items() if name is not None)
    nameless = f"{others[None]:,} of which the file does not say a split" if others[None] else ""
    rest = " and ".join(part for part in (named, nameless) if part)
    return [f"clips of the annotations that are in no split of this run (data.splits): {rest}"] if rest else []


def _nothing_contradicts(
    clips: Sequence[Clip], names: Names, ranges: Ranges, found: Counter[str], lacking: Sequence[str]
) -> str:
    """Why the numbers may decide although `lacking` is not named. Raises DataError if a name disagrees with them."""
    if not found:
        return "no clip names its split"
    if len(found) == 1 and all(clip.split is not None for clip in clips):
        return f"every clip is called '{next(iter(found))}', which splits nothing"
    homes = {clip.id: home for clip in clips if clip.captions and (home := by_its_number(clip, ranges)) is not None}
    own = {name: split for split, name in names.items() if name is not None}
    taken = {own[name] for name in found if name in own}
    for name in (name for name in found if name not in own):  # such as val, where data.splits says validate
        ranked = Counter(homes[clip.id] for clip in clips if clip.split == name and clip.id in homes).most_common(1)
        if ranked and ranked[0][0] not in taken:
            own[name] = ranked[0][0]
            taken.add(own[name])
    against = [clip for clip in clips if clip.split and clip.id in homes and own.get(clip.split) != homes[clip.id]]
    if not against:
        return f"no clip is called {some(lacking)} (data.splits), and the other names agree with the numbers"
    numbers = Counter(homes.values())
    suggested = {split: _suggested(split, name, found) for split, name in names.items()}
    examples = (f"{clip.id} (called {clip.split}, by number {homes[clip.id]})" for clip in against)
    raise DataError(
        f"the annotations name splits, but none is called {some(lacking)} (data.splits), and the id numbers "
        f"(data.id_ranges) disagree with the names of {len(against):,} clips: {some(examples, 4)}. By name: "
        f"{_sizes(found)}; by number: {_sizes({split: numbers[split] for split in ranges})}. Say which, so that the "
        f"test is of the set that you mean: 'data.splits={{{_sizes(suggested, ': ')}}}' takes the names, a map "
        "data.fields with split: null takes the numbers, data.lists takes lists of ids."
    )


def _suggested(split: str, name: str | None, found: Mapping[str, int]) -> str:
    """What data.splits could say of a split."""
    if name in found:
        return str(name)
    return next((one for one in found if one.lower().startswith(split)), "null")


def _sizes(counts: Mapping[str, object], between: str = " ") -> str:
    return ", ".join(f"{name}{between}{count:,}" if isinstance(count, int) else f"{name}{between}{count}"
                     for name, count in counts.items())  # fmt: skip


def by_its_number(clip: Clip, ranges: Ranges) -> str | None:
    """The split in whose range the number at the end of a video's id is; None for no number, or one in no range."""
    if re.search(r"\.[A-Za-z]\w*$", clip.media):  # the number of mp4 is not the video's
        return None
    number = re.search(r"(?<!\d)0*(\d{1,18})$", clip.media)  # a longer number is in no range
    if number is None:
        return None
    return next((split for split, (first, last) in ranges.items() if first <= int(number[1]) <= last), None)


def by_number(clips: Sequence[Clip], ranges: Ranges) -> dict[str, list[Clip]]:
    """Clips by the number at the end of their ids. DataError: no number, or one that is in no range."""
    chosen: dict[str, list[Clip]] = {split: [] for split in ranges}
    outside = []
    for clip in clips:
        home = by_its_number(clip, ranges)
        if home is not None:
            chosen[home].append(clip)
        elif clip.captions:
            outside.append(clip.id)
    if outside:
        allowed = ", ".join(f"{split} {first}..{last}" for split, (first, last) in ranges.items())
        raise DataError(
            f"the annotations do not name all of the splits, and {len(outside)} ids are in none of the ranges "
            f"({allowed}): {some(outside)}."
        )
    return chosen


def by_lists(clips: Sequence[Clip], lists: Mapping[str, tuple[str, Sequence[str]]]) -> Chosen:
    """Clips by lists of ids. lists: split -> file and ids.

    Raises DataError: an id of which the annotations have no caption, an id in two lists.
    """
    of: dict[str, list[Clip]] = {media: [] for media in dict.fromkeys(clip.media for clip in clips if clip.captions)}
    for clip in clips:
        if clip.captions:
            of[clip.media].append(clip)
    chosen, home, problems = {}, {}, []
    origin = f"lists of ids ({', '.join(f'{split}: {file}' for split, (file, _) in lists.items())})"
    notes = []
    for split, (file, ids) in lists.items():
        unique = dict.fromkeys(ids)
        if len(unique) < len(ids):
            notes.append(f"{file}: {len(ids) - len(unique)} ids are in it twice and count once")
        if unknown := [one for one in unique if one not in of]:
            problems.append(
                f"{file} (data.lists.{split}): {len(unknown):,} of its {len(unique):,} ids have no caption in the "
                f"annotations: {some(unknown)}.{near(unknown[0], of)}"
            )
        if both := [one for one in unique if home.setdefault(one, split) != split]:
            problems.append(f"{file}: {len(both)} of its ids are in the list of {home[both[0]]} too: {some(both)}.")
        chosen[split] = [clip for one in unique for clip in of.get(one, [])]
    if problems:
        raise DataError("\n".join(problems))
    if rest := sum(len(own) for media, own in of.items() if media not in home):
        notes.append(f"{rest:,} clips of the annotations are in none of the lists (data.lists)")
    order = {clip.id: place for place, clip in enumerate(clips)}
    chosen = {split: sorted(own, key=lambda clip: order[clip.id]) for split, own in chosen.items()}
    return _every_split(Chosen(chosen, origin, notes=notes))


def in_files(files: Mapping[str, Sequence[str]]) -> str:
    """The origin of splits that have files of their own."""
    named = ", ".join(f"{split}: {' and '.join(names)}" for split, names in files.items() if names)
    return f"a file for each split ({named})"


def without_defects(chosen: Chosen, files: Sequence[Annotations]) -> Chosen:
    """The clips that have captions; the others, and what data.defects=drop left out, are counted in their splits."""
    for note in chosen.notes:
        log.warning("%s", note)
    home = {}
    for split, clips in chosen.clips.items():
        home |= {clip.media: split for clip in clips}
        bare = [clip.id for clip in clips if not clip.captions]
        if bare:
            log.warning("left out %d %s clips without a caption: %s", len(bare), split, some(bare))
        chosen.clips[split] = [clip for clip in clips if clip.captions]
        chosen.leave_out(split, "clip without a caption", len(bare))
    for file in files:
        if remark := file.remark():
            log.warning("%s", remark)
        for (_, defect), video in zip(file.found, file.videos, strict=True):
            if video in home:
                chosen.leave_out(home[video], defect.kind, 1)
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


def misfits(files: Mapping[str, Sequence[Clip]], names: Names) -> Iterator[str]:
    """What to tell about files of one split each that hold clips which they call by another split's name."""
    own = {name: split for split, name in names.items() if name is not None}
    for split, clips in files.items():
        others = Counter(clip.split for clip in clips if own.get(clip.split, split) != split)
        for name, count in others.items():
            yield f"{count:,} clips of data.annotations.{split}, which is read whole, are called '{name}' in it"
