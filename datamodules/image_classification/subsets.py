"""Which training images are held out for validation, and which fraction of the others is used.

    order = class_orders(labels, names, seed=0)        # for each class, its images in a fixed random order
    val, rest = hold_out(order, 10_000)
    tenth = take_fraction(rest, 0.1)                   # inside take_fraction(rest, 0.25)

The order within a class is that of a hash of (seed, name), so it depends on no other image: it is the same on every
machine, and an image that is added or dropped moves no other one.
"""

import hashlib

import numpy as np

from datamodules.errors import DataError

Orders = list[np.ndarray]  # for each class, positions of its images


def class_orders(labels: np.ndarray, names: np.ndarray, classes: int, seed: int) -> Orders:
    """labels (N,) int64, names (N,) bytes -> for each class the positions of its images in hash order."""
    key = str(seed).encode()
    ranks = [hashlib.blake2b(name, digest_size=8, key=key).digest() for name in names.tolist()]
    ranks = np.frombuffer(b"".join(ranks), dtype=">u8").astype(np.uint64)
    order = np.lexsort((ranks, labels))
    return np.split(order, np.searchsorted(labels[order], np.arange(1, classes)))


def hold_out(orders: Orders, count: int, setting: str = "data.val_split") -> tuple[Orders, Orders]:
    """(held out, rest): `count` images in all, from every class in proportion to its size (largest remainders first).

    Every class keeps an image for training. Raises DataError, which names the setting, if that leaves too few.
    """
    sizes = np.array([len(order) for order in orders])
    if count > (most := int((sizes - 1).clip(0).sum())):
        raise DataError(
            f"{setting}={count}: at most {most} of the {sizes.sum()} training images can be held out, as each of "
            f"the {len(orders)} classes keeps one. A share, such as {setting}=0.1, holds a tenth out."
        )
    shares = count * sizes / sizes.sum()
    takes = np.minimum(shares.astype(np.int64), (sizes - 1).clip(0))
    by_need = np.argsort(takes - shares, kind="stable")  # the class furthest below its share first
    while (short := count - int(takes.sum())) > 0:
        able = by_need[takes[by_need] < sizes[by_need] - 1][:short]
        takes[able] += 1
    return (
        [order[:take] for order, take in zip(orders, takes, strict=True)],
        [order[take:] for order, take in zip(orders, takes, strict=True)],
    )


def take_fraction(orders: Orders, fraction: float) -> Orders:
    """The first `fraction` (0 < fraction <= 1) of each class, rounded half up, at least one image."""
    return [order[: max(1, int(fraction * len(order) + 0.5))] for order in orders]
