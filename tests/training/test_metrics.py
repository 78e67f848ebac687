import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from hepfm.training.metrics import (
    Roc,
    accuracy,
    auc,
    auc_error,
    confusion,
    event_bootstrap,
    jensen_shannon,
    rejection,
    roc,
    spread_over_views,
    wasserstein,
)

SCORE = np.array([0.9, 0.8, 0.8, 0.6, 0.3, 0.3, 0.1])
SIGNAL = np.array([True, True, False, True, True, False, False])

# Few different scores, so that many are equal.
scores = arrays(np.float64, st.integers(2, 40), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))


@st.composite
def labelled_scores(draw):
    """Scores with many ties, and at least one jet of both kinds."""
    score = draw(scores)
    is_signal = draw(arrays(bool, len(score)))
    is_signal[:2] = True, False
    return score, is_signal


def test_the_area_under_the_curve_is_that_of_counting_pairs_by_hand():
    # 12 pairs: 0.9 beats all 3; 0.8 beats 2 and ties 1; 0.6 beats 2; 0.3 beats 1 and ties 1.
    assert auc(SCORE, SIGNAL) == pytest.approx((3 + 2.5 + 2 + 1.5) / 12)


@given(labelled_scores())
def test_the_area_under_the_curve_agrees_with_all_pairs(both):
    score, is_signal = both
    one, two = score[is_signal][:, np.newaxis], score[~is_signal]
    assert auc(score, is_signal) == pytest.approx(np.mean((one > two) + 0.5 * (one == two)))


@given(labelled_scores())
def test_the_area_under_the_curve_agrees_with_the_curve(both):
    curve = roc(*both)
    assert np.trapezoid(curve.signal, curve.background) == pytest.approx(auc(*both))


def test_there_is_no_area_without_both_kinds_of_jets():
    assert math.isnan(auc(SCORE, np.ones(7, bool)))


def test_the_error_of_the_area_is_what_repeated_experiments_show():
    rng = np.random.default_rng(5)
    is_signal = np.arange(600) < 200
    areas = [auc(rng.normal(is_signal * 1.0), is_signal) for _ in range(400)]
    assert auc_error(float(np.mean(areas)), 200, 400) == pytest.approx(np.std(areas), rel=0.15)


def test_the_curve_has_a_point_a_different_score():
    curve = roc(SCORE, SIGNAL)
    np.testing.assert_allclose(curve.signal, np.array([0, 1, 2, 3, 4, 4]) / 4)
    np.testing.assert_allclose(curve.background, np.array([0, 0, 1, 1, 2, 3]) / 3)


@pytest.mark.parametrize(
    ("efficiency", "passing"), [(0.25, 0), (0.375, 1 / 6), (0.5, 1 / 3), (0.75, 1 / 3), (1.0, 2 / 3)]
)
def test_background_at_an_efficiency_lies_on_the_curve(efficiency, passing):
    assert roc(SCORE, SIGNAL).background_at(efficiency) == pytest.approx(passing)


def test_rejection_is_one_over_the_background_that_passes():
    assert rejection(roc(SCORE, SIGNAL), 0.5).value == pytest.approx(3)


@pytest.mark.parametrize("efficiency", [0.2, 0.4], ids=["no jet", "a part of a jet"])
def test_rejection_is_infinite_where_less_than_one_jet_passes(efficiency):
    found = rejection(roc(SCORE, SIGNAL), efficiency)
    assert math.isinf(found.value)
    assert math.isnan(found.error)


def test_the_error_of_rejection_is_what_repeated_experiments_show():
    rng = np.random.default_rng(6)
    is_signal = np.arange(4000) < 500
    found = [rejection(roc(rng.normal(is_signal * 1.5), is_signal), 0.5) for _ in range(300)]
    assert np.mean([r.error for r in found]) == pytest.approx(np.std([r.value for r in found]), rel=0.15)


def test_a_thinned_curve_rejects_the_same():
    rng = np.random.default_rng(7)
    is_signal = rng.random(5000) < 0.5
    curve = roc(rng.normal(is_signal * 1.0), is_signal)
    thin = curve.thinned(201)
    assert len(thin.signal) == 201
    assert thin.background_at(0.5) == pytest.approx(curve.background_at(0.5))
    assert isinstance(thin, Roc)


def test_accuracy_counts_what_is_right():
    found = accuracy(np.array([0, 1, 2, 2]), np.array([0, 1, 2, 0]))
    assert found.value == 0.75
    assert found.error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))


def test_confusion_has_the_truth_in_its_rows():
    counts = confusion(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@given(scores, scores)
def test_the_wasserstein_distance_agrees_with_scipy(one, two):
    assert wasserstein(one, two) == pytest.approx(wasserstein_distance(one, two), abs=1e-12)


@given(scores, scores, st.randoms(use_true_random=False))
def test_the_weighted_wasserstein_distance_is_that_of_repeated_values(one, two, random):
    times = [np.array([random.randint(0, 3) for _ in values]) for values in (one, two)]
    times[0][0] = times[1][0] = 1
    repeated = [np.repeat(values, n) for values, n in zip((one, two), times, strict=True)]
    assert wasserstein(one, two, tuple(times)) == pytest.approx(wasserstein_distance(*repeated), abs=1e-12)


def test_moving_all_scores_moves_them_by_the_wasserstein_distance():
    values = np.random.default_rng(8).random(100)
    assert wasserstein(values, values + 0.3) == pytest.approx(0.3)


@given(*[arrays(np.float64, 12, elements=st.integers(0, 50)) for _ in range(2)])
def test_the_jensen_shannon_distance_agrees_with_scipy(one, two):
    one[0], two[-1] = one[0] + 1, two[-1] + 1
    assert jensen_shannon(one, two) == pytest.approx(jensenshannon(one, two, base=2), abs=1e-6)


def test_histograms_without_a_common_bin_are_at_distance_one():
    assert jensen_shannon(np.array([3.0, 0.0]), np.array([0.0, 7.0])) == pytest.approx(1)


def test_the_bootstrap_knows_that_views_of_an_event_are_not_independent():
    """The mean of n events, each seen ten times alike, is as uncertain as that of n values."""
    rng = np.random.default_rng(9)
    events = np.repeat(np.arange(400), 10)
    values = rng.normal(size=400)[events]
    error = event_bootstrap(events, lambda times: float(np.average(values, weights=times)), 400, seed=1)
    assert error == pytest.approx(1 / math.sqrt(400), rel=0.15)


def test_spread_is_within_jets_and_not_between_them():
    score = np.array([0.1, 0.3, 0.9, 0.9, 0.5])
    spread, n_jets = spread_over_views(score, np.array([0, 0, 1, 1, 2]))
    # Variances 0.02 and 0; the third jet has one view only.
    assert spread == pytest.approx(math.sqrt(0.01))
    assert n_jets == 2


def test_jets_with_one_view_have_no_spread():
    spread, n_jets = spread_over_views(np.array([0.1, 0.5]), np.array([0, 1]))
    assert math.isnan(spread)
    assert n_jets == 0
