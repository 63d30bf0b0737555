"""Tests a finished run again, from its own saved configuration and checkpoint.

    python eval.py run=logs/madv2_multi_lcaam/mini/seed0/<time>                     the weights that the run tested
    python eval.py run=logs/madv2_multi_lcaam/mini/seed0/<time> checkpoint=best     others under its checkpoints/
    python eval.py run=logs/.../checkpoints/last.ckpt data.batch_size=8             with another setting
    python eval.py run=logs/madv2_multi_lcaam/mini/seed0/<time> intervention=frozen   with other masks (docs/ladder.md)

The settings are those of configs/eval.yaml, taken literally; any other `key=value` changes the run's config.yaml,
except what the weights were trained for (mask, data.tokens). Only the test's files are needed where the data module can
do without the others. Writes metrics.json, predictions/test.jsonl and, for some tasks, details.json to
<run>/eval/<time>/ (<time>-<intervention>/ with one), and leaves the run's own files alone.

The folder may be a stranger's: no code of it runs, none of its callbacks and loggers is built, and nothing is written
outside <run>/eval/ (generated data that are not there are made only if data.root=... or paths.data_dir=... says where).
"""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from configs.arguments import plain_words
from configs.errors import ConfigError
from configs.resolvers import ROOT, run_stamp
from configs.saved import check, open_run
from datamodules.errors import DataError
from tasks.common.errors import CheckpointError, ScoringError

TRAINER, PROGRESS = "pytorch_lightning.Trainer", "tasks.common.progress.progress_bar"
KEPT = (  # the trainer's settings that a test depends on
    "accelerator", "devices", "num_nodes", "strategy", "precision", "deterministic", "benchmark", "limit_test_batches",
    "use_distributed_sampler", "inference_mode",
)  # fmt: skip


def evaluate(settings: DictConfig, cfg: DictConfig, changes: set[str]) -> Path:
    """Tests one checkpoint and returns the folder with what it found. `changes`: the keys given on the command line."""
    check(cfg)

    from hydra.utils import get_class

    from datamodules.formats.kept import nothing_kept
    from lcaam.interventions import SingleSampleError
    from tasks.common.build import build_datamodule, build_trainer, check_devices, derived
    from tasks.common.checkpoints import find_checkpoint, load_module
    from tasks.common.files import write_json, write_jsonl
    from tasks.common.interventions import asked_for
    from tasks.common.published import published
    from tasks.common.seeding import seed_run
    from tasks.common.table import closing_table, show
    from tasks.common.task import Task
    from tasks.common.unfinished import warn_if_unfinished

    check_devices(cfg)
    intervention = asked_for(settings, cfg)
    run = Path(settings.run)
    path = run if run.suffix == ".ckpt" else find_checkpoint(run, settings.checkpoint or cfg.test_checkpoint)
    warn_if_unfinished(Path(cfg.paths.run_dir), path, cfg.trainer.get("max_steps"))
    task = {key: value for key, value in OmegaConf.to_container(cfg.task).items() if f"task.{key}" in changes}
    module = load_module(get_class(derived(cfg, "task", Task)._target_), path, **task)

    seed_run(cfg.seed, cfg.threads)
    stamp = "-".join([run_stamp(), *([] if intervention is None else [intervention.name])])
    output = Path(settings.output or Path(cfg.paths.run_dir) / "eval" / stamp)
    with nothing_kept(unless=changes):
        datamodule = build_datamodule(cfg, module.hparams.get("facts"))
        trainer = build_trainer(only_testing(cfg, changes, output), *([] if intervention is None else [intervention]))
        try:
            trainer.test(module, datamodule=datamodule, verbose=False)
        except SingleSampleError as error:
            raise ConfigError(f"intervention=swapped: {error}; choose another data.eval_batch_size") from error

    evaluated, tested = datamodule.evaluated(), len(module.predictions)
    made = {} if intervention is None else {"intervention": intervention.describe()}
    facts = {"checkpoint": str(path), "changes": sorted(changes), "evaluation": evaluated.record(tested), **made}
    write_json(output / "metrics.json", {**facts, **module.test_metrics})
    write_jsonl(output / "predictions" / "test.jsonl", module.predictions)
    if details := module.details():
        write_json(output / "details.json", details)
        module.write_details(output)
    title = ", ".join([cfg.name, path.name, *([] if intervention is None else [intervention.title])])
    table = closing_table(title, module.headline, module.test_metrics, {}, published(cfg))
    show(table, output, [*evaluated.lines(tested), *module.remarks])
    return output


def run_words(arguments: list[str]) -> Path:
    """`python eval.py` with these words, in this process. Raises the errors that `main` prints."""
    return evaluate(*open_run(OmegaConf.load(ROOT / "configs" / "eval.yaml"), arguments))


def only_testing(cfg: DictConfig, changes: set[str], output: Path) -> DictConfig:
    """The configuration whose trainer tests and does nothing else, with this project's own progress bar."""
    trainer = {key: value for key, value in cfg.trainer.items() if key in KEPT or f"trainer.{key}" in changes}
    trainer |= {"_target_": TRAINER, "default_root_dir": str(output), "enable_checkpointing": False}
    return OmegaConf.merge(
        OmegaConf.masked_copy(cfg, [key for key in cfg if key not in ("trainer", "callbacks", "logger")]),
        {"trainer": trainer, "callbacks": {"progress_bar": {"_target_": PROGRESS}}, "logger": None},
    )


def main(arguments: list[str]) -> None:
    """The command line: an error that explains itself is printed without a stack trace."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    try:
        plain_words(arguments, example="run=logs/...", options=False)
        run_words(arguments)
    except (ConfigError, DataError, CheckpointError, ScoringError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
