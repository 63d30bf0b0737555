"""The command line of `python -m scripts.rehearse`."""

import shlex
import sys
from pathlib import Path

import torch

from configs.arguments import check_choices, choices_of, plain_words
from configs.errors import ConfigError
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one
from scripts.cost.command import gibibytes as positive
from scripts.rehearse.plan import FULL, HALF, Device
from scripts.rehearse.rehearsal import Rehearsal, rehearsed
from tasks.common.files import write_text

RIGHT, WRONG = 0, 1


def main(given: list[str] | None = None, description: str | None = None) -> int:
    """Runs the command; returns the exit status."""
    given = sys.argv[1:] if given is None else given
    parser = parser_for("rehearse", description)
    parser.add_argument("overrides", nargs="*", help="as for train.py; without experiment= every experiment")
    parser.add_argument("--devices", type=at_least_one, default=1, help="that train together; default 1")
    parser.add_argument("--memory", type=positive, default=80.0, metavar="GIB", help="of a device; default 80")
    parser.add_argument(
        "--tflops", type=positive, help=f"of a device; default: an A100's, {HALF:g} in 16 bits and {FULL:g} in float32"
    )
    parser.add_argument("--utilisation", type=share, default=0.35, help="share of it that is reached; default 0.35")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the tables as markdown")
    arguments = parser.parse_intermixed_args(given)
    try:
        words = plain_words(arguments.overrides)
        check_choices(words)
    except ConfigError as error:
        parser.error(str(error))
    chosen = [word.partition("=")[2] for word in words if word.startswith("experiment=")]
    experiments = chosen[-1].split(",") if chosen else choices_of("experiment")
    others = [word for word in words if not word.startswith("experiment=")]
    device = Device(arguments.devices, arguments.memory, arguments.tflops, arguments.utilisation)
    torch.set_num_threads(1)
    results = []
    for experiment in experiments:
        results.append(rehearsed(experiment, others, device))
        print(table(results[-1]), flush=True)
    if arguments.out:
        command = shlex.join(["python", "-m", "scripts.rehearse", *given])
        write_text(arguments.out, page(command, results, device))
    return WRONG if any(result.wrong for result in results) else RIGHT


def share(text: str) -> float:
    """A number above 0 and at most 1, or argparse's error."""
    value = positive(text)
    return value if value <= 1 else positive("more than 1")


def table(result: Rehearsal) -> str:
    """Markdown: a row per check, and the verdict."""
    verdict = "OK" if not result.wrong else "; ".join(result.wrong)
    rows = {**result.rows, "**verdict**": f"**{verdict}** ({result.seconds:.0f} s)"}
    lines = [f"## {result.experiment}", "", "| check | found |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {found.replace('|', '/')} |" for name, found in rows.items())]) + "\n"


def page(command: str, results: list[Rehearsal], device: Device) -> str:
    tflops = f"{device.tflops:g}" if device.tflops else f"{HALF:g} (16 bits) or {FULL:g} (float32)"
    introduction = f"""# Rehearsal of the paper's scale

    {command}

Nothing here was trained at the paper's scale: these are checks without the data and without a GPU, and arithmetic.
Assumed: {device.number} device{"s" * (device.number > 1)} of {device.gib:g} GiB and {tflops} TFLOPS, of which \
{device.utilisation:.0%} is reached. What each row means and leaves out:
`python -m scripts.rehearse --help`.
"""
    return "\n".join([introduction, *map(table, results)])
