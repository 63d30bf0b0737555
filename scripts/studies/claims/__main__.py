"""Claim by claim: what was run, the effect, the lowest rung that explains it, and a verdict by a fixed rule.

    python -m scripts.studies.claims            prints the claims with their verdicts, and what is still to run
    python -m scripts.studies.claims --write    renews docs/does-the-mask-help.md

Everything is made from the committed csv files of runs (docs/results/runs_*.csv, probes.csv); run folders do not count.
Nothing is run here: docs/does-the-mask-help.md names the command of each table. A new claim is an entry of claims.py;
the rule is in judging.py, and was written before the runs.
"""

import sys

from configs.errors import ConfigError
from configs.resolvers import ROOT
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.studies.claims.claims import CLAIMS
from scripts.studies.claims.evidence import evidence
from scripts.studies.claims.page import Answer, commands, of_claim, overview, plan, renewed
from scripts.studies.claims.studies import STUDIES
from tasks.common.errors import StorageError
from tasks.common.files import write_text
from tasks.common.run_rows import RowsError

PAGE = ROOT / "docs" / "does-the-mask-help.md"


def parts() -> dict[str, str]:
    """The page's parts that are made from runs, by name."""
    answers = [Answer(claim, evidence(claim)) for claim in CLAIMS]
    of_claims = {one.claim.name: of_claim(one) for one in answers}
    return {"overview": overview(answers), **of_claims, "plan": plan(STUDIES), "commands": commands(STUDIES)}


def main(given: list[str] | None = None) -> None:
    parser = parser_for("studies.claims", __doc__)
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.relative_to(ROOT)}")
    asked = parser.parse_args(given)
    try:
        made = parts()
        if asked.write:
            write_text(PAGE, renewed(PAGE.read_text(encoding="utf-8"), made))
    except (ConfigError, DataError, RowsError, StorageError, OSError) as error:
        sys.exit(str(error))
    print("\n".join(f"## {name}\n\n{text}" for name, text in made.items()))


if __name__ == "__main__":
    main()
