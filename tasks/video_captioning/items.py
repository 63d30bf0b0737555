"""Scores of single videos of a test, for intervals over other videos (scripts/table/items.py).

Not CIDEr, which weighs words by the corpus that is scored, nor BLEU, which counts over the whole corpus.
"""

from collections.abc import Mapping, Sequence


def item_scores(rows: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """In percent, by metric and row: whose mean is the run's metric of that name."""
    return {"exact": {str(row["video"]): 100.0 * (row["generated"] in row["references"]) for row in rows}}
