"""From pixels to an answer: does the whole chain of shipped commands find moments in videos that it has never seen?

    python -m scripts.studies.pixels_to_moments --work logs/pixels_to_moments \\
        --out docs/results/pixels_to_moments.json --page docs/results/pixels_to_moments.md

Writes mp4 files of handwritten digits that move (scripts/studies/moving_moments.py), trains a small CLIP on captioned
pictures of other videos (scripts/studies/small_clip.py), extracts rows with `scripts.extract_moment_features`, trains
on them with `train.py experiment=clip_moments_...` and asks every test video, as an mp4 file, for every sentence with
`MomentPredictor`. The test videos show handwriting that neither CLIP nor the model has seen. The answers are scored
beside two floors: the best answer that uses no input at all (tasks/moment_retrieval/constant.py), and a model trained
without the query. Minutes of one thread; what is there already in --work is used again.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.mini.digits import digit_images
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one
from scripts.studies.from_files import called, made_once, run_and_tell, trained_once
from scripts.studies.moving_moments import COLOURS, WORDS, Sizes, captioned, write_videos
from scripts.studies.small_clip import PROJECTION, WIDTH, save, train_clip
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.files import read_jsonl
from tasks.moment_retrieval.constant import constant_answer
from tasks.moment_retrieval.predictor import MomentPredictor
from tasks.moment_retrieval.scores import evaluate

SCORES = ("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP")
BLIND = ("R1@0.5", "R1@0.7", "mAP")  # the same, as results.json has them
EXPERIMENTS = ("clip_moments_baseline", "clip_moments_lcaam", "clip_moments_multi_lcaam")


def made_clip(work: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Trains the small CLIP; how it was made, and its share of right digits and colours on unseen handwriting."""
    clock = time.process_time()
    frames, sentences, kinds = captioned(
        chosen.pictures, digit_images("train", chosen.seed), np.random.default_rng([chosen.seed, 0xC11B])
    )
    clip = train_clip(frames, sentences, kinds, steps=chosen.clip_steps, seed=chosen.seed)
    spent = time.process_time() - clock
    save(clip, work / "small_clip")
    told = {"pictures": chosen.pictures, "steps": chosen.clip_steps, "cpu_seconds": round(spent, 1)}
    told["parameters"] = sum(values.numel() for values in clip.model.parameters())
    return told | named(clip, digit_images("val", chosen.seed), chosen.seed)


