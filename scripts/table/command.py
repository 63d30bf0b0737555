"""The command line of `python -m scripts.table`."""

import shlex
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from configs.arguments import choices_of
from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.table import again, csv_rows, latex, markdown
from scripts.table.making import made
from scripts.table.running import called
from scripts.table.summary import Table
from tasks.common.errors import StorageError
from tasks.common.files import write_text
from tasks.common.run_rows import RowsError

DONE, MISSING = 0, 1
LOCAL = "hydra/launcher=local"
COSTS = "table4"  # no runs, so no sweep: counted and measured by scripts.cost


def main(given: list[str] | None = None, description: str | None = None) -> int:
    """Runs the command; returns the exit status."""
    given = sys.argv[1:] if given is None else given
    parser = parser_of(description)
    arguments = parser.parse_intermixed_args(given)
    command = shlex.join(["python", "-m", "scripts.table", *given])
    if scales := [word for word in arguments.overrides if word.startswith("scale=")]:
        parser.error(f"{scales[0]}: write --scale {scales[0].removeprefix('scale=')}")
    if arguments.name == COSTS:
        if arguments.html or arguments.latex:
            parser.error(f"{COSTS} is measured by scripts.cost, which writes markdown and JSON only")
        return costs(arguments.scale, arguments.overrides, arguments.run, arguments.out)
    if arguments.html and find_spec("plotly") is None:  # said before anything runs
        parser.error("--html needs the package plotly: pip install -e '.[lab]'")
    try:
        tables, logs = made(arguments.name, arguments.scale, arguments.overrides, command)
        if arguments.run:
            for words in trainings(arguments.name, arguments.scale, arguments.overrides, tables):
                called("train.py", *words)
            tables, logs = made(arguments.name, arguments.scale, arguments.overrides, command)
            if wanted := again.owed(tables):
                again.make(wanted)
                tables, logs = made(arguments.name, arguments.scale, arguments.overrides, command)
        folder = arguments.out or logs / "tables" / f"{arguments.name}_{arguments.scale}"
        text = "\n".join(map(markdown.page, tables))
        pages = {"table.md": text, "table.csv": csv_rows.page(tables)}
        if arguments.latex:
            pages["table.tex"] = "\n".join(map(latex.page, tables))
        for name, content in pages.items():
            write_text(folder / name, content)
        if arguments.html:
            from scripts.page import write  # imports plotly

            write(tables, folder / "report.html")
            pages["report.html"] = ""
    except (ConfigError, DataError, RowsError, StorageError) as error:
        parser.error(str(error))
    print(text)
    print(f"{folder}: {', '.join(pages)}")
    return MISSING if arguments.run and missing(tables) else DONE


def parser_of(description: str | None) -> ArgumentParser:
    parser = parser_for("table", description)
    parser.add_argument("name", metavar="NAME", help=f"a file of configs/sweep/, or {COSTS}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for train.py, best after --")
    parser.add_argument("--scale", default="paper", choices=choices_of("scale"), help="default: paper")
    parser.add_argument("--run", action="store_true", help="run what is missing, or go on with it")
    parser.add_argument("--html", action="store_true", help="also write report.html")
    parser.add_argument("--latex", action="store_true", help="also write table.tex")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: <logs>/tables/NAME_SCALE")
    return parser


def trainings(name: str, scale: str, overrides: Sequence[str], tables: Sequence[Table]) -> list[list[str]]:
    """The words for train.py of each sweep that has something to run: the sweep itself, then its shorter runs."""
    launcher = [] if any(word.startswith("hydra/launcher=") for word in overrides) else [LOCAL]
    usual = [f"sweep={name}", f"scale={scale}", *launcher, *overrides]
    rows = [row for table in tables for row in table.rows if row.missing and not row.of]
    found = [usual] if any(row.steps is None for row in rows) else []
    shorter = dict.fromkeys(tuple(row.overrides[-2:]) for row in rows if row.steps is not None)
    return found + [[*usual, *changes, "resume=branch"] for changes in shorter]


def missing(tables: Sequence[Table]) -> bool:
    return any(row.missing for table in tables for row in table.rows)


def costs(scale: str, overrides: Sequence[str], run: bool, out: Path | None) -> int:
    """Table 4, latency and cost: the command that measures it, or with --run what it writes."""
    words = ["-m", "scripts.cost", "experiment=madv2_baseline", f"scale={scale}", *overrides, "--latency"]
    if out is not None:
        words += ["--out", str(out / "table.md"), "--json", str(out / "table.json")]
    if not run:
        print(f"{COSTS} needs no runs; it is measured by\n\n    {shlex.join(['python', *words])}")
        return DONE
    return called(*words)
