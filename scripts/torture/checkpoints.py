"""Kills a process many times while it writes checkpoints, with the temporary folder on the same and on another file
system. After every kill a checkpoint can be read, and after the next start no draft is left anywhere."""

import argparse
import os
import random
import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from scripts.torture.children import started

SIZES = {"model": 300_000, "optimiser": 600_000}  # numbers in each, 3.6 MB in all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=100, help="for each place of the temporary folder")
    parser.add_argument("--folder", type=Path, help="where the checkpoints are written (default: a temporary folder)")
    parser.add_argument("--other", type=Path, default=Path("/dev/shm"), help="a folder on another file system")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a page (.md) for the table")


def main(chosen: argparse.Namespace) -> int:
    """Prints a line for each place. Returns 1 if a checkpoint was lost or a file left."""
    import torch

    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as here, tempfile.TemporaryDirectory(dir=chosen.other) as there:
        several = Path(here).stat().st_dev != Path(there).stat().st_dev
        for name, temporary in (("the same", here), ("another" if several else "the same (no other found)", there)):
            rows.append(
                {"file system of TMPDIR": name, **kills(Path(here), Path(temporary), chosen.kills, chosen.seed)}
            )
            print(", ".join(f"{key}: {value}" for key, value in rows[-1].items()), flush=True)
    if chosen.out is not None:
        from scripts.torture.page import write_rows

        write_rows(chosen.out, "checkpoints", rows, chosen)
    return int(any(row["unreadable"] or row["left over"] for row in rows))


def kills(folder: Path, temporary: Path, count: int, seed: int) -> dict[str, int]:
    """What was found after `count` kills at random moments of the writing."""
    from tasks.common.checkpoint_files import LAST, PREVIOUS, clean, readable
    from tasks.common.errors import CheckpointError

    chance, path = random.Random(seed), folder / f"{temporary.name}-run" / LAST
    scratch = temporary / "scratch"
    scratch.mkdir()
    unreadable = backwards = drafts = left = step = 0
    for _ in range(count):
        process = started(folder / "output.txt", partial(write_on, path, step), TMPDIR=str(scratch))
        before = time.monotonic()
        while not path.exists() and time.monotonic() < before + 60:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.15))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        drafts += len(list(path.parent.glob(".*")))
        clean(path.parent)  # as every run does at its start
        left += len([file for file in path.parent.iterdir() if file.name not in (LAST, PREVIOUS)])
        left += len(list(scratch.iterdir()))
        try:
            found = readable(path)[1]["step"]
        except CheckpointError:
            unreadable += 1
            continue
        backwards += found < step
        step = found
    return {"kills": count, "amid writing": drafts, "unreadable": unreadable, "older than before": backwards,
            "left over": left}  # fmt: skip


def write_on(path: Path, step: int) -> None:
    """Writes checkpoint after checkpoint, until it is killed."""
    import torch

    from tasks.common.checkpoint_files import write_checkpoint

    while True:
        step += 1
        write_checkpoint({"step": step, **{name: torch.full((size,), step) for name, size in SIZES.items()}}, path)
