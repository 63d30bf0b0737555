"""The tables that the claims are judged by, in the order in which their runs are to be made; the last is cut first.

Runs of one task are kept in one csv file, since tables share them.
"""

import shlex
from dataclasses import dataclass
from functools import cached_property

from configs.resolvers import ROOT
from scripts.table.making import made
from scripts.table.summary import Table

SCALE = "mini"
RESULTS = ROOT / "docs" / "results"
EIGHT = "seed=0,1,2,3,4,5,6,7"


@dataclass(frozen=True)
class Study:
    """One table.

    name: its page is docs/results/<name>.md. sweep: of configs/sweep/. runs: the name of the csv file with its runs.
    seconds: CPU seconds of one run; timed: whether they were measured on one cell (scripts.studies.claims --time), or
    reckoned from other tables. words: what the table's command line adds.
    """

    name: str
    sweep: str
    runs: str
    seconds: int
    words: tuple[str, ...] = ()
    timed: bool = False

    @property
    def csv(self) -> str:
        return f"docs/results/{self.runs}.csv"

    @property
    def arguments(self) -> list[str]:
        """The command line's settings, with the file of known runs if there is one."""
        known = [f"sweep.known=[{self.csv}]"] if (ROOT / self.csv).is_file() else []
        return [*self.words, *known]

    @property
    def command(self) -> str:
        """What makes the table of the runs that are there; with --run before the -- it makes the missing ones too."""
        words = ["python", "-m", "scripts.table", self.sweep, "--scale", SCALE]
        return shlex.join([*words, *(["--", *self.arguments] if self.arguments else [])])

    @cached_property
    def table(self) -> Table:
        """From the csv file alone: no run folder lies below docs/results/."""
        tables, _ = made(self.sweep, SCALE, [*self.arguments, f"paths.log_dir={RESULTS}"], self.command)
        return tables[0]


MOMENTS, CAPTIONS, IMAGES = (
    "experiment=qvhighlights_baseline",
    "experiment=msrvtt_baseline",
    "experiment=imagenet1k_baseline",
)
TEXT = "data.files=input.txt"  # tiny Shakespeare (docs/language_model.md)

AD_HEADLINE = Study("headline_audio_description_mini", "headline", "runs_audio_description_mini", 105, timed=True)
MR_HEADLINE = Study("headline_moment_retrieval_mini", "headline", "runs_moment_retrieval_mini", 90, (MOMENTS,), True)
VC_HEADLINE = Study(
    "headline_video_captioning_mini", "headline", "runs_video_captioning_mini", 73, (CAPTIONS, EIGHT), True
)
IC_HEADLINE = Study(
    "headline_image_classification_mini", "headline", "runs_image_classification_mini", 81, (IMAGES, EIGHT), True
)
LANGUAGE = Study("language_model_mini", "language_model", "runs_language_model_mini", 240, (TEXT,))
LADDER = Study("ladder_audio_description_mini", "ladder", "runs_audio_description_mini", 105)
AGAIN = Study("language_model_again_mini", "language_model_again", "runs_language_model_mini", 165, (TEXT,))
ROTARY = Study("language_model_rotary_mini", "language_model_rotary", "runs_language_model_mini", 165, (TEXT,))
LADDER_AGAIN = Study("ladder_again_audio_description_mini", "ladder_again", "runs_audio_description_mini", 50)
CONTROLS = Study(
    "controls_audio_description_mini",
    "ladder",
    "runs_audio_description_mini",
    105,
    ("mask=none,multi_lcaam,extra_linear,extra_layers",),
)
DATA = Study("data_seeds_mini", "data_seeds", "runs_audio_description_mini", 105)
CIFAR10 = Study("table5_cifar10_mini", "table5_cifar10", "runs_cifar10_mini", 600)
DEPTH = Study("figure_s4_mini", "figure_s4", "runs_moment_retrieval_mini", 105)
MODALITIES = Study("modalities_mini", "modalities", "runs_audio_description_mini", 105)
KEYS = Study("keys_mini", "keys", "runs_language_model_mini", 300, (TEXT,))
LENGTH = Study("length_mini", "length", "runs_audio_description_mini", 110)
LENGTH_MOMENTS = Study(
    "length_moment_retrieval_mini",
    "length",
    "runs_moment_retrieval_mini",
    90,
    (MOMENTS, "mask.length=fixed,content"),
)
FUSIONS = Study("fusions_mini", "fusions", "runs_audio_description_mini", 105)
SCOPES = Study("scopes_mini", "scopes", "runs_audio_description_mini", 105)
INIT = Study("init_mini", "init", "runs_audio_description_mini", 130)
TOKENS = Study("tokens_mini", "tokens", "runs_audio_description_mini", 105)
POSITIONS = Study("positions_mini", "positions", "runs_language_model_mini", 240, (TEXT,))

STUDIES = (
    AD_HEADLINE, MR_HEADLINE, VC_HEADLINE, IC_HEADLINE, LANGUAGE, AGAIN, CONTROLS, LADDER, LADDER_AGAIN,
    ROTARY, DATA, CIFAR10, DEPTH, MODALITIES, KEYS, LENGTH, LENGTH_MOMENTS, FUSIONS, SCOPES, INIT, TOKENS, POSITIONS,
)  # fmt: skip
