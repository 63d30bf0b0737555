"""Pixels of every mini data set: scikit-learn's 1,797 handwritten digits (8 x 8), split by image.

No image of one split is in another:

    images, labels = digit_images("test", seed=0)   # (N, 8, 8) and (N,)
    rows = enlargement(20)                          # (20, 8): rows @ image @ rows.T is the image at 20 x 20
"""

import numpy as np

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 8  # pixels along a side of a digit
SPLITS = {"train": (0.0, 0.70), "val": (0.70, 0.80), "test": (0.80, 1.0)}  # shares of each class


def handwriting():
    """scikit-learn's digits. Imported here since that takes a second, and a data set that exists does not need it."""
    from sklearn.datasets import load_digits

    return load_digits()


def digit_indices(split: str, seed: int) -> np.ndarray:
    """Indices into scikit-learn's digits that belong to `split` (sorted); every class is split by the same shares."""
    labels = handwriting().target
    rng = np.random.default_rng([seed, 0xD161])
    low, high = SPLITS[split]
    chosen = []
    for digit in range(10):
        order = rng.permutation(np.flatnonzero(labels == digit))
        chosen.append(order[round(low * len(order)) : round(high * len(order))])
    return np.sort(np.concatenate(chosen))


def digit_images(split: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 8, 8) float32 in [0, 1] and labels (N,) int64 of a split."""
    index = digit_indices(split, seed)
    data = handwriting()
    return (data.images[index] / 16).astype(np.float32), data.target[index].astype(np.int64)


def enlargement(side: int) -> np.ndarray:
    """(side, 8) float32: interpolates 8 pixels linearly to `side`; whole pixels at both ends, and rows sum to 1."""
    at = (np.arange(side) + 0.5) * SIDE / side - 0.5
    weights = np.clip(1 - np.abs(at.clip(0, SIDE - 1)[:, None] - np.arange(SIDE)), 0, None)
    return weights.astype(np.float32)
