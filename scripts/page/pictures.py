"""The image of a test item, if it is one of the generated digits: those may be shown to anybody, real data may not."""

import base64
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.image_classification.mini.generator import MiniSettings, mini_folder
from datamodules.mini.store import settings_from
from scripts.page.blocks import Picture

LARGEST = 100_000  # bytes


def picture(run: dict[str, Any], row: dict[str, Any]) -> Picture | None:
    """None for real data, for other tasks, and if the generated data are gone."""
    data = run.get("data") or {}
    if not data.get("mini") or not data.get("root") or "label" not in row or "name" not in row:
        return None
    try:
        settings = settings_from(MiniSettings, data["mini"])
    except DataError:  # another task's generator
        return None
    test = mini_folder(Path(data["root"]), settings, data["seed"]) / "test"
    path = (test / row["name"]).resolve()
    if not path.is_relative_to(test.resolve()) or not path.is_file() or path.stat().st_size > LARGEST:
        return None
    source = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    return Picture(source, f"Test image {row['name']}: digits in clutter, the framed one is a {row['label']}")
