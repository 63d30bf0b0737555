"""An offline W&B run, read back by W&B's own command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def records_of(run: Path) -> list[dict]:
    """What the run's file holds, in order. Skips if W&B cannot show it: its command came with 0.31."""
    program = Path(sys.executable).with_name("wandb")
    if not program.exists():
        pytest.skip("no wandb command beside this Python")
    command = [str(program), "leet", "inspect", "--json"]
    done = subprocess.run([*command, str(run)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode and "No such" in done.stderr:
        pytest.skip("this wandb has no `leet inspect --json`, which came with 0.31")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
