"""What the project promises of damage and interruption, tried; each part writes a table to docs/results/.

    python -m scripts.torture files          2,000 damaged files, and small ones that ask for much

A part is a module of scripts/torture/ with `main(arguments)`.
"""

import importlib
import sys

PARTS = ("files",)


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return
    if arguments[0] not in PARTS:
        sys.exit(f"python -m scripts.torture: there is no part {arguments[0]!r}; allowed: {', '.join(PARTS)}")
    importlib.import_module(f"scripts.torture.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
