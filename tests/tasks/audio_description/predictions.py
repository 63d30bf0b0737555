"""Files of predictions, and what the evaluation says about them."""

import csv
import json
from pathlib import Path

from scripts.evaluate_descriptions import main
from tests.tasks.audio_description.test_scorers import some_sentences

ROOT = Path(__file__).resolve().parents[3]
HEADER = ("movie", "start", "end", "text_gt", "text_gen")
FAST = ("--metrics", "rouge_l")  # METEOR takes ten seconds to start


def table(lengths=(16, 20), seed=0):
    """Rows of HEADER; the right answer in half of the rows."""
    sentences = iter(some_sentences(2 * sum(lengths), seed=seed))
    return [
        [f"00{m}0", 2.5 * i, 2.5 * i + 2, reference := next(sentences), reference if i % 2 else next(sentences)]
        for m, length in enumerate(lengths)
        for i in range(length)
    ]


def write(path, rows, header=HEADER, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows([header, *rows])
    return path


def as_rows(rows):
    names = ("movie", "start", "end", "reference", "generated")
    return [dict(zip(names, row, strict=True)) for row in rows]


def score(path, *options):
    """The JSON of a run that must succeed."""
    out = path.parent / "new" / "scores.json"
    assert main(["--predictions", str(path), "--json", str(out), *options]) == 0
    return json.loads(out.read_text())


def refused(capsys, path, *options):
    """What the command says, in one line on standard error."""
    assert main(["--predictions", str(path), *FAST, *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    assert printed.err.startswith("python -m scripts.evaluate_descriptions: ") and printed.err.count("\n") == 1
    return printed.err


# -- scores -----------------------------------------------------------------------------------------------------------
