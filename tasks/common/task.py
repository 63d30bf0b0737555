"""What a task owes the frame (train.py, eval.py, floors, figures, costs), and what the frame does for every task.

A task is a LightningModule that derives from `Task`: it sets the class attributes, answers the abstract methods, and
adds its validation and test steps. A class that lacks one of them cannot be defined, so that a mistake is found when
the file is imported and not after a training. docs/extending.md has the smallest whole example.

Every task's `__init__` takes its own settings, whose annotations say which values are allowed (configs/knobs.py), and
    mask    the configuration's mask node as a dict, for lcaam
    facts   what the data module says of its data (Data.facts)
    blind   True for a model that gets no input: the input-blind floor
Batches are dicts; each value has one entry per sample. A test fills `predictions` (one dict of JSON values per sample)
and calls `report(scores, loss)`.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DistributedSampler

from configs.errors import ConfigError
from configs.knobs import out_of_range
from lcaam import LayerMasks
from tasks.common.cost import CostHooks
from tasks.common.epoch_loss import EpochLoss
from tasks.common.gather import gather_rows, mean_of_ranks


class Named(NamedTuple):
    """`Task.headline` and `Task.logged` of a task with certain settings."""

    headline: tuple[str, ...]
    logged: tuple[str, ...]


class Task(pl.LightningModule):
    """The base class of all tasks. Raises TypeError when a class is defined that lacks a part of the contract.

    headline: names of the test metrics, in the order of the closing table.
    logged: names of everything that training and validation log ("train/loss", "val/loss", ...), which is what a
        callback may watch and a sweeper may read.
    row_id: the key that identifies a row of `predictions`; several processes may have tested the same sample.
    rules: functions that find settings which do not go together (configs/contradictions.py: Rule).
    weights_depend_on: settings of the task's node that trained weights belong to; eval.py refuses to change them.
    modalities: what the tokens of a masked sequence are of, in their order, if they are of several modalities.
    remarks: what a reader of a run's closing table has to know; instances may set it.
    """

    headline: ClassVar[tuple[str, ...]]
    logged: ClassVar[tuple[str, ...]]
    row_id: ClassVar[str]
    rules: ClassVar[tuple[Callable, ...]] = ()
    weights_depend_on: ClassVar[tuple[str, ...]] = ()
    modalities: ClassVar[tuple[str, ...]] = ()
    remarks: tuple[str, ...] = ()

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        lacking = [name for name in ("headline", "logged", "row_id") if not hasattr(cls, name)]
        lacking += [name for name in dir(Task) if getattr(getattr(cls, name, None), "__isabstractmethod__", False)]
        if lacking:
            raise TypeError(f"{cls.__name__} lacks {', '.join(lacking)}; tasks/common/task.py says what a task owes")

    def __init__(self):
        super().__init__()
        self.predictions: list[dict] = []
        self.test_metrics: dict[str, float] = {}
        self.epoch_loss = EpochLoss()
        self.last_train_loss: float | None = None  # mean over the last epoch, as far as it got

    # -- what each task answers itself --------------------------------------------------------------------------------

    @abstractmethod
    def training_loss(self, batch: dict, index: int) -> Tensor:
        """The loss of one batch, a scalar; the frame logs it and adds the masks' regularisers.

        Over several ranks the mean of their losses counts: a mean over anything but samples is multiplied by
        tasks.common.gather.share_of_items, so that ranks together train as one process with their batches in one.
        """

    @abstractmethod
    def masks(self) -> Iterable[LayerMasks]:
        """The mask schedules of the model."""

    def masked_places(self) -> Iterable[LayerMasks]:
        """Those of `masks` that have masks in this run, or would have them if it had any (scope "none")."""
        return self.masks()

    @abstractmethod
    def reference_scores(self, datamodule) -> dict[str, dict[str, float]]:
        """Test metrics of answers that read no input ("constant"), or more than any model may ("ceiling", if the data
        module's oracle has answers), on the rows of the last test."""

    @abstractmethod
    def parts(self) -> dict[str, int]:
        """How many parameters each part of the model has; "masks" and "controls" are two of the parts."""

    @abstractmethod
    def flops(self, batch: dict) -> int | None:
        """FLOPs of one forward pass on the batch's first sample; None if they cannot be counted."""

    @abstractmethod
    def analyse(self, batch: dict) -> dict[str, Any]:
        """Masks and attention on one batch, for figures and for the run's record (tasks/common/measured.py)."""

    # -- what a task may change ---------------------------------------------------------------------------------------

    def read_inputs(self, batch: dict) -> Any:
        """One pass over a batch's inputs, without its labels, through everything that has masks."""
        return self(batch)

    def start(self) -> None:
        """Before a training that goes on from no checkpoint: takes weights from elsewhere, in a task that can.

        Tests and resumed trainings do not call it. Raises CheckpointError for weights that cannot be used.
        """

    def same_data(self, before: Mapping[str, Any]) -> None:
        """Before a training that goes on from a checkpoint: `before` are the facts of the data that it was trained on.

        Raises ConfigError if its weights do not belong to the data of now, in a task that can tell.
        """
        return

    def details(self) -> dict[str, Any]:
        """What is known of the last test beside its metrics, as JSON values: the field `details` of results.json."""
        return {}

    def write_details(self, folder: Path) -> None:
        """Writes them as tables and figures below a run's folder, in a task that has some."""
        return

    def real_tokens(self, batch: dict) -> dict[LayerMasks, tuple[Tensor | None, Tensor | None]]:
        """Which queries (B, N_q) and keys (B, N_k) of a batch's masks are real tokens (True) and not padding.

        Without an entry all are.
        """
        return {}

    @classmethod
    def masked_keys(cls, cfg: Mapping[str, Any]) -> dict[str, int]:
        """Keys that a masked query sees, by attention; "" names the only kind. Empty if they are not known."""
        return {} if cfg.get("num_keys") is None else {"": cfg["num_keys"]}

    @classmethod
    def named(cls, settings: Mapping[str, Any]) -> Named:
        """`headline` and `logged` with these settings of the task's node, in a task that computes what they say.

        Such a task sets both on its instances as well.
        """
        return Named(cls.headline, cls.logged)

    @classmethod
    def cost_hooks(cls) -> CostHooks | None:
        """What `python -m scripts.cost` needs: HOOKS of the file cost.py beside the task's module; None without it."""
        name = f"{cls.__module__.rpartition('.')[0]}.cost"
        return None if find_spec(name) is None else import_module(name).HOOKS

    def configure_model(self) -> None:
        """Shards the parameters, in a task that can; Lightning calls it before every fit and test.

        Raises ConfigError in a task that cannot, if the trainer's strategy asks for it.
        """
        if self.device_mesh is not None:
            raise ConfigError(
                f"trainer=fsdp: {type(self).__name__} cannot be sharded; allowed: trainer=ddp, trainer=gpu"
            )

    # -- what the frame does for every task ---------------------------------------------------------------------------

    def check_arguments(self, given: Mapping[str, Any]) -> None:
        """Raises ConfigError for arguments of `__init__` that its annotations do not allow."""
        if problems := out_of_range(type(self).__init__, given, "task"):
            raise ConfigError("\n".join(problems))

    def training_step(self, batch: dict, index: int) -> Tensor:
        loss = self.training_loss(batch, index)
        self.epoch_loss.update(loss, size_of(batch))
        told = mean_of_ranks(loss)
        self.log("train/loss", told, on_step=True, on_epoch=False, logger=False)
        self.log("train/loss_step", told, on_step=True, on_epoch=False, prog_bar=True)
        if weight := self.hparams.mask.get("sparsity"):
            loss = loss + weight * sum(masks.sparsity_loss() for masks in self.masks())
        return loss

    def on_train_epoch_start(self) -> None:
        self.epoch_loss.reset()

    def on_train_epoch_end(self) -> None:
        self.last_train_loss = self.epoch_loss.mean()
        if self.last_train_loss is not None:
            self.log("train/loss", self.last_train_loss, logger=False)
            self.log("train/loss_epoch", self.last_train_loss)

    def on_fit_end(self) -> None:
        # a run that was resumed after its last step, before the end of the epoch: no hook of the epoch is called
        self.last_train_loss = self.epoch_loss.mean()

    def on_test_epoch_start(self) -> None:
        self.predictions, self.test_metrics = [], {}

    def gather_predictions(self) -> list[dict]:
        """The predictions of all processes, each row once, in the order of the data."""
        loader = self.trainer.test_dataloaders if self.trainer.testing else self.trainer.val_dataloaders
        sampler = getattr(loader, "sampler", None)
        samples = list(sampler) if isinstance(sampler, DistributedSampler) else []  # of this process, in its order
        places = [place for one in samples for place in (one if isinstance(one, list) else [one])]
        return gather_rows(self.predictions, self.row_id, places)

    def log_of_all(self, stage: str, values: Mapping[str, float], **options: Any) -> None:
        """Logs values that all ranks have alike, such as metrics over all of them, as <stage>/<name>."""
        # the largest of equal values is that value; their mean would be rounded
        of_all = {"sync_dist": True, "reduce_fx": "max"}
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, **of_all, **options)

    def report(self, scores: Mapping[str, float], loss: float) -> None:
        """Keeps the metrics of a test: its scores, its loss, and the loss of the training."""
        self.test_metrics = {**scores, "test_loss": loss}
        if self.last_train_loss is not None:
            self.test_metrics["train_loss"] = self.last_train_loss

    def settings(self, *names: str) -> dict[str, Any]:
        """Some of the arguments that the task was built with, as keywords for its parts."""
        return {name: self.hparams[name] for name in names}

    def recipe(self, *names: str) -> dict[str, Any]:
        """Keywords of an optimiser: steps, the factor on the rate of masks and controls, and some of the arguments."""
        scale = self.hparams.mask.get("lr_scale", 1.0)  # checkpoints of older runs do not have it
        return {"steps": self.training_steps, "lr_scale": scale, **self.settings(*names)}

    @property
    def training_steps(self) -> int:
        """Updates of the whole training, for schedules."""
        return int(self.trainer.estimated_stepping_batches)


def size_of(batch: Mapping[str, Any]) -> int:
    """The number of samples in a batch."""
    return len(next(iter(batch.values())))


def first_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of its first sample alone."""
    return {name: value[:1] for name, value in batch.items()}
