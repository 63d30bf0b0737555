"""Long videos: what excerpts found is put together again; checkpoints that cannot be used say so; the figure."""

import argparse
import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.excerpts import Excerpt, Moment, iou, joined, merged_moments, merged_saliency
from tasks.moment_retrieval.moment_figures import PREDICTED, TRUE, moments
from tasks.moment_retrieval.predict import answers, load
from tests.tasks.moment_retrieval.trained import FACTS, STREAMS, build

CLIP = 2.0


def excerpt(first: int, size: int, *windows) -> Excerpt:
    return Excerpt(first, [list(window) for window in windows], [0.0] * size)


# -- saliency ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "starts"), [(1, [0]), (7, [0]), (4, [0, 2, 3]), (5, [0, 1, 2, 3]), (3, [0, 3]), (2, [0, 1])]
)
def test_saliency_is_the_mean_weighted_by_the_distance_to_the_border(size, starts) -> None:
    rng = np.random.default_rng(0)
    parts = [Excerpt(first, [], rng.standard_normal(size).tolist()) for first in starts]
    expected = []
    for clip in range(starts[-1] + size):
        seen = [
            (part.saliency[clip - part.first], clip - part.first) for part in parts if 0 <= clip - part.first < size
        ]
        weights = [min(place + 1, size - place) for _, place in seen]
        expected.append(sum(w * value for w, (value, _) in zip(weights, seen, strict=True)) / sum(weights))
    np.testing.assert_allclose(merged_saliency(parts), expected, rtol=1e-12)


# -- windows ----------------------------------------------------------------------------------------------------------


def starts_of(clips: int, size: int, stride: int) -> list[int]:
    """Every stride-th clip until an excerpt reaches the end, which the last one does."""
    starts = [0]
    while starts[-1] + size < clips:
        starts.append(min(starts[-1] + stride, clips - size))
    return starts


@pytest.mark.parametrize("stride", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(12))
def test_moments_that_borders_cut_are_found_whole_and_once(stride, seed) -> None:
    """A model that sees perfectly what lies in its excerpt: moments of 1 clip up to four excerpts."""
    rng, size, clips = np.random.default_rng(seed), 8, int(50 + seed)
    true, clip = [], int(rng.integers(0, 5))
    while clip < clips:
        end = min(clips, clip + int(rng.integers(1, 33)))
        true.append((clip * CLIP, end * CLIP, 0.6 + 0.01 * len(true)))
        clip = end + int(rng.integers(2, 9))
    parts = []
    for first in starts_of(clips, size, stride):
        begin, end = first * CLIP, (first + size) * CLIP
        seen = [(max(a, begin) - begin, min(b, end) - begin, score) for a, b, score in true if a < end and b > begin]
        parts.append(excerpt(first, size, *sorted(seen, key=lambda window: -window[2])))
    found = merged_moments(parts, CLIP, overlap=0.7, most=100)
    assert [moment[:3] for moment in found] == sorted(true, key=lambda window: -window[2])


def test_parts_of_a_moment_need_not_meet_exactly() -> None:
    parts = [excerpt(0, 10, (4, 18, 0.8)), excerpt(5, 10, (2, 14, 0.9))]  # 18 of 20 s; from 12 s, where 10 s would be
    assert merged_moments(parts, CLIP, 0.7, 9) == [Moment(4, 24, 0.9, (0, 30))]


def seen_as(start, end, score=0.8, seen=(0, 20)) -> Moment:
    return Moment(start, end, score, seen)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (seen_as(4, 20), seen_as(10, 24, 0.3, (10, 30))),  # a score of under half the other
        (seen_as(4, 16), seen_as(10, 24, seen=(10, 30))),  # the first saw its end, two clips before the border
        (seen_as(4, 20), seen_as(14, 24, seen=(10, 30))),  # the second saw its beginning
        (seen_as(4, 8), seen_as(22, 24, seen=(10, 30))),  # far apart
        (seen_as(12, 16), seen_as(12, 16, seen=(10, 30))),  # both saw all of it: a duplicate, not a part
    ],
)
def test_what_is_not_of_one_moment_is_not_joined(a, b) -> None:
    assert joined(a, b, CLIP) is None
    assert joined(b, a, CLIP) is None


def test_each_part_is_joined_once_and_the_best_fit_first() -> None:
    parts = [excerpt(0, 10, (4, 20, 0.9), (0, 20, 0.5)), excerpt(5, 10, (0, 14, 0.8), (0, 20, 0.6))]
    found = merged_moments(parts, CLIP, 1.0, 9)
    assert found == [seen_as(4, 24, 0.9, (0, 30)), seen_as(0, 30, 0.6, (0, 30))]


def test_a_part_goes_with_the_better_whole_that_another_excerpt_saw() -> None:
    parts = [excerpt(0, 10, (12, 20, 0.2)), excerpt(5, 10, (2, 18, 0.9))]  # too low a score to be joined
    assert [moment[:3] for moment in merged_moments(parts, CLIP, 0.7, 9)] == [(12, 28, 0.9)]


def test_worse_windows_that_overlap_go_and_at_most_so_many_stay() -> None:
    windows = [(0, 10, 0.9), (0, 8, 0.8), (0, 4, 0.7), (6, 6, 0.6), (6, 6, 0.5), (12, 14, 0.4)]
    parts = [excerpt(0, 10, *windows), excerpt(5, 10)]
    kept = [window[:2] for window in merged_moments(parts, CLIP, 0.7, 9)]
    assert kept == [(0, 10), (0, 4), (6, 6), (12, 14)]
    assert [window[:2] for window in merged_moments(parts, CLIP, 0.9, 2)] == [(0, 10), (0, 8)]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((0, 4), (2, 6), 1 / 3), ((0, 4), (4, 6), 0), ((3, 3), (3, 3), 1), ((3, 3), (5, 5), 0), ((0, 8), (2, 4), 0.25)],
)
def test_iou_of_two_windows(a, b, expected) -> None:
    assert iou(a, b) == iou(b, a) == pytest.approx(expected)


