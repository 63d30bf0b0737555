"""What the studies from files to answers share: parts that are made once, commands, the way a result is told."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from configs.resolvers import ROOT
from datamodules.errors import DataError
from scripts.benchmarks.common import at_least_one, between_marks
from tasks.common.errors import CheckpointError
from tasks.common.files import write_json, write_text

PART = "scores"  # between whose marks a page has the table


def called(*words: object) -> tuple[str, float]:
    """Runs a command of the project; (the command in words, seconds of CPU). Raises CheckpointError if it fails."""
    command = [str(word) for word in words]
    before = os.times()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    after = os.times()
    if done.returncode:
        raise CheckpointError(f"{shlex.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return shlex.join(["python", *command]), spent


def made_once(work: Path, settings: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns, with the settings; of an earlier study with the same ones, what is written in `work`.

    Raises DataError: `work` was made with other settings, or not to its end.
    """
    record = work / "made.json"
    if record.is_file():
        told = json.loads(record.read_text(encoding="utf-8"))
        if told["settings"] != settings:
            raise DataError(f"{work} was made with other settings: {told['settings']}; name another --work.")
        return told
    if work.exists():
        raise DataError(f"{work} is there, without {record.name}: an earlier study did not end; remove it.")
    told = {"settings": settings, **make()}
    write_json(record, told)
    return told


def trained_once(logs: Path, *words: object) -> dict[str, Any]:
    """One run of train.py with these words, with its outputs in `logs`: its command, folder and results."""
    if not list(logs.rglob("results.json")):
        command, spent = called("train.py", *words, f"paths.log_dir={logs}", "logger=csv")
        write_json(logs / "command.json", {"command": command, "cpu_seconds": round(spent, 1)})
    results = max(logs.rglob("results.json"))
    told = json.loads((logs / "command.json").read_text(encoding="utf-8"))
    return told | {"folder": results.parent, "results": json.loads(results.read_text(encoding="utf-8"))}


def run_and_tell(
    name: str,
    study: Callable[[argparse.Namespace], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
    parser: argparse.ArgumentParser,
    given: Sequence[str],
) -> None:
    """Adds the options that all these studies have, runs one and prints its table; writes --out and --page.

    name: the study's module. Ends with a message if files are wrong.
    """
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--page", type=Path, help="Markdown page whose table is replaced")
    chosen = parser.parse_args(given)
    torch.set_num_threads(chosen.threads)
    chosen.work = chosen.work.absolute()
    try:
        result = study(chosen)
    except (DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))
    told = result | {"command": shlex.join(["python", "-m", f"scripts.studies.{name}", *given])}
    print(table(told))
    if chosen.out:
        write_json(chosen.out, portable(told, chosen.work))
    if chosen.page:
        text = chosen.page.read_text(encoding="utf-8")
        write_text(chosen.page, between_marks(text, PART, table(told)))


def portable(value: Any, work: Path) -> Any:
    """The same without the place of `work` on this machine."""
    return json.loads(json.dumps(value).replace(str(work), "WORK"))
