"""Tests a trained model with other masks than its own: `python eval.py run=... intervention=frozen`. Or without the
keys that count least: `intervention=pruned prune=0.2`.

The callback runs inside trainer.test. For "frozen" it first averages the masks over the first test inputs, through
`Task.read_inputs`, which takes no labels.
"""

from contextlib import ExitStack
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

from configs.errors import ConfigError, listed, nearest
from lcaam.interventions import INTERVENTIONS, Intervention, MaskMeans, averaging, intervened
from lcaam.pruning import CRITERIA, Pruning, pruned
from tasks.common.task import Task, size_of

PRUNED = "pruned"


def asked_for(settings: DictConfig, cfg: DictConfig) -> "MaskIntervention | KeyPruning | None":
    """The callback that eval.py's settings ask for, None without an intervention.

    Raises ConfigError for an unknown one, a number that is none, and a run without the masks that it needs.
    """
    name, text = settings.intervention, settings.mean_over
    if name is None:
        return None
    if name not in (*INTERVENTIONS, PRUNED):
        hint = nearest(name, (*INTERVENTIONS, PRUNED))
        raise ConfigError(f"intervention={name}: unknown{hint} (allowed: {listed((*INTERVENTIONS, PRUNED))})")
    masked = cfg.mask.scope != "none" and cfg.mask.control == "none"
    if name == PRUNED:
        by = settings.prune_by or ("mask" if masked else "attention")
        if by not in CRITERIA:
            raise ConfigError(f"prune_by={by}: unknown{nearest(by, CRITERIA)} (allowed: {listed(CRITERIA)})")
        if by == "attention" or masked:
            return KeyPruning(share_of(settings.prune), by)
    elif not str(text).isdecimal() or int(text) < 1:
        raise ConfigError(f"mean_over={text}: allowed: a number of test samples, at least 1")
    if not masked:
        given = f"scope={cfg.mask.scope}, control={cfg.mask.control}"
        raise ConfigError(f"intervention={name}: the run has no masks to change (mask.{given})")
    return MaskIntervention(name, int(text), cfg.seed)


def share_of(text: Any) -> float:
    """ConfigError unless it is a number of at least 0 and below 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise ConfigError(f"prune={text}: allowed: a share of the keys, at least 0 and below 1")
    return share


class KeyPruning(Callback):
    """share: how many of the keys are dropped. by: a key of lcaam.pruning.CRITERIA, by which the lowest are found."""

    name, title = PRUNED, "keys pruned"

    def __init__(self, share: float, by: str):
        self.share, self.by = share, by
        self.running: Pruning | None = None
        self.stack = ExitStack()

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"name": self.name, "share": self.share, "by": self.by}

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        places = pl_module.masked_places()
        self.running = self.stack.enter_context(pruned(pl_module, self.share, self.by, places))

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert self.running is not None
        self.running.real = pl_module.real_tokens(batch)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.stack.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self.stack.close()


class MaskIntervention(Callback):
    """name: a key of lcaam.interventions.INTERVENTIONS. mean_over: of how many test samples "frozen" takes the mean (of
    all, if there are fewer). seed: decides the order of "shuffled"."""

    def __init__(self, name: str, mean_over: int, seed: int):
        self.name, self.title, self.mean_over, self.seed = name, f"masks {name}", mean_over, seed
        self.running: Intervention | None = None
        self.averaged = 0  # samples
        self.stack = ExitStack()

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        more = {"frozen": {"mean_over": self.averaged}, "shuffled": {"seed": self.seed}}
        return {"name": self.name, **more.get(self.name, {})}

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.name == "frozen" and trainer.world_size > 1:
            raise ConfigError(
                f"intervention=frozen: {trainer.world_size} processes would each take the mean over other samples; "
                "allowed: trainer.devices=1 trainer.num_nodes=1"
            )
        if self.name == "swapped":
            check_no_single_sample(trainer)
        means = self.mean_masks(trainer, pl_module) if self.name == "frozen" else None
        self.running = self.stack.enter_context(intervened(pl_module, self.name, means, self.seed))

    def mean_masks(self, trainer: Any, module: Task) -> MaskMeans:
        with isolate_rng(), averaging(module) as means, trainer.precision_plugin.forward_context():
            for batch in trainer.datamodule.test_dataloader():
                batch = module.transfer_batch_to_device(batch, module.device, 0)
                short = {name: value[: self.mean_over - self.averaged] for name, value in batch.items()}
                means.real = module.real_tokens(short)
                module.read_inputs(short)
                self.averaged += size_of(short)
                if self.averaged >= self.mean_over:
                    break
        return means

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert self.running is not None
        self.running.size, self.running.real = size_of(batch), pl_module.real_tokens(batch)

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.stack.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self.stack.close()


def check_no_single_sample(trainer: Any) -> None:
    """ConfigError if a batch of the test will have one sample alone, whose mask could not be another's.

    Batches that a sampler of the data's own makes are only known when they come: SingleSampleError.
    """
    loader = trainer.datamodule.test_dataloader()
    size, number = loader.batch_size, len(loader.dataset)
    if size is not None and not loader.drop_last and (size == 1 or number % size == 1):
        raise ConfigError(
            f"intervention=swapped: {number} test samples in batches of {size} leave one alone in its batch, without "
            "another sample whose mask it could get; choose another data.eval_batch_size"
        )
