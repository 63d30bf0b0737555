"""Trains, tests and records one run.

    python train.py experiment=madv2_multi_lcaam                   the paper's scale; the real data set
    python train.py experiment=madv2_multi_lcaam scale=mini        generated data, a small model, minutes on a CPU
    python train.py -m experiment=madv2_baseline,madv2_multi_lcaam scale=mini seed=0,1,2,3 hydra/launcher=joblib
    python train.py experiment=madv2_lcaam mask.fusion=gate mask.depth=3 seed=3
    python train.py experiment=madv2_lcaam resume=logs/madv2_lcaam/paper/seed0/<time>/checkpoints/last.ckpt
    torchrun --nproc_per_node=4 train.py experiment=madv2_multi_lcaam trainer=ddp

What it leaves behind: logs/<experiment>/<scale>/seed<k>/<time>/ with config.yaml, results.json, metrics.csv,
checkpoints/, predictions/ and figures/.
"""

import sys

import hydra
from omegaconf import DictConfig

from configs.arguments import prepared
from configs.messages import explained
from configs.schema import ConfigError, validate
from datamodules.errors import DataError
from tasks.common.errors import CheckpointError, NonFiniteLossError


def train(cfg: DictConfig) -> float | None:
    """One run, from a composed configuration to a closed record. Returns the metric that a sweeper optimises."""
    validate(cfg)

    # Not at the top: Lightning takes seconds to import, and --help or a misspelt group should not wait for it.
    from tasks.common.analysis_figures import statistics
    from tasks.common.build import build_datamodule, build_module, build_trainer, check_devices
    from tasks.common.checkpoints import checkpoint_to_resume, checkpoint_to_test, save_last, saved_checkpoints
    from tasks.common.files import write_jsonl
    from tasks.common.floors import all_floors
    from tasks.common.loggers import log_settings, log_summary, wandb_closed
    from tasks.common.results import RunRecord
    from tasks.common.seeding import seed_run
    from tasks.common.table import closing_table, show

    check_devices(cfg)
    with RunRecord(cfg) as record, wandb_closed():
        seed_run(cfg.seed, cfg.threads)
        resumed = checkpoint_to_resume(cfg.resume)
        datamodule = build_datamodule(cfg)  # missing or bad data stops here
        module = build_module(cfg, datamodule)
        record.update(parameters=module.parts())
        trainer = build_trainer(cfg)
        log_settings(trainer, record.config | {name: record.fields[name] for name in ("git", "command")})

        with record.timed("fit"):
            trainer.fit(module, datamodule=datamodule, ckpt_path=resumed, weights_only=True)
            save_last(trainer)
        # before the test, which sets the callbacks back to where the tested checkpoint was saved
        record.update(checkpoints=saved_checkpoints(trainer, record.folder), analysis=statistics(trainer))
        optimized = trainer.callback_metrics.get(cfg.optimized_metric)
        with record.timed("test"):
            tested = checkpoint_to_test(trainer, cfg.test_checkpoint)
            trainer.test(module, datamodule=datamodule, ckpt_path=tested, weights_only=True, verbose=False)
        record.update(metrics=module.test_metrics)
        if trainer.is_global_zero:
            write_jsonl(record.folder / "predictions" / "test.jsonl", module.predictions)
            record.update(flops=module.flops(next(iter(datamodule.test_dataloader()))))
            if cfg.floors.enabled:
                with record.timed("floors"):
                    record.update(floors=all_floors(cfg, module, datamodule))
            log_summary(trainer, {name: record.fields[name] for name in ("floors", "analysis", "parameters", "flops")})

    fields = record.fields
    title = f"{cfg.name}, scale {cfg.scale_name}, seed {cfg.seed}"
    show(closing_table(title, module.headline, fields["metrics"], fields["floors"], fields["paper"]), record.folder)
    if optimized is None:
        optimized = module.test_metrics.get(cfg.optimized_metric)
    return None if optimized is None else float(optimized)


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """The command line: an error that explains itself is printed without a stack trace."""
    try:
        return train(cfg)
    except (ConfigError, DataError, NonFiniteLossError, CheckpointError) as error:
        raise explained(error) from error


if __name__ == "__main__":
    try:
        sys.argv[1:] = prepared(sys.argv[1:])
    except ConfigError as error:
        sys.exit(str(error))
    main()
