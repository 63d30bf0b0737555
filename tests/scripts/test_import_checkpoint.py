"""Imported released weights compute what the released model computes; files that are unsafe or wrong are refused."""

import argparse
import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from configs.saved import open_run
from configs.schema import validate
from scripts.benchmarks.qd_detr_plain import PlainQDDETR
from scripts.import_checkpoint import main
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.predict import load
from tasks.moment_retrieval.upstream import qd_detr_from_upstream
from tests.parity import PARITY, fill, needs_parity
from tests.programs import started

ROOT = Path(__file__).resolve().parents[2]


def released(clip: int = 514, text: int = 12, tokens: int = 9, **options) -> dict:
    """A checkpoint as its authors' code saves one, with a small model's random weights."""
    torch.manual_seed(0)
    model = PlainQDDETR(clip, text, width=64, feedforward=48, queries=5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    state = dict(model.state_dict())
    state |= {"txt_position_embed.position_embeddings.weight": torch.randn(tokens, 64)}
    state |= {f"txt_position_embed.LayerNorm.{end}": torch.randn(64) for end in ("weight", "bias")}
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    usual = {"max_v_l": 11, "max_q_l": tokens, "clip_length": 2, "v_feat_dim": clip, "t_feat_dim": text, "lr": 2e-4}
    usual |= {"ctx_mode": "video_tef", "dset_name": "hl", "input_dropout": 0.3, "pre_norm": False, "nheads": 2}
    usual |= {"device": torch.device("cuda"), "v_feat_dirs": ["../features/clip_features"], "use_txt_pos": False}
    opt = argparse.Namespace(**{**usual, **options})
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 400).state_dict()
    return {"model": state, "optimizer": optimiser.state_dict(), "lr_scheduler": schedule, "epoch": 179, "opt": opt}


def saved(folder: Path, content) -> Path:
    torch.save(content, folder / "in.ckpt")
    return folder / "in.ckpt"


def imported(folder: Path, content, *options: str) -> Path:
    out = folder / "run" / "checkpoints" / "last.ckpt"
    main(["qd_detr", str(saved(folder, content)), str(out), *options])
    return out


def refused(*arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["qd_detr", *map(str, arguments)])
    assert isinstance(stop.value.code, str)
    return stop.value.code


def batch(clip: int, text: int) -> dict:
    torch.manual_seed(1)
    keeps = {"video_keep": torch.arange(7) < torch.tensor([7, 3, 1])[:, None]}
    keeps |= {"text_keep": torch.arange(5) < torch.tensor([1, 5, 4])[:, None]}
    video, text = torch.randn(3, 7, clip), torch.randn(3, 5, text)
    return {"video": video * keeps["video_keep"][..., None], "text": text * keeps["text_keep"][..., None], **keeps}


def same(ours: dict, theirs: dict) -> bool:
    """Bit for bit, the list of dicts `aux` included."""
    parts = [(ours, theirs), *zip(ours["aux"], theirs["aux"], strict=True)]
    return all(
        mine.keys() == others.keys() and all(torch.equal(mine[key], others[key]) for key in mine if key != "aux")
        for mine, others in parts
    )


@pytest.mark.parametrize("reader", [load, lambda path: MomentRetrieval.load_from_checkpoint(path, weights_only=True)])
def test_imported_outputs_are_the_released_model_s_bit_for_bit(tmp_path, reader):
    content = released()
    module, inputs = reader(imported(tmp_path, content)).eval().cpu(), batch(514, 12)
    with torch.no_grad():
        expected = qd_detr_from_upstream(content["model"])(**inputs)
        found = module.predict(inputs, torch.tensor([1, 2, 0]))
    assert same(found, expected)


def test_imported_outputs_are_an_independent_implementation_s(tmp_path):
    content, inputs = released(), batch(514, 12)
    plain = PlainQDDETR(514, 12, width=64, feedforward=48, queries=5).eval()
    plain.load_state_dict({name: t for name, t in content["model"].items() if not name.startswith("txt_position")})
    with torch.no_grad():
        expected = plain(**inputs)
        found = load(imported(tmp_path, content)).predict(inputs)
    assert torch.allclose(found["spans"], expected["spans"], atol=2e-5)
    assert torch.allclose(found["logits"], expected["logits"], atol=2e-5)
    real = inputs["video_keep"]
    assert torch.allclose(found["saliency"][real], expected["saliency"][real], atol=2e-5)


