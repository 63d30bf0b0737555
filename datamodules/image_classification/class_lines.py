"""Lines of text that name classes, one per class, in the usual forms.

    pairs_of(["n01440764 tench, Tinca tinca"], None)        # [("n01440764", "tench, Tinca tinca")]
    pairs_of(["hot dog", "pizza"], {"hot dog", "pizza"})    # [("hot dog", "hot dog"), ("pizza", "pizza")]

| form of every line | where it comes from |
|---|---|
| `n01440764 tench, Tinca tinca` | the ILSVRC development kit's and Kaggle's synset lists |
| `n01440764,tench` (or a tab, or a semicolon) | tables |
| `n02119789 1 kit_fox` | map_clsloc.txt: the second column is the number of the class, from 1 on |
| `0 tench`, `0,tench` | a number from 0 on, then the folder or the name |
| `tench` | a folder or a name, which may have spaces and commas |

Which one is meant is seen from ImageNet's ids, and else from the class folders that are there. A first line that names
none of them while all others do is the heading of a table.
"""

import re
from collections.abc import Collection

Pairs = list[tuple[str, str]]  # folder, name

ID = re.compile(r"n\d+")  # of a synset
NUMBERED_ID = re.compile(r"(n\d+)\s+(\d+)\s+(\S.*)")
NUMBERED = re.compile(r"(\d+)[\s,;:]+(\S.*)")
SEPARATED = re.compile(r"([^,;\t]+?)\s*[,;\t]\s*(.*)")
TABBED = re.compile(r"([^\t]+?)\s*\t\s*(.*)")
SPACED = re.compile(r"(\S+)\s+(.*)")


def pairs_of(lines: list[str], there: Collection[str] | None) -> Pairs:
    """The folder and the name of each class, in the order of their numbers. there: the class folders, None: none."""
    if not lines:
        return []
    if all(ID.fullmatch(re.split(r"[\s,;]", line, maxsplit=1)[0]) for line in lines):
        return _in_order(lines, NUMBERED_ID, first=1) or _of_ids(lines)
    forms = [_whole(lines), _in_order(lines, NUMBERED, first=0), *(_split(lines, form) for form in (SEPARATED, SPACED))]
    if there is None:  # a line is a name, unless its form cannot be one
        return forms[1] or _split(lines, TABBED) or forms[0]
    known = set(there)
    best = max((form for form in forms if form), key=lambda pairs: len(known & {folder for folder, _ in pairs}))
    heading = best[0][0] not in known and len(best) > 1 and all(folder in known for folder, _ in best[1:])
    return best[1:] if heading and len(known) < len(best) else best


def _whole(lines: list[str]) -> Pairs:
    return [(line, line) for line in lines]


def _of_ids(lines: list[str]) -> Pairs:
    parts = [re.split(r"[\s,;]+", line, maxsplit=1) for line in lines]
    return [(part[0], part[1] if len(part) > 1 and part[1] else part[0]) for part in parts]


def _split(lines: list[str], form: re.Pattern) -> Pairs:
    """Folder and name of every line; empty unless all have the form."""
    found = [form.fullmatch(line) for line in lines]
    return [(match[1], match[2] or match[1]) for match in found] if all(found) else []


def _in_order(lines: list[str], form: re.Pattern, first: int) -> Pairs:
    """Lines with a number, sorted by it; empty unless the numbers are `first` to `first` + n - 1."""
    found = [form.fullmatch(line) for line in lines]
    if not all(found):
        return []
    rows = [(int(match[2]), match[1], match[3]) if form is NUMBERED_ID else (int(match[1]), *[match[2]] * 2)
            for match in found]  # fmt: skip
    numbers = sorted(number for number, _, _ in rows)
    return [row[1:] for row in sorted(rows)] if numbers == list(range(first, first + len(rows))) else []
