"""A run that was trained on a folder: it predicts another one, is tested on a subset and on reordered classes by name,
goes on only with its own classes, and is exported."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from PIL import Image

from configs.errors import ConfigError
from configs.saved import open_run
from datamodules.errors import DataError
from eval import evaluate
from scripts import predict
from scripts.attention_on_images import main as draw_attention
from scripts.export import run as exported
from scripts.predict_images import predictor_of
from tasks.common.build import build_datamodule
from tasks.common.errors import CheckpointError
from tasks.image_classification.export import outputs
from tests.composing import CONFIGS, composed
from tests.datamodules.image_classification.small import encoded
from tests.tiers import slow
from train import train

NAMES = ["red", "green", "blue", "dark red", "dark green", "dark blue"]
PLAIN = ["data.augment=none", "data.shift=0", "task.mixup=0", "task.cutmix=0", "task.ema=null", "data.batch_size=12"]
SETTINGS = ["experiment=image_folder_lcaam", "scale=smoke", "floors.enabled=false", "callbacks=none", *PLAIN]
ONNX = all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime")))
WITH_ONNX = pytest.mark.skipif(not ONNX, reason="onnx is optional (extra export)")


def coloured(number: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng([seed, number]).integers(0, 60, (36, 40, 3))
    pixels[..., number % 3] += 90 if number >= 3 else 180
    return Image.fromarray(pixels.astype(np.uint8))


def write(root: Path, split: str, count: int, names=NAMES) -> Path:
    for number, name in enumerate(NAMES):
        if name in names:
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for image in range(count):
                data = encoded(coloured(number, image + 100 * (split != "train")), "PNG")
                (root / split / name / f"{image}.png").write_bytes(data)
    return root


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own")
    return write(write(root, "train", 6), "val", 3)


@pytest.fixture(scope="module")
def finished(own, tmp_path_factory) -> Path:
    """A run with no setting of the data but its path, long enough to tell colours."""
    steps = ["trainer.max_steps=60", "trainer.val_check_interval=60", "task.lr=0.01"]
    cfg = composed(tmp_path_factory.mktemp("run"), *SETTINGS, *steps, f"data.root={own}", "callbacks=checkpoint")
    train(cfg)
    return Path(cfg.paths.run_dir)


def evaluated(run: Path, *words: str) -> tuple[dict, list[dict]]:
    output = evaluate(*open_run(OmegaConf.load(CONFIGS / "eval.yaml"), [f"run={run}", *map(str, words)]))
    rows = [json.loads(line) for line in (output / "predictions" / "test.jsonl").read_text().splitlines()]
    return json.loads((output / "metrics.json").read_text()), rows


def test_names_stand_in_the_record_the_predictions_and_the_details(finished):
    record = json.loads((finished / "results.json").read_text())
    assert [each["folder"] for each in record["details"]["classes"]] == sorted(NAMES)
    assert [each["images"] for each in record["details"]["classes"]] == [3] * 6
    assert record["details"]["calibration"]["error"] >= 0
    row = json.loads((finished / "predictions" / "test.jsonl").read_text().splitlines()[0])
    assert row["label_name"] == sorted(NAMES)[row["label"]] == "blue"
    assert (finished / "figures" / "confusion.png").is_file()


def test_renamed_classes_are_refused_and_reordered_or_fewer_ones_scored_by_name(finished, own, tmp_path):
    metrics, rows = evaluated(finished)
    assert metrics["top1"] > 100 / 6
    by_name = {row["name"]: row["predicted_name"] for row in rows}

    alone = write(tmp_path / "alone", "val", 3)  # no training image
    again, found = evaluated(finished, f"data.root={alone}")
    assert again["top1"] == metrics["top1"] and again["test_loss"] == pytest.approx(metrics["test_loss"], rel=1e-6)

    (alone / "rev.txt").write_text("\n".join(sorted(NAMES, reverse=True)) + "\n")
    again, found = evaluated(finished, f"data.root={alone}", "data.class_index=rev.txt")
    assert again["top1"] == metrics["top1"] and {row["name"]: row["predicted_name"] for row in found} == by_name

    few = write(tmp_path / "few", "val", 3, ["red", "dark blue"])
    again, found = evaluated(finished, f"data.root={few}")
    assert {row["name"]: row["predicted_name"] for row in found}.items() <= by_name.items()
    kept = [row for row in rows if row["label_name"] in ("red", "dark blue")]
    assert again["top1"] == pytest.approx(100 * np.mean([row["label"] == row["predicted"] for row in kept]), abs=1e-4)
    _, found = evaluated(finished, f"data.root={few}", "task.among=tested")
    assert {row["predicted_name"] for row in found} <= {"red", "dark blue"}

    (few / "val" / "red").rename(few / "val" / "rde")
    with pytest.raises(
        DataError, match=r"not trained on rde.*mean 'red'.*It has: blue, dark blue, .*have: dark blue, rde"
    ):
        evaluated(finished, f"data.root={few}")


def test_a_training_is_not_resumed_with_other_classes(finished, own, tmp_path):
    other = Path(shutil.copytree(own, tmp_path / own.name))  # moved data keep the name of their folder
    for split in ("train", "val"):
        (other / split / "red").rename(other / split / "zinnia")
    steps = ["trainer.max_steps=60", "trainer.val_check_interval=60", "task.lr=0.01"]
    words = [*SETTINGS, *steps, f"data.root={other}", f"resume={finished}", "callbacks=checkpoint"]
    with pytest.raises(ConfigError, match=r"resume: the classes of data\.root are not .*There: .*red.*Here: .*zinnia"):
        train(composed(tmp_path, *words))


def test_a_folder_gets_a_table_of_names_and_probabilities(finished, own, tmp_path, capsys):
    flat = tmp_path / "flat"
    (flat / "deep").mkdir(parents=True)
    for number, place in enumerate(("a.png", "deep/b.PNG", "c.png")):
        (flat / place).write_bytes(encoded(coloured(number, 7), "PNG"))
    (flat / "broken.jpg").write_bytes(b"no image")
    (flat / "notes.txt").write_text("no image either")
    output = tmp_path / "out" / "answers.csv"
    words = ["images", str(flat), "--checkpoint", str(finished), "--top", "2", "--output", str(output)]
    assert predict.main(words) == 0
    told = capsys.readouterr()
    assert "3 images, 1 left out" in told.out and f"left out: {flat / 'broken.jpg'} cannot be decoded" in told.err
    with output.open(newline="") as file:
        header, *table = csv.reader(file)
    assert header == ["image", "class_1", "probability_1", "class_2", "probability_2"]
    assert [row[0] for row in table] == [str(flat / place) for place in ("a.png", "c.png", "deep/b.PNG")]
    for row in table:
        assert {row[1], row[3]} <= set(NAMES) and 1 >= float(row[2]) >= float(row[4]) >= 0

    words[words.index("2")], words[-1] = "99", str(output.with_suffix(".jsonl"))
    assert predict.main(words) == 0
    rows = [json.loads(line) for line in output.with_suffix(".jsonl").read_text().splitlines()]
    assert [row["answers"][0]["name"] for row in rows] == [row[1] for row in table]
    for row in rows:
        assert sum(answer["probability"] for answer in row["answers"]) == pytest.approx(1, abs=1e-5)


def test_predictions_are_those_of_the_test(finished, own):
    _, rows = evaluated(finished)
    paths = [own / "val" / row["name"] for row in rows]
    for row, found in zip(rows, predictor_of(finished).predict(paths, batch_size=4), strict=True):
        assert found.answers[0].number == row["predicted"]
        assert found.answers[0].probability == pytest.approx(row["probability"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["imagse", "x"], "imagse: not one of images, moments, captions; did you mean 'images'"),
        (["images", "{tmp}/nowhere", "--checkpoint", "{run}"], "nowhere: no such file or folder"),
        (["images", "{tmp}", "--checkpoint", "{run}"], "no image in it"),
        (["images", "{own}", "--checkpoint", "{tmp}/nothing"], "nothing: there is no such run's folder or"),
        (["images", "{own}", "--checkpoint", "{run}", "--output", "a.txt"], r"ends in \.csv, \.jsonl, \.json"),
        (["images", "{own}", "--checkpoint", "{run}", "--top", "0"], "at least 1"),
        (["images", "{own}", "--checkpoint", "{run}", "--device", "nothing"], "--device nothing: cannot be used"),
        (["images", "{own}", "--checkpoint", "{run}", "data.image_size=48"], "train again with data.image_size=48"),
    ],
)
def test_what_cannot_be_predicted_is_said_in_a_line(finished, own, tmp_path, words, message):
    words = [word.format(tmp=tmp_path, run=finished, own=own) for word in words]
    with pytest.raises(SystemExit, match=message):
        predict.main(words)


def test_a_picture_of_attention_names_classes_as_the_model_does(finished, own, tmp_path, monkeypatch):
    shown = []

    def drawn(pictures, columns, titles, captions) -> Figure:
        shown.append((titles, captions))
        return Figure()

    monkeypatch.setattr("scripts.attention_on_images.attention_on_pictures", drawn)
    alone = write(tmp_path / "alone", "val", 1, ["red"])
    out = str(tmp_path / "attention.png")
    monkeypatch.setattr("sys.argv", ["x", str(finished), "--out", out, f"data.root={alone}"])
    draw_attention()
    ((titles, captions),) = shown
    assert titles == ["red"]
    (path,) = (alone / "val" / "red").iterdir()
    (found,) = predictor_of(finished).predict([path])
    assert captions[0] == f"predicted: {found.answers[0].name}"


@pytest.mark.parametrize("ending", [slow(".pt2"), pytest.param(".onnx", marks=WITH_ONNX)])
def test_an_exported_model_gives_the_same_outputs(finished, own, tmp_path, ending):
    path = tmp_path / f"model{ending}"
    assert "the largest difference of a logit is" in exported(finished, path)[0]
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["class_names"] == sorted(NAMES) and told["image_size"] == 32
    predictor = predictor_of(finished)
    cfg = OmegaConf.load(finished / "config.yaml")
    data = build_datamodule(cfg)
    data.setup()
    batch = data.pictures["test"][[0, 5, 11]]["image"]
    with torch.no_grad():
        torch.testing.assert_close(outputs(path, batch), predictor.module(batch), rtol=0, atol=1e-5)


def test_an_export_of_another_kind_is_refused(finished, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.onnx or \.pt2"):
        exported(finished, tmp_path / "model.pb")
    with pytest.raises((ConfigError, CheckpointError), match="no config.yaml|there is no such"):
        exported(tmp_path, tmp_path / "model.pt2")
