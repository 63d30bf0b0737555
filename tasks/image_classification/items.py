"""Scores of single images of a test, for intervals over other images (scripts/table/items.py)."""

from collections.abc import Mapping, Sequence


def item_scores(rows: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """In percent, by metric and row: whose mean is the run's metric of that name."""
    return {"top1": {str(row["name"]): 100.0 * (row["label"] == row["predicted"]) for row in rows}}
