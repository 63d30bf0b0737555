"""Uploads a sweep's offline W&B runs, each exactly once.

    python -m scripts.sync_wandb table1a                             every multirun of the sweep below logs/
    python -m scripts.sync_wandb logs/multirun/<time>                one multirun
    python -m scripts.sync_wandb logs/madv2_lcaam --dry-run          says what would be uploaded from below a folder

What is uploaded is marked by W&B itself (a file .wandb.synced beside the run's), and is not uploaded again. The parts
of a run that was resumed have one id and go up together, in the order in which they began: they are one run of W&B's.
An upload that fails is named, the others go on, the command ends with 1, and the next call tries it again.
A run that has not ended is left out: what it logs later would be lost. --killed uploads such runs if they were killed.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from scripts.arguments import parser_for
from scripts.sweep_runs import LOGS, Run, found

OFFLINE = re.compile(r"offline-run-(?P<began>\d{8}_\d{6})-(?P<id>.+)")
MARK = ".synced"  # what W&B adds to the name of a file that it has uploaded


def uploader() -> tuple[str, ...]:
    """W&B's own command, to which the folders of a run's parts are added; before 0.30 `wandb sync` was another one."""
    release = tuple(int(part) for part in version("wandb").split(".")[:2])
    return (sys.executable, "-m", "wandb", *(("sync",) if release >= (0, 30) else ("beta", "sync")))


@dataclass
class Upload:
    """One run of W&B's. parts: the folders of its offline files, in the order in which they began."""

    id: str
    parts: list[Path] = field(default_factory=list)
    open: list[Path] = field(default_factory=list)  # folders of runs that have not ended

    @property
    def todo(self) -> list[Path]:
        return [part for part in self.parts if not synced(part)]

    def __str__(self) -> str:
        parts = f" ({len(self.todo)} parts)" if len(self.todo) > 1 else ""
        return f"{self.id}{parts}: {self.parts[-1].parent.parent}"


def synced(part: Path) -> bool:
    """Whether W&B has marked every file of a part as uploaded."""
    return all(path.with_name(path.name + MARK).is_file() for path in part.glob("*.wandb"))


def uploads(runs: Sequence[Run]) -> list[Upload]:
    """The W&B runs of the runs, oldest first; a part without a file, as a killed start leaves, is none."""
    by_id: dict[str, Upload] = {}
    for run in runs:
        for part in run.folder.glob("wandb/offline-run-*"):
            if (match := OFFLINE.fullmatch(part.name)) and any(part.glob("*.wandb")):
                upload = by_id.setdefault(match["id"], Upload(match["id"]))
                upload.parts.append(part)
                if run.record.get("status") == "running" and not run.superseded:
                    upload.open.append(run.folder)
    for upload in by_id.values():
        upload.parts.sort(key=lambda part: part.name)
    return sorted(by_id.values(), key=lambda upload: upload.parts[0].name)


def upload(one: Upload, sync: Sequence[str]) -> str:
    """Uploads what is left of a run. Returns why it failed; empty if W&B has marked all of it as uploaded.

    The mark counts and not the program's exit status, which is 0 also if nobody is logged in.
    """
    try:
        with FileLock(one.parts[0].parent / ".upload.lock", timeout=0):
            if not (todo := one.todo):
                return ""
            ordered = ["--id", one.id] if len(one.parts) > 1 else []  # W&B then takes parts in the order of their start
            command = [*sync, *ordered, *map(str, todo)]
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except Timeout:
        return "another process is uploading it"
    except OSError as error:
        return f"{sync[0]}: {error}"
    if not one.todo:
        return ""
    said = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
    status = f"exit status {done.returncode}" if done.returncode else "W&B did not mark it as uploaded"
    return f"{status}: {said[-1]}" if said else status


def main(arguments: Sequence[str] | None = None, sync: Sequence[str] | None = None) -> int:
    """The command line; returns 1 if something was not uploaded. sync: instead of W&B's own command."""
    given = parsed(arguments)
    try:
        runs = found(given.sweep, given.logs)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    every = uploads(runs)
    if not every:
        print(
            f"{given.sweep}: {len(runs)} runs, none with an offline run of W&B (logger=many writes one)",
            file=sys.stderr,
        )
        return 1
    left = [one for one in every if one.todo and one.open and not given.killed]
    todo = [one for one in every if one.todo and one not in left]
    failed = []
    for one in todo:
        if given.dry_run:
            print(f"would upload {one}")
            continue
        print(f"uploading {one}", flush=True)
        if why := upload(one, sync or uploader()):
            failed.append(one)
            print(f"failed: {one}: {why}", file=sys.stderr)
    for one in left:
        print(f"left out: {one}: it has not ended; --killed uploads it if it was killed", file=sys.stderr)
    before = len(every) - len(todo) - len(left)
    new = f"{len(todo)} to upload" if given.dry_run else f"{len(todo) - len(failed)} uploaded"
    print(f"{len(every)} runs: {new}, {before} uploaded before, {len(failed)} failed, {len(left)} not ended")
    return 1 if failed else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_for("sync_wandb", __doc__)
    parser.add_argument("sweep", help="a sweep of configs/sweep/, the folder of a multirun, or any folder with runs")
    parser.add_argument("--dry-run", action="store_true", help="only says what would be uploaded")
    parser.add_argument("--killed", action="store_true", help="also runs whose record says that they are running")
    parser.add_argument("--logs", type=Path, default=LOGS, help="where the multiruns of a sweep lie")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
