"""The MSR-VTT datamodule on a small set of videos: batch contract, sources, captions, crops, what repeats."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from datamodules.loading import Unrepeated
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.transforms import cut
from datamodules.video_captioning.video import read_video, spread
from scripts.extract_frames import main as extract_frames
from tests.datamodules.video_captioning.small import (
    batches,
    content,
    footage,
    open_set,
    write_json,
    write_set,
    write_video,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """15 videos, 7 of them for training; do not write here."""
    root = write_set(tmp_path_factory.mktemp("videos"))
    extract_frames([str(root / "videos"), str(root / "frames"), "--frames", "4", "--short-side", "0", "--workers", "1"])
    return root


def same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys()
        and all(torch.equal(x[key], y[key]) if torch.is_tensor(x[key]) else x[key] == y[key] for key in x)
        for x, y in zip(a, b, strict=True)
    )


# The contract


@pytest.mark.parametrize(
    "source, key, shape",
    [("video", "frames", (4, 3, 16, 16)), ("frames", "frames", (4, 3, 16, 16)), ("features", "features", (7, 5))],
)
def test_batch_contract(pristine, source, key, shape):
    data = open_set(pristine, source=source)
    for split, size in (("train", 3), ("val", 2), ("test", 2)):
        batch = batches(data, split)[0]
        assert set(batch) == {key, "caption", "references", "video"}
        assert batch[key].shape == (size, *shape) and batch[key].dtype == torch.float32
        for name, caption, references in zip(batch["video"], batch["caption"], batch["references"], strict=True):
            assert references == [f"caption {k} of clip {name.removeprefix('video')}" for k in range(3)]
            assert caption in references and (split == "train" or caption == references[0])


def test_evaluation_is_every_video_once_in_natural_order(pristine):
    data = open_set(pristine)
    for split, numbers in (("val", range(7, 10)), ("test", range(10, 15))):
        assert [v for batch in batches(data, split) for v in batch["video"]] == [f"video{i}" for i in numbers]


def test_facts(pristine):
    texts = [f"caption {k} of clip {i}" for i in range(7) for k in range(3)]
    expected = {"frames": 4, "image_size": 16, "grid": None, "feature_dim": None, "train_texts": texts}
    data = open_set(pristine)
    assert data.facts() == {**expected, "skipped": {"train": 0, "val": 0, "test": 0}}
    assert data.oracle() is None
    facts = open_set(pristine, source="features").facts()
    assert (facts["grid"], facts["feature_dim"], facts["image_size"]) == (7, 5, 16)


def test_features_are_the_files_numbers(pristine):
    for batch in batches(open_set(pristine, source="features"), "test"):
        for grid, name in zip(batch["features"], batch["video"], strict=True):
            assert np.array_equal(grid, np.load(pristine / "features" / f"{name}.npy").astype(np.float32))


@pytest.mark.parametrize("short_side", [16, 20])
def test_evaluation_pixels_are_torchvisions(pristine, short_side):
    """The same clip through torchvision's transforms, frame by frame. PIL and torch round to neighbouring levels."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    data = open_set(pristine, short_side=short_side, mean=mean, std=std)
    steps = [
        transforms.Resize(short_side),
        transforms.CenterCrop(16),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    pipeline = transforms.Compose(steps)
    for batch in batches(data, "test"):
        for clip, name in zip(batch["frames"], batch["video"], strict=True):
            frames = read_video(pristine / "videos" / f"{name}.mp4", 4)
            expected = torch.stack([pipeline(Image.fromarray(frame)) for frame in frames])
            assert (clip - expected).abs().max() <= 1.01 / 255 / 0.2


def test_extracted_frames_give_nearly_the_pixels_of_the_video(pristine):
    video, frames = (batches(open_set(pristine, source=source), "test") for source in ("video", "frames"))
    for a, b in zip(video, frames, strict=True):
        assert a["video"] == b["video"]
        assert (a["frames"] - b["frames"]).abs().mean() < 0.1  # JPEG; a level of brightness is 0.017


def test_a_batch_equals_its_clips_alone(pristine):
    clips = open_set(pristine).clips["test"]
    whole = clips[[3, 0, 4]]
    for row, index in enumerate((3, 0, 4)):
        alone = clips[index]
        assert torch.equal(alone["frames"][0], whole["frames"][row]) and alone["video"] == [whole["video"][row]]


# Frames


@pytest.mark.parametrize("total, count", [(1, 1), (1, 4), (2, 5), (9, 4), (7, 7), (300, 32), (33, 32), (31, 32)])
def test_frames_are_spread_evenly_from_first_to_last(total, count):
    """Against exact fractions: no frame is further than half a frame from its place."""
    chosen = spread(total, count)
    assert len(chosen) == count and chosen[0] == 0 and (count == 1 or chosen[-1] == total - 1)
    for place, index in enumerate(chosen.tolist()):
        assert abs(index * max(count - 1, 1) - place * (total - 1)) * 2 <= max(count - 1, 1)


def test_the_frames_of_a_video_are_those_that_were_asked_for(tmp_path):
    frames = footage(0, frames=13)
    write_video(tmp_path / "a.mp4", frames, crf="5")
    found = read_video(tmp_path / "a.mp4", 5)
    assert found.shape == (5, 24, 32, 3) and found.dtype == np.uint8
    distance = np.abs(found[:, None].astype(int) - frames[None].astype(int)).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(
    "span, numbers", [((0.0, 1.0), range(8)), ((1.0, 2.0), range(8, 16)), ((1.5, 99.0), range(12, 24))]
)
def test_a_span_gives_the_frames_shown_in_it(tmp_path, span, numbers):
    frames = footage(1, frames=24)
    write_video(tmp_path / "a.mp4", frames, crf="5", g="6")  # a key frame every 6 frames
    found = read_video(tmp_path / "a.mp4", len(numbers), span)
    distance = np.abs(found[:, None].astype(int) - frames[None].astype(int)).mean((2, 3, 4))
    assert distance.argmin(1).tolist() == list(numbers)


@pytest.mark.parametrize(
    "ending, codec", [(".mp4", "libx264"), (".avi", "mpeg4"), (".mkv", "libx264"), (".mov", "mpeg4")]
)
def test_any_ending_of_a_video_file(folder, ending, codec):
    (folder / "videos/video12.mp4").unlink()
    write_video(folder / f"videos/video12{ending}", footage(12), codec=codec)
    data = open_set(folder, video_file="{video}.*")
    assert "video12" in [v for batch in batches(data, "test") for v in batch["video"]]


# Training


def test_all_captions_is_every_pair_once_an_epoch(pristine):
    data = open_set(pristine, captions="all")
    seen = [pair for b in batches(data, "train") for pair in zip(b["video"], b["caption"], strict=True)]
    expected = {(f"video{i}", f"caption {k} of clip {i}") for i in range(7) for k in range(3)}
    assert len(seen) == len(set(seen)) == 21 and set(seen) == expected


def test_random_captions_is_every_video_once_an_epoch_with_each_of_its_captions_in_turn(pristine):
    data = open_set(pristine, captions="random", source="features", batch_size=1)
    drawn: dict[str, list[str]] = {}
    for epoch in range(40):
        seen = [(b["video"][0], b["caption"][0]) for b in batches(data, "train", epoch)]
        assert sorted(name for name, _ in seen) == [f"video{i}" for i in range(7)]
        for name, caption in seen:
            drawn.setdefault(name, []).append(caption)
    for name, captions in drawn.items():
        counts = [captions.count(f"caption {k} of clip {name.removeprefix('video')}") for k in range(3)]
        assert sum(counts) == 40 and min(counts) >= 4  # 13 expected each


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("captions", ["all", "random"])
def test_the_seed_alone_decides_order_captions_and_crops(pristine, workers, captions):
    def run(seed, epoch, workers):
        torch.manual_seed(seed)
        return batches(open_set(pristine, captions=captions, num_workers=workers), "train", epoch)

    first = run(5, 2, 0)
    assert same(first, run(5, 2, workers))
    assert not same(first, run(6, 2, 0)) and not same(first, run(5, 3, 0))


def test_a_crop_is_one_square_for_all_frames_anywhere_in_the_clip():
    frames = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, None, :, None], (3, 16, 40, 3)).copy()
    lefts = set()
    for seed in range(300):
        square = cut(frames, 16, 16, np.random.default_rng(seed))
        left = int(square[0, 0, 0, 0])
        assert torch.equal(square, torch.from_numpy(frames[:, :, left : left + 16]).permute(0, 3, 1, 2))
        lefts.add(left)
    assert lefts == set(range(25))
    assert int(cut(frames, 16, 16, None)[0, 0, 0, 0]) == 12


