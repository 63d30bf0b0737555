"""A run's folder belongs to one run: the record of another one in it is not overwritten."""

from pathlib import Path

from configs.errors import ConfigError
from datamodules.errors import DataError
from datamodules.formats.json_text import read_json

RECORD = "results.json"


def refuse_taken(folder: Path, resumed_from: str | None = None) -> None:
    """Raises ConfigError if a folder holds the record of a run, unless it is the one that is resumed."""
    path = folder / RECORD
    if not path.exists() or (resumed_from and Path(resumed_from).absolute().is_relative_to(folder.absolute())):
        return
    try:
        record = read_json(path)
        about = f"{record['experiment']}, seed {record['seed']}, {record['status']}, started {record['started']}"
    except (DataError, KeyError, TypeError):
        about = "its results.json cannot be read"
    raise ConfigError(
        f"paths.run_dir: {folder} holds the record of another run ({about}), which would be overwritten; name a folder "
        "of its own, or leave paths.run_dir out"
    )
