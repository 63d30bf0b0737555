"""The rules that judge predictions, explain gains and separate rungs, on numbers made by hand."""

import pytest

from lcaam.ladder import RUNGS
from scripts.studies.probes.judging import (
    compared,
    explanation,
    judge,
    outcomes,
    parsed,
    rung_subjects,
    separation,
    subjects,
)
from scripts.studies.probes.masks import ROWS
from scripts.studies.probes.predictions import EVERY, PREDICTIONS
from scripts.studies.probes.probes import PROBES

PROBE = {probe.name: probe for probe in PROBES}


@pytest.mark.parametrize(
    "said, interval, judged",
    [
        # floor 20: the quarters end at 40 and 80
        ("floor", (10.0, 40.0), "holds"),
        ("floor", (39.0, 41.0), "open"),
        ("floor", (40.1, 50.0), "fails"),
        ("part", (40.0, 80.0), "holds"),
        ("part", (30.0, 39.9), "fails"),
        ("part", (30.0, 90.0), "open"),
        ("ok", (80.0, 104.0), "holds"),
        ("ok", (70.0, 81.0), "open"),
        ("ok", (60.0, 79.0), "fails"),
        ("= none", (-3.0, 3.0), "holds"),
        ("= none", (-3.1, 0.0), "open"),
        ("= none", (3.1, 9.0), "fails"),
        (">= none", (-2.0, 50.0), "holds"),
        (">= none", (-4.0, 0.0), "open"),
        (">= none", (-9.0, -3.1), "fails"),
        ("> none", (0.1, 9.0), "holds"),
        ("> none", (-4.0, 9.0), "open"),
        ("> none", (-2.0, 2.0), "fails"),  # shown to be too small to matter
        ("> none", (-9.0, 0.0), "fails"),
        ("< none", (-9.0, -0.1), "holds"),
        ("< none", (0.0, 9.0), "fails"),
        ("< none", (-9.0, 4.0), "open"),
    ],
)
def test_a_claim_holds_or_fails_only_if_the_whole_interval_says_so(said, interval, judged):
    assert judge(said, interval, floor=20.0) == judged


def test_a_claim_on_a_score_needs_a_floor():
    with pytest.raises(ValueError, match="without a floor"):
        judge("ok", (1.0, 2.0), None)


def test_every_prediction_can_be_read_and_is_about_something_that_runs():
    assert list(PREDICTIONS) == [probe.name for probe in PROBES]
    for name, claims in PREDICTIONS.items():
        labels = {value.label for value in PROBE[name].values}
        for claim in claims:
            assert claim.values is EVERY or set(claim.values) <= labels, claim
            relation = parsed(claim.said)
            assert relation is not None or PROBE[name].floor is not None, claim
            if relation:
                assert subjects(relation[1]) and (relation[2] is None or relation[2] in labels), claim
            assert all(subjects(row) for row in claim.rows), claim
    with pytest.raises(ValueError, match="a claim of 'about none'"):
        parsed("about none")
    with pytest.raises(ValueError, match="unknown row 'lcam'"):
        subjects("frozen lcam")


@pytest.mark.parametrize("name", PREDICTIONS)
def test_every_rung_has_a_prediction_in_every_probe(name):
    claimed = {row for claim in PREDICTIONS[name] for row in claim.rows}
    rungs = {row.partition("-")[0] for row in claimed}
    needed = {row.rung for row in ROWS if row.rung in RUNGS} | {"frozen"}
    needed -= {"none"} if PROBE[name].floor is None else set()  # there it is what others are compared with
    assert needed <= rungs


def test_a_subject_is_compared_with_that_of_its_own_fusion():
    scores = {"multi_lcaam-add": {0: 90.0, 1: 91.0}, "multi_lcaam-mul": {0: 50.0, 1: 51.0}}
    scores |= {f"frozen {row}": {0: found[0] - 1, 1: found[1] - 1} for row, found in list(scores.items())}
    found = outcomes(PROBE["fixed"], lambda value, subject: scores.get(subject, {}), {"off": 20.0, "on": 20.0})
    frozen = [one for one in found if one.subject.startswith("frozen multi") and one.value == "off"]
    assert [(one.subject, one.mean, one.interval, one.judged) for one in frozen] == [
        ("frozen multi_lcaam-add", -1.0, (-1.0, -1.0), "holds"),
        ("frozen multi_lcaam-mul", -1.0, (-1.0, -1.0), "holds"),
    ]
    nothing = [one for one in found if one.subject == "none"]
    assert {(one.n, one.mean, one.judged) for one in nothing} == {(0, None, "open")}


def test_a_claim_about_another_value_of_the_knob_is_compared_with_it():
    scores = {("yes", "none"): {0: 70.0, 1: 72.0, 2: 9.0}, ("no", "none"): {0: 75.0, 1: 77.0}}
    found = outcomes(PROBE["permuted"], lambda *at: scores.get(at, {}), {"yes": None, "no": None})
    (same,) = [one for one in found if one.said == "= none @ no"]
    assert (same.n, same.mean, same.judged) == (2, -5.0, "fails")


def gains(**by_rung):
    """Two seeds with these scores, of fusion add."""
    of = rung_subjects("add")
    known = {of[rung]: {0: score, 1: score} for rung, score in by_rung.items()}
    return lambda value, subject: known.get(subject, {})


@pytest.mark.parametrize(
    "scores, expected",
    [
        ({"none": 20.0, "multi_lcaam": 22.0}, (False, [])),
        ({"none": 20.0, "multi_lcaam": 90.0}, (True, ["multi_lcaam"])),
        ({"none": 20.0, "columns": 88.0, "table": 95.0, "lcaam": 90.0, "multi_lcaam": 90.0}, (True, ["columns"])),
        ({"none": 20.0, "columns": 86.0, "table": 80.0, "frozen": 89.0, "multi_lcaam": 90.0}, (True, ["frozen"])),
        ({"none": 20.0, "columns": 90.0, "offsets": 90.0, "multi_lcaam": 90.0}, (True, ["columns", "offsets"])),
        ({"multi_lcaam": 90.0}, None),
    ],
)
def test_the_lowest_rungs_that_come_within_the_margin_explain_a_gain(scores, expected):
    assert explanation("off", "add", gains(**scores)) == expected


def test_two_rungs_are_told_apart_by_an_interval_above_the_margin():
    found = separation(PROBE["fixed"], gains(none=20.0, columns=24.0, table=30.0))
    assert (found.better, found.worse, found.mean, found.shown) == ("table-add", "none", 10.0, True)
    close = separation(PROBE["fixed"], gains(none=20.0, columns=22.0))
    assert (close.mean, close.shown) == (2.0, False)
    assert separation(PROBE["fixed"], gains(none=20.0)) is None


def test_a_difference_that_scatters_does_not_tell_apart():
    scores = {"a": {0: 90.0, 1: 30.0, 2: 60.0}, "b": {0: 20.0, 1: 21.0, 2: 22.0}}
    (found,) = compared("off", "b", "a", lambda value, subject: scores[subject])
    # differences 70, 9, 38: mean 39, sd 30.5, Student's t 4.303 of two degrees of freedom
    assert (found.better, found.worse, found.n) == ("a", "b", 3)
    assert found.interval[0] == pytest.approx(39 - 4.3027 * 30.512 / 3**0.5, abs=0.01) and not found.shown
