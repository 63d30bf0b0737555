"""Whole runs at the smoke scale through train.py, and the command that writes captions for files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from configs.saved import open_run
from datamodules.video_captioning.mini.mp4 import write_mp4
from eval import evaluate
from scripts.caption_videos import caption, load, main
from tasks.common.build import build_datamodule
from tasks.video_captioning.settings import Decoding
from tests.composing import CONFIGS, composed
from tests.programs import ROOT, started
from tests.tiers import slow
from train import train

Compose = Callable[..., DictConfig]
PLAIN = OmegaConf.to_container(OmegaConf.load(CONFIGS / "eval.yaml"))  # what eval.py is given by its own file
QUICK = ("scale=smoke", "logger=csv", "floors.enabled=false", "callbacks=none")
RANKS = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29531", "train.py"]


def record_of(folder: Path | str) -> dict:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def rows_of(folder: Path | str) -> list[dict]:
    lines = (Path(folder) / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_stands_beside_its_floors_its_figures_and_every_prediction(compose_run: Compose, capsys) -> None:
    options = ("seed=3", "task.validate_text=true", "logger=csv")
    cfg = compose_run("experiment=msrvtt_multi_lcaam", "scale=smoke", *options)
    train(cfg)
    record, folder = record_of(cfg.paths.run_dir), Path(cfg.paths.run_dir)
    assert (record["status"], record["seed"]) == ("completed", 3)
    assert {"exact", "test_loss", "train_loss"} < record["metrics"].keys()
    assert record["floors"].keys() == {"constant", "input_blind", "ceiling"}
    name = next(name for name in record["metrics"] if name.startswith("cider"))
    assert record["floors"]["ceiling"][name] > record["floors"]["constant"][name]
    assert record["parameters"]["masks"] > 0 and record["flops"] > 0
    assert "layer 2/context_sensitivity" in record["analysis"]
    assert (folder / "figures" / "mask_layer_1.png").is_file()
    assert {f"val/{name}", "val/loss"} <= set((folder / "metrics.csv").read_text().split("\n")[0].split(","))
    rows = rows_of(folder)
    assert len(rows) == 9 and all(len(row["references"]) == 2 for row in rows)
    told = record["evaluation"]
    assert (told["tested"], told["sizes"]["test"], told["unit"], told["left_out"]) == (9, 9, "clips", {})
    assert told["split"] == "split names in the annotations (train, validate, test)"
    assert f"tested on 9 clips (train {told['sizes']['train']}, val " in capsys.readouterr().out


def test_a_test_of_one_clip_says_so_and_why_its_cider_is_zero(compose_run: Compose, capsys) -> None:
    options = ("trainer.max_steps=1", "trainer.limit_test_batches=1", "data.eval_batch_size=1")
    cfg = compose_run("experiment=msrvtt_baseline", *QUICK, *options)
    train(cfg)
    record, said = record_of(cfg.paths.run_dir), capsys.readouterr().out
    assert record["evaluation"]["tested"] == 1 and "tested on 1 of the 9 clips" in said
    assert "is 0 by its definition" in said


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_differs(compose_run: Compose) -> None:
    losses = []
    for seed in (1, 1, 2):
        cfg = compose_run("experiment=msrvtt_lcaam", *QUICK, f"seed={seed}")
        train(cfg)
        losses.append(record_of(cfg.paths.run_dir)["metrics"]["test_loss"])
    assert losses[0] == losses[1] != losses[2]


RIVALS = (slow("none"), slow("static_swinbert"), "static_logsigmoid", slow("extra_linear"), slow("extra_layers"))


@pytest.mark.parametrize("mask", RIVALS)
def test_every_rival_runs(compose_run: Compose, mask: str) -> None:
    options = ("trainer.max_steps=2", "trainer.val_check_interval=2", "mask.depth=10")
    cfg = compose_run("experiment=msrvtt_lcaam", f"mask={mask}", *QUICK, *options)
    train(cfg)
    parts = record_of(cfg.paths.run_dir)["parameters"]
    assert (parts["masks"] > 0) == mask.startswith("static")
    assert (parts["controls"] > 0) == mask.startswith("extra")


@pytest.mark.slow
@pytest.mark.parametrize("source", ["video", "frames"])
def test_pixels_train_end_to_end_and_a_video_file_goes_from_file_to_caption(
    compose_run: Compose, tmp_path: Path, capsys, source: str
) -> None:
    features = compose_run("experiment=msrvtt_lcaam", *QUICK)
    mini = build_datamodule(features).folder
    cfg = compose_run("experiment=msrvtt_lcaam", *QUICK, "callbacks=default", f"data.source={source}")
    if source == "frames":
        places = (str(mini / "videos"), str(mini / "frames"))
        assert started("-m", "scripts.extract_frames", *places, "--frames", "12").returncode == 0
    train(cfg)
    assert record_of(cfg.paths.run_dir)["parameters"]["backbone"] > 0
    row = rows_of(cfg.paths.run_dir)[0]
    capsys.readouterr()
    main([str(mini / "videos" / f"{row['video']}.mp4"), "--checkpoint", cfg.paths.run_dir + "/checkpoints/last.ckpt"])
    if source == "video":  # JPEG frames differ a little from the decoded ones
        assert capsys.readouterr().out == row["generated"] + "\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[DictConfig, Path]:
    cfg = composed(tmp_path_factory.mktemp("trained"), "experiment=msrvtt_multi_lcaam", *QUICK, "callbacks=default")
    train(cfg)
    return cfg, next(Path(cfg.paths.data_dir).rglob("videos"))


def test_a_file_gets_the_caption_that_the_test_gave_it_whatever_its_name(trained, tmp_path: Path, capsys) -> None:
    cfg, videos = trained
    rows = rows_of(cfg.paths.run_dir)
    copy = tmp_path / "my {film} no. 1.MP4"
    copy.write_bytes((videos / f"{rows[0]['video']}.mp4").read_bytes())
    capsys.readouterr()
    main([str(copy), "--checkpoint", cfg.paths.run_dir])
    assert capsys.readouterr().out == rows[0]["generated"] + "\n"
    files = [str(videos / f"{row['video']}.mp4") for row in rows]
    main([*files, "--checkpoint", cfg.paths.run_dir])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{file}\t{row['generated']}" for file, row in zip(files, rows, strict=True)]


@pytest.mark.parametrize("name", ["mask.png", "no ending"])
def test_plot_writes_a_picture_a_layer_into_a_new_folder(trained, tmp_path: Path, capsys, name: str) -> None:
    cfg, videos = trained
    path = tmp_path / "new" / name
    main([str(videos / "video3.mp4"), "--checkpoint", cfg.paths.run_dir, "--plot", str(path)])
    files = [path.parent / f"{path.stem}_layer_{number}.png" for number in (1, 2)]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert f"masks: {files[0]}, {files[1]}" in capsys.readouterr().err


def test_the_command_ends_with_a_sentence_for_devices_and_features_that_do_not_fit(trained, tmp_path: Path) -> None:
    cfg, videos = trained
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(SystemExit, match=f"--device {device}: "):
            main([str(videos / "video0.mp4"), "--checkpoint", cfg.paths.run_dir, "--device", device])
    np.save(tmp_path / "short.npy", np.zeros((31, 229), np.float32))
    with pytest.raises(SystemExit, match=r"short.npy: features must be \(B, 32, C\)"):
        main([str(tmp_path / "short.npy"), "--checkpoint", cfg.paths.run_dir])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-length", "400"), "^max_length: 400 is more than this model's captions have; allowed: 2 to 32"),
        (("--max-length", "1"), "max_length: 1 is out of range; allowed: at least 2"),
        (("--num-beams", "0"), "num_beams: 0 is out of range; allowed: at least 1"),
        (("--num-beams", "4000"), "num_beams: 4000 is more than half"),
    ],
)
def test_options_of_decoding_are_refused_once_and_not_for_each_video(trained, options, message) -> None:
    cfg, videos = trained
    with pytest.raises(SystemExit, match=message):
        main([str(videos), "--checkpoint", cfg.paths.run_dir, *options])


def test_a_run_without_options_of_decoding_has_the_default_ones(trained) -> None:
    cfg, _ = trained
    saved = Path(cfg.paths.run_dir) / "config.yaml"
    text = saved.read_text(encoding="utf-8")
    try:
        changed = OmegaConf.create(text)
        changed.task.decoding = None
        saved.write_text(OmegaConf.to_yaml(changed), encoding="utf-8")
        module, _ = load(cfg.paths.run_dir)
        assert module.decoding == Decoding()
    finally:
        saved.write_text(text, encoding="utf-8")


def test_wrong_files_are_named_and_end_without_a_caption(trained, tmp_path: Path, capsys) -> None:
    cfg, videos = trained
    good = (videos / "video3.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(good[: len(good) // 3])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    (tmp_path / "video.npy").write_bytes(b"")
    np.save(tmp_path / "narrow.npy", np.zeros((64, 7), np.float32))
    wrong = {
        "cut.mp4": "cannot be decoded",
        "empty.mp4": "cannot be decoded|is empty",
        "text.mp4": "cannot be decoded",
        "sound.mp4": "no picture track",
        "gone.mp4": "no such file",
        "video.npy": "cannot be read",
        "narrow.npy": r"expected \(rows, 229\)",
    }
    for name, message in wrong.items():
        with pytest.raises(SystemExit, match=message) as stop:
            main([str(tmp_path / name), "--checkpoint", cfg.paths.run_dir])
        assert name in str(stop.value)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_run_of_another_task_or_without_a_mask_is_refused(compose_run: Compose, trained, tmp_path: Path) -> None:
    _, videos = trained
    other = compose_run("experiment=imagenet1k_baseline", *QUICK)
    train(other)
    with pytest.raises(SystemExit, match="not of video captioning"):
        main([str(videos / "video0.mp4"), "--checkpoint", other.paths.run_dir])
    plain = compose_run("experiment=msrvtt_baseline", *QUICK, "callbacks=default")
    train(plain)
    with pytest.raises(SystemExit, match="no mask to draw"):
        main([str(videos / "video0.mp4"), "--checkpoint", plain.paths.run_dir, "--plot", str(tmp_path / "m.png")])


def test_beams_of_eval_and_of_the_command_are_the_same(trained, capsys) -> None:
    cfg, videos = trained
    arguments = [f"run={cfg.paths.run_dir}", "task.decoding.num_beams=3", f"output={cfg.paths.run_dir}/beams"]
    settings = DictConfig({**PLAIN, "output": None})
    evaluate(*open_run(settings, arguments))
    (row, *_) = rows_of(Path(cfg.paths.run_dir) / "beams")
    module, datamodule = load(cfg.paths.run_dir, num_beams=3)
    assert caption(module, datamodule.example(videos / f"{row['video']}.mp4")) == row["generated"]


@pytest.mark.slow
def test_two_ranks_test_every_video_once_and_score_as_one(tmp_path: Path) -> None:
    places = ["scale=smoke", f"paths.log_dir={tmp_path / 'logs'}", f"paths.data_dir={tmp_path / 'data'}"]
    options = ["experiment=msrvtt_multi_lcaam", "logger=csv", "floors.enabled=false", "task.validate_text=true"]
    devices = ["trainer.devices=2", "trainer.strategy=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*RANKS, *options, *devices, *places], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "logs").rglob("results.json")
    rows, record = rows_of(results.parent), record_of(results.parent)
    assert len({row["video"] for row in rows}) == len(rows) == 9
    settings = DictConfig({**PLAIN, "output": str(tmp_path / "one")})
    evaluate(*open_run(settings, [f"run={results.parent}", "trainer.devices=1", "trainer.strategy=auto"]))
    assert {row["video"]: row["generated"] for row in rows_of(tmp_path / "one")} == {
        row["video"]: row["generated"] for row in rows
    }
    alone = json.loads((tmp_path / "one" / "metrics.json").read_text(encoding="utf-8"))
    for name in record["metrics"].keys() - {"train_loss"}:
        assert record["metrics"][name] == pytest.approx(alone[name], rel=1e-5), name


def test_a_clip_s_features_are_those_of_the_generated_set_whatever_frames_the_run_asks_for(trained) -> None:
    """data.frames and data.image_size are of pixels; features come from the set's own number of frames and size."""
    cfg, videos = trained
    _, datamodule = load(cfg.paths.run_dir)
    expected = datamodule.example(videos / "video30.mp4")["features"]
    datamodule.setup()
    assert torch.equal(datamodule.clips["test"][0]["features"], expected)
    datamodule.frames, datamodule.image_size, datamodule.short_side = 16, 32, 40
    assert torch.equal(datamodule.example(videos / "video30.mp4")["features"], expected)


def test_a_video_of_another_shape_is_cut_to_the_model_s(trained, tmp_path: Path, capsys) -> None:
    cfg, _ = trained
    write_mp4(tmp_path / "wide.mp4", np.random.default_rng(0).integers(0, 255, (30, 96, 160, 3), dtype=np.uint8), 8)
    module, datamodule = load(cfg.paths.run_dir)
    assert datamodule.example(tmp_path / "wide.mp4")["features"].shape == (1, 32, 229)
    assert isinstance(caption(module, datamodule.example(tmp_path / "wide.mp4")), str)
    assert not torch.is_grad_enabled() or not any(p.grad is not None for p in module.parameters())
