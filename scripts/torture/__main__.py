"""Runs one part of the torture: each kills or damages something many times and checks what is left.

    python -m scripts.torture resume --kills 10 --out docs/results/resume.md
    python -m scripts.torture checkpoints --kills 100 --other /dev/shm
    python -m scripts.torture sweep --out docs/results/torture_sweep.json
    python -m scripts.torture soak --runs 200 --out docs/results/soak.json
    python -m scripts.torture files
    python -m scripts.torture ranks --out docs/results/ranks.md

Ends with 1 if anything was not as promised. Every part is a file beside this one with `add_arguments` and `main`.
"""

import argparse
import sys
from importlib import import_module

PARTS = {
    "resume": "kill -9 at random points of runs of all tasks: the resumed run equals the unbroken one to the bit",
    "sweep": "kill -9 jobs of a sweep and then the launcher: the same command ends with every run, and none twice",
    "soak": "many smoke runs in one sweep: no file, process or temporary file is left, and memory does not grow",
    "ranks": "two and three ranks against one process: predictions, metrics, and weights after a training",
    "checkpoints": "kill -9 while checkpoints are written: one can be read afterwards, and no draft is left",
    "files": "more than 3,000 damaged files over every reader: a right result, or one message with the file's name",
}


def main() -> int:
    """Runs the chosen part."""
    parser = argparse.ArgumentParser(prog="python -m scripts.torture", description=__doc__.split("\n\n")[0])
    commands = parser.add_subparsers(dest="part", required=True, metavar="part")
    modules = {}
    for name, words in PARTS.items():
        modules[name] = import_module(f"scripts.torture.{name}")
        modules[name].add_arguments(commands.add_parser(name, help=words, description=words))
    chosen = parser.parse_args()
    return modules[chosen.part].main(chosen)


if __name__ == "__main__":
    sys.exit(main())
