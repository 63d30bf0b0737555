"""Trains, tests and records one run.

    python train.py experiment=madv2_multi_lcaam                   the paper's scale; the real data set
    python train.py experiment=madv2_multi_lcaam scale=mini        generated data, a small model, minutes on a CPU
    python train.py -m experiment=madv2_baseline,madv2_multi_lcaam scale=mini seed=0,1,2,3 hydra/launcher=local
    python train.py experiment=madv2_lcaam mask.fusion=gate mask.depth=3 seed=3
    python train.py experiment=madv2_lcaam resume=logs/madv2_lcaam/paper/seed0/<time>    goes on with an unfinished run
    python train.py experiment=madv2_lcaam resume=auto             goes on with the newest one of these settings
    torchrun --nproc_per_node=4 train.py experiment=madv2_multi_lcaam trainer=ddp

What it leaves behind: logs/<experiment>/<scale>/seed<k>/<time>/ with config.yaml, results.json, metrics.csv,
checkpoints/, predictions/ and figures/.
"""

import sys
import tempfile

import hydra
from omegaconf import DictConfig

from configs.arguments import prepared
from configs.extras import missing_extra
from configs.messages import explained
from configs.schema import ConfigError, validate
from datamodules.errors import DataError
from tasks.common.errors import (
    CheckpointError,
    NonFiniteLossError,
    OtherRankError,
    ScoringError,
    StorageError,
)

EXPLAINED = (
    ConfigError, DataError, NonFiniteLossError, CheckpointError, ScoringError, StorageError, OtherRankError
)  # fmt: skip


def train(cfg: DictConfig) -> float | None:
    """One run, from a composed configuration to a closed record. Returns the metric that a sweeper optimises."""
    validate(cfg)

    # Not at the top: Lightning takes seconds to import, and --help or a misspelt group should not wait for it.
    from configs.words import title
    from tasks.common.analysis_figures import statistics
    from tasks.common.build import build_datamodule, build_module, build_trainer, check_devices
    from tasks.common.checkpoints import checkpoint_to_test, saved_checkpoints
    from tasks.common.exact_resume import ExactResume
    from tasks.common.files import named_places, write_jsonl
    from tasks.common.floors import all_floors
    from tasks.common.interrupts import exit_codes
    from tasks.common.loggers import continue_csv, log_settings
    from tasks.common.results import RunRecord
    from tasks.common.resume import resumed
    from tasks.common.seeding import seed_run
    from tasks.common.table import closing_table, show
    from tasks.common.wandb_runs import wandb_closed

    check_devices(cfg)
    earlier = resumed(cfg)
    places = (cfg.paths.run_dir, cfg.paths.data_dir, tempfile.gettempdir())
    with exit_codes(), wandb_closed(cfg.paths.run_dir), RunRecord(cfg, earlier) as record, named_places(*places):
        seed_run(cfg.seed, cfg.threads)
        datamodule = build_datamodule(cfg)  # missing or bad data stops here
        module = build_module(cfg, datamodule)
        if earlier is None:
            module.start()
        else:
            module.same_data(earlier.facts)
        record.update(parameters=module.parts())
        source = earlier and earlier.path
        trainer = build_trainer(cfg, ExactResume(record.facts(), record.lapsed, source), wandb=record.wandb)
        if earlier is not None:
            earlier.bring_to(record.folder / "checkpoints")
            continue_csv(trainer, source.parent.parent, earlier.step)
        log_settings(trainer, record, module)

        with record.timed("fit"):
            try:
                trainer.fit(module, datamodule=datamodule, ckpt_path=source, weights_only=True)
            finally:  # also of a run that is stopped
                record.update(checkpoints=saved_checkpoints(trainer, record.folder))
        record.update(analysis=statistics(trainer))
        if (optimized := trainer.callback_metrics.get(cfg.optimized_metric)) is not None:
            record.update(optimized={cfg.optimized_metric: float(optimized)})
        with record.timed("test"):
            tested = checkpoint_to_test(trainer, cfg.test_checkpoint)
            trainer.test(module, datamodule=datamodule, ckpt_path=tested, weights_only=True, verbose=False)
        evaluated, tested = datamodule.evaluated(), len(module.predictions)
        record.update(metrics=module.test_metrics, evaluation=evaluated.record(tested))
        if trainer.is_global_zero:
            write_jsonl(record.folder / "predictions" / "test.jsonl", module.predictions)
            module.write_details(record.folder)
            record.update(details=module.details())
            record.update(flops=module.flops(next(iter(datamodule.test_dataloader()))))
            if cfg.floors.enabled:
                with record.timed("floors"):
                    record.update(floors=all_floors(cfg, module, datamodule))

    fields = record.fields
    table = closing_table(title(cfg), module.headline, fields["metrics"], fields["floors"], fields["paper"])
    show(table, record.folder, [*evaluated.lines(tested), *module.remarks])
    return None if optimized is None else float(optimized)


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """The command line: an error that explains itself is printed without a stack trace."""
    from tasks.common.known_runs import made_before

    try:
        if (folder := made_before(cfg)) is not None:
            print(f"{folder} has these settings and is completed: not run again (sweep.skip_completed)")
            return None
        return train(cfg)
    except EXPLAINED as error:
        raise explained(error) from error


if __name__ == "__main__":
    if (missing := missing_extra(sys.argv[1:])) is not None:
        sys.exit(missing)
    try:
        sys.argv[1:] = prepared(sys.argv[1:])
    except ConfigError as error:
        sys.exit(str(error))
    main()
