"""Scores of single windows of a test, for intervals over other text (scripts/table/items.py)."""

from collections.abc import Mapping, Sequence


def item_scores(rows: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """By metric and row: whose mean is the run's metric of that name. The loss in nats, of which a window has the share
    that its characters have in all."""
    average = sum(row["characters"] for row in rows) / len(rows)
    return {"loss": {str(row["name"]): row["loss"] * row["characters"] / average for row in rows}}
