"""Training augmentation: reproducible, timm's or shifts, every option reaches the images."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.image_classification.orders import Repeated
from datamodules.image_classification.pictures import drawn_from, mirrored
from datamodules.image_classification.transforms import augmented, shifted
from datamodules.loading import Draw
from tests.datamodules.image_classification.small import (
    batches,
    encoded,
    joined,
    open_images,
    picture,
    same,
)


def test_training_repeats_with_the_seed_whatever_the_workers(pristine):
    def epochs(seed, workers):
        torch.manual_seed(seed)
        data = open_images(pristine, augment="timm", num_workers=workers)
        return batches(data, "train", 0), batches(data, "train", 1)

    first, again, helped, other = epochs(0, 0), epochs(0, 0), epochs(0, 2), epochs(1, 0)
    for epoch in (0, 1):
        assert same(first[epoch], again[epoch]) and same(first[epoch], helped[epoch])
    assert not same(first[0], first[1]) and not same(first[0], other[0])


def test_the_same_image_is_augmented_differently_in_every_epoch_and_seed(pristine):
    seen = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        torch.manual_seed(seed)
        data = open_images(pristine, augment="timm", batch_size=1)
        found = joined(batches(data, "train", epoch))
        seen[seed, epoch] = dict(zip(found["name"], found["image"], strict=True))
    for name in seen[0, 0]:
        assert not torch.equal(seen[0, 0][name], seen[0, 1][name])
        assert not torch.equal(seen[0, 0][name], seen[1, 0][name])


def test_augmentation_leaves_the_runs_random_numbers_alone(pristine):
    data = open_images(pristine, augment="timm")

    def draws():
        return random.random(), np.random.random(), torch.rand(1).item()

    loader = iter(data.train_dataloader())
    next(loader)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = draws()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    next(loader)
    assert draws() == expected


def test_a_run_that_stopped_goes_on_with_the_batches_it_would_have_had(pristine):
    torch.manual_seed(3)
    data = open_images(pristine, augment="timm")
    whole = batches(data, "train", 2)
    stopped, resumed = data.train_dataloader(), data.train_dataloader()
    stopped.sampler.set_epoch(2), resumed.sampler.set_epoch(2)
    reading = iter(stopped)
    next(reading), next(reading)
    resumed.load_state_dict(stopped.state_dict())
    assert same(list(resumed), whole[2:]) and len(whole) == 5


PLAIN = {
    "augment": "timm",
    "scale": [1.0, 1.0],
    "ratio": [1.0, 1.0],
    "hflip": 0.0,
    "vflip": 0.0,
    "color_jitter": None,
    "auto_augment": None,
    "reprob": 0.0,
}


@pytest.fixture
def squares(tmp_path) -> Path:
    """Square images: a random crop of their whole area has one place."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(3):
                data = encoded(picture(index + 3 * (split == "val"), 20, 20), "PNG")
                (tmp_path / split / name / f"{index}.png").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    "change, expected",
    [
        ({}, lambda image: image),
        ({"hflip": 1.0}, lambda image: image.flip(2)),
        ({"vflip": 1.0}, lambda image: image.flip(1)),
    ],
)
def test_options_of_the_augmentation_reach_timm(squares, change, expected):
    data = open_images(squares, val_split=0, batch_size=1, crop_pct=1.0, **{**PLAIN, **change})
    plain = open_images(squares, val_split=0, batch_size=1, crop_pct=1.0)
    for a, b in zip(batches(data, "train"), batches(plain, "train"), strict=True):
        assert a["name"] == b["name"] and torch.allclose(a["image"][0], expected(b["image"][0]), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"color_jitter": 0.9},
        {"auto_augment": "rand-m9-mstd0.5-inc1"},
        {"scale": [0.1, 0.2]},
        {"ratio": [2.0, 3.0], "scale": [0.5, 0.5]},
        {"train_interpolation": "nearest"},
    ],
)
def test_every_option_changes_the_images(squares, change):
    usual, changed = (
        open_images(squares, val_split=0, batch_size=1, **{**PLAIN, **options}) for options in ({}, change)
    )
    different = [
        not torch.equal(a["image"], b["image"])
        for a, b in zip(batches(usual, "train"), batches(changed, "train"), strict=True)
    ]
    assert sum(different) >= 4  # of 6: RandAugment may draw operations that change nothing


@pytest.mark.parametrize("auto_augment", ["rand-m10-n8-inc1", "rand-m9-mstd0.5-inc1", "augmix-m5-w4-d2", "original"])
def test_every_operation_of_timm_runs_at_full_strength(auto_augment):
    """Posterizing to 0 bits is an error in newer versions of PIL: about one DeiT image in a thousand."""
    transform = augmented(
        16, [0.5] * 3, [0.5] * 3, auto_augment=auto_augment, color_jitter=0.3, interpolation="bicubic", re_prob=0.0
    )
    image, black = picture(3), 0
    with drawn_from(0):
        for _ in range(300):
            out = transform(image)
            assert out.shape == (3, 16, 16) and out.isfinite().all()
            black += bool((out == -1).all())
    assert black < 150


def test_posterizing_keeps_the_highest_bits():
    """A constant grey image, each number of bits on its own: 0 bits are black, n bits keep the first n of eight."""
    from timm.data import auto_augment

    transform = augmented(8, [0.0] * 3, [1.0] * 3, auto_augment="rand-m10-n1-inc1", hflip=0.0, re_prob=0.0)
    step = next(step for step in transform.transforms if hasattr(step, "ops"))
    posterizing = [op.aug_fn for op in step.ops if op.name.startswith("Posterize")]
    assert posterizing and auto_augment.posterize not in posterizing
    image = Image.new("RGB", (4, 4), (0b10110111,) * 3)
    for bits, expected in ((0, 0), (1, 0b10000000), (3, 0b10100000), (4, 0b10110000), (8, 0b10110111)):
        assert np.unique(np.asarray(posterizing[0](image, bits))).tolist() == [expected]


