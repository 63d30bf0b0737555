"""Tests a finished run again, from its own saved configuration and checkpoint.

    python eval.py run=logs/madv2_multi_lcaam/mini/seed0/<time>                     the weights that the run tested
    python eval.py run=logs/madv2_multi_lcaam/mini/seed0/<time> checkpoint=best     others under its checkpoints/
    python eval.py run=logs/.../checkpoints/last.ckpt data.batch_size=8             with another setting

The settings are those of configs/eval.yaml, taken literally; any other `key=value` changes the run's config.yaml,
except what the weights were trained for (mask, data.tokens). Writes metrics.json and predictions/test.jsonl to
<run>/eval/<time>/, and leaves the run's own files alone.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from configs.arguments import plain_words
from configs.resolvers import ROOT, run_stamp
from configs.saved import open_run
from configs.schema import ConfigError, validate
from datamodules.errors import DataError
from tasks.common.errors import CheckpointError


def evaluate(settings: DictConfig, cfg: DictConfig, changes: set[str]) -> Path:
    """Tests one checkpoint and returns the folder with what it found. `changes`: the keys given on the command line."""
    validate(cfg)

    from hydra.utils import get_class

    from tasks.common.build import build_datamodule, build_trainer, check_devices
    from tasks.common.checkpoints import find_checkpoint, load_module
    from tasks.common.files import write_json, write_jsonl
    from tasks.common.seeding import seed_run
    from tasks.common.table import closing_table, published, show
    from tasks.common.unfinished import warn_if_unfinished

    check_devices(cfg)
    run = Path(settings.run)
    path = run if run.suffix == ".ckpt" else find_checkpoint(run, settings.checkpoint or cfg.test_checkpoint)
    warn_if_unfinished(Path(cfg.paths.run_dir), path, cfg.trainer.get("max_steps"))
    task = {key: value for key, value in OmegaConf.to_container(cfg.task).items() if f"task.{key}" in changes}
    module = load_module(get_class(cfg.task._target_), path, **task)

    seed_run(cfg.seed, cfg.threads)
    datamodule = build_datamodule(cfg)
    cfg.logger = None
    cfg.callbacks = {name: node for name, node in (cfg.callbacks or {}).items() if name == "progress_bar"}
    trainer = build_trainer(cfg)
    trainer.test(module, datamodule=datamodule, verbose=False)

    output = Path(settings.output or Path(cfg.paths.run_dir) / "eval" / run_stamp())
    write_json(output / "metrics.json", {"checkpoint": str(path), "changes": sorted(changes), **module.test_metrics})
    write_jsonl(output / "predictions" / "test.jsonl", module.predictions)
    title = f"{cfg.name}, {path.name}"
    show(closing_table(title, module.headline, module.test_metrics, {}, published(cfg)), output)
    return output


def main(arguments: list[str]) -> None:
    """The command line: an error that explains itself is printed without a stack trace."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    try:
        plain_words(arguments, example="run=logs/...", options=False)
        evaluate(*open_run(OmegaConf.load(ROOT / "configs" / "eval.yaml"), arguments))
    except (ConfigError, DataError, CheckpointError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
