import math

import numpy as np
import pytest
from scipy import stats

from gvtnets_tf.evaluation.statistics import paired_t_test, summarize


def test_summary_of_four_scores_by_hand():
    # Deviations -3, -1, 1, 3: squares sum to 20, over n - 1 = 3.
    expected = {"n": 4, "mean": 4.0, "sd": math.sqrt(20 / 3), "median": 4.0}
    assert summarize([1, 3, 5, 7]) == pytest.approx(expected)


def test_summary_leaves_missing_scores_out_and_says_how_many_remain():
    assert summarize([1.0, math.nan, 3.0]) == pytest.approx(summarize([1.0, 3.0]))
    assert summarize([1.0, math.nan, 3.0])["n"] == 2


def test_summary_of_one_score_has_no_deviation():
    one = summarize([0.5])
    assert (one["n"], one["mean"], one["median"]) == (1, 0.5, 0.5)
    assert math.isnan(one["sd"])


def test_summary_of_nothing_is_nan():
    nothing = summarize([math.nan])
    assert nothing.pop("n") == 0
    assert all(math.isnan(value) for value in nothing.values())


def test_summary_of_infinite_scores_has_no_deviation():
    found = summarize([math.inf, 30.0, 40.0])
    assert found["mean"] == math.inf
    assert found["median"] == 40
    assert math.isnan(found["sd"])


def test_summary_refuses_a_table():
    with pytest.raises(ValueError, match=r"`values` must be a list of scores.*\(2, 2\)"):
        summarize(np.ones((2, 2)))


def test_t_test_of_five_pairs_by_hand():
    # Differences 1..5: mean 3, sd sqrt(2.5), t = 3 / sqrt(2.5 / 5) = sqrt(18).
    # Student's distribution with 4 degrees of freedom leaves 0.66 % above it.
    found = paired_t_test([2, 3, 4, 5, 6], [1, 1, 1, 1, 1])
    assert (found["n"], found["df"], found["mean_difference"]) == (5, 4, 3.0)
    assert found["t"] == pytest.approx(math.sqrt(18))
    assert found["p"] == pytest.approx(0.00662, abs=1e-5)
    assert found["note"] == ""


def test_t_test_is_the_paired_one_tailed_one_of_scipy():
    generator = np.random.default_rng(0)
    worse = generator.uniform(0.7, 0.9, 20)
    better = worse + generator.normal(0.01, 0.03, 20)
    expected = stats.ttest_rel(better, worse, alternative="greater")
    found = paired_t_test(better, worse)
    assert found["t"] == pytest.approx(expected.statistic)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["df"] == expected.df == 19


def test_swapping_the_two_gives_the_other_tail():
    better, worse = [2, 3, 4, 5, 6], [1, 3, 1, 2, 1]
    p, q = paired_t_test(better, worse)["p"], paired_t_test(worse, better)["p"]
    assert p < 0.5 < q
    assert p + q == pytest.approx(1)


def test_fewer_than_five_pairs_have_no_p_value():
    found = paired_t_test([2, 3, 4, 5], [1, 1, 1, 1])
    assert found["p"] is None
    assert found["t"] is None
    assert found["note"] == "n too small"
    assert (found["n"], found["mean_difference"]) == (4, 2.5)


def test_pairs_without_both_scores_are_left_out():
    better, worse = [2, 3, 4, 5, 6, math.nan, 1], [1, 1, 1, 1, 1, 9, math.inf]
    assert paired_t_test(better, worse) == paired_t_test(better[:5], worse[:5])
    assert paired_t_test(better[1:], worse[1:])["note"] == "n too small"


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_equal_differences_have_no_p_value(gap):
    worse = np.array([0.1, 0.5, 0.7, 0.9, 0.3])
    found = paired_t_test(worse + gap, worse)
    assert found["p"] is None
    assert found["note"] == "all differences are equal"


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match=r"one score each per image. Received: 2 and 1"):
        paired_t_test([1, 2], [1])
