"""Time of caption scores beside pycocoevalcap's own calls, in turns; prints ratios, writes JSON.

    python -m scripts.benchmark captions --out docs/results/benchmark_captions_cpu.json
    python -m scripts.benchmark captions --videos 2990 --references 20     (the size of MSR-VTT's test set)

Both score the same sentences by BLEU, METEOR, ROUGE-L and CIDEr, and must agree in every bit. Parts: tokens of the
references; METEOR's start until it answers; the scores, with tokens of the captions. This project's scorer also
evaluates a second time, when references and METEOR are ready. Medians count; times are wall time, most of it in other
processes.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from scripts.benchmarks.common import about, at_least_one
from tasks.common.caption_tokens import has_java
from tasks.common.captions import CaptionScorer, Sentences
from tasks.common.meteor import METEOR

PARTS = ("references", "start", "scores")
SLOTS = (  # words for each place of "a young man plays the red guitar in the kitchen"
    "young old tall small happy tired",
    "man woman child dog cat player singer cook driver teacher",
    "plays throws cooks paints drives watches shows cleans repairs describes",
    "red big new plain wooden",
    "guitar ball meal picture car film phone table bike game",
    "in on near behind under",
    "kitchen street park studio garden stage house field room shop",
)
Turn = tuple[dict[str, float], dict[str, float]]


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--videos", type=at_least_one, default=1000)
    command.add_argument("--references", type=at_least_one, default=5, help="reference captions of each video")
    command.add_argument("--repeats", type=at_least_one, default=3)
    command.add_argument("--no-meteor", action="store_true", help="leave METEOR out, which takes most of the time")


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured."""
    if not has_java():
        raise ValueError("pycocoevalcap needs Java: install a Java runtime (Debian: default-jre-headless)")
    if arguments.videos < 2:
        raise ValueError(f"--videos {arguments.videos}: CIDEr weighs words by how many videos have them; at least 2")


def corpus(videos: int, references: int) -> tuple[dict[str, str], Sentences]:
    """One caption and `references` references per video, always the same: a video is one scene, in different words."""
    rng = random.Random(0)
    slots = [slot.split() for slot in SLOTS]

    def told(scene: list[str]) -> str:
        words = [word if rng.random() < 0.75 else rng.choice(slot) for word, slot in zip(scene, slots, strict=True)]
        young, man, plays, red, guitar, inside, kitchen = words
        subject = f"A {young} {man}" if rng.random() < 0.5 else f"A {man}"
        thing = f"the {red} {guitar}" if rng.random() < 0.5 else f"the {guitar}"
        return f"{subject} {plays} {thing} {inside} the {kitchen}" + rng.choice(["", "."])

    scenes = {f"video{number}": [rng.choice(slot) for slot in slots] for number in range(videos)}
    targets = {name: [told(scene) for _ in range(references)] for name, scene in scenes.items()}
    return {name: told(scene) for name, scene in scenes.items()}, targets


# -- turns ------------------------------------------------------------------------------------------------------------


def by_pycocoevalcap(generated: dict[str, str], references: Sentences, meteor: bool) -> Turn:
    """Seconds by part, and scores in percent."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    clock = [time.perf_counter()]
    targets = PTBTokenizer().tokenize({k: [{"caption": text} for text in texts] for k, texts in references.items()})
    clock.append(time.perf_counter())
    if meteor:
        program = Meteor()
        program._stat("a", ["a"])
    clock.append(time.perf_counter())
    found = PTBTokenizer().tokenize({name: [{"caption": text}] for name, text in generated.items()})
    values = {f"bleu_{n}": x for n, x in enumerate(Bleu(4).compute_score(targets, found, verbose=0)[0], 1)}
    if meteor:
        values["meteor"] = program.compute_score(targets, found)[0]
    values["rouge_l"] = Rouge().compute_score(targets, found)[0]
    values["cider"] = Cider().compute_score(targets, found)[0]
    clock.append(time.perf_counter())
    return between(clock, PARTS), {name: 100 * float(value) for name, value in values.items()}


def by_ours(generated: dict[str, str], references: Sentences, meteor: bool) -> Turn:
    """The same as by_pycocoevalcap, and the seconds of a second evaluation as `again`."""
    METEOR.stop()  # every turn has its own
    clock = [time.perf_counter()]
    scorer = CaptionScorer(references)
    assert scorer.tokens  # made here
    clock.append(time.perf_counter())
    if meteor:
        METEOR.score({"": ["a"]}, {"": ["a"]})
    clock.append(time.perf_counter())
    scores = scorer.score(generated, meteor=meteor)
    clock.append(time.perf_counter())
    again = scorer.score(generated, meteor=meteor)
    clock.append(time.perf_counter())
    METEOR.stop()
    if again != scores:
        raise RuntimeError(f"two evaluations of the same captions differ: {scores}, then {again}")
    return between(clock, (*PARTS, "again")), scores


def between(clock: list[float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: end - start for name, start, end in zip(names, clock[:-1], clock[1:], strict=True)}


TURNS: dict[str, Callable[[dict[str, str], Sentences, bool], Turn]] = {
    "pycocoevalcap": by_pycocoevalcap,
    "ours": by_ours,
}


# -- the benchmark ----------------------------------------------------------------------------------------------------


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    generated, references = corpus(arguments.videos, arguments.references)
    times: dict[str, list[dict[str, float]]] = {name: [] for name in TURNS}
    scores: dict[str, dict[str, float]] = {}
    for repeat in range(arguments.repeats):
        for name in list(TURNS)[:: 1 if repeat % 2 == 0 else -1]:  # either goes first equally often
            seconds, scores[name] = TURNS[name](generated, references, not arguments.no_meteor)
            times[name].append(seconds)
        if scores["ours"] != scores["pycocoevalcap"]:
            raise RuntimeError(f"the scores differ: {scores}")
    rows = [{"who": name, **medians(times[name])} for name in TURNS]
    kept = {name: getattr(arguments, name) for name in ("videos", "references", "repeats", "no_meteor")}
    result = about("cpu") | {"settings": kept, "scores": scores["ours"], "rows": rows, "ratios": ratios(*rows)}
    describe(result)
    return result


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    """Median seconds of each part, of the whole first evaluation, and of the same without METEOR's start."""
    whole = {"whole": PARTS, "without_start": ("references", "scores")}
    turns = [turn | {name: sum(turn[part] for part in parts) for name, parts in whole.items()} for turn in turns]
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def ratios(field: dict[str, Any], ours: dict[str, Any]) -> dict[str, float]:
    """This project's time divided by pycocoevalcap's."""
    return {
        "first evaluation": ours["whole"] / field["whole"],
        "first evaluation without METEOR's start": ours["without_start"] / field["without_start"],
        "later evaluation": ours["again"] / field["whole"],
        "later evaluation, pycocoevalcap without METEOR's start": ours["again"] / field["without_start"],
    }


def describe(result: dict[str, Any]) -> None:
    print("  ".join(f"{name} {value:.4f}" for name, value in result["scores"].items()))
    for row in result["rows"]:
        text = " + ".join(f"{part} {row[part]:.2f}" for part in PARTS)
        again = f"; again {row['again']:.2f}" if "again" in row else ""
        print(f"{row['who']:<15}{row['whole']:>8.2f} s = {text}{again}")
    for name, value in result["ratios"].items():
        print(f"{value:.3f} of pycocoevalcap's time: {name}")