@needs_parity
def test_a_checkpoint_of_the_published_size_gives_the_original_s_outputs(tmp_path):
    numbers, recorded = json.loads((PARITY / "qd_detr.json").read_text()), np.load(PARITY / "qd_detr.npz")
    normal, parameter, seed = fill().normal, fill().parameter, numbers["seed"]
    state = {name: torch.tensor(parameter(name, shape, seed)) for name, shape in numbers["shapes"].items()}
    inputs = {}
    for name, source, key, width in (("video", "src_vid", "vlens", 2818), ("text", "src_txt", "tlens", 512)):
        lengths = torch.tensor(numbers[key])
        keep = torch.arange(int(lengths.max())) < lengths[:, None]
        inputs[name] = torch.tensor(0.05 * normal(source, (*keep.shape, width), seed)) * keep[..., None]
        inputs[f"{name}_keep"] = keep
    module = load(imported(tmp_path, {"model": state, "epoch": 3}))
    with torch.no_grad():
        found = module.predict(inputs)
    assert np.abs(found["logits"].numpy() - recorded["pred_logits"]).max() < 2e-5
    assert np.abs(found["spans"].numpy() - recorded["pred_spans"]).max() < 2e-5
    streams = {"slowfast_features": 2304, "clip_features": 512}
    expected = {"video_dim": 2818, "text_dim": 512, "clips": 75, "tokens": 32, "clip_length": 2.0, "duration": 150.0}
    assert module.hparams.facts == {**expected, "saliency": True, "streams": streams, "tef": True}


def test_options_of_the_checkpoint_are_kept_and_unused_parameters_named(tmp_path, capsys):
    module = load(imported(tmp_path, released()))
    h = module.hparams
    expected = {"video_dim": 514, "text_dim": 12, "clips": 11, "tokens": 9, "clip_length": 2.0, "duration": 22.0}
    assert h.facts == {**expected, "saliency": True, "streams": {"clip_features": 512}, "tef": True}
    assert (h.lr, h.input_dropout, h.heads, h.queries, h.mask["scope"]) == (2e-4, 0.3, 2, 5, "none")
    assert (h.longest, h.wrong_texts) == ("facts", "rolled")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] == 179
    said = capsys.readouterr().out
    assert "never uses them: txt_position_embed.LayerNorm.bias" in said and "eval.py run=" in said
    assert f"{sum(p.numel() for p in module.parameters()):,} parameters" in said


def test_without_options_the_published_ones_are_taken_and_that_is_said(tmp_path, capsys):
    content = {"model": released()["model"]}
    facts = load(imported(tmp_path, content)).hparams.facts
    assert (facts["clips"], facts["tokens"], facts["clip_length"]) == (75, 9, 2.0)
    assert "no options in it (opt)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "out, config", [("run/checkpoints/last.ckpt", "run/config.yaml"), ("a/b.ckpt", "a/config.yaml")]
)
def test_eval_finds_a_configuration_that_builds_the_same_model(tmp_path, out, config):
    main(["qd_detr", str(saved(tmp_path, released())), str(tmp_path / out)])
    assert (tmp_path / config).is_file()
    settings = OmegaConf.load(ROOT / "configs" / "eval.yaml")
    _, cfg, _ = open_run(settings, [f"run={tmp_path / out}"])
    validate(cfg)
    task, of_weights = OmegaConf.to_container(cfg.task), load(tmp_path / out).hparams
    assert cfg.paths.run_dir == str((tmp_path / config).parent)
    assert {name: of_weights[name] for name in task if name != "_target_"} == {
        name: value for name, value in task.items() if name != "_target_"
    }
    assert OmegaConf.to_container(cfg.mask) == of_weights["mask"]
    streams = {name: stream.dim for name, stream in cfg.data.video_streams.items() if stream is not None}
    assert streams == of_weights["facts"]["streams"] and cfg.data.tef == of_weights["facts"]["tef"]
    assert (cfg.data.max_clips, cfg.data.max_tokens, cfg.data.text_stream.dim) == (11, 9, 12)


@pytest.mark.parametrize(
    "content", [released(clip=77, v_feat_dim=75), released(dset_name="of my own"), released(clip=514, a_feat_dim=2050)]
)
def test_weights_for_other_data_are_imported_without_a_configuration(tmp_path, capsys, content):
    out = imported(tmp_path, content)
    assert not (tmp_path / "run/config.yaml").exists() and "no config.yaml" in capsys.readouterr().out
    assert load(out).hparams.facts["video_dim"] == len(content["model"]["input_vid_proj.0.LayerNorm.weight"])


