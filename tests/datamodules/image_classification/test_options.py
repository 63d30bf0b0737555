"""Options of the ImageNet-1K data module that cannot be meant are refused with what was wrong."""

import json
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.image_classification import Images
from tests.datamodules.image_classification.small import KEYWORDS, SETTINGS, open_images


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fraction": 0.0}, r"data\.fraction: 0\.0 is out of range; allowed: above 0 and at most 1"),
        ({"fraction": 1.01}, r"data\.fraction: 1\.01 is out of range"),
        ({"fraction": float("nan")}, r"data\.fraction: nan is out"),
        ({"crop_pct": 1.5}, r"data\.crop_pct: 1\.5 is out"),
        ({"batch_size": 0}, r"data\.batch_size: 0 is out of range; allowed: at least 1"),
        ({"num_workers": -1}, r"data\.num_workers: -1 is out of range; allowed: at least 0"),
        ({"val_split": -1}, r"data\.val_split: -1 is out of range; allowed: at least 0"),
        ({"val_split": "train"}, r"data\.val_split='train' is data\.train"),
        ({"val_split": "./train"}, r"data\.val_split='\./train' is data\.train"),
        ({"test": "train"}, r"data\.train and data\.test are both 'train'"),
        ({"test": "train/"}, r"data\.train and data\.test are both 'train/'"),
        ({"corrupt": "skipp"}, r"data\.corrupt: 'skipp' is not one of refuse, skip; did you mean 'skip'"),
        ({"format": "litdata"}, r"data\.format: 'litdata' is not one of folder, parquet"),
        ({"augment": "shfit"}, "did you mean 'shift'"),
        ({"interpolation": "cubic"}, r"data\.interpolation: 'cubic' is not one of.*did you mean 'bicubic'"),
        ({"remode": "noise"}, r"data\.remode: 'noise' is not one of const, rand, pixel"),
        ({"hflip": 1.1}, r"data\.hflip: 1\.1 is out of range; allowed: at least 0 and at most 1"),
        ({"reprob": -0.1}, r"data\.reprob: -0\.1 is out"),
        ({"mean": [0.5]}, r"data\.mean: \[0\.5\] is out of range; allowed: three numbers"),
        ({"std": [0.5, 0.0, 0.5]}, r"data\.std: .*three numbers above 0"),
        ({"scale": [0.5, 0.1]}, r"data\.scale: \[0\.5, 0\.1\] is out of range; allowed: the least and the most"),
        ({"ratio": [1.0]}, r"data\.ratio: \[1\.0\] is out of range; allowed: the least and the most"),
        ({"color_jitter": -1.0}, r"data\.color_jitter: -1\.0 is out of range"),
        ({"shift": 2}, r"data\.shift=2 does nothing with data\.augment=none"),
        ({"in_memory": "yes"}, r"data\.in_memory: 'yes' is not one of"),
        ({"in_memory": True, "augment": "timm"}, r"data\.in_memory=true holds transformed pixels"),
        ({"mini": SETTINGS, "image_size": 32, "format": "parquet"}, "generated data .* are an image folder"),
        ({"mini": SETTINGS}, r"data\.image_size=16, but data\.mini\.image_size=32"),
        ({"mini": {**SETTINGS, "grdi": 2}}, "unknown setting 'grdi'. Did you mean 'grid'"),
    ],
)
def test_impossible_options_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        Images(**{**KEYWORDS, "root": str(tmp_path), **change})


def test_timms_own_refusal_is_passed_on(folder):
    with pytest.raises(DataError, match=r"timm refuses the augmentation .*auto_augment='randd'"):
        open_images(folder, augment="timm", auto_augment="randd")


def test_the_shipped_yaml_names_every_keyword_and_no_other():
    import inspect

    from omegaconf import OmegaConf

    shipped = OmegaConf.load(Path(__file__).resolve().parents[3] / "configs/data/imagenet1k.yaml")
    wanted = list(inspect.signature(Images.__init__).parameters)[1:]
    assert sorted(set(shipped) - {"_target_"}) == sorted(wanted)
    keywords = OmegaConf.to_container(shipped, resolve=False)
    keywords.pop("_target_")
    data = Images(**{**keywords, "root": "data"})
    assert json.loads(json.dumps([data.mean, data.scale, data.auto_augment])) == [
        [0.485, 0.456, 0.406],
        [0.08, 1.0],
        "rand-m9-mstd0.5-inc1",
    ]
