"""Backends: different ways to compute the same attention.

Each is a function `backend(query, key, value, mask, fusion, keep, dropout, scale)`.

`keep` arrives here as one bool tensor that broadcasts to (B, H, N_q, N_k), causality included, or None.
"""

from lcaam.backends.reference import reference
from lcaam.backends.sdpa import sdpa

BACKENDS = {"reference": reference, "sdpa": sdpa}
