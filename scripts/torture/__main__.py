"""Kills, crowds and damages runs on purpose, and says what is lost.

python -m scripts.torture NAME ...      NAME is a file beside this one that has main(arguments): sweep, soak
"""

import sys
from importlib import import_module
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "def main(" in path.read_text("utf-8"))


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(__doc__, *(f"    {known}" for known in NAMES), sep="\n")
        return
    if name not in NAMES:
        sys.exit(f"no command '{name}'; there are {', '.join(NAMES)}")
    import_module(f"scripts.torture.{name}").main(arguments)


if __name__ == "__main__":
    main()
