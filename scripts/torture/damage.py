"""69 damaged copies of a file: flipped bits, cuts, swapped blocks, runs of 0xFF, and the like.

for name, data in damaged(whole, seed=0): ...
"""

import random
from collections.abc import Iterator

EDGE = 64  # bytes of the head and of the tail that get flips of their own
FLIPS, CUTS, SWAPS, RUNS = 14, 10, 7, 5


def damaged(whole: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each copy; the same ones for the same seed."""
    draw = random.Random(seed)
    size = len(whole)
    places = {"head": (0, min(EDGE, size)), "anywhere": (0, size), "tail": (max(0, size - EDGE), size)}
    for where, (first, end) in places.items():
        for number in range(FLIPS):
            data = bytearray(whole)
            data[draw.randrange(first, end)] ^= 1 << draw.randrange(8)
            yield f"flip {where} {number}", bytes(data)
    for number in range(CUTS):
        left = {0: size - 1, 1: size // 2}.get(number, draw.randrange(2, size))
        yield f"cut {number}", whole[:left]
    for number in range(SWAPS):
        length = max(1, min(16, size // 4))
        one = draw.randrange(0, size // 2 - length + 1)
        other = draw.randrange(size // 2, size - length + 1)
        data = bytearray(whole)
        data[one : one + length], data[other : other + length] = (
            whole[other : other + length],
            whole[one : one + length],
        )
        yield f"swap {number}", bytes(data)
    for number in range(RUNS):
        length = max(1, min(16, size // 4))
        first = draw.randrange(0, size - length + 1)
        yield f"0xFF {number}", whole[:first] + b"\xff" * length + whole[first + length :]
    yield "empty", b""
    yield "one byte", whole[:1]
    yield "twice", whole + whole
    yield "zeros", bytes(size)
    yield "junk at the end", whole + draw.randbytes(100)
