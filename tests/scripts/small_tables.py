"""Tables of invented runs whose folders are written as a run writes them, for the tests of the report."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datamodules.image_classification.mini.generator import MiniSettings, mini_folder
from lcaam import Encoder, LayerMasks
from lcaam.analysis import record
from scripts.table.summary import Contrast, Explanation, Reached, Row, Table
from tasks.common.layer_data import arrays_of, described, of_samples

HOSTILE = '</script><script>window.bad=1</script><img src=x onerror="window.bad=1"> & %{y} <b>"'
VERSIONS = {"python": "3.11.7", "torch": "2.14.1"}
MINI = dict(train_images=10, val_images=0, test_images=10, image_size=24, grid=1, digits=1, min_side=8, max_side=12,
            contrast=0.5, noise=0.0)  # fmt: skip
TASKS = {
    "audio_description": {"ann_id": "a{}", "movie": "m1", "start": 1.5, "end": 3.0, "reference": "Key one sounds {}."},
    "moment_retrieval": {"qid": 1, "query": "the digit {} appears", "vid": "v1", "relevant_windows": [[6, 12]]},
    "image_classification": {"name": "d0/00000{}.png", "label": 0},
    "video_captioning": {"video": "video{}", "references": ["a two rises {}", "the two moves up"]},
}
ANSWERS = {
    "audio_description": {"generated": f"Key two sounds {HOSTILE}"},
    "moment_retrieval": {"pred_relevant_windows": [[4.0, 10.0, 0.9], [20.0, 28.0, 0.2]], "pred_saliency_scores": [0.1]},
    "image_classification": {"predicted": 3, "top5": [3, 0], "probability": 0.25},
    "video_captioning": {"generated": "a two rises"},
}


def items(task: str, number: int) -> list[dict[str, Any]]:
    """Rows of predictions/test.jsonl; numbers instead of {}."""
    rows = []
    for i in range(number):
        asked = json.loads(json.dumps(TASKS[task]).replace("{}", str(i)))
        rows.append(asked | ({"qid": i} if "qid" in asked else {}) | ANSWERS[task])
    return rows


def run_folder(
    place: Path,
    task: str,
    seed: int,
    metrics: dict[str, float],
    scope: str = "none",
    fusion: str = "mul",
    **changes: Any,
) -> dict[str, Any]:
    """A run's folder below `place` and its record. changes: record fields; `kept=False` writes no other file."""
    kept = changes.pop("kept", True)
    folder = place / f"{scope}-{fusion}-{len(list(place.iterdir())) if place.is_dir() else 0}" / f"seed{seed}"
    (folder / "predictions").mkdir(parents=True)
    run = {
        "format": 1,
        "status": "completed",
        "experiment": f"own_{scope}",
        "scale": "mini",
        "seed": seed,
        "mask": {"scope": scope, "fusion": fusion, "depth": 3, "control": "none"},
        "data": {"root": str(place / "data"), "name": "a set", "seed": 1, "mini": MINI},
        "places": ["root"],
        "task": {"_target_": f"tasks.{task}.module.Own"},
        "trainer": {"max_steps": 40},
        "metrics": metrics,
        "floors": {"constant": dict.fromkeys(metrics, 1.0), "ceiling": dict.fromkeys(metrics, 90.0)},
        "analysis": {} if scope == "none" else {"layer 1/sign_flips": 0.25, "layer 2/context_sensitivity": 0.5},
        "paper": {},
        "parameters": {"encoder": 1000, "masks": 234, "controls": 0},
        "flops": 13_045_248,
        "seconds": {"fit": 70.0 + seed, "total": 90.0},
        "peak_memory": {"process": 1_500_000_000},
        "tested": "last",
        "versions": VERSIONS,
        "git": {"commit": "1a2b3c4d5e6f", "dirty": False},
        "command": f"python train.py experiment=own_{scope} seed={seed}",
        "started": f"2026-01-0{1 + seed}T00:00:00+00:00",
        "identity": f"{seed:016x}",
        "wandb": f"wb{seed}{scope}",
    } | changes
    (folder / "results.json").write_text(json.dumps(run))
    if kept:
        write_curves(folder, seed, masked=scope != "none")
        write_masks(folder, task, scope, fusion, seed)
        rows = items(task, 4)
        (folder / "predictions" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run | {"folder": folder}


def write_curves(folder: Path, seed: int, masked: bool) -> None:
    names = "masks/layer 1/context_sensitivity,masks/layer 1/sign_flips,masks/layer 10/sign_flips"
    lines = [f"epoch,step,train/loss_step,val/loss,val/exact,{names}"]
    for step in (9, 19, 29, 39):
        lines.append(f"0,{step},{4 - step / 20 + seed},,,,,")
        own = f"{step / 100},{seed / 10},0.5" if masked else ",,"
        lines.append(f"0,{step},,{3 - step / 20 + seed},{step + seed},{own}")
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")


def write_masks(folder: Path, task: str, scope: str, fusion: str, seed: int) -> None:
    torch.manual_seed(seed)
    masks = None if scope == "none" else LayerMasks(scope, 2, dim=8, num_keys=6, init="default", fusion=fusion)
    encoder = Encoder(8, 2, 2, 16, **({} if masks is None else {"masks": masks, "fusion": fusion}))
    with torch.no_grad(), record(encoder) as calls:
        encoder(torch.randn(4, 6, 8))
    records = {f"layer {number + 1}": call for number, call in enumerate(calls)}
    tokens = {"boundaries": [3], "labels": ["visual", "audio"]}
    save(folder, "layers.npz", {**described(records, tokens), **arrays_of(records)})
    if masks is not None:
        name = next(iter(TASKS[task]))
        ids = np.array([str(row[name]) for row in items(task, 2)])
        found = {
            f"mask {i}": of_samples(replace(r, weights=r.weights[:2], mask=r.mask[:2]))
            for i, r in enumerate(records.values())
        }
        save(folder, "samples.npz", {"ids": ids, **described(records, {}), **found})


def save(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    (folder / "analysis").mkdir(exist_ok=True)
    (folder / "analysis" / name).write_bytes(file.getvalue())


def write_picture(place: Path) -> Path:
    """The generated image of the first item of image classification."""
    path = mini_folder(place / "data", MiniSettings(**MINI), 1) / "test" / "d0" / "000000.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(path)
    return path


def row(label: str, runs: list[dict[str, Any]], expected: int | None = None, **changes: Any) -> Row:
    seeds = list(range(expected or len(runs)))
    found = {run["seed"]: run for run in runs}
    missing = {seed: "failed: killed by SIGKILL" for seed in seeds if seed not in found}
    own = {"label": label, "settings": "0" * 16, "overrides": [], "expected": seeds, "runs": found, "missing": missing}
    return Row(**{**own, **changes})


def table(name: str, task: str, rows: list[Row], metrics: list[str], **changes: Any) -> Table:
    own = {
        "name": name, "question": f"Does the mask help in {name}?", "scale": "mini", "task": task, "metrics": metrics,
        "primary": metrics[0], "higher_is_better": True, "baseline": rows[0].label, "rows": rows, "contrasts": [],
        "floors": {"constant": dict.fromkeys(metrics, 1.5), "ceiling": {metrics[0]: 81.25}}, "figure": None,
        "command": f"python -m scripts.table {name}", "commits": ["1a2b3c4"], "versions": [VERSIONS], "remarks": [],
    }  # fmt: skip
    return Table(**{**own, **changes})


def contrast(**changes: Any) -> Contrast:
    own = {
        "row": "Multi-LCAAM", "against": "none", "metric": "exact", "n": 4, "differences": [1.0, 2.0, 3.0, 4.0],
        "mean": 2.5, "interval": (0.4457, 4.5543), "p_sign_flip": 0.125, "p_t": 0.0305, "p_adjusted": 0.125,
        "role": "primary", "margin": 3.0, "verdict": "not resolved",
    }  # fmt: skip
    return Contrast(**{**own, **changes})


def shipped(place: Path) -> list[Table]:
    """Four tables, one per task, with everything that the report shows."""
    task = "audio_description"
    plain = [run_folder(place, task, s, {"exact": 50.0 + s, "cider": 700.0 + s}) for s in range(4)]
    masked = [
        run_folder(place, task, s, {"exact": v, "cider": 690.0}, "per_layer")
        for s, v in enumerate((44.25, 51.5, 20.75))
    ]
    other = [
        run_folder(place, task, 0, {"exact": 41.0, "cider": 2.0}, kept=False),
        {"seed": 1, "metrics": {"exact": 42.0}, "folder": None, "source": "docs/results/own.csv", "mask": {},
         "seconds": {"fit": 3.0}, "parameters": {}},
    ]  # fmt: skip
    describing = [
        row("none", plain),
        row("Multi-LCAAM", masked, expected=4, published={"cider": "18.56 ± 0.2"}),
        row(f"other {HOSTILE}", other),
    ]
    contrasts = [contrast(), contrast(metric="cider", role="exploratory", interval=None, margin=None, p_t=None)]
    rungs = [Reached("none", 4, -2.5, (-4.5543, -0.4457), 0.24, False)]
    explained = [Explanation("Multi-LCAAM", "none", "not resolved", rungs, ["Multi-LCAAM"])]
    found = [
        table("table1a", task, describing, ["exact", "cider"], contrasts=contrasts, explanations=explained,
              commits=["1a2b3c4", "5d6e7f8"], remarks=["Runs of 2 states of the code: 1a2b3c4, 5d6e7f8."]),
    ]  # fmt: skip
    depths = [row("none", [run_folder(place, "moment_retrieval", s, {"mAP": 20.0 + s}) for s in (0, 1)])]
    for fusion in ("add", "mul"):
        for depth in (1, 2, 32):
            kept = depth == 1  # the others are as good as old runs: fewer figures, which take a browser's time
            runs = [
                run_folder(place, "moment_retrieval", s, {"mAP": depth + s}, "shared", fusion, kept=kept)
                for s in (0, 1)
            ]
            overrides = ["experiment=own", f"mask.depth={depth}", f"mask.fusion={fusion}"]
            depths.append(row(f"depth {depth} {fusion}", runs, overrides=overrides))
    figure = {"x": "mask.depth", "y": "mAP", "by": "mask.fusion", "scale": "log"}
    found.append(table("figure_s4", "moment_retrieval", depths, ["mAP"], figure=figure))
    write_picture(place)
    images = [
        row(f"{f}", [run_folder(place, "image_classification", 0, {"top1": 100 * f}, "per_layer", "add")],
            overrides=[f"data.fraction={f}"])
        for f in (0.1, 1.0)
    ]  # fmt: skip
    found.append(table("table5", "image_classification", images, ["top1"], figure={"x": "data.fraction", "y": "top1"}))
    words = [row("gate", [run_folder(place, "video_captioning", 0, {"cider": 12.5}, "per_layer", "gate")])]
    return [*found, table("table1d", "video_captioning", words, ["cider"])]
