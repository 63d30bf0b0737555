"""What a run ran on and with: versions, commit, command, peak memory."""

import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig

import lcaam
from configs.command_line import unmarked

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lcaam", "torch", "torchvision", "pytorch-lightning", "transformers", "timm", "numpy", "hydra-core")


def versions() -> dict[str, str | None]:
    """The Python and package versions; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["lcaam"] = found["lcaam"] or lcaam.__version__
    return found


def git_state() -> dict[str, Any]:
    """The commit, and whether tracked files differ from it, those of docs/ apart: no run reads its code there, and
    commands write their tables there while others run. Both None outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)docs")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def command() -> str:
    """The command that repeats this very run; for a job of a multirun, with its own overrides, not with the sweep's."""
    if not HydraConfig.initialized():
        return shlex.join(["python", *sys.argv])
    overrides = [item for item in HydraConfig.get().overrides.task if not item.startswith("sweep=")]
    return shlex.join(["python", "train.py", *unmarked(overrides)])


def peak_memory() -> dict[str, int]:
    """The largest memory so far, in bytes, of this process (a multirun's jobs share one) and of the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        peak["cuda"] = torch.cuda.max_memory_allocated()
    return peak
