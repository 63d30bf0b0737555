"""The parser of a command: it is called `python -m scripts.NAME`, and its help is the docstring of its module."""

import argparse


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """name: what follows `python -m scripts.`; description: the module's docstring, printed as it is."""
    return argparse.ArgumentParser(
        prog=f"python -m scripts.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
