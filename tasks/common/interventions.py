"""Tests a trained model with other masks than its own: `python eval.py run=... intervention=frozen`.

The callback runs inside trainer.test. For "frozen" it first averages the masks over the first test inputs, through
`Task.read`, which takes no labels.
"""

from contextlib import ExitStack
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

from configs.errors import ConfigError, listed, nearest
from lcaam.interventions import INTERVENTIONS, Intervention, MaskMeans, averaging, intervened
from tasks.common.task import Task, size_of


def asked_for(settings: DictConfig, cfg: DictConfig) -> "MaskIntervention | None":
    """The callback that eval.py's settings ask for, None without an intervention.

    Raises ConfigError for an unknown one, a number that is none, and a run without masks.
    """
    name, text = settings.intervention, settings.mean_over
    if name is None:
        return None
    if name not in INTERVENTIONS:
        hint = nearest(name, INTERVENTIONS)
        raise ConfigError(f"intervention={name}: unknown{hint} (allowed: {listed(INTERVENTIONS)})")
    if not str(text).isdecimal() or int(text) < 1:
        raise ConfigError(f"mean_over={text}: allowed: a number of test samples, at least 1")
    if cfg.mask.scope == "none" or cfg.mask.control != "none":
        given = f"scope={cfg.mask.scope}, control={cfg.mask.control}"
        raise ConfigError(f"intervention={name}: the run has no masks to change (mask.{given})")
    return MaskIntervention(name, int(text), cfg.seed)


class MaskIntervention(Callback):
    """name: a key of lcaam.interventions.INTERVENTIONS. mean_over: of how many test samples "frozen" takes the mean (of
    all, if there are fewer). seed: of the order of "shuffled"."""

    def __init__(self, name: str, mean_over: int, seed: int):
        self.name, self.mean_over, self.seed = name, mean_over, seed
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
                module.read(short)
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
