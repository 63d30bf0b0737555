"""What `python -m scripts.cost` asks image classification: a ViT without its weights."""

from typing import Any

from omegaconf import DictConfig

from tasks.common.cost import CostHooks


def prepare(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    task.pretrained, task.weights = False, None
    return {}


HOOKS = CostHooks(
    root=lambda module: module.evaluated,
    calls=lambda module, batch: {"forward": lambda: module(module.seen(batch))},
    prepare=prepare,
)
