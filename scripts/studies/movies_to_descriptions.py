"""From movie files to descriptions: does the whole chain of shipped commands describe movies it has never seen?

    python -m scripts.studies.movies_to_descriptions --work logs/movies_to_descriptions \\
        --out docs/results/movies_to_descriptions.json --page docs/results/movies_to_descriptions.md

Writes mp4 files of two minutes with picture, sound, dialogue and subtitles (scripts/studies/described_movies.py),
trains a small CLIP on captioned pictures of other movies (scripts/studies/small_clip.py), makes the features with
`scripts.prepare_movies`, trains on them with `train.py data=movies` and describes each test movie from its mp4 and its
subtitles with `scripts.describe`. The test movies show handwriting that neither CLIP nor the model has seen. The
sentences are scored beside two floors: the best sentence that reads no input, and a model that was trained without it.
About six minutes of one thread; what is there already in --work is used again.
"""

import argparse
import csv
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datamodules.audio_description.cues import read_cues
from datamodules.mini.digits import WORDS, digit_images
from scripts import describe
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one
from scripts.evaluate_descriptions import caption_scores
from scripts.studies.described_movies import Sizes, captioned, write_movies
from scripts.studies.from_files import called, made_once, run_and_tell, trained_once
from scripts.studies.small_clip import PROJECTION, save, train_clip
from tasks.common.captions import best_constant
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.files import read_jsonl

EXPERIMENTS = ("madv2_baseline", "madv2_lcaam", "madv2_multi_lcaam")
SHOWN = ("rouge_l", "cider", "exact", "words")
SOUND = ("--sound-rate", 8000, "--sound-frames", 4, "--sound-bands", 16)
SOUND_WIDTH = 64
TOLERANCE = 0.005  # seconds, of times in milliseconds


