"""A training that begins from another model's weights (task.init_from): do they read the same features?

    start_from(module, "logs/qd_detr_released/checkpoints/last.ckpt")

The weights' shapes show the width of all streams together, not their order. So the order is compared with what the
checkpoint says of its own training, if it says it.
"""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule

from tasks.common.errors import CheckpointError
from tasks.common.initial_weights import take_weights, weights_of

HINT = ". python -m scripts.import_checkpoint qd_detr IN.ckpt OUT.ckpt makes one of a released QD-DETR"


def start_from(module: LightningModule, path: str) -> None:
    """Gives the module the weights of a checkpoint of this project.

    Raises CheckpointError: as `weights_of` and `take_weights`; streams of other widths or in another order, or a tef
    that one of the two lacks.
    """
    source = f"task.init_from={path}"
    weights, settings = weights_of(path, hint=HINT)
    theirs, ours = settings.get("facts", {}), module.hparams.facts
    if said := _streams(theirs):
        wanted = _streams(ours)
        if wanted and [*said.values()] != [*wanted.values()]:
            raise CheckpointError(
                f"{source}: was trained on the streams {_listed(said)}, in this order; this run has {_listed(wanted)}: "
                "list data.video_streams as in its training"
            )
        if wanted and theirs.get("tef") != ours.get("tef"):
            raise CheckpointError(
                f"{source}: was trained with data.tef={theirs.get('tef')}, this run has {ours['tef']}"
            )
    take_weights(module, weights, source)


def _streams(facts: Mapping[str, Any]) -> dict[str, int]:
    return dict(facts.get("streams") or {})


def _listed(streams: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({width})" for name, width in streams.items())
