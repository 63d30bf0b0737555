"""Rows of features whose numbers a model can use.

check_numbers(values, "clip_features/a.npz (vid a)")     # DataError: ... row 3: not finite (NaN or infinity) ...
"""

import numpy as np

from datamodules.errors import DataError


def check_numbers(values: np.ndarray, where: str, first: int = 0) -> None:
    """DataError that names the first row of `values` (n, ...) that holds NaN, infinity, or numbers so large that
    float32 has no norm of the row. first: the number of `values`' first row."""
    values = values.astype(np.float32, copy=False).reshape(len(values), -1)
    with np.errstate(all="ignore"):
        if np.isfinite(np.vdot(values, values)):  # several times faster than looking at every number
            return
        bad, large = ~np.isfinite(values).all(1), ~np.isfinite(np.einsum("ij,ij->i", values, values))
    if bad.any():
        raise DataError(
            f"{where}, row {first + bad.argmax()}: not finite (NaN or infinity), in {bad.sum()} of {len(bad)} rows."
        )
    if large.any():
        raise DataError(
            f"{where}, row {first + large.argmax()}: values up to {np.abs(values).max():.3g}, too large for a norm of "
            "the row in float32."
        )
