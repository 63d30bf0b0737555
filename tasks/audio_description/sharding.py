"""Parameters of the describer sharded over ranks (FSDP2), for a language model that one GPU cannot hold.

    python train.py experiment=madv2_multi_lcaam trainer=fsdp trainer.devices=8

Frozen weights are sharded like trained ones. A layer's weights are whole only while it runs, which is why the prefix is
projected inside the layers (prefix.Prompts).
"""

from typing import Any

from pytorch_lightning import Trainer
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from configs.errors import ConfigError
from tasks.audio_description.model import Describer
from tasks.audio_description.projections import places
from tasks.audio_description.quantization import quantization_of


def shard(model: Describer, mesh: DeviceMesh) -> None:
    """Shards `model` in place over a mesh of one dimension; every layer of the language model is a unit of its own.

    A model that is sharded already stays as it is. Raises ConfigError for a quantised language model.
    """
    if is_sharded(model):
        return
    if (kind := quantization_of(model.llm)) != "none":
        raise ConfigError(
            f"task.llm.quantization: {kind} with trainer=fsdp: quantised weights cannot be sharded; "
            "choose task.llm.quantization=none, or trainer=ddp, where each GPU holds all weights"
        )
    layers = (model.llm.get_submodule(place.layer) for place in places(model.llm))
    for part in (*layers, model.llm, model.encoder, model):
        fully_shard(part, mesh=mesh)
    for method in ("prefix", "constant_prefix"):  # not called through forward
        register_fsdp_forward_method(model, method)


def missing_batches(trainer: Trainer, done: int) -> list[dict[str, Any]]:
    """A batch for each that this rank, which had `done`, has fewer than the rank with the most in a validation or test.

    A sharded model runs only if all ranks call it, so a rank with fewer batches makes up for them.
    """
    loader = trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
    limit = trainer.limit_test_batches if trainer.testing else trainer.limit_val_batches
    if trainer.sanity_checking:
        limit = trainer.num_sanity_val_steps
    most = getattr(loader.sampler, "most", done)
    share = isinstance(limit, float) and limit <= 1
    missing = (int(most * limit) if share else min(most, limit)) - done
    return [loader.dataset[[0]] for _ in range(missing)]


def is_sharded(model: Describer) -> bool:
    return isinstance(model, FSDPModule)
