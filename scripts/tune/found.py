"""What a search found: its table, and the files that train.py reads."""

import math
from collections.abc import Sequence
from pathlib import Path

from configs.resolvers import ROOT
from scripts.table.markdown import markdown
from scripts.tune.search import BASELINE, Row, Search, rounded


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if math.isfinite(value) else "failed"


def table(search: Search, rows: Sequence[Row]) -> str:
    """A row per mask, a column per factor: the value of every seed; the chosen one in bold."""
    lines = []
    for row in rows:
        chosen = row.best(search.lowest)
        cells = []
        for factor in search.factors:
            text = ", ".join(map(shown, row.values[factor]))
            cells.append(f"**{text}**" if factor == chosen else text)
        what = "task.lr" if row.mask == BASELINE else "mask.lr_scale"
        value = rounded(row.rate * chosen) if row.mask == BASELINE else chosen
        edge = " (the grid's edge)" if chosen in (search.factors[0], search.factors[-1]) else ""
        lines.append([row.mask, *cells, f"{what}={value:g}{edge}"])
    return markdown(["mask", *(f"x{factor:g}" for factor in search.factors), "chosen"], lines)


def page(search: Search, rows: Sequence[Row], command: str) -> str:
    better = "lower" if search.lowest else "higher"
    seeds = " and ".join(map(str, search.seeds))
    length = "" if search.max_steps is None else f" Runs are shorter than the scale's: {search.max_steps} steps."
    return (
        f"# Learning rates of {search.experiment}, scale {search.scale}\n\n"
        f"Each cell has {search.metric} of the last validation for seeds {seeds} ({better} is better), on\n"
        f"data.seed=0. The row `{BASELINE}` is the baseline's rate, as factors on {search.base:g}; the other rows are\n"
        "factors on the rate of the mask's own parameters, at the baseline's best rate. The best mean is chosen\n"
        f"and written to `configs/{search.folder}/`.{length}\n\n"
        f"    {command}\n\n{table(search, rows)}"
    )


def write(search: Search, rows: Sequence[Row], command: str) -> list[Path]:
    """Writes the chosen values and the table of the search. Returns the files, below the project's root."""
    folder = ROOT / "configs" / search.folder
    folder.mkdir(parents=True, exist_ok=True)
    written = [search.page, search.values]
    search.page.write_text(page(search, rows, command), encoding="utf-8")
    by_mask: dict[str, list[Row]] = {}
    for row in rows:
        by_mask.setdefault(row.mask.partition(":")[0], []).append(row)
    for mask, some in by_mask.items():
        rate = some[0].rate * (some[0].best(search.lowest) if mask == BASELINE else 1)
        lines = ["# @package _global_", f"# From docs/results/{search.page.name}; what it means: scripts/tune/."]
        lines += ["task:", f"  lr: {rounded(rate):g}"]
        if mask != BASELINE:
            factors = ", ".join(f"{row.fusion}: {row.best(search.lowest):g}" for row in some)
            lines += ["mask:", f'  lr_scale: "${{for_fusion:{{{factors}}}}}"']
        path = folder / f"{mask}.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        written.append(path)
    return [path.relative_to(ROOT) for path in written]
