"""Checks the files of a data set before a run reads them: every fault with its place, not only the first.

    python -m scripts.check_data madv2                                     what `experiment=madv2_*` would read
    python -m scripts.check_data madv2 data.root=/data/MAD data.audio_features=null --all
    python -m scripts.check_data madv2 experiment=madv2_lcaam data.val_split=V1-VAL --deep sample
    python -m scripts.check_data madv2 scale=mini --deep all               the generated data
    python -m scripts.check_data moments                                   what `experiment=qvhighlights_*` would read
    python -m scripts.check_data moments data=tacos data.root=/data/tacos --all      any set of moments or highlights
    python -m scripts.check_data msrvtt data.source=video                  what `experiment=msrvtt_*` would read
    python -m scripts.check_data msrvtt data.root=/data/msvd data.annotations=msvd.jsonl data.source=video

Takes train.py's own key=value arguments, so it looks where training would. Prints one section per kind of finding with
its number and first names (--all: every one), then the totals. Notes are worth knowing but are not faults; the bad
rows that generated data have on purpose are notes too. --deep also reads feature values (NaN, infinity, rows of
zeros): of MAD-v2 500 rows of every movie, of moments 500 files of every stream, of captioned videos (msrvtt) the
frames or features of 100 clips, or all. Exit status: 0 nothing found, 1 findings, 2 there is nothing to check (no such
folder, a wrong argument).
"""

import sys
from typing import TYPE_CHECKING

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from configs.composing import composed
from configs.schema import ConfigError, validate
from datamodules.errors import DataError
from scripts.arguments import parser_for
from scripts.checks.report import NothingToCheck, Report

if TYPE_CHECKING:
    from datamodules.contract import Data

SETS = {  # what is checked -> the class that reads it, the data unless others are chosen, and their task
    "madv2": ("datamodules.audio_description.Descriptions", "madv2", "audio_description"),
    "moments": ("datamodules.moment_retrieval.Moments", "qvhighlights", "moment_retrieval"),
    "msrvtt": ("datamodules.video_captioning.Captions", "msrvtt", "video_captioning"),
}
NAMES = 5  # names that are printed per place without --all
CLEAN, FINDINGS, CANNOT = 0, 1, 2


def configuration(name: str, overrides: list[str]) -> DictConfig:
    """What train.py would get, with this data set unless the arguments choose an experiment or data.

    ConfigError: arguments that train.py would refuse, or that choose another data set.
    """
    chosen = any(override.startswith(("experiment=", "data=")) for override in overrides)
    try:
        cfg = composed(*([] if chosen else [f"data={SETS[name][1]}"]), *task_of(name, overrides), *overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error
    validate(cfg)
    if (reader := cfg.data.get("_target_")) != SETS[name][0]:
        raise ConfigError(f"{name} is read by {SETS[name][0]}; these settings choose data read by {reader}")
    return cfg


def task_of(name: str, overrides: list[str]) -> list[str]:
    """The task that goes with the data, unless an experiment says it."""
    given = any(word.startswith(("experiment=", "task=")) for word in overrides)
    return [] if given else [f"task={SETS[name][2]}"]


def check(name: str, data: "Data", deep: str | None) -> Report:
    """The report of the checks of this kind of data. Raises NothingToCheck."""
    if name == "madv2":
        from scripts.checks.madv2 import check_madv2

        return check_madv2(data, deep)
    if name == "msrvtt":
        from scripts.checks.captions import check_captions

        return check_captions(data, deep)
    from scripts.checks.moments import check_moments

    return check_moments(data, deep)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = parser_for("check_data", __doc__)
    parser.add_argument("name", choices=SETS, help="kind of data set")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for train.py")
    parser.add_argument("--deep", choices=("sample", "all"), help="also read feature values: some or all")
    parser.add_argument("--all", action="store_true", help=f"every name instead of the first {NAMES} of a place")
    chosen = parser.parse_intermixed_args(arguments)
    try:
        cfg = configuration(chosen.name, chosen.overrides)
        # Not at the top: --help or a misspelt key should not wait for Lightning.
        from tasks.common.build import build

        try:
            report = check(chosen.name, build(cfg.data), chosen.deep)
        except NothingToCheck as error:
            print(error, file=sys.stderr)
            return CANNOT
    except (ConfigError, DataError) as error:
        print(error, file=sys.stderr)
        return CANNOT
    print(report.text(None if chosen.all else NAMES))
    return FINDINGS if report.found else CLEAN


if __name__ == "__main__":
    sys.exit(main())
