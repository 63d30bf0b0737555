"""Lightning's data-parallel strategy, for ranks that have different numbers of batches in validation and test.

register()    # from here on `strategy=ddp` is this one
"""

from typing import Any

import torch.distributed
from pytorch_lightning.strategies import DDPStrategy, StrategyRegistry

VARIANTS = {
    "ddp": {},
    "ddp_find_unused_parameters_false": {"find_unused_parameters": False},
    "ddp_find_unused_parameters_true": {"find_unused_parameters": True},
}


class UnevenDDPStrategy(DDPStrategy):
    """DDPStrategy that evaluates without torch's wrapper.

    The wrapper sends the first rank's buffers to the others before each forward pass, in validation too. A rank that
    has a batch more than the others would wait for them there, while they wait for it in the metrics. So buffers are
    sent once, when an evaluation starts.
    """

    def on_validation_start(self) -> None:
        self.share_buffers()

    def on_test_start(self) -> None:
        self.share_buffers()

    def share_buffers(self) -> None:
        for buffer in self.lightning_module.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.precision_plugin.val_step_context():
            return self.lightning_module.validation_step(*args, **kwargs)


def register() -> None:
    """Makes it Lightning's strategy of these names, and so the one of several devices without a name."""
    for name, options in VARIANTS.items():
        StrategyRegistry.register(
            name,
            UnevenDDPStrategy,
            description=UnevenDDPStrategy.__doc__,
            override=True,
            start_method="popen",
            **options,
        )
