"""One HTML file about runs: numbers, every seed, learning curves, masks, examples, cost, where each number comes from.

    python -m scripts.page logs                                    every completed run below logs/, in report.html
    python -m scripts.page logs/madv2_* --out madv2.html           some of them
    python -m scripts.page logs --metrics mAP HIT@1                these metrics, the first one is the primary one
    python -m scripts.table table1a --html                         the table of a sweep, with its comparisons

The file needs no network: the library that draws (plotly) is inside, about 5 MB. It can be sent, printed, and opened
on a phone. Real images and videos are never in it.
"""

import shlex
import sys
from pathlib import Path

from configs.errors import ConfigError
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.page.folders import tables_of
from scripts.page.writing import write
from tasks.common.errors import StorageError


def main() -> None:
    parser = parser_for("page", __doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="where to look for run folders, subfolders included")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the file to write; default: report.html")
    parser.add_argument("--metrics", nargs="+", help="which metrics, in this order; default: all")
    arguments = parser.parse_args()
    try:
        tables = tables_of(
            arguments.folders, shlex.join(["python", "-m", "scripts.page", *sys.argv[1:]]), arguments.metrics
        )
        write(tables, arguments.out)
    except (ValueError, ConfigError, DataError, StorageError) as error:
        sys.exit(str(error))
    print(arguments.out)


if __name__ == "__main__":
    main()
