"""Scores of single sentences of a test, for intervals over other sentences (scripts/table/items.py).

CIDEr and ROUGE-L of a corpus are not here: CIDEr weighs words by the corpus that is scored, R@k/N compares neighbours.
"""

from collections.abc import Mapping, Sequence


def item_scores(rows: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """In percent, by metric and row: whose mean is the run's metric of that name."""
    return {"exact": {str(row["ann_id"]): 100.0 * (row["generated"] == row["reference"]) for row in rows}}
