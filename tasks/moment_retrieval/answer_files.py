"""Answers as files that other programs read, by the ending of the name:

    write_answers(Path("answers.srt"), rows)     # rows of a submission: qid, query, vid, pred_relevant_windows, ...

.jsonl: a submission file, one query per line. .json: the same rows as one list. .csv: one window per line, with its
rank. .srt: subtitles, in the order of their beginnings: while a window lasts, a player shows its query and score.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from tasks.common.cue_files import srt
from tasks.common.files import write_json, write_jsonl, write_text

ENDINGS = (".jsonl", ".json", ".csv", ".srt")
COLUMNS = ("qid", "query", "vid", "rank", "start", "end", "score")


def check_ending(path: Path) -> None:
    """DataError: an ending that no answers are written for."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: answers are written as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; name such a file.")


def write_answers(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes every window of every row. rows: windows [start, end, score] in seconds and [0, 1], best first.

    Raises DataError for another ending than ENDINGS.
    """
    check_ending(path)
    ending = path.suffix.lower()
    if ending == ".jsonl":
        write_jsonl(path, rows)
    elif ending == ".json":
        write_json(path, list(rows))
    else:
        write_text(path, table(rows) if ending == ".csv" else subtitles(rows))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a .csv file."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in rows:
        for rank, window in enumerate(row["pred_relevant_windows"], 1):
            lines.writerow([row["qid"], row["query"], row["vid"], rank, *window])
    return text.getvalue()


def subtitles(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of a .srt file."""
    cues = sorted(
        (start, end, f"{' '.join(str(row['query']).split()) or row['qid']} ({score:.2f})")
        for row in rows
        for start, end, score in row["pred_relevant_windows"]
    )
    return srt(cues)
