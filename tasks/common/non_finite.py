"""Stops a training whose loss is not finite, before the loss reaches the weights."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from tasks.common.errors import NonFiniteLossError


class NonFiniteLoss(Callback):
    """Raises NonFiniteLossError, which names the task and the step, instead of training on."""

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Runs after each training loss, before its gradients."""
        if not torch.isfinite(loss).all():
            raise NonFiniteLossError(
                f"{type(pl_module).__name__}: the training loss is {loss.item()} at global step {trainer.global_step} "
                f"(epoch {trainer.current_epoch}). The weights are still those of the step before. Usual causes: a "
                "learning rate too high (task.lr), features that are not numbers, mask.init=default with a deep mask."
            )
