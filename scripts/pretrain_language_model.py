"""Trains the small language model of a configuration on its training descriptions alone, and saves it as a folder.

    python -m scripts.pretrain_language_model experiment=madv2_multi_lcaam scale=mini output=models/mini
    python train.py experiment=madv2_multi_lcaam scale=mini task.llm.pretrained=models/mini task.llm.frozen=true

So the paper's setting, a language model that was trained before and stays frozen, runs without a download: encoder,
bridge and gated prefix in front of a frozen LLaMA. The folder has the format of transformers: config.json,
model.safetensors, tokenizer. Any other argument is one of train.py's; trainer.max_steps says how long.
"""

import sys
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict

from configs.composing import composed
from configs.schema import ConfigError, validate
from datamodules.errors import DataError
from tasks.common.errors import CheckpointError, NonFiniteLossError


def pretrain(cfg: DictConfig, output: Path) -> float:
    """Trains, saves to `output`, and returns the last epoch's mean loss in nats per token.

    Raises ConfigError if the configuration names a pretrained language model, or `output` holds something already.
    """
    validate(cfg)
    if "llm" not in cfg.task:
        raise ConfigError("the chosen task has no language model; choose experiment=madv2_baseline or one like it")
    if cfg.task.llm.pretrained is not None:
        raise ConfigError(
            f"task.llm.pretrained: {cfg.task.llm.pretrained} is pretrained already; for one from scratch add "
            "scale=mini, or task.llm.pretrained=null and its sizes in task.llm.config"
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"output={output}: is there already; name a new or an empty folder")

    from tasks.common.build import build_datamodule, build_module, build_trainer
    from tasks.common.floors import blind_config
    from tasks.common.seeding import seed_run

    plain = blind_config(cfg)  # a describer without inputs is a plain language model
    plain.seed, plain.trainer.max_steps = cfg.seed, cfg.trainer.max_steps
    if "progress_bar" in (cfg.callbacks or {}):
        with open_dict(plain):
            plain.callbacks["progress_bar"], plain.trainer.enable_progress_bar = cfg.callbacks["progress_bar"], True
    seed_run(cfg.seed, cfg.threads)
    datamodule = build_datamodule(plain)
    module = build_module(plain, datamodule)
    trainer = build_trainer(plain)
    trainer.fit(module, datamodule=datamodule)
    if trainer.is_global_zero:
        module.model.llm.save_pretrained(output)
        module.tokenizer.save_pretrained(output)
    return module.last_train_loss


def main(arguments: list[str]) -> None:
    """The command line: an error that explains itself is printed without a stack trace."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    outputs = [argument.partition("=")[2] for argument in arguments if argument.startswith("output=")]
    overrides = [argument for argument in arguments if not argument.startswith("output=")]
    try:
        if len(outputs) != 1 or not outputs[0]:
            raise ConfigError("output=<a new folder> is missing, or given more than once")
        cfg = composed(*overrides)
        loss = pretrain(cfg, Path(outputs[0]))
    except (HydraException, ConfigError, DataError, CheckpointError, NonFiniteLossError) as error:
        sys.exit(str(error))
    print(f"{outputs[0]}: a language model with a training loss of {loss:.3f} nats per token")


if __name__ == "__main__":
    main(sys.argv[1:])
