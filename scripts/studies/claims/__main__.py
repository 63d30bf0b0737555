"""Claim by claim: what was run, the effect, the lowest rung that explains it, and a verdict by a fixed rule.

    python -m scripts.studies.claims            prints the claims with their verdicts, and what is still to run
    python -m scripts.studies.claims --write    renews docs/does-the-mask-help.md and the README's table of results
    python -m scripts.studies.claims --time     how long one run of each table takes; names of tables after it: of these

Everything is made from the committed csv files of runs (docs/results/runs_*.csv, probes.csv); run folders do not count.
Nothing else is run here: docs/does-the-mask-help.md names the command of each table. A new claim is an entry of
claims.py; the rule is in judging.py, and was written before the runs.
"""

import sys
from pathlib import Path

from configs.errors import ConfigError, nearest
from configs.resolvers import ROOT
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.studies.claims.claims import CLAIMS
from scripts.studies.claims.evidence import evidence
from scripts.studies.claims.page import Answer, commands, gains, of_claim, overview, plan, renewed
from scripts.studies.claims.studies import STUDIES
from scripts.studies.claims.timing import timed
from tasks.common.errors import StorageError
from tasks.common.files import write_text
from tasks.common.run_rows import RowsError

PAGE, README = ROOT / "docs" / "does-the-mask-help.md", ROOT / "README.md"
IN_README = {"a-mask-per-layer": "Multi-LCAAM minus full attention", "one-mask": "LCAAM minus full attention"}


def parts() -> dict[Path, dict[str, str]]:
    """The parts that are made from runs: for each file its parts by name."""
    answers = [Answer(claim, evidence(claim)) for claim in CLAIMS]
    of_claims = {one.claim.name: of_claim(one) for one in answers}
    page = {"overview": overview(answers), **of_claims, "plan": plan(STUDIES), "commands": commands(STUDIES)}
    return {PAGE: page, README: {"gains": gains(answers, IN_README)}}


def main(given: list[str] | None = None) -> None:
    parser = parser_for("studies.claims", __doc__)
    parser.add_argument("--write", action="store_true", help="renew both files")
    known = {study.name: study for study in STUDIES}
    parser.add_argument(
        "--time", nargs="*", metavar="TABLE", help="time one run of these tables; of all without a name"
    )
    asked = parser.parse_args(given)
    if unknown := [name for name in asked.time or () if name not in known]:
        parser.error(f"--time: there is no table {unknown[0]!r}{nearest(unknown[0], known)}; {', '.join(known)}")
    if asked.time is not None:
        for study in [known[name] for name in asked.time] or STUDIES:
            print(study.name, *timed(study), sep="  ", flush=True)
        return
    try:
        made = parts()
        if asked.write:
            for file, content in made.items():
                write_text(file, renewed(file.read_text(encoding="utf-8"), content))
    except (ConfigError, DataError, RowsError, StorageError, OSError) as error:
        sys.exit(str(error))
    print("\n".join(f"## {name}\n\n{text}" for content in made.values() for name, text in content.items()))


if __name__ == "__main__":
    main()
