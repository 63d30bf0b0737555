"""The workspace and the report, as objects of W&B's library and as the JSON that it sends."""

import json
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from scripts.dashboard.content import Content
from scripts.dashboard.panels import about, sections
from tasks.common.wandb_names import wandb_name
from tasks.common.wandb_runs import STEP

PER_ROW, WIDTH, HEIGHT = 3, 8, 6  # panels of a report: 24 columns in all
SHOWN = 200  # runs in a plot, if W&B has no lower limit of its own


def title(content: Content) -> str:
    return f"{content.name} ({content.scale})"


def of_sweep(content: Content) -> str:
    """The runs of the sweep: its groups, since a cell may have been run by an earlier sweep that shares it."""
    return f"Metric('Group') in {content.groups!r}"


def workspace(content: Content, project: str, entity: str = "", band: str = "minmax") -> ws.Workspace:
    """Sections of panels over the sweep's runs, grouped by setting."""
    found = sections(content, band)
    first = {name for name in found if name == "Runs" or name.endswith(("Test", "Validation"))}
    columns = [f"summary:{wandb_name(f'test/{task.scores[0]}')}" for task in content.tasks if task.scores]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=title(content),
        sections=[ws.Section(name=name, panels=panels, is_open=name in first) for name, panels in found.items()],
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=SHOWN),
        runset_settings=ws.RunsetSettings(
            filters=of_sweep(content),
            groupby=[ws.Metric("Group")],
            pinned_columns=columns,
        ),
    )


def report(content: Content, project: str, entity: str = "", band: str = "minmax") -> wr.Report:
    """The same panels as a page to read. With an entity, W&B's library asks the server for the project's number."""
    blocks: list = [wr.MarkdownBlock(text=about(content))]
    for name, panels in sections(content, band).items():
        if name == "Runs":
            continue
        for number, panel in enumerate(panels):
            row, column = divmod(number, PER_ROW)
            panel.layout = wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
        runs = wr.Runset(
            entity=entity,
            project=project,
            name=title(content),
            filters=of_sweep(content),
            groupby=["run.group"],
        )
        blocks += [wr.H2(text=name), wr.PanelGrid(runsets=[runs], panels=panels)]
    return wr.Report(
        project=project, entity=entity, title=title(content), description=f"Sweep {content.name}.", blocks=blocks
    )


def as_json(view: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What the library would send to the server.

    It has no public name for this; tests/scripts/test_dashboard.py compares it with what a server really gets.
    """
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))
