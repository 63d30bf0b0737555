"""Settings of single tasks that are each allowed but cannot be combined; `validate` refuses them, building nothing."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from configs.schema import ConfigError, validate

Compose = Callable[..., DictConfig]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.vocab_size=0"], "task.vocab_size: 0 is out of range; allowed: at least 1"),
        (["task.text_tokens=2"], "task.text_tokens: 2 is out of range; allowed: at least 3"),
        (["task.text_tokens=33"], "task.text_tokens: 33 is more than task.positions=32, .* allowed: 3 to 32"),
        (["task.positions=2"], "task.positions: 2 is out of range; allowed: at least 3"),
        (["task.video_dim=0"], "task.video_dim: 0 is out of range"),
        (["task.mask_probability=0"], "task.mask_probability: 0 is out of range; allowed: above 0 and at most 1"),
        (["task.mask_probability=1.1"], "task.mask_probability: 1.1 is out of range"),
        (["task.mask_probability=nan"], "task.mask_probability: nan is out of range"),
        (["task.most_masked=0"], "task.most_masked: 0 is out of range; allowed: at least 1"),
        (["task.decoding.num_beams=0"], "task.decoding.num_beams: 0 is out of range; allowed: at least 1"),
        (["task.decoding.max_length=1"], "task.decoding.max_length: 1 is out of range; allowed: at least 2"),
        (
            ["task.decoding.max_length=33"],
            "task.decoding.max_length: 33 is more than task.text_tokens=32, .* allowed: 2 to",
        ),
        (["task.decoding.length_penalty=nan"], "length_penalty: nan is out of range; allowed: a finite number"),
        (["task.decoding.length_penalty=inf"], "length_penalty: inf is out of range"),
        (["mask.length=interpolate"], "mask.length: interpolate would move .* allowed: fixed, content"),
        (["mask=extra_linear", "mask.length=interpolate"], "mask.length: interpolate would move"),
        (["mask=static_swinbert", "mask.num_keys=32"], "mask.num_keys: 32 with mask.kind=static: .* allowed: null"),
        (["mask=static_swinbert", "mask.sparsity=nan"], "mask.sparsity: nan is out of range"),
        (["task.backbone.lr=-1"], "task.backbone.lr: -1 is out of range; allowed: a finite number, at least 0"),
        (["task.backbone.drop_path=1"], "task.backbone.drop_path: 1 is out of range"),
        (["data.source=video", "task.backbone.embed_dim=0"], "task.backbone.embed_dim: 0 is out of range"),
        (["task.backbone.window=[3,4]"], r"task.backbone.window: \[3, 4\] is out of range; allowed: three numbers"),
        (["task.backbone.window=[0,4,4]"], "task.backbone.window: .* is out of range"),
        (["data.source=video", "task.backbone.depths=[2,0,1]"], "task.backbone.depths: .* is out of range"),
        (["data.source=video", "task.backbone.depths=[2,2]"], r"depths: \[2, 2\] with task.backbone.heads=\[1, 2, 4\]"),
        (
            ["data.source=video", "task.backbone.depths=[1]", "task.backbone.heads=[1]"],
            r"depths: \[1\] .* at least 2 bl",
        ),
        (["data.source=video", "task.backbone.heads=[0,2,4]"], "task.backbone.heads: .* is out of range; allowed"),
        (["data.source=video", "task.backbone.heads=[1,5,4]"], "heads: 5 does not divide the 48 features of stage 2"),
        (["data.source=video", "task.backbone.size=tiny"], "task.backbone.size: tiny has its own embed_dim, depths"),
        (
            ["data.source=video", "task.backbone.heads=null"],
            "task.backbone.size: null needs task.backbone.heads as well",
        ),
        (["data.splits.test=null"], "data.splits.test: null: a run ends with a test"),
        (
            ["~data.annotations", "+data.annotations={train:a.json}"],
            "data.annotations.test: null: a run ends with a test",
        ),
        (["data.splits.val=null", "test_checkpoint=best"], "data.splits.val: null with test_checkpoint=best"),
    ],
)
def test_settings_of_video_captioning_that_cannot_be(compose_run, overrides, message) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(compose_run("experiment=msrvtt_lcaam", "scale=mini", *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["scale=paper"],
        ["scale=paper", "task.backbone=null", "task.decoding=null"],
        ["task.text_tokens=3", "task.positions=3", "task.decoding.max_length=3", "task.vocab_size=1"],
        ["task.decoding.max_length=2", "task.decoding.length_penalty=-1", "task.mask_probability=1"],
        ["mask=none", "mask.length=interpolate"],
        ["mask.num_keys=64", "mask.groups=4"],
        ["mask=static_swinbert", "mask.sparsity=0"],
        ["data.source=video", "task.backbone.lr=0", "task.backbone.depths=[1,1]", "task.backbone.heads=[3,6]"],
        ["task.backbone.size=base"],  # the data are features
        ["data.splits=null", "test_checkpoint=best"],
        ["data.splits.val=null"],
        ["~data.annotations", "+data.annotations={train:a.json,test:b.json}"],
    ],
)
def test_settings_of_video_captioning_that_are_just_allowed(compose_run, overrides) -> None:
    validate(compose_run("experiment=msrvtt_lcaam", "scale=mini", *overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["task.masked=[foo]"], "is not a list, each one of text_to_video, encoder, decoder"),
        (["task.masked=[]"], r"task.masked: \[\] with mask.scope=shared: no attention would have a mask"),
        (["task.masked=[encoder,encoder]"], "task.masked: encoder is listed more than once"),
        (["mask=extra_layers", "task.masked=[decoder]"], "the decoder takes no additional layers; choose"),
        (["mask.num_keys=31"], "mask.num_keys: 31 is fewer than the 32 keys of the data in text_to_video"),
        (
            ["mask.num_keys=32", "task.masked=[encoder]"],
            "mask.num_keys: 32 is fewer than the 76 keys of the data in enc",
        ),
        (
            ["mask.num_keys=74", "task.masked=[decoder]"],
            "mask.num_keys: 74 is fewer than the 75 keys of the data in dec",
        ),
        (["task.backend=sdpa"], "task.backend: sdpa cannot compute mask.fusion=mul"),
        (["task.width=18", "task.heads=2"], "task.width: 18 is not a multiple of 4.* the nearest are 16 and 20"),
        (["task.width=2", "task.heads=2"], "task.width: 2 is not a multiple of 4.* the nearest are 4$"),
        (["task.queries=0"], "task.queries: 0 is out of range; allowed: at least 1"),
        (["task.encoder_layers=0"], "task.encoder_layers: 0 is out of range"),
        (["task.input_dropout=1.5"], "task.input_dropout: 1.5 is out of range"),
        (["task.losses.levels=0"], "task.losses.levels: 0 is out of range"),
        (["task.losses.temperature=0"], "task.losses.temperature: 0 is out of range"),
        (["task.losses.span=-1"], "task.losses.span: -1 is out of range"),
    ],
)
def test_settings_of_moment_retrieval_that_cannot_be(compose_run, overrides, message) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(compose_run("experiment=qvhighlights_lcaam", *overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["mask.num_keys=32"],
        ["mask.num_keys=76", "task.masked=[text_to_video,encoder,decoder]"],
        ["mask=none", "task.masked=[]"],
        ["mask=extra_layers", "task.masked=[text_to_video,encoder]"],
        ["task.backend=sdpa", "mask.fusion=gate"],
        ["task.backend=sdpa", "mask=extra_linear"],
        ["task.losses.span=0", "task.losses.levels=1", "task.queries=1"],
    ],
)
def test_settings_of_moment_retrieval_that_are_just_allowed(compose_run, overrides) -> None:
    validate(compose_run("experiment=qvhighlights_lcaam", *overrides))
