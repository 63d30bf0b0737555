"""task.init_from: a training begins from another one's weights, and from nothing else of it."""

import logging
from pathlib import Path

import pytest
import torch

from scripts.import_checkpoint import main
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.start import start_from
from tests.scripts.test_import_checkpoint import released, saved
from tests.tasks.moment_retrieval.trained import FACTS, KNOWN, MASK, build
from train import train

PLAIN = {"mask": {"scope": "none", "fusion": "none"}}


def written(path: Path, module, **changes) -> str:
    """A checkpoint as a training writes it, as far as it counts here."""
    settings = {**dict(module.hparams), **changes}
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": settings, "global_step": 9}, path)
    return str(path)


def other(facts=None):
    """A module with other weights than `build` gives."""
    module = build(facts)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def equal(a, b, names=None) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in (names or a))


def test_a_training_begins_with_the_checkpoint_s_weights(tmp_path):
    source = other(KNOWN)
    module = build(KNOWN, init_from=written(tmp_path / "a.ckpt", source))
    assert not equal(module, source)
    module.start()
    assert equal(module, source)
    build(KNOWN).start()  # nothing is asked for


def test_masks_that_the_checkpoint_lacks_start_at_their_own_initialisation_and_the_log_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    plain, module = build_plain(), build()
    masks = [name for name in module.state_dict() if ".masks." in name]
    initial = build()
    start_from(module, written(tmp_path / "plain.ckpt", plain))
    assert masks and equal(module, initial, masks)
    assert equal(module, plain, [name for name in module.state_dict() if name not in masks])
    count = sum(module.state_dict()[name].numel() for name in masks)
    assert f"it has no masks: this model's ({count:,} weights) start at their own initialisation" in caplog.text


def build_plain():
    from tasks.moment_retrieval.module import MomentRetrieval

    torch.manual_seed(3)
    sizes = {name: value for name, value in build().hparams.items() if name not in ("mask", "facts", "lr")}
    return MomentRetrieval(mask=PLAIN["mask"], facts=FACTS, lr=1e-3, **sizes)


def test_masks_of_the_checkpoint_are_left_out_by_a_model_without_and_named(tmp_path, caplog):
    module = build_plain()
    source = other()
    start_from(module, written(tmp_path / "masks.ckpt", source))
    assert equal(module, source, list(module.state_dict()))
    assert "its masks are left out, as this model has none: model.text_to_video.masks" in caplog.text


def spoilt(module, change):
    state = module.state_dict()
    change(state)
    return {"state_dict": state, "hyper_parameters": dict(module.hparams)}


LACKING = ["model.classify.bias", "model.span.0.weight"]


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (lambda s: [s.pop(name) for name in LACKING], ["it lacks: model.classify.bias, model.span.0.weight"]),
        (
            lambda s: s.update({"model.classify.bias": torch.zeros(3)}),
            ["of another shape: model.classify.bias (3,), this model needs (2,)"],
        ),
        (lambda s: s.update({"model.encoder.layers.7.expand.bias": torch.zeros(3)}), ["this model has no: model.enc"]),
        (lambda s: [s.pop(n) for n in [n for n in s if ".masks." in n][:1]], ["it lacks: model.text_to_video.masks."]),
        (lambda s: [s.pop(name) for name in list(s)], ["it lacks: model.classify.bias, ", " and "]),
    ],
)
def test_weights_that_are_missing_or_misshaped_are_named_and_nothing_is_taken(tmp_path, change, messages):
    torch.save(spoilt(other(), change), tmp_path / "a.ckpt")
    module, initial = build(), build()
    with pytest.raises(CheckpointError) as stop:
        start_from(module, str(tmp_path / "a.ckpt"))
    assert "a.ckpt: its weights do not fit this model:" in str(stop.value)
    assert all(message in str(stop.value) for message in messages), str(stop.value)
    assert equal(module, initial)


def test_another_model_s_sizes_are_named_by_weight(tmp_path):
    with pytest.raises(CheckpointError, match=r"of another shape: .*this model needs \(16"):
        start_from(build(), written(tmp_path / "a.ckpt", build(width=32)))


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"streams": dict(reversed(KNOWN["streams"].items()))},
            "was trained on the streams clip (5), slow (7), in this",
        ),
        ({"tef": False}, "was trained with data.tef=False, this run has True"),
    ],
)
def test_streams_in_another_order_are_refused_though_every_shape_fits(tmp_path, facts, message):
    path = written(tmp_path / "a.ckpt", other(KNOWN), facts={**KNOWN, **facts})
    with pytest.raises(CheckpointError) as stop:
        start_from(build(KNOWN), path)
    assert message in str(stop.value)
    renamed = {"streams": {"a": 7, "b": 5}}  # names differ from data set to data set
    start_from(build(KNOWN), written(tmp_path / "b.ckpt", other(KNOWN), facts={**KNOWN, **renamed}))


@pytest.mark.parametrize("content", [{"model": {"a": torch.zeros(1)}}, [1], {"state_dict": {"a": 1}}])
def test_what_is_no_checkpoint_of_this_project_is_refused_with_the_way_to_import_it(tmp_path, content):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"not a checkpoint of this project.*import_checkpoint qd_detr"):
        start_from(build(), str(tmp_path / "a.ckpt"))
    (tmp_path / "b.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="cut off"):
        start_from(build(), str(tmp_path / "b.ckpt"))
    with pytest.raises(CheckpointError, match=r"is a folder; it holds .*a\.ckpt"):
        start_from(build(), str(tmp_path))


def test_a_run_with_masks_begins_from_an_imported_model_and_resumes_without_it(tmp_path, compose_run, caplog):
    caplog.set_level(logging.INFO)
    content = released(138, 48, max_v_l=24, max_q_l=32, v_feat_dim=138, t_feat_dim=48, v_feat_dirs=None)
    first = tmp_path / "in" / "last.ckpt"
    main(["qd_detr", str(saved(tmp_path, content)), str(first)])
    sizes = ["task.width=64", "task.feedforward=48", "task.heads=2", "task.queries=5", "task.encoder_layers=2"]
    sizes += ["task.decoder_layers=2", "task.first_spans=normal", f"task.init_from={first}", "task.lr=1e-9"]
    options = ["experiment=qvhighlights_lcaam", "scale=smoke", "logger=csv", "floors.enabled=false", *sizes]
    options += ["callbacks=checkpoint", "trainer.val_check_interval=1"]
    cfg = compose_run(*options, "trainer.max_steps=1")
    train(cfg)
    assert "weights taken" in caplog.text and "it has no masks: this model's" in caplog.text
    last = Path(cfg.paths.run_dir) / "checkpoints" / "last.ckpt"
    trained, begun = (torch.load(path, weights_only=True)["state_dict"] for path in (last, first))
    assert max((trained[name] - value).abs().max() for name, value in begun.items()) < 1e-6
    with pytest.raises(CheckpointError, match="of another shape"):
        train(compose_run(*options, "task.feedforward=32", "trainer.max_steps=1"))
    first.unlink()
    train(compose_run(*options, "trainer.max_steps=1", f"resume={last}"))  # its file is not read again
    with pytest.raises(CheckpointError, match="there is no such file"):
        train(compose_run(*options, "trainer.max_steps=1"))


def test_masks_are_what_the_settings_describe():
    assert MASK["scope"] == "shared" and any(".masks." in name for name in build().state_dict())
