"""Scores a submission file against its ground truth, as the QVHighlights benchmark does.

    python -m scripts.evaluate_moments --submission S.jsonl --ground-truth highlight_val_release.jsonl

Prints a table and the benchmark's "brief" figures as JSON, all in percent. The test split is scored the same way, with
highlight_test_with_gt.jsonl. Data sets without saliency get the moments alone. What is usual on Charades-STA, TACoS and
ActivityNet Captions, with length ranges of one's own (the benchmark's are short, middle and long):

    python -m scripts.evaluate_moments --submission S.jsonl --ground-truth tacos_test.jsonl \
        --thresholds 0.3 0.5 0.7 --recall-at 1 5 --miou --length long 30 300 --length longest 300 inf

Likely mistakes in a file that can be scored are remarked on standard error: windows in another unit, rising scores.

Every defect of a ground truth is listed at once. --window-slack allows windows that many seconds outside their video (a
clip, unless it is given); --defects clip cuts windows and clips at the ends of their video, --defects drop leaves those
queries out. Queries that match nothing (--unmatched skip) and queries without a prediction (--missing skip) can be left
out as well. What is cut or left out is counted, also under "left_out" of --output.

A ground truth of highlights alone (rows with "label" and no windows) is scored by its protocol:

    python -m scripts.evaluate_moments --submission S.jsonl --ground-truth tvsum_val.jsonl --top 5 --positive median
    python -m scripts.evaluate_moments --submission S.jsonl --ground-truth youtube_valid.jsonl

Exit status: 0, or 2 with a message on standard error if a file cannot be scored.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.arguments import parser_for
from tasks.common.files import read_jsonl, write_json
from tasks.moment_retrieval.highlights import evaluate_labels, label_rows
from tasks.moment_retrieval.scores import LENGTHS, RATINGS, SHOWN, evaluate
from tasks.moment_retrieval.usable import POLICIES, SKIPPED, told


def tables(
    metrics: Mapping[str, Mapping], thresholds: Sequence[float] = SHOWN, recall_at: Sequence[int] = (1,)
) -> list[Table]:
    """Moment retrieval by window length and, if there is saliency, highlight detection by rating."""
    recalls = [(f"R{most}", str(float(threshold))) for most in recall_at for threshold in thresholds]
    precisions = {"mAP": "average", "mAP@0.5": "0.5", "mAP@0.75": "0.75"}
    miou = ["mIoU"] if "MR-mIoU" in metrics.get("full", ()) else []
    moments = Table("moments", title="Moment retrieval (%)", title_justify="left")
    for column in (*(f"{kind}@{threshold}" for kind, threshold in recalls), *miou, *precisions):
        moments.add_column(column, justify="right", overflow="fold")
    for name in sorted((name for name in metrics if "MR-mAP" in metrics[name]), key=lambda name: name != "full"):
        found = metrics[name]
        figures = [found[f"MR-{kind}"][threshold] for kind, threshold in recalls] + [found[f"MR-{n}"] for n in miou]
        figures += [found["MR-mAP"][key] for key in precisions.values()]
        moments.add_row(name, *(f"{figure:.2f}" for figure in figures))
    highlights = Table("positive from", title="Highlight detection (%)", title_justify="left")
    for column in ("HIT@1", "mAP"):
        highlights.add_column(column, justify="right")
    for name in (name for name in RATINGS if f"HL-min-{name}" in metrics):
        scores = metrics[f"HL-min-{name}"]
        highlights.add_row(name, f"{scores['HL-Hit1']:.2f}", f"{scores['HL-mAP']:.2f}")
    return [table for table in (moments, highlights) if table.rows]


def seconds(name: str, *bounds: str) -> tuple[float, float | None]:
    """The bounds of a --length as numbers; an end of inf is None."""
    try:
        above, up_to = map(float, bounds)
    except ValueError:
        raise ValueError(f"--length {name} needs two numbers of seconds, got {' '.join(bounds)}") from None
    return above, None if up_to == math.inf else up_to


def remarked(line: str) -> None:
    """Prints a likely mistake."""
    print(f"remark: {line}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = parser_for("evaluate_moments", __doc__)
    parser.add_argument("--submission", type=Path, required=True, help="predictions, one JSON object per line")
    parser.add_argument("--ground-truth", type=Path, required=True, help="annotations, one JSON object per line")
    parser.add_argument("--output", type=Path, help="write all metrics here, in the benchmark's JSON structure")
    parser.add_argument("--clip-length", type=float, default=2.0, help="seconds per saliency score (2)")
    parser.add_argument("--max-windows", type=int, default=10, help="predicted windows that count towards mAP (10)")
    parser.add_argument(
        "--length",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "ABOVE", "UP_TO"),
        help="a range of true window lengths in seconds (UP_TO: inf for no end), in the place of the range of that "
        "name or beside the others",
    )
    parser.add_argument(
        "--thresholds", type=float, nargs="+", default=list(SHOWN), help="IoU from which R1 counts a window (0.5 0.7)"
    )
    parser.add_argument(
        "--recall-at", type=int, nargs="+", default=[1], help="1: R1; 1 5: R5, of the first five, as well"
    )
    parser.add_argument("--miou", action="store_true", help="the mean IoU of the first windows as well")
    parser.add_argument("--window-slack", type=float, help="seconds a true window may lie outside its video (a clip)")
    parser.add_argument("--defects", choices=POLICIES, default="stop", help="of the ground truth (stop)")
    parser.add_argument("--unmatched", choices=SKIPPED, default="stop", help="queries that match nothing (stop)")
    parser.add_argument("--missing", choices=SKIPPED, default="stop", help="queries without a prediction (stop)")
    parser.add_argument("--top", type=int, help="labels: best clips that count (all)")
    parser.add_argument(
        "--positive", choices=("median", "lowest"), default="lowest", help="labels: above what a clip is a highlight"
    )
    parser.add_argument("--lowest", type=float, default=0.0, help="labels: the lowest that a rater gives (0)")
    options = parser.parse_args(arguments)
    try:
        if options.output is not None and options.output.is_dir():
            raise ValueError(f"--output must be a file, {options.output} is a folder")
        lengths = LENGTHS | {name: seconds(name, *bounds) for name, *bounds in options.length}
        submission, truth = read_jsonl(options.submission), read_jsonl(options.ground_truth)
        if options.top is not None and options.top < 1:
            raise ValueError(f"--top must be a number from 1, got {options.top}")
        labels = {"top": options.top, "positive": options.positive, "lowest": options.lowest}
        metrics = (
            evaluate_labels(submission, truth, **labels)
            if label_rows(truth)
            else evaluate(
                submission,
                truth,
                clip_length=options.clip_length,
                max_windows=options.max_windows,
                lengths=lengths,
                thresholds=options.thresholds,
                recall_at=options.recall_at,
                miou=options.miou,
                remark=remarked,
                window_slack=options.window_slack,
                defects=options.defects,
                unmatched=options.unmatched,
                missing=options.missing,
            )
        )
        if options.output is not None:
            write_json(options.output, metrics)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    console = Console()
    console = console if console.is_terminal else Console(width=200)  # a file has room for every column
    for table in tables(metrics, options.thresholds, options.recall_at):
        console.print(table)
    if "left_out" in metrics:
        print(told(metrics["left_out"], len(truth)))
    print(json.dumps({"brief": metrics["brief"]}, indent=4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
