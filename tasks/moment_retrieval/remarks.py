"""Likely mistakes in files that can be scored: windows in another unit or form, lists in rising order of score.

    for line in remarks(pair(submission, truth, clip_length=2.0, max_windows=10), 2.0, LENGTHS):
        print(line)

Another unit is said only if the truth speaks for it: read so, the first listed windows fit far better.
Letters: Q queries, L listed windows, G true windows.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tasks.moment_retrieval.submission import Pairs

GAIN, BETTER = 0.2, 2.0  # mean IoU that another reading must add, and by which factor it must be higher
RISING = 0.5  # share of the lists that rise


def remarks(pairs: Pairs, clip_length: float, lengths: Mapping[str, tuple[float, float | None]]) -> list[str]:
    """One line per likely mistake; clip_length in seconds, lengths as in tasks/moment_retrieval/scores.py."""
    length, query = (pairs.truth[..., 1] - pairs.truth[..., 0])[pairs.is_truth], np.nonzero(pairs.is_truth)[0]
    return [*_other_reading(pairs, clip_length), *_order(pairs), *outside(length, query, lengths)]


def _other_reading(pairs: Pairs, clip_length: float) -> Iterator[str]:
    duration = pairs.duration[:, None, None]
    seconds = pairs.listed[:, :1]  # (Q, 1, 2)
    readings: dict[str, Callable[[], np.ndarray]] = {
        "[start, end] as shares of the video": lambda: seconds * duration,
        f"[start, end] in clips of {clip_length:g} s": lambda: seconds * clip_length,
        "[centre, width] in seconds": lambda: _ends(seconds),
        "[centre, width] as shares of the video": lambda: _ends(seconds) * duration,
        f"[centre, width] in clips of {clip_length:g} s": lambda: _ends(seconds) * clip_length,
    }
    given = _mean_iou(seconds, pairs)
    fits = {name: _mean_iou(read(), pairs) for name, read in readings.items()}
    name = max(fits, key=fits.__getitem__)
    if fits[name] > given + GAIN and fits[name] > BETTER * given:
        yield (
            f"the submission's windows look like {name}: read so, the first ones have a mean IoU of {fits[name]:.2f} "
            f"with the truth, as [start, end] in seconds of {given:.2f}. They were scored as seconds"
        )


def _ends(windows: np.ndarray) -> np.ndarray:
    centre, half = windows[..., 0], windows[..., 1] / 2
    return np.stack([centre - half, centre + half], -1)


def _mean_iou(first: np.ndarray, pairs: Pairs) -> float:
    """Mean over queries of the best IoU of one window each, (Q, 1, 2)."""
    common = np.minimum(first[..., 1], pairs.truth[..., 1]) - np.maximum(first[..., 0], pairs.truth[..., 0])  # (Q, G)
    hull = np.maximum(first[..., 1], pairs.truth[..., 1]) - np.minimum(first[..., 0], pairs.truth[..., 0])
    share = np.divide(common.clip(0), hull, out=np.zeros_like(hull), where=hull > 0)
    return float((share * pairs.is_truth).max(1).mean())


def _order(pairs: Pairs) -> Iterator[str]:
    several = np.isfinite(pairs.scores[:, 1]) if pairs.scores.shape[1] > 1 else np.zeros(len(pairs.scores), bool)
    scores = pairs.scores[several]
    real = np.isfinite(scores)
    steps = np.diff(np.where(real, scores, scores.max(1, keepdims=True, initial=-np.inf)), axis=1)
    rising = ((steps >= 0) | ~real[:, 1:]).all(1) & (scores[:, 0] < scores.max(1, initial=-np.inf))
    if rising.sum() > RISING * len(scores):
        yield (
            f"{rising.sum()} of {len(scores)} lists of windows are in rising order of score: R1 reads the window that "
            "is listed first, so list the best one first"
        )


def outside(length: np.ndarray, query: np.ndarray, lengths: Mapping[str, tuple[float, float | None]]) -> Iterator[str]:
    """A line if true windows are in none of the length ranges. length (W,): seconds; query (W,): whose window it is."""
    inside = np.zeros(len(length), bool)
    for above, up_to in lengths.values():
        inside |= (length > above) & (length <= (np.inf if up_to is None else up_to))
    if lengths and not inside.all():
        left = length[~inside]
        yield (
            f"{len(left)} of {len(length)} true windows, of {len(np.unique(query[~inside]))} queries, are in none of "
            f"the length ranges ({described(lengths)}); they last {left.min():g} to {left.max():g} s"
        )


def described(lengths: Mapping[str, tuple[float, float | None]]) -> str:
    """ "short 0 to 10 s, long above 30 s"."""
    return ", ".join(
        f"{name} above {above:g} s" if up_to is None else f"{name} {above:g} to {up_to:g} s"
        for name, (above, up_to) in lengths.items()
    )
