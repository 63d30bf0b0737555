"""The Lightning module: real annotations with features of the real format, from data module to submission file."""

import json
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tasks.common.build import build, build_datamodule, build_module
from tasks.moment_retrieval.constant import constant_answer
from tasks.moment_retrieval.metrics import evaluate
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.postprocessing import ranked_windows, submission_rows
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights

FILES = {
    "train": "highlight_train_release.jsonl",
    "val": "highlight_val_release.jsonl",
    "test": "highlight_test_with_gt.jsonl",
}
COUNTS = {"train": 8, "val": 3, "test": 5}


def rows_of(split: str) -> list[dict]:
    lines = (QVHIGHLIGHTS / FILES[split]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[: COUNTS[split]]]


def write_features(root: Path, rows: list[dict]) -> None:
    """Files in the official layout; the first row of a video decides its length."""
    rng = np.random.default_rng(0)
    for folder, width in (("slowfast_features", 2304), ("clip_features", 512)):
        (root / folder).mkdir(exist_ok=True)
        for row in rows:
            clips = int(row["duration"] // 2)
            np.savez(root / folder / f"{row['vid']}.npz", features=rng.normal(size=(clips, width)).astype(np.float32))
    (root / "clip_text_features").mkdir(exist_ok=True)
    for row in rows:
        text = rng.normal(size=(len(row["query"].split()) + 2, 512)).astype(np.float32)
        np.savez(root / "clip_text_features" / f"qid{row['qid']}.npz", last_hidden_state=text, pooler_output=text[0])


@pytest.fixture
def real(tmp_path: Path, compose_run):
    """The paper's configuration with the first real annotations of every split; few steps of a small model."""
    root = tmp_path / "data" / "qvhighlights"
    root.mkdir(parents=True)
    rows = {split: rows_of(split) for split in FILES}
    for split, name in FILES.items():
        (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows[split]), encoding="utf-8")
    write_features(root, [row for of_split in rows.values() for row in of_split])
    sizes = ["task.width=16", "task.heads=2", "task.feedforward=16", "mask.depth=2", f"paths.data_dir={root.parent}"]
    return compose_run("experiment=qvhighlights_lcaam", *sizes, "data.batch_size=4", "data.num_workers=0"), rows


def trainer(**options) -> pl.Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(accelerator="cpu", devices=1, **quiet, **options)


@needs_qvhighlights
def test_real_annotations_run_from_features_to_a_submission_that_scores_the_same(real, tmp_path):
    cfg, rows = real
    pl.seed_everything(0)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    training = trainer(max_steps=2, gradient_clip_val=0.1)
    training.fit(module, datamodule=datamodule)
    assert sum(not torch.equal(before[name], p) for name, p in module.named_parameters()) > 0.9 * len(before)
    training.test(module, datamodule=datamodule, verbose=False)

    truth = {row["qid"]: row for row in rows["test"]}
    assert [row["qid"] for row in module.predictions] == list(truth)
    for row in module.predictions:
        assert len(row["pred_relevant_windows"]) == 10
        assert len(row["pred_saliency_scores"]) == int(truth[row["qid"]]["duration"] // 2)
        assert all(0 <= start <= end <= row["duration"] for start, end, _ in row["pred_relevant_windows"])
    keys = ("qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores")
    submission = [json.loads(json.dumps({key: row[key] for key in keys})) for row in module.predictions]
    official = evaluate(submission, rows["test"])["brief"]
    assert module.test_metrics["mAP"] == official["MR-full-mAP"]
    assert module.test_metrics["HIT@1"] == official["HL-min-VeryGood-Hit1"]
    assert {"constant"} == module.reference_scores(datamodule).keys()


@needs_qvhighlights
@pytest.mark.parametrize("saliency", ["windows", "none"])
def test_moments_alone_can_be_trained_and_tested(real, saliency):
    cfg, _ = real
    cfg.data.saliency = saliency
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule)
    training = trainer(max_steps=1)
    training.fit(module, datamodule=datamodule)
    assert ("train/saliency" in training.callback_metrics) == (saliency == "windows")
    training.test(module, datamodule=datamodule, verbose=False)
    assert module.test_metrics["mAP"] >= 0


