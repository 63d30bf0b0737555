"""What decoding keeps: keys and values of rows that do not change any more, those of the video and the words so far.

    memory = Memory(room=20, beams=4)
    stack(video, memory=memory); memory.keep()      # 784 rows, once
    stack(words, keep, memory=memory); memory.keep(1)   # the first of the new rows is kept, the others are not

The video never attends to the text, and no word to a later one, so what is kept is what would be computed again.
"""

from typing import Any

from torch import Tensor


class Memory:
    """The rows of every layer that have been kept.

    room: how many rows there can be after the first ones (those of the video). beams: how many continuations each
    sample of the first rows has; their batch is B, that of later rows B x beams, with a sample's beams side by side.
    """

    def __init__(self, room: int, beams: int = 1):
        self.room, self.beams = room, beams
        self.first = self.kept = self.new = 0  # numbers of rows
        self.buffers: dict[Any, Tensor] = {}

    def extend(self, name: Any, rows: Tensor) -> Tensor:
        """rows (B, G, n, d) -> those kept under that name and `rows` after them, (B, G, kept + n, d)."""
        self.new = rows.shape[2]
        if not self.kept:
            whole = rows.new_empty(len(rows) * self.beams, rows.shape[1], self.new + self.room, rows.shape[3])
            whole[:, :, : self.new] = rows.repeat_interleave(self.beams, 0)
            self.buffers[name] = whole
            return rows
        end = self.kept + self.new
        self.buffers[name][:, :, self.kept : end] = rows
        return self.buffers[name][:, :, :end]

    def keep(self, rows: int | None = None) -> None:
        """Keeps the first `rows` of the rows that came last; None is all. The next rows overwrite the others."""
        self.kept += self.new if rows is None else rows
        self.first = self.first or self.kept

    def reorder(self, order: Tensor) -> None:
        """Lets row i of the batch continue row order[i] of the same sample: only words move, the video is the same."""
        for buffer in self.buffers.values():
            buffer[:, :, self.first : self.kept] = buffer[order, :, self.first : self.kept]
