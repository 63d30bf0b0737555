"""A few test items: what was asked, what is true, and what each setting answers, of its smallest seed.

Items are the ones whose masks the runs saved (analysis/samples.npz), the first of the test; without those, the first
rows of predictions/test.jsonl. A task's rows are told apart by their keys.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from datamodules.errors import DataError
from scripts.page.blocks import Chart, Charts, Grid, Note, Part
from scripts.page.masks import drawn_mask
from scripts.page.pictures import picture
from scripts.page.saved import Samples, predictions, samples, with_folders
from scripts.page.theme import COLOURS, figure, wrapped
from scripts.table.summary import Row, Table
from tasks.common.examples import COLUMNS, example

ITEMS, WINDOWS = 3, 3
Shown = Mapping[str, Any]  # a row of predictions


class Kind(NamedTuple):
    """How the rows of a task are shown. name: the key of an item's name; the others give lines of text from a row."""

    keys: tuple[str, ...]
    name: str
    asked: Callable[[Shown], str]
    truth: Callable[[Shown], str]
    answer: Callable[[Shown], str]


def windows(found: list) -> str:
    """`12.0 to 18.5 s (0.93), ...`, best first."""
    texts = [f"{w[0]:.1f} to {w[1]:.1f} s" + (f" ({w[2]:.2f})" if len(w) > 2 else "") for w in found[:WINDOWS]]
    return ", ".join(texts) or "none"


KINDS = (
    Kind(
        ("reference", "generated", "movie"),
        "ann_id",
        lambda row: f"movie {row['movie']}, {float(row['start']):.2f} to {float(row['end']):.2f} s",
        lambda row: str(row["reference"]),
        lambda row: str(row["generated"]),
    ),
    Kind(
        ("references", "generated"),
        "video",
        lambda row: f"video {row['video']}",
        lambda row: "; ".join(map(str, row["references"][:WINDOWS])),
        lambda row: str(row["generated"]),
    ),
    Kind(
        ("pred_relevant_windows", "query"),
        "qid",
        lambda row: f"{row['query']} (video {row.get('vid', '-')})",
        lambda row: windows(row.get("relevant_windows") or []),
        lambda row: windows(row["pred_relevant_windows"]),
    ),
    Kind(
        ("label", "predicted", "probability"),
        "name",
        lambda row: f"image {row['name']}",
        lambda row: f"class {row['label']}",
        lambda row: f"class {row['predicted']} ({100 * row['probability']:.0f} %)",
    ),
)


class Answers(NamedTuple):
    """What the smallest seed of a setting that has predictions left behind."""

    label: str
    seed: int
    run: dict[str, Any]
    rows: dict[str, Shown]  # by the item's name
    masks: Samples | None


def examples(table: Table) -> Part:
    found, remarks = [], []
    for row in table.rows:
        try:
            one = answers(row)
        except DataError as error:
            remarks.append(str(error))
            continue
        found += [] if one is None else [one]
    blocks: list = [Note(text) for text in remarks]
    if not found:
        return Part("Examples", [Note(NONE), *blocks])
    first = next(iter(found[0].rows.values()))
    kind = kind_of(first)
    for name in items(found):
        blocks += item(name, kind, found)
    blocks.append(Note("Answers of " + ", ".join(f"{one.label}: seed {one.seed}" for one in found) + "."))
    return Part("Examples", blocks)


NONE = "No run has predictions/test.jsonl: runs that are known from a csv file bring no predictions."


def kind_of(row: Shown) -> Kind:
    """How a row is shown; one of another task as W&B's table of predictions shows it."""
    for kind in KINDS:
        if set(kind.keys) <= row.keys():
            return kind
    texts = {column: lambda row, column=column: example(row)[column] for column in COLUMNS}
    return Kind((), next(iter(row)), texts["input"], texts["truth"], texts["prediction"])


def answers(row: Row) -> Answers | None:
    """None if no run of the setting has predictions. Raises DataError for a damaged file."""
    for seed, folder in with_folders(row).items():
        rows = predictions(folder)
        if rows:
            name = kind_of(rows[0]).name
            return Answers(row.label, seed, row.runs[seed], {str(r[name]): r for r in rows}, samples(folder))
    return None


def items(found: list[Answers]) -> list[str]:
    """Names of the items that are shown: those with masks, else the first."""
    names = [name for one in found if one.masks is not None for name in one.masks.names]
    names += list(found[0].rows)
    return [name for name in dict.fromkeys(names) if any(name in one.rows for one in found)][:ITEMS]


def item(name: str, kind: Kind, found: list[Answers]) -> list:
    """One item: a table of answers, its picture if there is one, windows over time, and the masks of its tokens."""
    having = [one for one in found if name in one.rows]
    row = having[0].rows[name]
    truth = kind.truth(row)
    rows = [["truth", truth]] if truth else []
    rows += [[one.label, kind.answer(one.rows[name])] for one in having]
    shown = picture(having[0].run, row)
    charts = timeline(kind, name, having)
    masks = [chart for one in having for chart in masks_of(one, name)]
    grid = Grid(f"Item {name}: {kind.asked(row)}", ["setting", "answer"], rows, wide=2)
    return [*([] if shown is None else [shown]), grid, *charts, *([Charts(masks)] if masks else [])]


def masks_of(one: Answers, name: str) -> list[Chart]:
    """The item's mask in the last layer that has one."""
    layers = {} if one.masks is None else one.masks.masks.get(name, {})
    axes = ("query token", "key token")
    return [
        drawn_mask(layers[at], one.masks.neutral, f"{at}, item {name}", one.label, [], axes) for at in [*layers][-1:]
    ]


def timeline(kind: Kind, name: str, having: list[Answers]) -> list[Chart]:
    """Predicted windows over time, opaque by their score, below the true ones; for moment retrieval."""
    if "pred_relevant_windows" not in kind.keys:
        return []
    rows = [("truth", having[0].rows[name].get("relevant_windows") or [])]
    rows += [(one.label, one.rows[name]["pred_relevant_windows"][:WINDOWS]) for one in having]
    traces = []
    for place, (label, found) in enumerate(rows):
        for window in found:
            score = float(window[2]) if len(window) > 2 else 1.0
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [window[0], window[1]],
                    "y": [place, place],
                    "line": {"color": COLOURS[4] if label == "truth" else COLOURS[0], "width": 12},
                    "opacity": max(0.15, min(1.0, score)),
                    "hovertemplate": f"%{{x:.1f}} s, score {score:.2f}<extra></extra>",
                    "showlegend": False,
                }
            )
    labels = [wrapped(label) for label, _ in rows]
    places = {"tickvals": list(range(len(rows))), "ticktext": labels, "range": [len(rows) - 0.4, -0.6]}
    drawn = figure(traces, x="seconds", y=places | {"zeroline": False})
    says = "; ".join(f"{label} {windows(found)}" for label, found in rows)
    return [Chart(drawn, f"Item {name}: the best {WINDOWS} windows", says, height=110 + 40 * len(rows))]
