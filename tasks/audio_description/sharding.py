r"""Parameters of the describer sharded over ranks (FSDP2), for a language model that one GPU cannot hold.

    python train.py experiment=madv2_multi_lcaam trainer=gpu trainer.devices=8 \
        trainer.strategy._target_=tasks.audio_description.sharding.FSDP2Strategy

Frozen weights are sharded like trained ones. A layer's are whole only while it runs, which is why the prefix is
projected inside the layers (prefix.Prompts).
"""

from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from configs.errors import ConfigError
from tasks.audio_description.model import Describer
from tasks.audio_description.quantization import quantization_of


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2 with every rank in the data-parallel group, and checkpoints of one file."""

    def __init__(self):
        super().__init__(save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        # "auto" would make all ranks of a machine split each matrix product instead
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()


def shard(model: Describer, mesh: DeviceMesh) -> None:
    """Shards `model` in place over a mesh of one dimension; every layer of the language model is a unit of its own.

    A model that is sharded already stays as it is. Raises ConfigError for a quantised language model.
    """
    if is_sharded(model):
        return
    if (kind := quantization_of(model.llm)) != "none":
        raise ConfigError(
            f"task.llm.quantization: {kind} with trainer.strategy=FSDP2Strategy: quantised weights cannot be sharded; "
            "choose task.llm.quantization=none, or trainer=ddp, where each GPU holds all weights"
        )
    for part in (*model.llm.model.layers, model.llm, model.encoder, model):
        fully_shard(part, mesh=mesh)
    for method in ("prefix", "constant_prefix"):  # not called through forward
        register_fsdp_forward_method(model, method)


def is_sharded(model: Describer) -> bool:
    return isinstance(model, FSDPModule)
