"""The command line of `python -m scripts.cost`."""

import argparse
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one, cpu_name
from scripts.cost import paper
from scripts.cost.counting import Inputs, built, counted
from scripts.cost.latency import BYTES, latency, memory_limit, ready
from scripts.cost.rows import TABLE_4, all_rows, composed, one_of_every_data_set
from scripts.cost.tables import tables
from tasks.common.environment import git_state, versions
from tasks.common.errors import CheckpointError
from tasks.common.files import write_text

TOKENS = 254  # LLaMA-7B alone spends the paper's 3.39 TFLOPs on this many
CONVENTION = (
    "torch.utils.flop_counter: 2 FLOPs per multiply-add, MACs = FLOPs / 2; matrix products and attention only, "
    "attention as its two products, a causal one in full"
)


def parser_of(description: str | None) -> argparse.ArgumentParser:
    parser = parser_for("cost", description)
    parser.add_argument("overrides", nargs="*", help="as for train.py; experiment=a,b makes one table for each")
    parser.add_argument("--all", action="store_true", help="for every data set an experiment without a mask")
    parser.add_argument("--rows", nargs="+", default=list(TABLE_4), choices=all_rows(), help="masks and controls")
    parser.add_argument(
        "--tokens", type=at_least_one, default=TOKENS, help="read by a language model; generated data have their own"
    )
    parser.add_argument("--latency", action="store_true", help="also measure times and memory")
    parser.add_argument("--device", default="cpu", help="where --latency runs: cpu or cuda. LLaMA-7B needs 27 GB")
    parser.add_argument("--repeats", type=at_least_one, default=10)
    parser.add_argument("--warm-up", type=at_least_one, default=2, help="calls before the first that counts")
    parser.add_argument(
        "--memory", type=gibibytes, metavar="GIB", help="memory for weights; a larger model is not built"
    )
    parser.add_argument("--threads", type=at_least_one, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, with command, versions and commit")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the tables as markdown")
    return parser


def gibibytes(text: str) -> float:
    """A finite number above 0, or argparse's error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")
    return value


def main(given: list[str] | None = None, description: str | None = None) -> None:
    """An error that explains itself is printed without a stack trace."""
    given = sys.argv[1:] if given is None else given
    parser = parser_of(description)
    arguments = parser.parse_intermixed_args(given)
    try:
        experiments, overrides = experiments_of(arguments)
        check_device(arguments)
        check_outputs(arguments)
    except ValueError as error:
        parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    families, texts = [], []
    try:
        for experiment in experiments:  # a mistake in the last one should not wait for the others
            composed("none", [f"experiment={experiment}", *overrides])
        for experiment in experiments:
            families.append(profiled(experiment, overrides, arguments))
            texts.append(tables(families[-1]))
            print(texts[-1], flush=True)
    except (ConfigError, CheckpointError, DataError) as error:
        sys.exit(str(error))
    command = shlex.join(["python", "-m", "scripts.cost", *given])
    if arguments.out:
        write(arguments.out, "\n".join([f"    {command}\n", *texts]))
    if arguments.json:
        machine = cpu_name() if arguments.device == "cpu" else torch.cuda.get_device_name(arguments.device)
        about = {"command": command, "versions": versions(), "git": git_state(), "convention": CONVENTION}
        about |= {"machine": machine if arguments.latency else None, "threads": arguments.threads}
        write(arguments.json, json.dumps(about | {"families": families}, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        sys.exit(f"{path}: cannot be written ({error.strerror})")


def experiments_of(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The experiments to make tables of, and the other overrides. ValueError if there are none, or too many."""
    chosen = [item.partition("=")[2] for item in arguments.overrides if item.startswith("experiment=")]
    others = [item for item in arguments.overrides if not item.startswith("experiment=")]
    if len(chosen) > 1:
        raise ValueError(f"experiment= is there {len(chosen)} times; write experiment=a,b for one table each")
    if arguments.all == bool(chosen):
        raise ValueError("choose what to profile: experiment=<name>, as of train.py, or --all; not both")
    return (one_of_every_data_set() if arguments.all else chosen[-1].split(",")), others


