"""Videos of which only a part is read, data without saliency, and the trainers that a GPU is used with."""

import pytest
import torch

from tasks.moment_retrieval.constant import constant_answer
from tasks.moment_retrieval.postprocessing import published_whole, submission_rows, whole_curve
from tests.datamodules.moment_retrieval.small import open_set, write_set
from tests.tasks.moment_retrieval.test_module import trainer
from tests.tasks.moment_retrieval.trained import FACTS, build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("moments"))


def outputs(clips: int) -> dict[str, torch.Tensor]:
    spans = torch.tensor([[[0.5, 1.0]]])  # all that was read
    return {"logits": torch.zeros(1, 1, 2), "spans": spans, "saliency": torch.arange(clips)[None].float()}


@pytest.mark.parametrize(
    ("clips", "duration", "published", "exact"),
    [
        (7, 32, 14.0, 14.0),  # cut: the share is of the 7 clips that were read
        (20, 32, 32.0, 32.0),  # features that go on behind the video: no window does
        (16, 32, 32.0, 32.0),
        (15, 31, 31.0, 30.0),  # up to a clip: of the duration, as published, though labels are shares of 30 s
        (15, 32, 32.0, 30.0),
    ],
)
def test_spans_are_shares_of_what_was_read_and_as_published_up_to_a_clip_of_the_duration(
    clips, duration, published, exact
):
    batch = {"annotation": [{"qid": 1, "duration": duration}], "video_keep": torch.ones(1, clips, dtype=torch.bool)}
    (row,) = submission_rows(outputs(clips), batch, 2.0, None, rounded=False)
    assert row["pred_relevant_windows"] == [[0.0, exact, 0.5]]
    whole = published_whole(torch.tensor([2.0 * clips]), torch.tensor([float(duration)]), 2.0)
    assert min(whole.item(), duration) == published
    (row,) = submission_rows(outputs(clips), batch, 2.0, None, rounded=True)
    assert row["pred_relevant_windows"] == [[0.0, 2.0 * round(published / 2.0), 0.5]]


def test_labels_come_back_as_windows_whatever_was_read(folder):
    data = open_set(folder, max_clips=5)
    for row in data.annotations("train"):
        index = data.annotations("train").index(row)
        batch = data.moments["train"].__getitems__([index])
        clips = batch["video"].shape[1]
        found = {"logits": torch.zeros(1, len(batch["spans"][0]), 2), "spans": batch["spans"][0][None]}
        found["saliency"] = torch.zeros(1, clips)
        (answer,) = submission_rows(found, batch, 2.0, None, rounded=False)
        cut = [[start, min(end, 2 * clips)] for start, end in row["relevant_windows"] if start < 2 * clips]
        for window in answer["pred_relevant_windows"]:
            assert min(abs(window[0] - a) + abs(window[1] - b) for a, b in cut) < 1e-3


def test_a_curve_goes_on_to_the_end_of_its_video_with_its_lowest_score():
    assert whole_curve([0.5, -1.0, 2.0], 12.0, 2.0) == [0.5, -1.0, 2.0, -1.0, -1.0, -1.0]
    assert whole_curve([0.5, -1.0], 6.0, 2.0) == [0.5, -1.0]  # one clip fewer is allowed
    assert whole_curve([0.5, -1.0], 3.0, 2.0) == [0.5, -1.0]
    assert len(whole_curve([1.0], 0.6, 0.2)) == 3


def test_a_run_on_cut_videos_is_scored_to_the_end(folder):
    data = open_set(folder, max_clips=5)
    module = build(data.facts() | {"clips": 5})
    training = trainer(max_steps=2)
    training.fit(module, datamodule=data)
    training.test(module, datamodule=data, verbose=False)
    assert {"mAP", "HIT@1"} <= module.test_metrics.keys()
    assert "HIT@1" in module.reference_scores(data)["constant"]
    answer = constant_answer(data.annotations("train"), data.facts(), 3)({"duration": 30})
    assert len(answer["pred_saliency_scores"]) == 15


def test_a_model_that_learns_no_saliency_reports_none(folder):
    data = open_set(folder, saliency="none")
    module = build(data.facts())
    trainer().test(module, datamodule=data, verbose=False)
    assert "mAP" in module.test_metrics
    assert not {"HIT@1", "HD mAP"} & module.test_metrics.keys()
    assert "pred_saliency_scores" not in module.predictions[0]
    assert not {"HIT@1", "HD mAP"} & module.reference_scores(data)["constant"].keys()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_at_every_precision(folder, precision):
    data, module = open_set(folder), build()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer(max_steps=2, precision=precision, gradient_clip_val=0.1).fit(module, datamodule=data)
    assert any(not torch.equal(before[name], p) for name, p in module.named_parameters())


@pytest.mark.parametrize("saliency", ["annotated", "none"])
@pytest.mark.parametrize("layers", [1, 2])
def test_whatever_is_trained_gets_a_gradient_as_ddp_needs(folder, layers, saliency):
    data = open_set(folder, saliency=saliency)
    module = build(data.facts(), decoder_layers=layers)
    batch = data.moments["train"].__getitems__([0, 2, 4])
    module.batch_losses(batch)[0].backward()
    without = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_facts_of_earlier_checkpoints_have_saliency():
    module = build({name: value for name, value in FACTS.items() if name != "saliency"})
    assert all(p.requires_grad for p in module.model.saliency_clip.parameters())
