"""QD-DETR checkpoints of Lighthouse and of other data sets: options in an EasyDict, wrapped names, bare weights; an
imported model is evaluated by eval.py on its data set, and equals a forward written anew."""

import argparse
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import eval as evaluation
from configs.resolvers import ROOT
from scripts.benchmarks.qd_detr_plain import PlainQDDETR
from scripts.import_checkpoint import main
from scripts.importers import qd_detr_options
from tasks.moment_retrieval.predict import load
from tests.datamodules.moment_retrieval.small import make_row, read_lines, unit, write_lines
from tests.scripts.test_import_checkpoint import Harmful, batch, imported, refused, released, saved

PARITY = 2e-6
WIDTHS = {"slowfast_features": 2304, "clip_features": 512}
LIGHTHOUSE = {  # as its base.yml and its data set's file give them
    "max_v_l": -1, "max_q_l": 32, "clip_length": 1, "v_feat_dim": 2818, "t_feat_dim": 12, "lr": 2e-4, "nheads": 2,
    "ctx_mode": "video_tef", "dset_name": "charades", "input_dropout": 0.5, "position_embedding": "sine",
    "span_loss_type": "l1", "model_name": "qd_detr", "device": "cuda", "model_ema": False, "a_feat_dirs": None,
    "v_feat_dirs": ["features/charades/clip", "features/charades/slowfast"], "a_feat_types": None,
}  # fmt: skip


def plain(video_dim: int = 2818, text_dim: int = 12) -> PlainQDDETR:
    """Random weights of torch's own initialisation, which is where released weights come from."""
    torch.manual_seed(0)
    return PlainQDDETR(video_dim, text_dim, width=64, feedforward=48, queries=5).eval()


@pytest.fixture
def easydict(monkeypatch):
    """A class of the name and the ways of easydict's: its keys are its attributes too."""

    class EasyDict(dict):
        def __init__(self, given):
            for name, value in given.items():
                setattr(self, name, EasyDict(value) if isinstance(value, dict) else value)

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            self[name] = value

    EasyDict.__module__, EasyDict.__qualname__ = "easydict", "EasyDict"
    module = types.ModuleType("easydict")
    module.EasyDict = EasyDict
    monkeypatch.setitem(sys.modules, "easydict", module)
    return EasyDict


def lighthouse(easydict, model, **options) -> dict:
    return {"model": model.state_dict(), "epoch": 12, "opt": easydict({**LIGHTHOUSE, "more": {"a": 1}, **options})}


def without_class(monkeypatch, folder: Path, content: dict) -> Path:
    """Saved while the class is there, imported when it is not."""
    source, out = saved(folder, content), folder / "run" / "checkpoints" / "last.ckpt"
    monkeypatch.delitem(sys.modules, "easydict")
    main(["qd_detr", str(source), str(out)])
    return out


def test_options_in_an_easydict_are_a_plain_mapping_and_outputs_are_the_originals(
    tmp_path, monkeypatch, easydict, capsys
):
    model = plain()
    out = without_class(monkeypatch, tmp_path, lighthouse(easydict, model))
    module, inputs = load(out), batch(2818, 12)
    with torch.no_grad():
        found, expected = module.predict(inputs), model(**inputs)
    real = inputs["video_keep"]
    assert (found["logits"] - expected["logits"]).abs().max() < PARITY
    assert (found["spans"] - expected["spans"]).abs().max() < PARITY
    assert (found["saliency"] - expected["saliency"])[real].abs().max() < PARITY
    facts = module.hparams.facts
    assert list(facts["streams"].items()) == [("clip_features", 512), ("slowfast_features", 2304)]  # its order
    assert (facts["clips"], facts["tokens"], facts["clip_length"]) == (200, 32, 1.0)
    assert (module.hparams.lr, module.hparams.longest, module.hparams.round_windows) == (2e-4, "duration", True)
    said = capsys.readouterr().out
    assert "max_v_l is -1, no limit: 200 clips of a video are read" in said
    assert "streams in the order of its training: clip_features (512), slowfast_features (2304)" in said
    cfg = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert (cfg.data.name, list(cfg.data.video_streams)) == ("Charades-STA", ["clip_features", "slowfast_features"])


def test_nothing_else_of_an_easydict_s_module_is_read(tmp_path, monkeypatch, easydict):
    easydict.Other = type("Other", (dict,), {"__module__": "easydict", "__qualname__": "Other"})
    sys.modules["easydict"].Other = easydict.Other
    saved(tmp_path, {"model": {}, "opt": easydict.Other(a=1)})
    monkeypatch.delitem(sys.modules, "easydict")
    message = refused(tmp_path / "in.ckpt", tmp_path / "out.ckpt")
    assert "its pickle asks for easydict.Other" in message and "easydict.EasyDict, as a plain mapping" in message
    trace = tmp_path / "trace"
    content = {"model": {}, "opt": {"a": Harmful(Path.mkdir, trace)}}
    refused(saved(tmp_path, content), tmp_path / "out.ckpt")
    assert not trace.exists()


