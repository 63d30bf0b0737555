"""A run of Lightning that stops anywhere and goes on sees the batches that it would have seen."""

import copy
import json

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from datamodules.loading import Resumable
from tests.datamodules.moment_retrieval.small import open_set, write_set


class Recorder(pl.LightningModule):
    """Keeps what it is trained on: qids and random labels of every batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list = []

    def training_step(self, batch, index):
        labels = [batch[key].tolist() for key in ("saliency_pos", "saliency_neg")]
        self.seen.append(
            (
                self.current_epoch,
                [row["qid"] for row in batch["annotation"]],
                labels,
                [s.tolist() for s in batch["spans"]],
            )
        )
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("moments") / "set")


def fit(folder, path, *, steps, workers=0, ckpt=None, data=None, **trainer):
    """Trains up to `steps` steps in all and saves after each, as a run that is killed; returns what was seen.

    An epoch has 3 batches.
    """
    pl.seed_everything(5, workers=True, verbose=False)
    module = Recorder()
    saving = ModelCheckpoint(path, "{step}", every_n_train_steps=1, save_top_k=-1)
    run = pl.Trainer(
        max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, callbacks=[saving],
        enable_model_summary=False, default_root_dir=path, limit_val_batches=0, **trainer,
    )  # fmt: skip
    run.fit(module, datamodule=open_set(folder, num_workers=workers, **(data or {})), ckpt_path=ckpt, weights_only=True)
    return module.seen


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [2, 3, 4, 7])
def test_a_resumed_run_sees_the_batches_of_one_that_went_through(folder, tmp_path, stop, workers):
    """2, 4 and 7 are amid the first, second and third epoch; 3 is the end of the first."""
    whole = fit(folder, tmp_path, steps=8)
    assert len({tuple(qids) for _, qids, _, _ in whole}) == 8
    first = fit(folder, tmp_path / "first", steps=stop, workers=workers)
    rest = fit(folder, tmp_path / "rest", steps=8, workers=workers, ckpt=tmp_path / "first" / f"step={stop}.ckpt")
    assert first + rest == whole


def test_a_run_that_stopped_between_short_epochs_begins_the_next_one_whole(folder, tmp_path):
    """limit_train_batches ends an epoch before the loader is through."""
    whole = fit(folder, tmp_path, steps=6, limit_train_batches=2)
    first = fit(folder, tmp_path / "first", steps=4, limit_train_batches=2)
    ckpt = tmp_path / "first" / "step=4.ckpt"
    rest = fit(folder, tmp_path / "rest", steps=6, ckpt=ckpt, limit_train_batches=2)
    assert [epoch for epoch, *_ in whole] == [0, 0, 1, 1, 2, 2] and first + rest == whole


def test_other_seeds_see_other_batches(folder, tmp_path):
    whole = fit(folder, tmp_path, steps=3)
    torch.manual_seed(6)
    data = open_set(folder)
    assert [[row["qid"] for row in batch["annotation"]] for batch in data.train_dataloader()] != [
        qids for _, qids, _, _ in whole
    ]


def test_overfitting_takes_the_same_batch_in_every_epoch(folder, tmp_path):
    seen = fit(folder, tmp_path, steps=3, overfit_batches=1)
    assert len({str(batch[1:]) for batch in seen}) == 1


def test_the_state_is_how_many_batches_were_handed_out(folder):
    loader = open_set(folder).train_dataloader()
    assert isinstance(loader, Resumable) and len(loader) == 3
    whole = [batch["annotation"] for batch in loader]
    assert loader.state_dict() == {"epoch": 0, "batches": 3}
    for given in range(3):
        passes = iter(loader)
        for _ in range(given):
            next(passes)
        state = copy.deepcopy(loader.state_dict()) if given else {"epoch": 0, "batches": 0}
        assert state == {"epoch": 0, "batches": given}
        other = open_set(folder).train_dataloader()
        other.load_state_dict(state)
        assert [batch["annotation"] for batch in other] == whole[given:]
        assert [batch["annotation"] for batch in other] == whole  # the pass after it is whole again


class Writer(Recorder):
    """Writes what each rank saw to a file of its own."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_train_end(self):
        (self.path / f"rank{self.global_rank}.json").write_text(json.dumps(self.seen))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_two_ranks_share_an_epoch_and_draw_the_labels_of_one(folder, tmp_path, workers):
    """Lightning leaves the sampler in its place: each of two ranks sees 6 others of 13 samples."""
    pl.seed_everything(5, workers=True, verbose=False)
    pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path, limit_val_batches=0,
    ).fit(Writer(tmp_path), datamodule=open_set(folder, num_workers=workers, batch_size=1))  # fmt: skip
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    assert [len(seen) for seen in ranks] == [12, 12]
    alone = json.loads(json.dumps(fit(folder, tmp_path, steps=26, data={"batch_size": 1})))
    for epoch in range(2):
        found = {}
        for seen in ranks:
            for number, (qid,), labels, spans in seen[6 * epoch : 6 * epoch + 6]:
                assert number == epoch
                found[qid] = (labels, spans)
        assert found == {qid: (labels, spans) for _, (qid,), labels, spans in alone[13 * epoch : 13 * epoch + 12]}
