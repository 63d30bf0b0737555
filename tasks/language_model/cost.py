"""What `python -m scripts.cost` asks the language model: which call to time."""

from tasks.common.cost import CostHooks

HOOKS = CostHooks(
    root=lambda module: module.model,
    calls=lambda module, batch: {"forward": lambda: module(module.read(batch).ids)},
)
