"""Claims: the rule with values worked out by hand, the page's parts, and that claims ask of rows that there are."""

import pytest
from scipy import stats

from configs.errors import ConfigError
from scripts.studies.claims import __main__ as command
from scripts.studies.claims.claims import CLAIMS, Claim, OfProbe, OfTable
from scripts.studies.claims.evidence import Evidence, evidence
from scripts.studies.claims.judging import judged, whole
from scripts.studies.claims.page import Answer, gains, of_claim, overview, renewed, trained
from scripts.studies.claims.studies import STUDIES
from scripts.studies.probes import judging as probes
from scripts.studies.probes.probes import named
from scripts.table.summary import Row

GAIN = [4.0, 5.0, 6.0, 5.0, 4.0, 6.0, 5.0, 5.0]  # all signs alike: p = 2 / 2^8
SMALL = [0.1, 0.2, 0.0, 0.1, 0.2, 0.1, 0.0, 0.1]
WIDE = [9.0, -8.0, 7.0, -9.0]


def verdicts(kind: str, *found: list[float], margin: float = 2.0) -> list[str]:
    return [one.verdict for one in judged(kind, found, [margin] * len(found))]


def test_a_gain_is_supported_excluded_or_left_open():
    first, second, third, fourth = judged("better", [GAIN, SMALL, WIDE, []], [2.0] * 4)
    assert [one.verdict for one in (first, second, third, fourth)] == [
        "supported", "not supported", "not resolved", "not run",
    ]  # fmt: skip
    assert (first.n, first.mean) == (8, 5.0)
    assert first.p == pytest.approx(3 * 2 / 2**8)  # three data sets have runs
    assert second.p_margin == pytest.approx(stats.ttest_1samp(SMALL, 2.0, alternative="less").pvalue)
    assert first.interval == pytest.approx(stats.t.interval(0.95, 7, loc=5.0, scale=stats.sem(GAIN)))


def test_harm_and_gains_below_the_margin_do_not_support_a_claim():
    assert verdicts("better", [-one for one in GAIN]) == ["not supported"]
    assert verdicts("better", GAIN, margin=9.0) == ["not supported"]  # a gain, shown to be below the margin


def test_one_pair_is_begun_and_takes_no_part_in_the_correction():
    whole_set, pair = judged("better", [GAIN, [9.0]], [2.0] * 2)
    assert (whole_set.verdict, whole_set.p) == ("supported", 2 / 2**8)
    assert (pair.verdict, pair.n, pair.mean, pair.interval) == ("begun", 1, 9.0, None)


def test_holm_can_take_a_gain_away():
    five = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]  # p = 2 / 2^6 = .031, twice that among two
    assert verdicts("better", five, margin=1.0) == ["supported"]
    assert verdicts("better", five, WIDE, margin=1.0) == ["not resolved", "not resolved"]


def test_no_difference_is_shown_and_not_assumed():
    assert verdicts("same", SMALL, GAIN, WIDE) == ["supported", "not supported", "not resolved"]
    assert verdicts("same", [-one for one in GAIN]) == ["not supported"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (["supported", "supported", "not run"], "supported"),
        (["supported", "not supported"], "supported in part"),
        (["not supported", "not supported"], "not supported"),
        (["not supported", "not resolved"], "not resolved"),
        (["not run"], "not run"),
        (["supported", "begun"], "supported"),
        (["begun", "not run"], "not run"),
    ],
)
def test_the_whole_claim_follows_from_its_data_sets(found, said):
    assert whole(found) == said


def test_the_tables_of_a_claim_name_effect_margin_and_the_lowest_rung():
    claim = Claim("a", "Table 9", "A mask helps.", ())
    found = [
        Evidence("here", "mask - none", "exact", 2.0, GAIN, "here.md", ["static table"]),
        Evidence("there", "mask - none", "loss", 0.02, [], "there.md"),
    ]
    text = of_claim(Answer(claim, found))
    assert "| [here](results/here.md) | mask - none | exact | 8 | +5.00 [+4.37, +5.63] | 2 | .0078 |" in text
    assert "| static table | supported |" in text
    assert "| there | mask - none | loss | 0 | - | 0.02 | - | - | - | not run |" in text
    assert "| [A mask helps.](#a) | Table 9 | 1 of 2 | **supported** |" in overview([Answer(claim, found)])


def test_the_readme_has_a_line_per_data_set_also_if_other_seeds_were_asked():
    one, other = (Claim(name, "Table 9", "A mask helps.", ()) for name in ("one", "other"))
    text_add = Evidence("text, add", "", "loss", 0.02, GAIN, "text.md")
    again = Evidence("text, add", "", "loss", 0.02, GAIN[:6], "again.md", new_seeds=True)
    here = Evidence("here", "", "exact", 2.0, [], "here.md")
    answers = [Answer(one, [text_add, here]), Answer(other, [again])]
    text = gains(answers, {"one": "first", "other": "second"})
    line = "| text, add | loss, 0.02 | +5.000 [+4.368, +5.632] *supported*, [8 seeds](docs/results/text.md) |"
    assert "| data | score, margin | first | second |" in text
    assert f"{line} +5.000 [+4.061, +5.939] *supported*, [6 new seeds](docs/results/again.md) |" in text
    assert "| here | exact, 2 | - *not run*, [0 seeds](docs/results/here.md) | - |" in text


def test_parts_of_the_page_are_renewed_and_a_lost_one_is_said():
    text = "before\n<!-- begin a -->\nold\n<!-- end a -->\nafter\n"
    assert renewed(text, {"a": "new \\1"}) == "before\n<!-- begin a -->\n\nnew \\1\n<!-- end a -->\nafter\n"
    with pytest.raises(ConfigError, match="the page has 0 parts <!-- begin b -->"):
        renewed(text, {"b": "new"})


def test_what_a_run_takes_is_the_median_of_whole_runs():
    def row(*seconds: float, **kind) -> Row:
        runs = {seed: {"seconds": {"fit": one}} for seed, one in enumerate(seconds)}
        return Row("a", "0", [], [0, 1], runs=runs, **kind)

    assert trained([row(40.0, 44.0), row(90.0), row(1.0, steps=10), row(2.0, of="a")]) == 44.0
    assert trained([row(1.0, steps=10), row()]) is None


def test_the_page_has_a_part_for_every_claim_and_claims_name_probes_that_there_are():
    page = command.PAGE.read_text(encoding="utf-8")
    for name in ("overview", "plan", "commands", *(claim.name for claim in CLAIMS)):
        assert page.count(f"<!-- begin {name} -->") == page.count(f"<!-- end {name} -->") == 1
        assert name in ("overview", "plan", "commands") or f"\n### {name}\n" in page
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert len({study.name for study in STUDIES}) == len(STUDIES)
    for asked in (asked for claim in CLAIMS for asked in claim.asked):
        if isinstance(asked, OfTable):
            assert asked.study in STUDIES
            continue
        assert isinstance(asked, OfProbe)
        probe = named([asked.probe])[0]
        assert probe.value(asked.value).label == asked.value
        for subject in asked.pair:
            assert probes.subjects(subject) == [subject]


@pytest.mark.slow  # composes every row of every table
def test_the_page_and_the_readme_are_what_the_committed_runs_say():
    for claim in CLAIMS:
        assert len(evidence(claim)) == len(claim.asked)
    for file, parts in command.parts().items():
        text = file.read_text(encoding="utf-8")
        assert renewed(text, parts) == text