# -- options and checkpoints ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [({"most": 0}, "windows must be at least 1, got 0"), ({"overlap": 1.5}, r"an IoU in \[0, 1\], got 1.5")],
)
def test_options_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        answers(build(), [], **options)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """As Lightning saves it, in a run's folder with its config.yaml."""
    run, module = tmp_path_factory.mktemp("run"), build()
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu", enable_checkpointing=False)
    trainer.strategy.connect(module)
    path = run / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    streams = {name: {"path": name, "dim": width} for name, width in STREAMS.items()} | {"sound": None}
    OmegaConf.save({"data": {"video_streams": streams, "tef": True}}, run / "config.yaml")
    return path


def test_load_returns_the_weights_in_eval_mode_and_what_the_run_read(checkpoint) -> None:
    model = load(str(checkpoint))
    assert not model.training
    assert model.hparams.facts == {**FACTS, "streams": STREAMS, "tef": True}
    state = build().state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_weights_and_settings_alone_loads(tmp_path) -> None:
    """As scripts/import_checkpoint.py writes it."""
    module, path = build(), tmp_path / "imported.ckpt"
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    model = load(path)
    assert model.hparams.facts == FACTS  # no config.yaml above: nothing more is known
    assert torch.equal(model.model.classify.weight, module.model.classify.weight)


def test_a_checkpoint_below_another_runs_configuration_is_refused(checkpoint, tmp_path) -> None:
    copy = tmp_path / "checkpoints" / "last.ckpt"
    copy.parent.mkdir()
    copy.write_bytes(checkpoint.read_bytes())
    OmegaConf.save({"data": {"video_streams": {"slow": {"dim": 9}}, "tef": False}}, tmp_path / "config.yaml")
    with pytest.raises(CheckpointError, match="takes 14 features per clip, but .*config.yaml has streams {'slow': 9}"):
        load(copy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a checkpoint", r"\(16 bytes\) cannot be read.*not a checkpoint of this project"),
        ({"model": {}, "opt": argparse.Namespace(lr=1)}, "import_checkpoint qd_detr .*other.ckpt OUT.ckpt"),
        ({"model": {}}, "it has no settings.*import_checkpoint"),
        ([1, 2], "it has no settings"),
        ({"state_dict": {}, "hyper_parameters": {"facts": {"tokens": 3}}}, "another task.* has no video_dim, text_dim"),
        ({"state_dict": {}, "hyper_parameters": dict(build().hparams)}, "does not fit MomentRetrieval"),
    ],
)
def test_unusable_checkpoints_are_named(tmp_path, content, message) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_missing_checkpoint_and_a_folder_are_named(checkpoint, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        load(tmp_path / "none.ckpt")
    with pytest.raises(CheckpointError, match="a folder that holds .*last.ckpt"):
        load(checkpoint.parents[1])


def test_a_checkpoint_that_is_cut_off_is_refused(checkpoint, tmp_path) -> None:
    path = tmp_path / "short.ckpt"
    path.write_bytes(checkpoint.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match="short.ckpt .*bytes. cannot be read"):
        load(path)


# -- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_shows_curve_windows_by_score_and_truth(tmp_path) -> None:
    row = {
        "query": "a dog",
        "pred_relevant_windows": [[2.0, 6.0, 0.9], [0.0, 2.0, 0.4], [0.0, 6.0, 0.01]],
        "pred_saliency_scores": [0.5, -0.5, 1.5],
        "relevant_windows": [[0, 2], [4, 6]],
    }
    figure = moments([row, {**row, "relevant_windows": None, "query": None}], CLIP, windows=2)
    first, second = figure.axes
    assert first.get_title(loc="left") == "a dog" and first.get_xlim() == (0, 6)
    curve = first.patches[0].get_data()
    assert curve.values.tolist() == row["pred_saliency_scores"] and curve.edges.tolist() == [0, 2, 4, 6]
    bars = [(bar.get_paths()[0].get_extents().intervalx.tolist(), bar.get_alpha()) for bar in first.collections]
    assert bars == [([2, 6], 0.9), ([0, 2], 0.4), ([0, 2], 1.0), ([4, 6], 1.0)]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["predicted", "true"]
    assert [patch.get_facecolor() for patch in first.get_legend().get_patches()] == [
        pytest.approx([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [1]) for colour in (PREDICTED, TRUE)
    ]
    assert len(second.collections) == 2
    figure.savefig(tmp_path / "moments.png")
    assert (tmp_path / "moments.png").stat().st_size > 3000


def test_a_figure_of_one_clip_without_windows(tmp_path) -> None:
    row = json.loads('{"pred_relevant_windows": [], "pred_saliency_scores": [0.25]}')
    figure = moments([row], CLIP)
    figure.savefig(tmp_path / "one.svg")
    assert figure.axes[0].get_legend() is None


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no query"):
        moments([], CLIP)
    with pytest.raises(ValueError, match=r"rows\[0\]: pred_saliency_scores is empty"):
        moments([{"pred_relevant_windows": [], "pred_saliency_scores": []}], CLIP)
    with pytest.raises(ValueError, match="at least 1 must be drawn, got 0"):
        moments([{"pred_relevant_windows": [], "pred_saliency_scores": [1]}], CLIP, windows=0)
