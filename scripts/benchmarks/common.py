"""What all benchmarks write down: the command, the machine, the clock."""

import argparse
import json
import platform
import re
import shlex
import sys
from pathlib import Path

import torch


def about(device: str) -> dict:
    """What a result needs beside its rows to be repeated."""
    return {
        "command": shlex.join(["python", "-m", "scripts.benchmark", *sys.argv[1:]]),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": torch.cuda.get_device_name() if device != "cpu" else cpu_name(),
    }


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def at_least_one(text: str) -> int:
    """A whole number of at least 1, as a type for argparse."""
    if not text.isdecimal() or (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def between_marks(page: str, name: str, inner: str) -> str:
    """The page with other lines between a benchmark's marks. ValueError if it does not have one pair of them."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- /{name} -->)", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"the page needs one pair of lines '<!-- {name} -->' and '<!-- /{name} -->' around its block")
    return pattern.sub(lambda found: f"{found[1]}{inner}{found[2]}", page)


def write_result(path: Path, result: dict) -> None:
    """A benchmark's JSON: one line per row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps(row) for row in result.get("rows", ())]
    text = json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1)
    if "rows" in result:
        text = text.removesuffix("\n}") + ',\n "rows": [\n  ' + ",\n  ".join(rows) + "\n ]\n}"
    path.write_text(text + "\n", encoding="utf-8")
