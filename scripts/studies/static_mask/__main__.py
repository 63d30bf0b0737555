"""SwinBERT's published static mask is closed when training starts: by how much, and does training ever open it?

    python -m scripts.studies.static_mask init --out docs/results/static_mask_init.json \\
        --page docs/results/static_mask.md
    python -m scripts.studies.static_mask train --out docs/results/static_mask_train.json \\
        --page docs/results/static_mask.md

`init` is the published size (784 video and 50 text tokens, 12 layers, width 768) before the first step, about two
minutes and 4 GiB on one thread of a CPU; `train` follows runs of scale=mini, about a minute each. Both print a Markdown
table, write JSON and a figure beside it, and bring the page's table between the two marks of their part up to date.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException

from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.benchmarks.common import about, at_least_one, between_marks
from scripts.studies.static_mask import init, training
from tasks.common.errors import CheckpointError, NonFiniteLossError

PARTS = {
    "init": (init, "before the first step, at the published size"),
    "train": (training, "while the mini model trains"),
}


def block(part: str, result: dict[str, Any], figure: str) -> str:
    """The text between a part's marks: the command, its table, its figure (a path relative to the page)."""
    picture = f'<img src="{figure}" width="900" alt="{PARTS[part][1]}">'
    return "\n\n".join([f"    {result['command']}", PARTS[part][0].table(result), picture])


def compact(value: Any, indent: str = "") -> str:
    """JSON in which everything that fits into 600 characters is one line: long results have one line per record."""
    line = json.dumps(value)
    if len(line) <= 600 or not isinstance(value, dict | list):
        return line
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(key)}: {compact(item, inner)}" for key, item in value.items()]
    else:
        parts = [f"{inner}{compact(item, inner)}" for item in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + "\n" + ",\n".join(parts) + "\n" + indent + closing


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    parser = parser_for("studies.static_mask", __doc__)
    commands = parser.add_subparsers(required=True, metavar="PART", dest="part")
    for name, (module, summary) in PARTS.items():
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.options(command)
        command.add_argument("--threads", type=at_least_one, default=1)
        command.add_argument("--out", type=Path, help="JSON file; the figure is beside it as .png")
        command.add_argument("--page", type=Path, help="Markdown page whose table is replaced; needs --out")
    chosen = parser.parse_args(given)
    if chosen.page:
        if not chosen.out:
            parser.error("--page shows the figure that --out writes: give both")
        try:  # before the work, not after it
            between_marks(chosen.page.read_text(encoding="utf-8"), chosen.part, "")
        except (OSError, ValueError) as error:
            parser.error(f"--page {chosen.page}: {error}")
    torch.set_num_threads(chosen.threads)
    module = PARTS[chosen.part][0]
    try:
        found = module.study(chosen)
    except (ConfigError, DataError, NonFiniteLossError, CheckpointError, HydraException) as error:
        sys.exit(str(error))
    command = shlex.join(["python", "-m", "scripts.studies.static_mask", *given])
    result = about("cpu") | {"command": command} | found
    print(module.table(result))
    if not chosen.out:
        return
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(compact(result) + "\n", encoding="utf-8")
    figure = chosen.out.with_suffix(".png")
    module.plot(result).savefig(figure, dpi=150)
    if chosen.page:
        shown = Path(os.path.relpath(figure, chosen.page.parent)).as_posix()
        text = chosen.page.read_text(encoding="utf-8")
        chosen.page.write_text(between_marks(text, chosen.part, block(chosen.part, result, shown)), encoding="utf-8")


if __name__ == "__main__":
    main()