def written_set(root: Path, data: DictConfig) -> None:
    """A small set in the layout that a configuration names, with a row of each stream per second."""
    rng, files = np.random.default_rng(0), [data[f"{split}_annotations"] for split in ("train", "val", "test")]
    for number, name in enumerate(dict.fromkeys(files)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rows = [make_row(10 * number + i, f"v{number}{i}", 6 + i, rng, saliency=False) for i in range(4)]
        write_lines(root / name, rows)
        for row in rows:
            for stream in data.video_streams.values():
                save(root / stream.path / stream.file.format(**row), stream.key, row["duration"], stream.dim, rng)
            text = data.text_stream
            save(root / text.path / text.file.format(**row), text.key, int(rng.integers(1, 10)), text.dim, rng)


def save(path: Path, key: str, rows: int, width: int, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: rng.standard_normal((rows, width)).astype(np.float32)})


def test_eval_tests_an_imported_model_on_its_data_set(tmp_path, monkeypatch, easydict):
    model, root = plain(), tmp_path / "data"
    out = without_class(monkeypatch, tmp_path, lighthouse(easydict, model))
    data = OmegaConf.load(tmp_path / "run" / "config.yaml").data
    written_set(root, data)
    words = [f"run={out}", f"data.root={root}", "data.num_workers=0", "task.round_windows=false"]
    folder = evaluation.run_words([*words, f"output={tmp_path / 'eval'}"])
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"R1@0.3", "R1@0.5", "mIoU", "mAP", "test_loss"} <= metrics.keys()
    rows = read_lines(folder / "predictions" / "test.jsonl")
    assert [row["qid"] for row in rows] == [10, 11, 12, 13]
    for row in rows:
        clips = row["duration"]
        files = [data.video_streams[name] for name in ("clip_features", "slowfast_features")]
        read = [np.load(root / file.path / file.file.format(**row))["features"] for file in files]
        begin = np.arange(clips)[:, None] / clips
        video = np.concatenate([*(np.stack([unit(x) for x in part]) for part in read), begin, begin + 1 / clips], 1)
        file = root / data.text_stream.path / data.text_stream.file.format(**row)
        words = np.load(file)["last_hidden_state"]
        text = np.stack([unit(token) for token in words])
        inputs = {"video": torch.tensor(video).float()[None], "text": torch.tensor(text).float()[None]}
        keeps = {f"{name}_keep": torch.ones(1, value.shape[1], dtype=torch.bool) for name, value in inputs.items()}
        with torch.no_grad():
            expected = model(**inputs, **keeps)
        centre, width = expected["spans"][0].double().unbind(-1)
        scores = expected["logits"][0].softmax(-1)[:, 0]
        ends = torch.stack([centre - width / 2, centre + width / 2], 1).clamp(0, 1) * clips
        wanted = torch.cat([ends, scores[:, None]], 1)[scores.argsort(descending=True)]
        assert np.abs(np.array(row["pred_relevant_windows"]) - wanted.numpy()).max() < 2e-4


def test_weights_of_a_wrapped_model_lose_the_prefix(tmp_path, capsys):
    content = released()
    content["model"] = {f"_orig_mod.module.{name}": value for name, value in content["model"].items()}
    out = imported(tmp_path, content)
    said = capsys.readouterr().out
    assert "'module.' before every name is left out" in said and "'_orig_mod.' before every name" in said
    (tmp_path / "b").mkdir()
    wrapped, bare = load(out).state_dict(), load(imported(tmp_path / "b", released())).state_dict()
    assert wrapped.keys() == bare.keys() and all(torch.equal(wrapped[name], bare[name]) for name in bare)


def test_a_bare_state_dict_takes_its_options_from_files_and_words(tmp_path, capsys):
    content = released()
    options = {**vars(content["opt"]), "device": "cuda", "max_v_l": 33}
    (tmp_path / "opt.json").write_text(json.dumps(options))
    out = imported(tmp_path, content["model"], "--options", str(tmp_path / "opt.json"), "lr=3e-4", "max_q_l=-1")
    module = load(out)
    assert (module.hparams.facts["clips"], module.hparams.facts["tokens"], module.hparams.heads) == (33, 100, 2)
    assert module.hparams.lr == 3e-4
    assert "no options in it" not in capsys.readouterr().out
    under = {"state_dict": content["model"]}
    (tmp_path / "b").mkdir()
    assert load(imported(tmp_path / "b", under, "--options", "max_v_l=7", "nheads=2")).hparams.facts["clips"] == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json"], "--options: none.json cannot be read"),
        (["words"], "'words' is neither a file (.json, .yaml) nor KEY=VALUE"),
        (["max_v_l=[1"], "'max_v_l=[1' is not KEY=VALUE"),
        (["max_v_l=-2"], "opt.max_v_l is -2, expected a number of at least 1"),
        (["model_name=cg_detr"], "opt.model_name is 'cg_detr'; this project's QD-DETR is the published one"),
        (["no_norm_vfeat=true"], "opt.no_norm_vfeat is True"),
    ],
)
def test_options_that_cannot_be_used_are_named(tmp_path, words, message):
    assert message in refused(saved(tmp_path, released()["model"]), tmp_path / "out.ckpt", "--options", *words)