@pytest.mark.parametrize("height, width", [(16, 16), (17, 99), (99, 17), (8, 8), (240, 320)])
def test_every_size_gives_a_square(height, width):
    frames = np.zeros((2, height, width, 3), np.uint8)
    for rng in (None, np.random.default_rng(0)):
        assert cut(frames, 20, 16, rng).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_stopped_epoch_goes_on_with_the_batches_it_would_have_had(pristine, stop):
    torch.manual_seed(3)
    data = open_set(pristine)
    whole = batches(data, "train", epoch=1)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    running = iter(loader)
    for _ in range(stop):
        next(running)
    state = loader.state_dict()
    again = data.train_dataloader()
    again.load_state_dict(state)
    again.sampler.set_epoch(1)
    assert same(list(again), whole[stop:])


@pytest.mark.parametrize("ranks", [1, 2, 4, 6])
def test_evaluation_across_ranks_repeats_nothing(pristine, ranks):
    clips = open_set(pristine).clips["test"]
    parts = [list(Unrepeated(clips, 1, ranks, rank)) for rank in range(ranks)]
    assert sorted(index for part in parts for index in part) == list(range(5))


def test_it_pickles_for_worker_processes(pristine):
    clips = open_set(pristine, source="features").clips["test"]
    assert same([pickle.loads(pickle.dumps(clips))[[0, 1]]], [clips[[0, 1]]])


def test_segments_of_one_video_are_clips_of_their_own(folder):
    write_video(folder / "videos/long.mp4", footage(3, frames=24), crf="5")
    parts = [{"id": i, "segment": [i, i + 1], "sentence": f"step {i}"} for i in range(3)]
    database = {"long": {"subset": "training", "annotations": parts}}
    write_json(folder / "you.json", {"database": database})
    splits = {"train": "training", "val": None, "test": None}
    data = open_set(folder, annotations="you.json", fields="youcook2", splits=splits, frames=8)
    clips = data.clips["train"].clips
    assert [clip.id for clip in clips] == ["long_0", "long_1", "long_2"]
    brightness = [data.input.source.frames(clip, 8).mean() for clip in clips]
    assert brightness == sorted(brightness) and brightness[2] - brightness[0] > 100


def test_a_clip_is_read_by_its_media_file(folder):
    clip = Clip("video3_7", "video3", ("x",), None, (0.0, 0.25))
    assert open_set(folder).input.source.file(clip).name == "video3.mp4"


def test_without_split_names_ranges_of_numbers_serve(folder):
    write_json(folder / "MSRVTT_data.json", content(split=False))
    data = open_set(folder, id_ranges={"train": [0, 4], "val": [5, 5], "test": [6, 14]})
    assert [len(data.clips[split]) for split in ("train", "val", "test")] == [15, 1, 9]