@pytest.mark.parametrize("remode, kinds", [("const", 1), ("pixel", None)])
def test_random_erasing(squares, remode, kinds):
    data = open_images(squares, val_split=0, batch_size=1, crop_pct=1.0, **{**PLAIN, "reprob": 1.0}, remode=remode)
    plain = open_images(squares, val_split=0, batch_size=1, crop_pct=1.0, **PLAIN)
    for a, b in zip(batches(data, "train"), batches(plain, "train"), strict=True):
        changed = (a["image"] != b["image"])[0]
        where = changed.any(0).nonzero()
        high, wide = (where.max(0).values - where.min(0).values + 1).tolist()
        assert 0.01 < high * wide / 256 < 0.4  # timm: 2 to 33 % of the area
        assert changed.float().sum() >= 0.9 * 3 * high * wide  # one rectangle
        if kinds == 1:
            assert (a["image"][0][changed] == 0).all()
        else:
            assert len(a["image"][0][changed].unique()) > 3


def test_shift_moves_every_image_on_its_own_and_repeats_edges(pristine):
    usual, moved = open_images(pristine, batch_size=21), open_images(pristine, batch_size=21, augment="shift", shift=2)
    a, b = batches(usual, "train")[0], batches(moved, "train")[0]
    assert a["name"] == b["name"]
    found = set()
    for still, image in zip(a["image"], b["image"], strict=True):
        padded = torch.nn.functional.pad(still[None], (2, 2, 2, 2), mode="replicate")[0]
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(padded[:, 2 - down : 18 - down, 2 - right : 18 - right], image)
        ]
        assert fits
        found.add(fits[0])
    assert len(found) > 5


def test_shift_flip_mirrors_its_share_of_the_images_after_the_shift(pristine):
    always, never, plain = (
        open_images(pristine, augment=augment, shift=2, hflip=hflip, val_split=0)
        for augment, hflip in (("shift_flip", 1.0), ("shift_flip", 0.0), ("shift", 1.0))
    )
    pairs = zip(batches(always, "train"), batches(never, "train"), batches(plain, "train"), strict=True)
    for mirrored_batch, one, other in pairs:
        assert torch.equal(one["image"], other["image"])  # hflip says nothing to augment=shift
        assert torch.equal(mirrored_batch["image"], one["image"].flip(-1))
    half = [mirrored(4000, 0.25, 7, epoch) for epoch in (0, 1)]
    assert [abs(one.mean() - 0.25) < 0.03 for one in half] == [True, True] and (half[0] != half[1]).any()
    some = open_images(pristine, augment="shift_flip", shift=0, hflip=0.5, val_split=0).pictures["train"]
    drawn = some[[Draw(index, 3, 11) for index in range(len(some))]]["image"]
    flat, chosen = some.look(some.transform)[list(range(len(some)))]["image"], mirrored(len(some), 0.5, 11, 3)
    assert 0 < chosen.sum() < len(chosen)
    assert torch.equal(drawn, torch.stack([one.flip(-1) if c else one for one, c in zip(flat, chosen, strict=True)]))


def test_shift_by_a_whole_image_and_more():
    pixels = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    out = shifted(pixels, torch.tensor([[9, 0], [0, -9]]))
    assert torch.equal(out[0], pixels[0, :, :1].expand(3, 4, 5))
    assert torch.equal(out[1], pixels[1, :, :, -1:].expand(3, 4, 5))


@pytest.mark.parametrize("augment, more", [("timm", {}), ("shift", {"shift": 2})])
def test_repeated_augmentation_shows_a_third_of_the_images_three_times_each_time_anew(pristine, augment, more):
    torch.manual_seed(2)
    data = open_images(pristine, augment=augment, repeats=3, batch_size=3, val_split=1, **more)
    usual = open_images(pristine, augment=augment, batch_size=3, val_split=1, **more)
    found, once = joined(batches(data, "train", 1)), joined(batches(usual, "train", 1))
    assert len(found["name"]) == len(once["name"]) == 24
    assert sorted({found["name"].count(name) for name in found["name"]}) == [3]
    by_name = dict(zip(once["name"], once["image"], strict=True))
    different = 0
    for name in set(found["name"]):
        copies = [image for image, its in zip(found["image"], found["name"], strict=True) if its == name]
        assert any(torch.equal(copy, by_name[name]) for copy in copies)  # the first copy is the only one of before
        different += len({copy.numpy().tobytes() for copy in copies}) > 1
    assert different >= 7
    other = joined(batches(data, "train", 2))
    assert set(other["name"]) != set(found["name"])


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_copies_of_an_image_go_to_different_ranks_and_a_stopped_run_goes_on(ranks):
    parts = [list(Repeated(range(30), 3, 7, ranks, rank)) for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    seen = [(draw.index, draw.copy) for part in parts for draw in part]
    assert len(set(seen)) == len(seen) == 30 // ranks * ranks
    if ranks >= 3:
        assert all(len({draw.index for draw in part}) == len(part) for part in parts)
    draws = Repeated(range(30), 3, 7, ranks, 0)
    draws.skip = 4
    assert list(draws) == parts[0][4:] and list(draws) == parts[0]


def test_repeats_without_augmentation_are_refused(pristine):
    with pytest.raises(DataError, match=r"data\.repeats=3 .*, and data\.augment=none changes none"):
        open_images(pristine, repeats=3)
