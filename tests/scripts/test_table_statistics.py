"""The numbers of tables against values worked out by hand, or by another function of SciPy."""

import math

import numpy as np
import pytest
from scipy import stats

from scripts.table.statistics import (
    crossed_bootstrap,
    equivalence,
    fixed_sequence,
    hodges_lehmann,
    holm,
    paired,
    scatter,
    share,
    sign_flip,
    spread,
)


def t2(t: float) -> float:
    """The upper tail of Student's t with two degrees of freedom, which has a closed form."""
    return (1 - t / math.sqrt(t * t + 2)) / 2


def test_the_deviation_divides_by_n_minus_one():
    found = spread([1.0, 2.0, 6.0])
    assert (found.n, found.mean, found.median, found.least, found.most) == (3, 3.0, 2.0, 1.0, 6.0)
    assert found.std == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert spread([5.0]).std is None
    assert spread([]) is None


def test_the_paired_t_test_equals_its_closed_form():
    found = paired([2.0, 4.0, 9.0], [1.0, 2.0, 6.0])  # differences 1, 2, 3: mean 2, standard error 1 / sqrt(3)
    assert found.differences == [1.0, 2.0, 3.0]
    assert (found.n, found.mean, found.exact) == (3, 2.0, True)
    assert found.p_t == pytest.approx(2 * t2(2 * math.sqrt(3)))
    half = 4.302652729911275 / math.sqrt(3)  # the 97.5 % point of t with two degrees of freedom
    assert found.interval == pytest.approx((2 - half, 2 + half))


def test_fewer_than_two_pairs_have_a_mean_at_most():
    one = paired([3.0], [1.0])
    assert (one.n, one.mean, one.interval, one.p_sign_flip, one.p_t) == (1, 2.0, None, None, None)
    assert paired([], []).mean is None
    with pytest.raises(ValueError, match="zip"):
        paired([1.0, 2.0], [1.0])


def test_identical_values_differ_in_nothing_and_show_nothing():
    found = paired([4.0, 5.0, 6.0], [4.0, 5.0, 6.0])
    assert (found.mean, found.p_sign_flip, found.p_t) == (0.0, 1.0, None)
    assert equivalence(found.differences, 3.0) is None
    assert scatter([1.0, 1.0], [2.0, 2.0]) is None


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),
        ([-1.0, -2.0, -3.0], 2 / 8),
        ([1.0, -2.0, 4.0], 6 / 8),  # sums of +-1 +-2 +-4: 7, 5, 3 and 1, each with both signs; 3 or more: 6 of 8
        ([0.1, 0.2, 0.3], 2 / 8),  # 0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1
        ([0.0, 0.0, 5.0], 1.0),
        ([1.0] * 8, 2 / 256),
        ([1.0] * 7 + [-1.0], 18 / 256),
    ],
)
def test_sign_flips_are_counted_one_by_one(differences, p):
    assert sign_flip(differences) == p


def test_sign_flips_equal_scipy_s_permutation_test():
    values = np.random.default_rng(3).normal(0.4, size=9)
    outside = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(values) == pytest.approx(outside.pvalue)


def test_more_than_twenty_pairs_are_sampled_alike_each_time_and_say_so():
    values = np.random.default_rng(1).normal(0.5, size=24)
    assert sign_flip(values) == sign_flip(values)
    assert sign_flip(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert not paired(values, np.zeros(24)).exact
    assert sign_flip(np.ones(24)) > 0, "no sample can show p = 0"


def test_the_hodges_lehmann_estimate_is_the_median_of_pairwise_means():
    assert hodges_lehmann([1.0, 2.0, 9.0]) == 3.5  # of 1, 1.5, 2, 5, 5.5, 9


def test_the_brown_forsythe_test_is_an_analysis_of_variance_of_the_distances_to_the_medians():
    # distances 1, 0, 1 and 5, 0, 5: between 2 x 3 x (4/3)^2, within 2/3 + 50/3
    f = (6 * (4 / 3) ** 2) / ((2 / 3 + 50 / 3) / 4)
    assert scatter([1.0, 2.0, 3.0], [0.0, 5.0, 10.0]) == pytest.approx(stats.f.sf(f, 1, 4))
    assert scatter([1.0], [1.0, 2.0]) is None
    assert scatter([1.0, 2.0], [0.0, 5.0]) is None  # deviations of two values are equal, so F would be infinite


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 8, 0.0, 1 - 0.025 ** (1 / 8)),
        (8, 8, 0.025 ** (1 / 8), 1.0),
        (1, 2, 1 - math.sqrt(0.975), math.sqrt(0.975)),
    ],
)
def test_a_share_has_the_clopper_pearson_interval(count, of, low, high):
    assert share(count, of) == pytest.approx((low, high))


def test_holm_multiplies_the_smallest_by_the_most_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, None, 0.6]) == pytest.approx([1.0, None, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("given", "tested"),
    [
        ([0.01, 0.04, 0.03], [0.01, 0.04, 0.03]),
        ([0.01, 0.05, 0.001], [0.01, 0.05, None]),
        ([None, 0.01], [None, None]),
    ],
)
def test_a_fixed_sequence_stops_at_the_first_that_is_not_below(given, tested):
    assert fixed_sequence(given) == tested


def test_equivalence_is_the_larger_of_two_one_sided_tests():
    # differences 1, 2, 3 and margin 10: t is 12 sqrt(3) from below and 8 sqrt(3) from above
    assert equivalence([1.0, 2.0, 3.0], 10.0) == pytest.approx(t2(8 * math.sqrt(3)))
    assert equivalence([1.0, 2.0, 3.0], 1.0) > 0.5
    for margin in (None, 0.0):
        assert equivalence([1.0, 2.0, 3.0], margin) is None


def test_the_bootstrap_resamples_seeds_and_items():
    """If two seeds have 0 and 2 in all items, a draw has the mean 0, 1 or 2; the same if the items differ instead."""
    differences = np.array([[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]])
    assert crossed_bootstrap(differences) == pytest.approx((0.0, 2.0))
    assert crossed_bootstrap(differences.T) == pytest.approx((0.0, 2.0))
    assert crossed_bootstrap(np.full((3, 5), 1.5)) == pytest.approx((1.5, 1.5))
