"""The parser of a command: it is called `python -m scripts.NAME`, and its help is the docstring of its module."""

import argparse
from pathlib import Path

PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")  # what matplotlib writes everywhere


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """name: what follows `python -m scripts.`; description: the module's docstring, printed as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m scripts.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def picture(text: str) -> Path:
    """The file of a picture, as the `type` of an option, so that another ending is refused before any work is done."""
    path = Path(text)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    if path.suffix.lower() not in PICTURES:
        raise argparse.ArgumentTypeError(f"{path.name} ends in {path.suffix}; allowed: {', '.join(PICTURES)}")
    return path
