"""What W&B gets of a run beside its curves: names, settings, the best of each validation metric, results, examples.

Nothing here imports wandb, so that a run without it does not pay for the import; docs/wandb.md lists every name.
"""

import json
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_warn

from configs.identity import deciding, setting_id
from configs.words import setting_name
from tasks.common.directions import higher_is_better
from tasks.common.examples import COLUMNS, examples
from tasks.common.wandb_names import clashes, wandb_name

if TYPE_CHECKING:
    from tasks.common.task import Task

LOGGER = "tasks.common.loggers.wandb_logger"
STEP = "trainer/global_step"  # Lightning's name for the number of updates
ROWS = 100  # at most so many predictions are handed over; the run's folder has all
FACTS = ("analysis", "parameters", "seconds", "peak_memory")  # fields of results.json that the summary has as they are


def is_wandb(node: Mapping[str, Any] | None) -> bool:
    """Whether a logger's node is W&B's."""
    return bool(node) and node.get("_target_") == LOGGER


def names(plain: Mapping[str, Any], id: str | None = None) -> dict[str, str]:
    """Id, group and name of a run at W&B, as far as its logger's node leaves them out; empty without that logger.

    plain: the resolved configuration. id: of the run that this one goes on with.
    """
    node = next((node for node in (plain["logger"] or {}).values() if is_wandb(node)), None)
    if node is None:
        return {}
    group = node.get("group") or setting_name(plain)
    return {"id": id or secrets.token_hex(4), "group": group, "name": node.get("name") or f"{group}-s{plain['seed']}"}


def settings(plain: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The run's configuration for W&B, nested: every setting that can change results, and where the run belongs.

    plain: the resolved configuration. fields: the run's record.
    """
    own = {"config_id": setting_id(plain), "identity": fields["identity"], "git": fields["git"]}
    return deciding(plain) | own | sweep_of_job()


def sweep_of_job() -> dict[str, str | None]:
    """The name of the sweep that this job is part of, and of the multirun's folder; None for a single run."""
    found: dict[str, str | None] = {"sweep": None, "multirun": None}
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        if hydra.mode is not None and hydra.mode.name == "MULTIRUN":
            found = {"sweep": hydra.runtime.choices.get("sweep"), "multirun": Path(hydra.sweep.dir).name}
    return found


def best_of(task: "Task | type[Task]") -> dict[str, str]:
    """The validation metrics of a task and which value of each is best: "max" or "min"."""
    found = {}
    for name in task.logged:
        stage, _, metric = name.partition("/")
        if stage == "val":
            found[name] = "max" if metric in task.headline and higher_is_better(metric) else "min"
    return found


def define_metrics(run: Any, task: "Task | type[Task]") -> None:
    """Lets the summary hold the best and the last value of each validation metric (`val/loss.min`, `.last`)."""
    for first, second in clashes((*task.logged, *(f"test/{name}" for name in task.headline))):
        rank_zero_warn(f"W&B gets the metrics {first!r} and {second!r} under one name, {wandb_name(first)}: rename one")
    for name, best in best_of(task).items():
        run.define_metric(wandb_name(name), step_metric=STEP, summary=f"{best},last")


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary has of results.json, by W&B's names: `test/<metric>`, `floors/<kind>/<metric>`, `paper/...`."""
    tree = {
        "test": {name.removeprefix("test_"): value for name, value in record["metrics"].items()},
        "floors": record["floors"],
        "paper": {name: figure(value) for name, value in record["paper"].items()},
        "cost": {"flops": record["flops"]},
        **{name: record[name] for name in FACTS},
    }
    found = {wandb_name(name): value for name, value in leaves(tree)}
    if record["parameters"]:
        found["parameters/total"] = sum(record["parameters"].values())
    return found


def figure(text: Any) -> float | str:
    """A published figure as a number (`32.20 ± 0.3` is 32.2), so that it can be plotted; a text as it is."""
    found = re.match(r"-?\d+(\.\d+)?", str(text).strip())
    return float(found[0]) if found else str(text)


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Values by their names, joined by slashes; what is None is left out, as W&B has no such number."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{path}{name}/")
        elif value is not None:
            yield f"{path}{name}", value


@contextmanager
def wandb_closed(folder: str) -> Iterator[None]:
    """Ends the W&B run that was started inside: one W&B run per job.

    It gets the record in `folder`, which is closed by then, and is marked as failed if an error was raised.
    """
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            try:
                with staged_in(Path(folder) / "wandb"):
                    hand_over(wandb, Path(folder))
            finally:
                wandb.finish(exit_code=exit_code)


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Lets W&B keep the files of tables in `folder` until they are uploaded, unless WANDB_DATA_DIR names a place."""
    own = "WANDB_DATA_DIR" not in os.environ  # W&B's own default is the user's home
    if own:
        os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        if own:
            del os.environ["WANDB_DATA_DIR"]


def hand_over(wandb: Any, folder: Path) -> None:
    """Results, floors, costs and the paper's figures as summary, the first predictions as a table, results.json."""
    path = folder / "results.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if record.get("wandb") != wandb.run.id:  # a run of the caller's own
        return
    wandb.run.summary.update(summary(record))
    rows = [[row[column] for column in COLUMNS] for row in examples(folder / "predictions" / "test.jsonl", ROWS)]
    if rows:
        wandb.run.log({"predictions/test": wandb.Table(columns=list(COLUMNS), data=rows)})
    artifact = wandb.Artifact(f"results-{wandb.run.id}", type="results")
    artifact.add_file(str(path), skip_cache=True, policy="immutable")
    wandb.run.log_artifact(artifact)
