"""A sweeper for tables: the product of `params`, and rows beside it that do not belong to the product.

    hydra/sweeper: rows, with hydra.sweeper.params as Hydra's own has them, and hydra.sweeper.also (configs/sweeping.py)

Plain attention has no fusion and no depth, so a sweep over those could not hold the baseline otherwise.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from configs.errors import ConfigError
from configs.sweeping import cells


@dataclass
class RowsSweeperConf:
    """params: values by key, as for Hydra's own sweeper; also: further rows, each with the keys that it sets."""

    _target_: str = "hydra_plugins.lcaam_sweeps.rows_sweeper.RowsSweeper"
    params: dict[str, Any] | None = None
    also: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="rows", node=RowsSweeperConf, provider="lcaam")


class RowsSweeper(Sweeper):
    """Launches all cells at once. Raises CompactHydraException for a range to draw from."""

    def __init__(self, params: dict[str, Any] | None = None, also: list[dict[str, Any]] | None = None) -> None:
        self.params, self.also = params or {}, also or []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Runs every cell and returns what came of each. Raises the first failed cell's error when all are done."""
        try:
            jobs = cells(self.params, self.also, arguments)
        except ConfigError as error:
            raise CompactHydraException(str(error)) from error
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.validate_batch_is_legal(jobs)
        done = self.launcher.launch(jobs, initial_job_idx=0)
        for one in done:
            _ = one.return_value  # raises what the job raised
        return [done]
