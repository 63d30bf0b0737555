"""Memory: what decoding keeps, the keys, values and mask columns of the rows that do not change any more.

>>> memory = Memory()
>>> encoder(prompt, causal=True, memory=memory); memory.keep()   # (B, n, dim), once
>>> encoder(token, causal=True, memory=memory); memory.keep()    # (B, 1, dim), again and again

A step with N rows kept costs O(N (d + R)) per head, and the rows that it returns are those that the whole sequence
would have, if no kept row may attend to a later one. The first step may be a part that sees all of itself (a video),
with the parts written behind it one by one, in several versions (beams) if asked for:

>>> memory = Memory(room=20, beams=4)
>>> stack(video, memory=memory); memory.keep()
>>> stack(words, keep, memory=memory); memory.keep(1)   # the first of the new rows is kept, the others are not
"""

from typing import Any

import torch
from torch import Tensor


class Memory:
    """The rows of every layer that have been kept.

    room:  how many rows there can be after the first ones, for which memory is taken at once; None doubles what there
           is whenever it is full.
    beams: how many continuations each sample of the first rows has; their batch is B, that of later rows B x beams,
           with a sample's beams side by side.

    One Memory serves a whole model, but one sequence only: start another one with a new Memory. It is for decoding
    without gradients (torch.no_grad or torch.inference_mode). Raises ValueError for a negative room, or no beams.
    """

    def __init__(self, room: int | None = None, beams: int = 1):
        if (room is not None and room < 0) or beams < 1:
            raise ValueError(f"Memory: room is at least 0, or None, and beams at least 1, got {room} and {beams}")
        self.room, self.beams = room, beams
        self.first = self.kept = self.new = 0  # numbers of rows
        self.buffers: dict[Any, Tensor] = {}
        self.waiting: set[Any] = set()  # names under which rows came since the last `keep`

    def extend(self, name: Any, rows: Tensor) -> Tensor:
        """rows (B, G, n, d) -> those kept under that name and `rows` after them, (B, G, kept + n, d).

        name: anything hashable; what is stored in a step is told apart by it. Raises ValueError for rows with
        gradients, for a name that comes twice in a step or was not there in the first one, and for rows that do not
        fit into the room or have another shape than those before.
        """
        if rows.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                "Memory is for decoding: it overwrites its rows, so no gradients go through it. Use torch.no_grad() "
                "or torch.inference_mode()"
            )
        if name in self.waiting:
            raise ValueError(
                "Memory: rows came twice in one step. After each step call memory.keep(), or memory.keep(0) to forget "
                "its rows; a module that a step uses twice needs two memories"
            )
        self.waiting.add(name)
        self.new = rows.shape[2]
        if not self.kept:
            self.buffers[name] = self.enlarged(rows.repeat_interleave(self.beams, 0), self.new + (self.room or 0))
            return rows
        end, buffer = self.kept + self.new, self.buffers.get(name)
        if buffer is None:
            raise ValueError("Memory: a module keeps rows that it did not keep in the first step of the sequence")
        if end > buffer.shape[2]:
            if self.room is not None:
                raise ValueError(
                    f"Memory(room={self.room}): {end - self.first} rows came after the first {self.first}; give more "
                    "room, or room=None, which grows"
                )
            buffer = self.buffers[name] = self.enlarged(buffer[:, :, : self.kept], max(end, 2 * buffer.shape[2]))
        place = buffer[:, :, self.kept : end]
        if rows.shape != place.shape:
            raise ValueError(f"Memory: rows of shape {tuple(rows.shape)} come where {tuple(place.shape)} belong")
        place.copy_(rows)
        return buffer[:, :, :end]

    @staticmethod
    def enlarged(rows: Tensor, count: int) -> Tensor:
        """The rows (B, G, n, d) at the start of a buffer for `count` of them."""
        batch, groups, number, width = rows.shape
        if count == number:
            return rows.clone()
        buffer = rows.new_empty(batch, groups, count, width)
        buffer[:, :, :number] = rows
        return buffer

    def keep(self, rows: int | None = None) -> None:
        """Keeps the first `rows` of the rows that came last; None is all. The next rows overwrite the others.

        ValueError for more rows than came.
        """
        rows = self.new if rows is None else rows
        if not 0 <= rows <= self.new:
            raise ValueError(f"Memory.keep: {rows} rows cannot be kept, the last step had {self.new}")
        self.kept += rows
        self.first = self.first or self.kept
        self.new = 0
        self.waiting.clear()

    def reorder(self, order: Tensor) -> None:
        """Lets row i of the batch continue row order[i] of the same sample: the first rows do not move, they are equal
        in all beams of a sample."""
        for buffer in self.buffers.values():
            buffer[:, :, self.first : self.kept] = buffer[order, :, self.first : self.kept]