def test_every_data_set_of_qd_detr_cg_detr_and_lighthouse_is_known_or_named(tmp_path, monkeypatch, capsys):
    asked = "hl charadesSTA tacos nlq tvsum youtube_uni qvhighlight qvhighlight_pretrain charades activitynet "
    asked += "youtube_highlight clotho-moment unav100-subset tut2017 castella"
    assert set(asked.split()) <= qd_detr_options.DATA.keys()
    found = {name: qd_detr_options.data_of({"dset_name": name}) for name in asked.split()}
    assert found["hl"] == found["qvhighlight"] == found["qvhighlight_pretrain"] == "qvhighlights"
    assert found["charadesSTA"] == found["charades"] == "charades_sta"
    for name, file in found.items():  # whatever is shipped is found under both codes' names
        assert file is None or (ROOT / "configs" / "data" / f"{file}.yaml").is_file(), name
    folders = {"dset_name": "hl", "v_feat_dirs": ["features/qvhighlight/clip"]}
    shipped = (ROOT / "configs" / "data" / "qvhighlights_lighthouse.yaml").is_file()
    assert qd_detr_options.data_of(folders) == ("qvhighlights_lighthouse" if shipped else "qvhighlights")
    out = imported(tmp_path, released(dset_name="of my own", max_v_l=-1))
    said = capsys.readouterr().out
    assert "dset_name 'of my own' is none of this project's data sets" in said and "no config.yaml" in said
    assert load(out).hparams.facts["clips"] == 1000
    monkeypatch.setitem(qd_detr_options.DATA, "of my own", ("not_shipped", "sound_moments"))
    assert qd_detr_options.data_of({"dset_name": "of my own"}) == "sound_moments"


@pytest.mark.parametrize(
    ("given", "features", "streams"),
    [
        ({"v_feat_dirs": ["f/slowfast_features", "f/clip_features"]}, 2816, WIDTHS),
        ({"v_feat_dirs": ["f/clip", "f/slowfast"]}, 2816, {"clip_features": 512, "slowfast_features": 2304}),
        ({}, 2816, WIDTHS),
        ({}, 512, {"clip_features": 512}),
        ({"v_feat_dirs": ["features/tacos/resnet"]}, 2048, {"resnet": 2048}),
        ({"v_feat_dirs": "vgg/"}, 4096, {"vgg": 4096}),
        ({"v_feat_dirs": ["f/clip", "f/i3d"]}, 1536, {"clip_features": 512, "i3d": 1024}),
        ({"v_feat_dirs": ["f/rgb", "f/opt"]}, 2048, None),  # how wide each is, is not known
        ({"v_feat_dirs": ["f/i3d"]}, 2816, WIDTHS),  # as TVSum's two streams, which lie in one folder
        ({"v_feat_dirs": ["f/clip"]}, 768, None),
        ({"v_feat_dirs": ["f/clip", "g/clip"]}, 1024, None),
        ({"v_feat_dirs": ["f/clip", "f/slowfast"], "a_feat_dim": 2048}, 2816, None),
        ({}, 77, None),
    ],
)
def test_streams_and_their_order_come_from_the_folders_of_the_training(given, features, streams):
    found = qd_detr_options.streams_of(given, features, WIDTHS)
    assert found == streams and (streams is None or list(found) == list(streams))


def test_usual_streams_of_a_set_that_has_others_and_folders_of_new_ones(tmp_path):
    own = {"rgb": 1024, "opt": 1024}
    folders = {"v_feat_dirs": ["features/tvsum/clip", "features/tvsum/slowfast"]}
    found = qd_detr_options.streams_of(folders, 2816, own)
    assert list(found.items()) == [("clip_features", 512), ("slowfast_features", 2304)]
    assert qd_detr_options.streams_of({"v_feat_dirs": ["features/tvsum/i3d"]}, 2048, own) == own
    options = {"v_feat_dirs": ["features/charades/resnet"], "v_feat_dim": 2050, "dset_name": "charades"}
    imported(tmp_path, released(2050, **options))
    streams = OmegaConf.load(tmp_path / "run" / "config.yaml").data.video_streams
    assert list(streams) == ["resnet"]
    assert (streams.resnet.path, streams.resnet.dim) == ("features/charades/resnet", 2048)


def test_namespaces_of_qd_detr_are_read_as_before(tmp_path):
    content = released()
    assert isinstance(content["opt"], argparse.Namespace)
    facts = load(imported(tmp_path, content)).hparams.facts
    assert facts["streams"] == {"clip_features": 512}
