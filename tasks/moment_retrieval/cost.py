"""What `python -m scripts.cost` asks moment retrieval: which call to time."""

from tasks.common.cost import CostHooks

HOOKS = CostHooks(
    root=lambda module: module.model,
    calls=lambda module, batch: {"forward": lambda: module.predict(batch)},
)
