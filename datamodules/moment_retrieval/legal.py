"""What is legal in the annotation of a video: clips and windows. The data module and the evaluator both ask here.

    clips_of(31.0, 2.0), whole_clips(31.0, 2.0)            # (16, 15): the last clip is cut
    window_faults(10.0, 34.0, 31.0, Tolerance(after=2.0))  # {"reversed": False, "empty": False, "outside": True}

A video has as many clips as it takes to cover it, the last of which may be cut, and at least one. The benchmark scores
its whole clips, and a cut last one if it is rated (the benchmark's own code stops there).
The functions take numbers as well as NumPy arrays.
"""

from typing import Any, NamedTuple

import numpy as np

ROUNDING = 1e-6  # 0.6 s are three clips of 0.2 s, though 0.6 / 0.2 < 3


class Tolerance(NamedTuple):
    """What is overlooked in a window."""

    before: float = 0.0  # seconds by which it may begin before its video
    after: float = 0.0  # seconds by which it may end after it
    empty: bool = False  # whether it may have no length (it can only be missed)


def clips_of(duration: Any, clip_length: float) -> Any:
    """Clips of a video of `duration` seconds, a cut last one included: relevant clips are numbers below it."""
    return _whole(np.maximum(1, np.ceil(np.divide(duration, clip_length) - ROUNDING)))


def whole_clips(duration: Any, clip_length: float) -> Any:
    """Clips of full length; 0 for a video that is shorter than a clip."""
    return _whole(np.floor(np.divide(duration, clip_length) + ROUNDING))


def scored_clips(duration: Any, clip_length: float, last: Any = -1) -> Any:
    """Clips of which a saliency score is compared: the whole ones, at least one, and a cut last one if it is rated.

    last: the last relevant clip, -1 if there is none.
    """
    return _whole(np.maximum(np.maximum(1, whole_clips(duration, clip_length)), np.add(last, 1)))


def _whole(numbers: np.ndarray) -> Any:
    return int(numbers) if np.ndim(numbers) == 0 else numbers.astype(int)


def window_faults(start: Any, end: Any, duration: Any, tolerance: Tolerance) -> dict[str, Any]:
    """Whether windows [start, end] of a video of `duration` seconds are reversed, empty, outside: numbers or arrays."""
    outside = (start < -tolerance.before) | (end > duration + tolerance.after)
    empty = (end == start) if not tolerance.empty else (end != end)
    return {"reversed": end < start, "empty": empty, "outside": outside}
