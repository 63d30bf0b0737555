"""Draws what the model attends to, into the run's figures/ and to W&B: at the end of training, or every k epochs.

The module offers `analyse(batch)`, which returns

    masks      {layer name: (N_q, N_k) array}, empty without masks
    attention  {layer name: array of attention weights, any shape}
    tokens     {"boundaries": [25], "labels": ["visual", "audio"]}, or the axes: {"queries": "clip", "keys": "word"}
    statistics {name: number}, for the run's record; may be left out
    remarks    sentences about masks that run off, which are logged as warnings; may be left out
    records    {layer name: lcaam.analysis.Record}, for layer_data.py and the masks' neutral value; may be left out
"""

import logging
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from pytorch_lightning.utilities.seed import isolate_rng

log = logging.getLogger(__name__)


class AnalysisFigures(Callback):
    """Mask heat maps and attention histograms of one validation batch (of a test batch if there is no validation).

    The callback does not change the training. run: what the titles call the run; the step is added.
    """

    def __init__(self, folder: str, every_n_epochs: int | None = None, dpi: int = 150, run: str = "") -> None:
        self.folder, self.every_n_epochs, self.dpi, self.run = Path(folder), every_n_epochs, dpi, run
        self.statistics: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws `<figure>_epoch003.png` after every k-th epoch."""
        epoch = trainer.current_epoch + 1
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self.draw(trainer, pl_module, suffix=f"_epoch{epoch:03d}")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the figures of the last weights."""
        self.draw(trainer, pl_module)

    @rank_zero_only
    def draw(self, trainer: Trainer, module: LightningModule, suffix: str = "") -> None:
        """Writes the figures and hands them to the loggers that take images."""
        if trainer.fast_dev_run:
            return
        if isinstance(trainer.strategy, ModelParallelStrategy):  # one rank alone cannot run a sharded model
            log.warning("no analysis figures under FSDP: draw them from the checkpoint on one device")
            return
        # The drawing library takes half a second to import: only runs that draw pay for it.
        from tasks.common.mask_figures import attention_histogram, mask_heat_map

        found = analyse_one_batch(trainer, module)
        if found is None:
            log.warning("no analysis figures: neither the validation nor the test set has a scene to draw")
            return
        self.statistics = found.get("statistics", {})
        for remark in found.get("remarks", ()):
            log.warning("%s", remark)
        of_run = f"{self.run}, step {trainer.global_step}".removeprefix(", ")
        records = found.get("records", {})
        neutral = next((record.fusion.neutral for record in records.values() if record.mask is not None), 0.0)
        figures = {
            f"mask_{layer}": mask_heat_map(mask, title=f"Mask, {layer}\n{of_run}", neutral=neutral, **found["tokens"])
            for layer, mask in found["masks"].items()
        }
        if found["attention"]:
            layers = first_and_last(found["attention"])
            figures["attention_histogram"] = attention_histogram(layers, f"Attention weights, {of_run}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            path = self.folder / f"{name.replace(' ', '_').replace('/', '_')}{suffix}.png"
            figure.savefig(path, dpi=self.dpi, bbox_inches="tight")  # "tight": otherwise a label at the edge is cut
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):
                    logger.log_image(key=f"figures/{name}", images=[str(path)])


def analyse_one_batch(trainer: Trainer, module: LightningModule) -> dict[str, Any] | None:
    """`analyse` of the first batch; None if there is none."""
    batch = first_batch(trainer)
    return None if batch is None else analyse(trainer, module, batch)


def first_batch(trainer: Trainer) -> Any:
    """The first validation batch; if there is no validation set, the first test batch; None if there is none either."""
    with isolate_rng():
        loaders = (trainer.datamodule.val_dataloader, trainer.datamodule.test_dataloader)
        return next((batch for loader in loaders for batch in loader()), None)


def analyse(trainer: Trainer, module: LightningModule, batch: Any) -> dict[str, Any]:
    """`module.analyse` on a batch, in evaluation mode, with the run's random state untouched."""
    training = module.training
    with isolate_rng(), torch.no_grad(), trainer.precision_plugin.forward_context():
        batch = module.transfer_batch_to_device(batch, module.device, 0)
        module.eval()
        try:
            return module.analyse(batch)
        finally:
            module.train(training)


def statistics(trainer: Trainer) -> dict[str, float]:
    """The last numbers of the run's AnalysisFigures callback; empty if there is no such callback."""
    callbacks = (callback for callback in trainer.callbacks if isinstance(callback, AnalysisFigures))
    return next((callback.statistics for callback in callbacks), {})


def first_and_last(by_layer: dict[str, Any]) -> dict[str, Any]:
    """The two layers that the paper shows, or the only one."""
    names = list(by_layer)
    return {name: by_layer[name] for name in dict.fromkeys((names[0], names[-1]))}
