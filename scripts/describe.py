"""Describes a movie of your own in the gaps between its dialogue: a video file in, sentences with times out.

    python -m scripts.describe movie.mp4 --subtitles movie.srt --checkpoint logs/... --output movie.vtt \\
        --clip openai/clip-vit-base-patch32
    python -m scripts.describe movie.mp4 --gaps gaps.csv --checkpoint logs/... --clip path/to/clip --output movie.csv
    python -m scripts.describe --video-rows clip.npy --audio-rows openl3.npy --checkpoint logs/... \\
        --subtitles movie.srt --output movie.srt

--checkpoint: a checkpoint, or the folder of a run (its last.ckpt). Pictures and sound become the rows that the training
read: --clip is the CLIP model of the training's features, and how sound is read is in the checkpoint, if the features
are those of `python -m scripts.prepare_movies`. Rows that were made elsewhere are given as .npy files.

--subtitles (.srt or .vtt) says where somebody speaks; gaps are between, --margin seconds away. --gaps names windows
instead (csv with the columns start and end, or .srt, .vtt). Without both, the whole movie is cut into windows. Times
are seconds after the first picture. A text that has more words than --words-per-second allows is kept and noted,
shortened or left out (--too-long).

--output is written as WebVTT (.vtt), SubRip (.srt) or a table (.csv), by its ending; without it the descriptions are
printed. If the movie turns out to be damaged, or Ctrl-C stops the command, what was described before is written to
OUTPUT.partial.vtt (or .srt, .csv).
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import configs  # noqa: F401  (registers the resolvers that a saved configuration may use)
from datamodules.audio_description.gaps import GapRules
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one
from tasks.audio_description.describer import AudioDescriber, Description, Plan
from tasks.audio_description.description_files import check_output, write_descriptions
from tasks.audio_description.fitting import TOO_LONG
from tasks.common.cue_files import clock
from tasks.common.errors import CheckpointError


def run(chosen: argparse.Namespace, console: Console) -> list[Description]:
    """Describes, writes what was asked for and returns the descriptions."""
    inputs = [chosen.movie, chosen.subtitles, chosen.gaps, chosen.video_rows, chosen.audio_rows]
    read = [path for path in inputs if path is not None]
    for path in read:
        if not path.is_file():  # a language model may take a minute to load
            raise DataError(f"{path}: there is no such file.")
    if chosen.output:
        check_output(chosen.output, read)
    decoding = {name: getattr(chosen, name) for name in ("num_beams", "max_new_tokens")}
    describer = AudioDescriber(
        chosen.checkpoint, chosen.clip, device=chosen.device, llm=chosen.llm,
        **{name: value for name, value in decoding.items() if value is not None},
    )  # fmt: skip
    given = {field.name: getattr(chosen, field.name) for field in fields(GapRules)}
    rules = GapRules(**{"longest": describer.longest} | {name: v for name, v in given.items() if v is not None})
    plan = describer.plan(
        chosen.movie, subtitles=chosen.subtitles, gaps=chosen.gaps, rules=rules, ignore_sounds=chosen.ignore_sounds,
        video_rows=chosen.video_rows, audio_rows=chosen.audio_rows,
    )  # fmt: skip
    for note in plan.notes:
        console.print(note, soft_wrap=True, highlight=False)
    found: list[Description] = []
    try:
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("describing", total=plan.windows[-1][1])
            for one in describer.carry_out(plan, batch_size=chosen.batch_size, too_long=chosen.too_long):
                found.append(one)
                said = f"{clock(one.end)[:8]} of {clock(plan.duration)[:8]}"
                bar.update(task, completed=one.end, description=said)
    except (KeyboardInterrupt, DataError) as error:
        why = str(error) or "stopped."
        if chosen.output and found:
            part = chosen.output.with_suffix(f".partial{chosen.output.suffix}")
            write_descriptions(part, plan.name, found, plan.notes)
            why += f"\nThe {len(found)} descriptions up to {clock(found[-1].end, '.')} are in {part}."
        sys.exit(why)
    if chosen.output:
        write_descriptions(chosen.output, plan.name, found, plan.notes)
    console.print(closing(plan, found), soft_wrap=True, highlight=False)
    return found


def closing(plan: Plan, found: list[Description]) -> str:
    """What was done, in words."""
    told = f"{len(found)} descriptions in {len(plan.windows)} windows"
    for note in ("too long", "shortened"):
        if count := sum(one.note == note for one in found):
            told += f"; {note} for {plan.rules.words_per_second:.2f} words per second: {count}"
    if left := len(plan.windows) - len(found):
        told += f"; nothing to speak in {left} windows"
    return f"{told}."


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("describe", __doc__)
    add = parser.add_argument
    add("movie", nargs="?", type=Path, help="a video file; may be left out if its rows are given")
    add("--checkpoint", type=Path, required=True, help="a checkpoint, or the folder of a run")
    add("--clip", metavar="FOLDER_OR_NAME", help="the CLIP model of the training's features")
    add("--subtitles", type=Path, help="dialogue of the movie: .srt or .vtt")
    add("--gaps", type=Path, help="windows to describe, instead: csv with start and end, .srt or .vtt")
    add("--output", type=Path, help="descriptions: .vtt, .srt or .csv")
    add("--shortest", type=float, help="seconds of a gap at least (1)")
    add("--longest", type=float, help="seconds of a window at most; default: what the model's tokens span (5)")
    add("--margin", type=float, help="seconds between dialogue and description (0.2)")
    add("--words-per-second", type=float, help="what can be spoken (2.67: 160 words in a minute)")
    add("--too-long", choices=TOO_LONG, default="keep", help="texts of more words: keep and note (default), ...")
    add("--ignore-sounds", action="store_true", help="cues such as [door slams] are not taken for dialogue")
    add("--video-rows", type=Path, help="picture rows of the movie, .npy (rows, width), instead of --clip")
    add("--audio-rows", type=Path, help="sound rows of the movie, .npy (rows, width)")
    add("--llm", metavar="FOLDER_OR_NAME", help="where a frozen language model is now, if it was moved")
    add("--num-beams", type=at_least_one, help="sentences followed at a time (1: greedy); default: the run's")
    add("--max-new-tokens", type=at_least_one, help="tokens of a description at most; default: the run's")
    add("--batch-size", type=at_least_one, default=8, help="windows at a time (8)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, ...")
    chosen = parser.parse_args(arguments)
    try:
        found = run(chosen, Console(stderr=True))
    except KeyboardInterrupt:
        sys.exit("stopped before anything was described.")
    except (DataError, CheckpointError, ValueError, OSError) as error:
        sys.exit(str(error))
    if chosen.output is None:
        for one in found:
            print(f"{clock(one.start, '.')} --> {clock(one.end, '.')}  {one.text}")


if __name__ == "__main__":
    main()