def check_device(arguments: argparse.Namespace) -> None:
    """ValueError for a device that is not there."""
    kind, colon, place = arguments.device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not place.isdecimal())):
        raise ValueError(f"--device {arguments.device}: choose cpu or cuda")
    if kind == "cuda" and int(place or 0) >= (found := torch.cuda.device_count()):
        raise ValueError(f"--device {arguments.device}: torch sees {found or 'no'} GPU{'s' * (found > 1)} here")
    if kind == "cuda" and not arguments.latency:
        raise ValueError("--device is where --latency measures; counts are the same everywhere, leave it out")


def check_outputs(arguments: argparse.Namespace) -> None:
    """ValueError for files that cannot be written, before anything is measured."""
    outputs = {f"--{name}": path for name in ("json", "out") if (path := getattr(arguments, name)) is not None}
    for name, path in outputs.items():
        if path.is_dir():
            raise ValueError(f"{name} must be a file, {path} is a folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{name} {path}: cannot be written ({error.strerror})") from error
    if len({path.resolve() for path in outputs.values()}) < len(outputs):
        raise ValueError(f"--json and --out are one file, {arguments.out}")


def profiled(experiment: str, overrides: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """All rows of one experiment. The inputs are made once: no mask changes the data."""
    given, inputs, base, rows = [f"experiment={experiment}", *overrides], None, None, []
    limit = memory_limit(arguments.device, arguments.memory)
    for row in sorted(dict.fromkeys(arguments.rows), key=lambda row: row != "none"):
        cfg = composed(row, given)
        inputs = inputs or Inputs(cfg)
        found = {"row": row, **on_meta(row, cfg, inputs, arguments), "latency": None}
        found["total"], found["macs"] = sum(found["parameters"].values()), found["flops"] / 2
        if arguments.latency:
            this = ready(cfg, inputs, found["total"], arguments.tokens, arguments.device, limit)
            found["latency"] = latency(this, arguments.device, arguments.repeats, arguments.warm_up, base)
            if row == "none" and (this.not_measured or 2 * BYTES * found["total"] <= limit):
                base = this  # stays in memory
        rows.append(found)
    plain = next((row for row in rows if row["row"] == "none"), None)
    for row in rows:
        for name, of in (("more_parameters", "total"), ("more_flops", "flops")):
            row[name] = None if plain is None else row[of] - plain[of]
    family = {"experiment": experiment, "scale": cfg.scale_name, "overrides": overrides, "rows": rows}
    family["sample"] = described(inputs, arguments.tokens)
    published = paper.applies(cfg)
    family["paper"] = paper.TABLE_4 if published else None
    family["conventions"] = paper.conventions(composed("none", given), inputs) if published and plain else []
    return family


def on_meta(row: str, cfg: DictConfig, inputs: Inputs, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `counted` finds. ConfigError if sizes do not fit together, or if a mask is too small for a control."""
    try:
        module = built(cfg, inputs, "meta")
        return counted(cfg, module, inputs.batch(module, arguments.tokens))
    except ConfigError:
        raise
    except ValueError as error:
        others = " ".join(name for name in arguments.rows if name != row)
        hint = f"; without it: --rows {others}" if others and row != "none" else ""
        raise ConfigError(f"{row}: {error}{hint}") from error


def described(inputs: Inputs, tokens: int) -> str:
    """The sample in words."""
    if inputs.generated:
        return "the first of the test split"
    shapes = {name: value.shape for name, value in inputs.sample(torch.device("cpu")).items() if torch.is_tensor(value)}
    wide = [f"{name} {' x '.join(map(str, shape[1:]))}" for name, shape in shapes.items() if len(shape) > 2]
    reads = [f"{tokens} tokens (prompt and description) in the language model"] if "llm" in inputs.cfg.task else []
    return ", ".join([*wide, *reads])