@torch.inference_mode()
def named(clip: ClipExtractor, images, seed: int, count: int = 500) -> dict[str, float]:
    """Percent of `count` pictures whose digit, and whose colour, is that of the nearest of all sentences."""
    frames, _, kinds = captioned(count, images, np.random.default_rng([seed, 0x7E57]))
    every = [f"a {colour} {digit} is on the screen" for digit in WORDS for colour in COLOURS]
    tokens = clip.tokenizer(every, padding=True, return_tensors="pt")
    found = clip.model(pixel_values=clip.prepared(list(frames)), **tokens).logits_per_image.argmax(1).numpy()
    digit, colour = (found // len(COLOURS), found % len(COLOURS))
    true = np.array(kinds)
    right = {"digit": digit == true // len(COLOURS), "colour": colour == true % len(COLOURS)}
    return {f"{name}_right": round(100 * float(values.mean()), 1) for name, values in right.items()}


def made(work: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Videos, CLIP and rows in `work`, once; how they were made."""
    settings = {name: getattr(chosen, name) for name in ("videos", "seed", "pictures", "clip_steps")}

    def make() -> dict[str, Any]:
        clock = time.process_time()
        counts = write_videos(work / "data", Sizes(*chosen.videos), chosen.seed)
        told = {"queries": counts, "videos_cpu_seconds": round(time.process_time() - clock, 1)}
        told["clip"] = made_clip(work, chosen)
        files = [work / "data" / f"{split}.jsonl" for split in counts]
        told["extraction"], spent = called(
            "-m", "scripts.extract_moment_features", work / "data/videos", work / "data", "--clip", work / "small_clip",
            "--queries", *files,
        )  # fmt: skip
        return told | {"extraction_cpu_seconds": round(spent, 1)}

    return made_once(work, settings, make)


def trained(work: Path, experiment: str, seed: int) -> dict[str, Any]:
    """One run of train.py on the extracted rows: its command, folder and floors."""
    return trained_once(
        work / "runs" / f"{experiment}_{seed}", f"experiment={experiment}", "scale=mini", f"data.root={work / 'data'}",
        "data.max_clips=24", f"data.video_streams.clip_features.dim={PROJECTION}", f"data.text_stream.dim={WIDTH}",
        f"seed={seed}", f"paths.data_dir={work}",
    )  # fmt: skip


def asked(folder: Path, run: Path, clip: Path, truth: list[dict[str, Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Scores of `mp4 + sentence -> windows` for every test query, and what was noticed on the way."""
    predictor = MomentPredictor(run / "checkpoints/last.ckpt", clip)
    videos = list(dict.fromkeys(row["vid"] for row in truth))
    rows, clock = [], time.process_time()
    for vid in videos:
        about = [row for row in truth if row["vid"] == vid]
        found = predictor.predict(folder / "videos" / f"{vid}.mp4", [row["query"] for row in about])
        rows += [
            {"qid": row["qid"], "query": row["query"], "vid": vid, "pred_relevant_windows": answer["windows"]}
            for row, answer in zip(about, found, strict=True)
        ]
    spent = (time.process_time() - clock) / len(videos)
    windows = [window for row in rows for window in row["pred_relevant_windows"]]
    by_training = {row["qid"]: row["pred_relevant_windows"][0] for row in read_jsonl(run / "predictions/test.jsonl")}
    same = [row["pred_relevant_windows"][0][:2] == by_training[row["qid"]][:2] for row in rows]
    noticed = {
        "cpu_seconds_per_video": round(spent, 2),
        "first_window_as_in_training": round(100 * float(np.mean(same)), 1),
        "windows_without_length": sum(end <= start for start, end, _ in windows),
    }
    return scored(rows, truth), noticed


def scored(rows: list[dict[str, Any]], truth: list[dict[str, Any]]) -> dict[str, float]:
    brief = evaluate(rows, truth)["brief"]
    return {name.removeprefix("MR-full-"): brief[name] for name in SCORES}


def floor(work: Path, truth: list[dict[str, Any]], windows: int = 10) -> dict[str, float]:
    """The best answer that uses no input: its windows are chosen on the training annotations."""
    answer = constant_answer(list(read_jsonl(work / "data/train.jsonl")), {"clips": 24, "clip_length": 2.0}, windows)
    rows = [{name: row[name] for name in ("qid", "query", "vid")} | answer(row) for row in truth]
    return scored([{key: row[key] for key in row if key != "pred_saliency_scores"} for row in rows], truth)


def study(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order; the result as it is written."""
    told = made(chosen.work, chosen)
    truth = list(read_jsonl(chosen.work / "data/test.jsonl"))
    rows = [{"answer": "constant: no input", "scores": floor(chosen.work, truth)}]
    for experiment in chosen.experiments:
        for seed in range(chosen.seeds):
            run = trained(chosen.work, experiment, seed)
            if len(rows) == 1:
                blind = run["results"]["floors"]["input_blind"]
                rows.append({"answer": "a model without the query", "scores": {name: blind[name] for name in BLIND}})
            scores, noticed = asked(chosen.work / "data", run["folder"], chosen.work / "small_clip", truth)
            row = {"answer": f"{experiment}, seed {seed}", "scores": scores, **noticed}
            rows.append(row | {key: run[key] for key in ("command", "cpu_seconds")})
            print(row["answer"], scores, run["folder"] / "checkpoints/last.ckpt", flush=True)
    return {**told, "test_queries": len(truth), "test_videos": len({row["vid"] for row in truth}), "rows": rows}


def table(result: dict[str, Any]) -> str:
    """The page's text between its marks."""
    clip = result["clip"]
    lines = [
        f"    {result['command']}",
        "",
        f"The small CLIP has {clip['parameters']:,} parameters and was trained for {clip['steps']} steps on "
        f"{clip['pictures']:,} pictures, {clip['cpu_seconds']:.0f} seconds of CPU. On pictures of unseen handwriting, "
        f"{clip['digit_right']:.1f} % of its digits and {clip['colour_right']:.1f} % of its colours are right.",
        "",
        f"Scores are percent, of {result['test_queries']} queries to {result['test_videos']} unseen videos.",
        "",
        f"| answer | {' | '.join(BLIND)} | CPU seconds of training |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        numbers = " | ".join(f"{row['scores'][name]:.2f}" for name in BLIND)
        lines.append(f"| {row['answer']} | {numbers} | {row.get('cpu_seconds', '')} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    parser = parser_for("studies.pixels_to_moments", __doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder of everything that is made; new, or this one's"
    )
    parser.add_argument("--videos", type=int, nargs=3, default=[300, 20, 80], metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--pictures", type=at_least_one, default=12_000, help="captioned pictures for CLIP (12000)")
    parser.add_argument("--clip-steps", type=at_least_one, default=800, help="training steps of CLIP (800)")
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS[:2]), choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=at_least_one, default=1, help="runs of each experiment (1)")
    parser.add_argument("--seed", type=int, default=2, help="what the videos contain (2)")
    run_and_tell("pixels_to_moments", study, table, parser, given)


if __name__ == "__main__":
    main()