def made_clip(work: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Trains the small CLIP; how it was made, and its share of right digits on unseen handwriting."""
    clock = time.process_time()
    rng = np.random.default_rng([chosen.seed, 0xC11B])
    frames, sentences, kinds = captioned(chosen.pictures, digit_images("train", chosen.seed), rng)
    clip = train_clip(frames, sentences, kinds, steps=chosen.clip_steps, seed=chosen.seed)
    spent = time.process_time() - clock
    save(clip, work / "small_clip")
    told = {"pictures": chosen.pictures, "steps": chosen.clip_steps, "cpu_seconds": round(spent, 1)}
    return told | {"digit_right": digits_right(clip, chosen.seed)}


@torch.inference_mode()
def digits_right(clip: ClipExtractor, seed: int, count: int = 500) -> float:
    """Percent of `count` pictures whose digit is that of the nearest of all sentences."""
    frames, _, digits = captioned(count, digit_images("val", seed), np.random.default_rng([seed, 0x7E57]))
    tokens = clip.tokenizer([f"{digit} shows" for digit in WORDS], padding=True, return_tensors="pt")
    found = clip.model(pixel_values=clip.prepared(list(frames)), **tokens).logits_per_image.argmax(1).numpy()
    return round(100 * float((found == np.array(digits)).mean()), 1)


def made(work: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Movies, CLIP and features in `work`, once; how they were made."""
    settings = {name: getattr(chosen, name) for name in ("movies", "rows", "seed", "pictures", "clip_steps")}

    def make() -> dict[str, Any]:
        clock = time.process_time()
        names = write_movies(work, Sizes(*chosen.movies, rows=chosen.rows), chosen.seed)
        told = {"test": names["test"], "movies_cpu_seconds": round(time.process_time() - clock, 1)}
        told["clip"] = made_clip(work, chosen)
        told["preparation"], spent = called(
            "-m", "scripts.prepare_movies", work / "movies", work / "data", "--descriptions", work / "descriptions",
            "--subtitles", work / "subtitles", "--clip", work / "small_clip", *SOUND, "--val", *names["val"],
            "--test", *names["test"],
        )  # fmt: skip
        return told | {"preparation_cpu_seconds": round(spent, 1)}

    return made_once(work, settings, make)


def trained(work: Path, experiment: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """One run of train.py on the features: its command, folder and floors."""
    return trained_once(
        work / "runs" / f"{experiment}_{seed}", f"experiment={experiment}", "data=movies", "scale=mini",
        f"data.root={work / 'data'}", f"data.video_dim={PROJECTION}", f"data.audio_dim={SOUND_WIDTH}",
        f"trainer.max_steps={chosen.steps}", "trainer.val_check_interval=200",
        f"floors.max_steps={chosen.steps // 4}", f"seed={seed}", f"paths.data_dir={work}",
    )  # fmt: skip


def described(work: Path, run: Path, names: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The sentences of `scripts.describe` for the test movies, beside the true ones, and what was noticed."""
    out, clock = run / "described", time.process_time()
    for name in names:
        words = [
            work / f"movies/{name}.mp4", "--subtitles", work / f"subtitles/{name}.srt", "--checkpoint", run,
            "--clip", work / "small_clip", "--output", out / f"{name}.csv", "--device", "cpu",
        ]  # fmt: skip
        describe.main([str(word) for word in words])  # here: the start of a program would cost more than a movie
    spent = (time.process_time() - clock) / len(names)
    rows = [row for name in names for row in read_rows(out / f"{name}.csv")]
    found, missing = [], 0
    for truth in read_jsonl(run / "predictions/test.jsonl"):
        own = [row for row in rows if row["movie"] == truth["movie"] and same_time(row, truth)]
        missing += len(own) != 1
        found.append({**truth, "by_training": truth["generated"], "generated": own[0]["text"] if own else ""})
    equal = [row["generated"] == row["by_training"] for row in found]
    return found, {
        "describe": shlex.join(["python", "-m", "scripts.describe", *map(str, words)]),
        "cpu_seconds_per_movie": round(spent, 1),
        "descriptions": len(rows),
        "scenes_without_one": missing,
        "over_dialogue": sum(over_dialogue(work, row) for row in rows),
        "too_long": sum(row["note"] != "" for row in rows),
        "as_in_training": round(100 * float(np.mean(equal)), 1),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {**row, "start": float(row["start"]), "end": float(row["end"]), "text": row["text_gen"]}
            for row in csv.DictReader(file)
        ]


def same_time(row: dict[str, Any], truth: dict[str, Any]) -> bool:
    return all(abs(row[name] - truth[name]) < TOLERANCE for name in ("start", "end"))


def over_dialogue(work: Path, row: dict[str, Any]) -> bool:
    """Whether a description is spoken while somebody speaks."""
    cues = read_cues(work / f"subtitles/{row['movie']}.srt").cues
    return any(row["start"] < cue.end and row["end"] > cue.start for cue in cues)


def scored(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """In percent; words: of the two sounds and two digits of a sentence, those that are right at their place."""
    scores = caption_scores(rows, SHOWN[:2])
    shown = {name: scores.get(name, scores.get(f"{name}_plain")) for name in SHOWN[:3]}
    return {name: round(value, 2) for name, value in (shown | {"words": words_right(rows)}).items()}


def words_right(rows: Sequence[dict[str, Any]]) -> float:
    """Percent of the numbers of all sentences that are right at their place."""
    pairs = [(said(row["reference"]), said(row["generated"])) for row in rows]
    right = [one == other for true, found in pairs for one, other in zip(true, [*found, *4 * [""]], strict=False)]
    return 100 * float(np.mean(right))


def said(sentence: str) -> list[str]:
    """The numbers that a sentence names, in order."""
    return [word for word in sentence.lower().replace(",", " ").replace(".", " ").split() if word in WORDS]


def study(chosen: argparse.Namespace) -> dict[str, Any]:
    """Everything, in order; the result as it is written."""
    told, rows = made(chosen.work, chosen), []
    for experiment in chosen.experiments:
        for seed in range(chosen.seeds):
            run = trained(chosen.work, experiment, seed, chosen)
            found, noticed = described(chosen.work, run["folder"], told["test"])
            if not rows:
                rows += floors(chosen.work, found, run["results"]["floors"])
            row = {"answer": f"{experiment}, seed {seed}", "scores": scored(found), **noticed}
            rows.append(row | {key: run[key] for key in ("command", "cpu_seconds")})
            print(row["answer"], row["scores"], run["folder"] / "checkpoints/last.ckpt", flush=True)
    example = [{key: one[key] for key in ("movie", "start", "end", "reference", "generated")} for one in found[:3]]
    return {**told, "scenes": len(found), "rows": rows, "examples": example}


def floors(work: Path, found: Sequence[dict[str, Any]], recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The constant sentence, chosen on the training sentences, and the scores of the input-blind model of the run."""
    names = set(json.loads((work / "data/split.json").read_text(encoding="utf-8"))["TRAIN"])
    with (work / "data/descriptions.csv").open(newline="", encoding="utf-8") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["movie"] in names]
    constant = best_constant(texts, candidates=60, references=200)
    blind = recorded["input_blind"]
    shown = {name: round(blind.get(name, blind.get(f"{name}_plain")), 2) for name in SHOWN[:3]}
    return [
        {"answer": "constant: no input", "scores": scored([{**row, "generated": constant} for row in found])},
        {"answer": "a model without input", "scores": shown},
    ]


def table(result: dict[str, Any]) -> str:
    """The page's text between its marks."""
    clip, last = result["clip"], result["rows"][-1]
    lines = [
        f"    {result['command']}",
        "",
        f"{result['scenes']} scenes of {len(result['test'])} unseen movies, scores in percent. CPU seconds: "
        f"{result['movies_cpu_seconds']:.0f} for the movies, {clip['cpu_seconds']:.0f} for CLIP "
        f"({clip['digit_right']:.1f} % of unseen digits right), {result['preparation_cpu_seconds']:.0f} for features.",
        "",
        "| answer | ROUGE-L | CIDEr | exact | words | over dialogue | CPU seconds of training |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        numbers = " | ".join(f"{row['scores'][name]:.2f}" if name in row["scores"] else "" for name in SHOWN)
        lines.append(f"| {row['answer']} | {numbers} | {row.get('over_dialogue', '')} | {row.get('cpu_seconds', '')} |")
    lines += [
        "",
        f"Of the last row: {last['descriptions']} descriptions, {last['scenes_without_one']} scenes without one, "
        f"{last['as_in_training']:.1f} % of the sentences equal to those of the run's own test, "
        f"{last['cpu_seconds_per_movie']:.1f} seconds of CPU per movie.",
        "",
        "| time | what happens | what `describe` says |",
        "|---|---|---|",
    ]
    for one in result["examples"]:
        lines.append(f"| {one['start']:.2f} to {one['end']:.2f} s | {one['reference']} | {one['generated']} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else arguments
    parser = parser_for("studies.movies_to_descriptions", __doc__)
    add = parser.add_argument
    add("--work", type=Path, required=True, help="folder of everything that is made; new, or this one's")
    add("--movies", type=int, nargs=3, default=[48, 1, 6], metavar=("TRAIN", "VAL", "TEST"), help="48 1 6")
    add("--rows", type=at_least_one, default=600, help="length of a movie in rows of 0.2 s (600)")
    add("--pictures", type=at_least_one, default=6_000, help="captioned pictures for CLIP (6000)")
    add("--clip-steps", type=at_least_one, default=300, help="training steps of CLIP (300)")
    add("--steps", type=at_least_one, default=800, help="training steps of the describer (800)")
    add("--experiments", nargs="+", default=list(EXPERIMENTS[:2]), choices=EXPERIMENTS)
    add("--seeds", type=at_least_one, default=1, help="runs of each experiment (1)")
    add("--seed", type=int, default=2, help="what the movies contain (2)")
    run_and_tell("movies_to_descriptions", study, table, parser, given)


if __name__ == "__main__":
    main()