@needs_qvhighlights
def test_a_test_split_without_answers_is_predicted_and_not_scored(real):
    cfg, _ = real
    root = Path(cfg.data.root)
    hidden = [{key: row[key] for key in ("qid", "query", "vid", "duration")} for row in rows_of("test")]
    (root / FILES["test"]).write_text("".join(json.dumps(row) + "\n" for row in hidden), encoding="utf-8")
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule)
    trainer().test(module, datamodule=datamodule, verbose=False)
    assert len(module.predictions) == len(hidden)
    assert module.test_metrics == {}
    assert module.reference_scores(datamodule) == {}


def test_a_saved_module_is_the_module(compose_run, tmp_path):
    cfg = compose_run("experiment=qvhighlights_multi_lcaam", "scale=smoke")
    datamodule = build(cfg.data)
    datamodule.prepare_data()
    datamodule.setup()
    module = build_module(cfg, datamodule).eval()
    training = trainer(max_steps=0)
    training.strategy.connect(module)
    training.save_checkpoint(tmp_path / "one.ckpt")
    again = MomentRetrieval.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True).eval()
    batch = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        found, expected = again.predict(batch), module.predict(batch)
    assert all(torch.equal(found[name], expected[name]) for name in ("logits", "spans", "saliency"))


def test_the_blind_model_does_not_read_the_query(compose_run):
    cfg = compose_run("experiment=qvhighlights_baseline", "scale=smoke", "task.blind=true")
    datamodule = build(cfg.data)
    datamodule.prepare_data()
    datamodule.setup()
    module = build_module(cfg, datamodule).eval()
    batch = next(iter(datamodule.test_dataloader()))
    with torch.no_grad():
        found = module.predict(batch)
        other = module.predict({**batch, "text": torch.randn_like(batch["text"])})
    assert torch.equal(found["spans"], other["spans"])
    assert torch.isfinite(module.batch_losses(batch)[0])


def test_windows_are_ranked_rounded_and_inside_their_video():
    logits = torch.tensor([[[0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]])
    spans = torch.tensor([[[0.5, 0.5], [0.95, 0.3], [0.01, 0.001]]])
    (windows,) = ranked_windows(logits, spans, torch.tensor([100.0]), torch.tensor([100.0]), 2.0)
    assert windows == [
        [80.0, 100.0, 0.8808],
        [24.0, 76.0, 0.1192],
        [0.0, 2.0, 0.1192],
    ]
    (longer,) = ranked_windows(logits, spans, torch.tensor([100.0]), torch.tensor([150.0]), None)
    assert longer[0][:2] == pytest.approx([80.0, 110.0], abs=1e-3)


def test_curves_have_a_score_for_every_real_clip():
    keep = torch.tensor([[True, True, False]])
    outputs = {
        "logits": torch.zeros(1, 1, 2),
        "spans": torch.full((1, 1, 2), 0.5),
        "saliency": torch.tensor([[0.1, -2.0, 9.0]]),
    }
    (row,) = submission_rows(outputs, {"annotation": [{"qid": 1, "duration": 4}], "video_keep": keep}, 2.0, None)
    assert row["pred_saliency_scores"] == [float(torch.tensor(0.1).half()), -2.0]


def test_the_constant_answer_finds_windows_that_are_everywhere():
    rows = [
        {"duration": 100, "relevant_windows": [[20, 40]], "relevant_clip_ids": [12], "saliency_scores": [[4, 4, 4]]}
        for _ in range(3)
    ]
    facts = {"clips": 50, "clip_length": 2.0}
    answer = constant_answer(rows, facts, windows=3)({"duration": 50})
    assert answer["pred_relevant_windows"][0] == [10.0, 20.0, 1.0]
    assert len(answer["pred_saliency_scores"]) == 25
    assert max(range(25), key=answer["pred_saliency_scores"].__getitem__) in (6, 12)


def test_masks_of_every_place_are_analysed(compose_run):
    places = "task.masked=[text_to_video,encoder,decoder]"
    cfg = compose_run("experiment=qvhighlights_multi_lcaam", "scale=smoke", places)
    datamodule = build(cfg.data)
    datamodule.prepare_data()
    datamodule.setup()
    found = build_module(cfg, datamodule).eval().analyse(next(iter(datamodule.test_dataloader())))
    layers = ["layer 1", "layer 2", "encoder layer 1", "decoder layer 1"]
    assert list(found["masks"]) == list(found["attention"]) == layers
    assert found["masks"]["decoder layer 1"].shape[0] == cfg.task.queries
    assert found["masks"]["encoder layer 1"].shape[0] == found["masks"]["layer 1"].shape[0] + 1
    assert all(np.isfinite(value) for value in found["statistics"].values())
