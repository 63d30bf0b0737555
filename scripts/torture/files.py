"""More than 3,000 damaged files, and small ones that ask for much, over every reader of a file: what becomes of them?

    python -m scripts.torture files                               all readers; writes docs/results/damaged_files.md
    python -m scripts.torture files --only npz "jsonl moments"    some of them; prints the table alone

Each file is read in a process with 10 seconds and 3 GB. The exit status is 1 if a library's own error came through, a
message did not name the file, or a process hung or died.
"""

import argparse
import sys
import tempfile
import zlib
from collections import Counter
from pathlib import Path

from scripts.torture.damage import damaged
from scripts.torture.judging import OUTCOMES, SECONDS, Reader, Verdict, Worker, fingerprint
from scripts.torture.model_readers import MODELS
from scripts.torture.readers import DATA
from scripts.torture.video_readers import VIDEOS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results" / "damaged_files.md"
READERS = {reader.name: reader for reader in (*DATA, *VIDEOS, *MODELS)}
FAILED = ("not named", "raw", "hang")
HEAD = """# Damaged files

    python -m scripts.torture files

{files:,} files over {readers} readers: of each whole file 69 copies (42 flipped bits in the head, anywhere and in the
tail, 10 cuts, 7 swapped blocks, 5 runs of 0xFF, empty, one byte, twice, zeros, junk at the end), and small files that
ask for much (an array of 10^12 rows, 2.4 MB that unpack to 2.4 GB, lists 200,000 deep, a number of 5,000 digits, 10^10
pixels, a pickle that asks for code, YAML references that stand for 10^9 texts). Each is read in a process with
{seconds} seconds and 3 GB.

| column | the reader |
|---|---|
| right | gave what the whole file holds; a damaged cache was made again |
| clear | stopped with one message of the project that names the file |
| said | gave other values, and the log has a warning that names the file (a cut last line) |
| other | gave other values and said nothing: damage that the format cannot show, for the reason in the last column |
| not named, raw, hang | stopped without the file's name, with a library's own error, or not at all: must be 0 |

"""


def judge_all(reader: Reader) -> list[tuple[str, Verdict]]:
    """The verdict of every damaged copy, and of every file that asks for much."""
    with tempfile.TemporaryDirectory() as place:
        path = reader.make(Path(place))
        whole = path.read_bytes()
        worker = Worker(reader.name, path, fingerprint(reader.read(path)))
        copies = [*damaged(whole, seed=zlib.crc32(reader.name.encode()))]
        copies += [(name, change(whole)) for name, change in reader.asking.items()]
        try:
            return [(name, worker.judge(data)) for name, data in copies]
        finally:
            worker.stop()


def row(name: str, counts: Counter, why: str) -> str:
    cells = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
    return f"| {name} | {counts.total()} | {cells} | {why} |"


def table(counts: dict[str, Counter]) -> str:
    titles = ["other" if outcome == "wrong" else outcome for outcome in OUTCOMES]
    rows = [f"| reader | files | {' | '.join(titles)} | why other values may pass |", "|---|" + "---:|" * 8 + "---|"]
    rows += [row(name, found, READERS[name].why) for name, found in counts.items()]
    return "\n".join([*rows, row("all", sum(counts.values(), Counter()), "")]) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=READERS, metavar="READER", help=", ".join(READERS))
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write (docs/results/damaged_files.md)")


def main(chosen: argparse.Namespace) -> int:
    """Tries the files, prints the table and what was not as promised, and returns 1 if there is such a thing."""
    counts: dict[str, Counter] = {}
    faults = []
    for name in chosen.only or READERS:
        found = judge_all(READERS[name])
        counts[name] = Counter(verdict.outcome for _, verdict in found)
        faults += [f"{name}, {copy}: {v.outcome}: {v.told}" for copy, v in found if v.outcome in FAILED]
        faults += [
            f"{name}, {copy}: other values" for copy, v in found if v.outcome == "wrong" and not READERS[name].why
        ]
        print(row(name, counts[name], READERS[name].why), file=sys.stderr, flush=True)
    files = sum(found.total() for found in counts.values())
    print(table(counts))
    if not chosen.only:
        chosen.out.write_text(
            HEAD.format(files=files, readers=len(counts), seconds=SECONDS) + table(counts), encoding="utf-8"
        )
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults))
