"""What the report (`python -m scripts.page`) draws of masks and attention, as numbers in the run's folder.

    metrics.csv           columns masks/<layer>/context_sensitivity and masks/<layer>/sign_flips: over training, by step
    analysis/layers.npz   after training, on the first SAMPLES samples of the validation (or of the test):
        layers            names; fusion, neutral: its name and the value that leaves plain attention ("" without a mask)
        sizes             (L, 2): queries and keys; boundaries, labels, axes: what the tokens are
        mean i            mask of layer i, mean over samples, at most SIDE x SIDE
        values i, edges i  how many mask values at kept pairs lie between two edges
        weights i         how many attention weights lie in each of 50 bins over [0, 1]
    analysis/samples.npz  with the tested weights, of the first SHOWN test samples: ids, layers, fusion, neutral, sizes,
                          and mask i (samples, at most SHOWN_SIDE, at most SHOWN_SIDE)

Larger masks are means over blocks of neighbouring tokens. Nothing of it changes a training: random states are put back.
A run pays about as much as for one more validation batch.
"""

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor

from lcaam.analysis import Record, attention_histogram, heat_map
from tasks.common.analysis_figures import analyse, first_batch
from tasks.common.files import write_bytes
from tasks.common.task import size_of

log = logging.getLogger(__name__)

SAMPLES, SHOWN = 16, 3
SIDE, SHOWN_SIDE = 64, 40
BINS = 60  # of mask values
FOLLOWED = ("context_sensitivity", "sign_flips")  # statistics that are logged over training


class LayerData(Callback):
    """Writes the files above into `folder` and logs how the masks change. Does nothing in a sharded model.

    With several ranks only layers.npz is written, after the training: amid a loop one rank that does more than the
    others would make them wait for each other.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.batch: dict[str, Any] | None = None  # the samples, which are the same at every step

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the statistics of the masks beside the validation's loss."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or trainer.world_size > 1:
            return
        statistics = self.look(trainer, pl_module).get("statistics", {})
        for name, value in statistics.items():
            if name.endswith(FOLLOWED):
                pl_module.log(f"masks/{name}", value, rank_zero_only=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes layers.npz."""
        found = self.look(trainer, pl_module)
        if records := found.get("records"):
            self.write("layers.npz", {**described(records, found["tokens"]), **arrays_of(records)})
        self.batch = None

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Writes samples.npz: the first batch's first samples, under the names that their predictions have."""
        if batch_idx or dataloader_idx or trainer.state.fn != TrainerFn.TESTING or trainer.world_size > 1:
            return
        some = {name: value[:SHOWN] for name, value in batch.items()}
        records = self.look(trainer, pl_module, some).get("records", {})
        masks = {f"mask {i}": of_samples(r) for i, r in enumerate(records.values()) if r.mask is not None}
        if masks:
            ids = np.array([str(row[pl_module.row_id]) for row in pl_module.predictions[:SHOWN]])
            self.write("samples.npz", {"ids": ids, **described(records, {}), **masks})

    def look(self, trainer: Trainer, module: LightningModule, batch: Any = None) -> dict[str, Any]:
        """What the module says of the batch, or of the samples that are looked at throughout; empty if it cannot."""
        if rank_zero_only.rank or trainer.fast_dev_run or isinstance(trainer.strategy, ModelParallelStrategy):
            return {}
        if batch is None and self.batch is None:
            found = first_batch(trainer)
            self.batch = found and {name: value[:SAMPLES] for name, value in found.items()}
        batch = self.batch if batch is None else batch
        return analyse(trainer, module, batch) if batch and size_of(batch) else {}

    def write(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        write_bytes(self.folder / name, file.getvalue())


def described(records: Mapping[str, Record], tokens: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What the layers and their tokens are."""
    fusion = next((record.fusion for record in records.values() if record.mask is not None), None)
    return {
        "layers": np.array(list(records)),
        "fusion": np.array("" if fusion is None else fusion.name),
        "neutral": np.array(0.0 if fusion is None else fusion.neutral),
        "sizes": np.array([record.weights.shape[-2:] for record in records.values()]),
        "boundaries": np.array(tokens.get("boundaries", ()), dtype=np.int64),
        "labels": np.array(tokens.get("labels", ()), dtype=np.str_),
        "axes": np.array([tokens.get("queries", "query token"), tokens.get("keys", "key token")]),
    }


def arrays_of(records: Mapping[str, Record]) -> dict[str, np.ndarray]:
    """Masks and histograms of the layers, by their numbers."""
    arrays = {}
    for number, record in enumerate(records.values()):
        weights, _ = attention_histogram(record.kept_weights())
        arrays[f"weights {number}"] = weights.numpy()
        if record.mask is not None:
            arrays[f"mean {number}"] = reduced(heat_map(record.mask, keep=record.keep), SIDE)
            values = record.kept_mask().double().numpy()
            counts, edges = np.histogram(values[np.isfinite(values)], bins=BINS)
            arrays |= {f"values {number}": counts, f"edges {number}": edges}
    return arrays


def of_samples(record: Record) -> np.ndarray:
    """The masks of the samples, mean over groups: (samples, at most SHOWN_SIDE, at most SHOWN_SIDE)."""
    assert record.mask is not None
    masks = record.mask.mean(1)
    return reduced(masks.expand(len(record.weights), -1, -1), SHOWN_SIDE)


def reduced(masks: Tensor, side: int) -> np.ndarray:
    """Masks (..., N_q, N_k) of at most `side` queries and keys, means over blocks of neighbours; float32."""
    sizes = [min(size, side) for size in masks.shape[-2:]]
    pooled = F.adaptive_avg_pool2d(masks.float().reshape(-1, 1, *masks.shape[-2:]), sizes)
    return pooled.reshape(*masks.shape[:-2], *sizes).numpy()
