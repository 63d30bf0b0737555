"""Stops a training whose loss is not finite, before the loss reaches the weights."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from tasks.common.errors import NonFiniteLossError

CAUSES = (
    "Usual causes: a learning rate too high (task.lr), features that are not numbers, mask.init=default with a deep "
    "mask."
)


def non_finite(module: LightningModule, what: str) -> NonFiniteLossError:
    """The error for values that are not numbers: `what` is wrong, at which step, and why it usually is."""
    return NonFiniteLossError(
        f"{type(module).__name__}: {what} at global step {module.global_step} (epoch {module.current_epoch}). {CAUSES}"
    )


class NonFiniteLoss(Callback):
    """Raises NonFiniteLossError, which names the task and the step, instead of training on."""

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Runs after each training loss, before its gradients: the weights are still those of the step before."""
        if not torch.isfinite(loss).all():
            raise non_finite(pl_module, f"the training loss is {loss.item()}")
