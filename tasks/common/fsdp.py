"""Lightning's strategy for models whose parameters are sharded over ranks (FSDP2); `trainer=fsdp` chooses it.

A task shards its own model in `configure_model`; audio description does (tasks/audio_description/sharding.py).
"""

from pytorch_lightning.strategies import ModelParallelStrategy


class FSDP2Strategy(ModelParallelStrategy):
    """ModelParallelStrategy with every rank in the data-parallel group, and checkpoints of one file."""

    def __init__(self):
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        # "auto" would make all ranks of a machine split each matrix product instead
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()
