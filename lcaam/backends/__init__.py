"""Backends: different ways to compute the same attention.

Each is a function `backend(query, key, value, mask, fusion, keep, causal, dropout, scale, softcap, return_lse)`; `keep`
is None, or bool and broadcasts to (B, H, N_q, N_k). Those of WINDOWED have `window` as well, the others get it in
`keep`; those of GROUPING take fewer heads of key and value than of query.
"""

from lcaam.backends.chunked import chunked
from lcaam.backends.reference import reference
from lcaam.backends.sdpa import sdpa
from lcaam.backends.triton import triton

BACKENDS = {"reference": reference, "sdpa": sdpa, "chunked": chunked, "triton": triton}
WINDOWED = GROUPING = frozenset({"triton"})