class Harmful:
    """Unpickling it would call `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval])
@pytest.mark.parametrize("zipped", [True, False])
def test_an_unsafe_pickle_is_refused_by_name_and_not_run(tmp_path, function, zipped):
    path, trace = tmp_path / "in.ckpt", tmp_path / "trace"
    argument = {os.system: f"mkdir '{trace}'", os.mkdir: str(trace), eval: f"__import__('os').mkdir({str(trace)!r})"}
    content = released() | {"more": Harmful(function, argument[function])}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path, tmp_path / "out.ckpt")
    assert f"{path}: its pickle asks for " in message and f"{function.__name__}, which loading would run" in message
    assert [found.name for found in tmp_path.iterdir()] == ["in.ckpt"]
    torch.load(path, weights_only=False)
    assert trace.is_dir()  # it would have run


@pytest.mark.parametrize("value, name", [(np.float32(1), "numpy"), (Path("x"), "pathlib"), ([].append, "getattr")])
def test_harmless_objects_are_refused_by_name_too(tmp_path, value, name):
    message = refused(saved(tmp_path, released() | {"more": value}), tmp_path / "out.ckpt")
    assert name in message and "only tensors, plain values and argparse.Namespace are read" in message


def changed(**weights) -> dict:
    content = copy.deepcopy(released())
    for name, value in weights.items():
        content["model"].pop(name.replace("__", "."), None)
        if value is not None:
            content["model"][name.replace("__", ".")] = value
    return content


@pytest.mark.parametrize(
    "content, message",
    [
        ([1, 2], "no state dict 'model' in it; it holds list"),
        ({"weights": {}, "epoch": 1}, "no state dict 'model' in it; it holds weights, epoch"),
        ({"state_dict": {}, "hyper_parameters": {}}, "a checkpoint of this project already"),
        ({"model": {}}, "'global_token' is missing"),
        ({"model": {"backbone.weight": torch.ones(2)}}, "'backbone.weight' is not a parameter of QD-DETR"),
        (changed(class_embed__bias=None), "classify.bias"),
        (changed(class_embed__bias=torch.ones(3)), "size mismatch for classify.bias"),
        (changed(class_embed__bias=torch.tensor([1.0, torch.nan])), "model['class_embed.bias'] has numbers that"),
        (changed(class_embed__bias=[1.0, 2.0]), "model['class_embed.bias'] is list, expected a tensor"),
        (changed(global_rep_token=torch.tensor(1.0)), "in.ckpt: "),
        (released(pre_norm=True), "opt.pre_norm is True; this project's QD-DETR is the published one"),
        (released(use_txt_pos=True), "opt.use_txt_pos is True"),
        (released(max_v_l=0), "opt.max_v_l is 0, expected a number of at least 1"),
        (released(max_q_l=2.5), "opt.max_q_l is 2.5, expected a whole number"),
        (released(clip_length="two"), "opt.clip_length is 'two', expected a number"),
        (released(dropout="${oc.env:HOME}"), "opt.dropout is '${oc.env:HOME}', expected a number"),
        (released(nheads=3), "3 heads do not divide"),
        (released(v_feat_dim=100), "opt.v_feat_dim is 100, but the weights take 514 features per clip"),
        (released(t_feat_dim=100), "opt.t_feat_dim is 100, but the weights take 12 per token"),
    ],
)
def test_what_is_no_released_qd_detr_is_refused_and_nothing_written(tmp_path, content, message):
    assert message in refused(saved(tmp_path, content), tmp_path / "new" / "out.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["in.ckpt"]


def test_a_missing_cut_off_or_other_file_is_named(tmp_path):
    out = tmp_path / "out.ckpt"
    assert f"{tmp_path / 'no.ckpt'}: there is no such file" in refused(tmp_path / "no.ckpt", out)
    assert "a folder, not a file" in refused(tmp_path, out)
    whole = saved(tmp_path, released()).read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:-7]):
        (tmp_path / "in.ckpt").write_bytes(content)
        assert f"({len(content):,} bytes) is not a checkpoint of torch.save, or it is cut off" in refused(
            tmp_path / "in.ckpt", out
        )
    assert not out.exists()


def test_files_in_the_way_stay_unless_overwritten(tmp_path):
    out = imported(tmp_path, released())
    before, config = out.read_bytes(), tmp_path / "run" / "config.yaml"
    source = saved(tmp_path, released(lr=3e-4))
    assert f"{out} is there already; --overwrite" in refused(source, out)
    assert f"{config} is there already; --overwrite" in refused(source, out.with_name("other.ckpt"))
    assert out.read_bytes() == before and not out.with_name("other.ckpt").exists()
    main(["qd_detr", str(source), str(out), "--overwrite"])
    assert load(out).hparams.lr == 3e-4 and OmegaConf.load(config).task.lr == 3e-4
    assert sorted(path.name for path in out.parent.iterdir()) == ["last.ckpt"]
    assert "is the file to import" in refused(source, source, "--overwrite")
    assert "is a folder" in refused(source, tmp_path, "--overwrite")


def test_an_unknown_model_is_refused_with_those_that_are_known(capsys):
    with pytest.raises(SystemExit):
        main(["qd_dert", "a", "b"])
    assert "invalid choice: 'qd_dert' (choose from" in capsys.readouterr().err


def test_it_runs_as_a_command(tmp_path):
    done = started("-m", "scripts.import_checkpoint", "qd_detr", "no.ckpt", "out.ckpt")
    assert done.returncode == 1 and done.stderr == "no.ckpt: there is no such file\n"
