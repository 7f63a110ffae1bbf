import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.evaluation import metrics

FEW = settings(deadline=None, max_examples=25)
SEEDS = st.integers(0, 2**32 - 1)
GAINS = st.floats(1e-3, 1e3)
OFFSETS = st.floats(-1e3, 1e3)


def pair(seed=0, shape=(9, 10, 11), noise=0.5):
    """Two arrays that agree up to noise."""
    generator = np.random.default_rng(seed)
    true = generator.normal(size=shape)
    return true, true + noise * generator.normal(size=shape)


@pytest.mark.parametrize(
    "prediction, expected",
    # Deviations from the mean: -1.5, -.5, .5, 1.5, of which the squares sum to 5.
    [([2, 4, 6, 8], 1.0), ([4, 3, 2, 1], -1.0), ([1, 3, 2, 4], 0.8), ([2, 1, 4, 3], 0.6)],
)
def test_r_of_four_voxels_by_hand(prediction, expected):
    assert metrics.pearson(np.arange(1, 5), prediction) == pytest.approx(expected)


@FEW
@given(SEEDS, GAINS, OFFSETS)
def test_r_does_not_see_gain_and_offset(seed, gain, offset):
    true, prediction = pair(seed, (5, 6))
    expected = metrics.pearson(true, prediction)
    assert metrics.pearson(true, gain * prediction + offset) == pytest.approx(expected, abs=1e-9)
    assert metrics.pearson(gain * true + offset, prediction) == pytest.approx(expected, abs=1e-9)
    assert metrics.pearson(true, -gain * prediction) == pytest.approx(-expected, abs=1e-9)


@pytest.mark.parametrize("value", [0, 0.1, 1e9])
def test_r_of_a_constant_is_nan(value):
    true, _ = pair()
    assert math.isnan(metrics.pearson(true, np.full_like(true, value)))
    assert math.isnan(metrics.pearson(np.full_like(true, value), true))


def test_r_of_sixteen_bit_counts_is_not_lost_to_overflow():
    true = np.array([0, 65535, 65534, 1], np.uint16)
    assert metrics.pearson(true, true) == pytest.approx(1.0)
    assert metrics.pearson(true, true[[1, 0, 3, 2]]) == pytest.approx(-1.0)
    assert metrics.mae(true[:2], true[1::-1]) == 65535


def test_r2_is_one_for_the_truth_zero_for_its_mean_and_below_for_worse():
    true = np.array([1.0, 2, 3, 4])
    assert metrics.r2(true, true) == 1
    assert metrics.r2(true, np.full(4, 2.5)) == 0
    assert metrics.r2(true, true[::-1]) == -3  # error 9 + 1 + 1 + 9, spread 5
    assert metrics.r2(true, true + 1) == pytest.approx(0.2)  # although r is 1
    assert math.isnan(metrics.r2(np.ones(4), true))


def test_errors_of_three_voxels_by_hand():
    assert metrics.mae([0, 2, 4], [1, 0, 4]) == 1
    assert metrics.mse([0, 2, 4], [1, 0, 4]) == pytest.approx(5 / 3)
    assert metrics.normalized_l2([0, 2, 4], [1, 0, 4]) == pytest.approx(5 / 20)


def test_psnr_of_a_known_error():
    true = np.zeros((4, 4))
    assert metrics.psnr(true, true + 0.1, data_range=1.0) == pytest.approx(20.0)
    assert metrics.psnr(true, true + 25.5, data_range=255) == pytest.approx(20.0)


def test_psnr_without_error_is_infinite():
    assert metrics.psnr(np.arange(4), np.arange(4), data_range=3) == math.inf


def test_a_blank_image_has_a_normalized_l2_of_one():
    true, prediction = pair()
    assert metrics.normalized_l2(true, np.zeros_like(true)) == 1
    assert 0 < metrics.normalized_l2(true, prediction) < 1
    assert math.isnan(metrics.normalized_l2(np.zeros(3), np.ones(3)))


def test_ssim_of_one_window_follows_the_formula():
    true, prediction = pair(shape=(7, 7, 7))
    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    mean_t, mean_p = true.mean(), prediction.mean()
    cov = np.cov(true.ravel(), prediction.ravel())
    numerator = (2 * mean_t * mean_p + c1) * (2 * cov[0, 1] + c2)
    denominator = (mean_t**2 + mean_p**2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
    # A 7-wide window fits a 7-wide volume once.
    expected = numerator / denominator
    assert metrics.ssim(true, prediction, data_range=2.0) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(20,), (12, 13), (8, 9, 10)])
def test_ssim_is_that_of_scikit_image_over_the_whole_volume(shape):
    from skimage.metrics import structural_similarity

    true, prediction = pair(shape=shape)
    expected = structural_similarity(true, prediction, data_range=3.0)
    assert metrics.ssim(true, prediction, data_range=3.0) == pytest.approx(expected)
    assert metrics.ssim(true, true, data_range=3.0) == pytest.approx(1.0)


def test_ssim_of_a_short_stack_is_the_mean_over_its_planes():
    true, prediction = pair(shape=(5, 12, 12))
    planes = [metrics.ssim(t, p, data_range=1.0) for t, p in zip(true, prediction)]
    assert metrics.ssim(true, prediction, data_range=1.0) == pytest.approx(np.mean(planes))
    moved = [np.moveaxis(x, 0, -1) for x in (true, prediction)]
    assert metrics.ssim(*moved, data_range=1.0) == pytest.approx(np.mean(planes))


def test_ssim_ignores_axes_of_length_one():
    true, prediction = pair(shape=(12, 12))
    expected = metrics.ssim(true, prediction, data_range=1.0)
    assert metrics.ssim(true[None], prediction[None], data_range=1.0) == pytest.approx(expected)


def test_ssim_without_room_for_a_window_is_nan():
    assert math.isnan(metrics.ssim(*pair(shape=(5, 6, 6)), data_range=1.0))


def test_ssim_depends_on_the_data_range():
    true, prediction = pair()
    narrow = metrics.ssim(true, prediction, data_range=0.1)
    assert narrow < metrics.ssim(true, prediction, data_range=100.0) < 1


def test_affine_fit_follows_the_published_definition():
    true, prediction = pair(3, (8, 9, 10))
    low, high = np.percentile(true, (0.1, 99.9))
    expected = (true - low) / (high - low)
    expected = expected - expected.mean()
    gain = np.cov(prediction.ravel(), expected.ravel(), ddof=1)[0, 1] / np.var(prediction, ddof=0)
    g, x = metrics.affine_fit(true, prediction)
    np.testing.assert_allclose(g, expected, atol=1e-12)
    np.testing.assert_allclose(x, gain * (prediction - prediction.mean()), atol=1e-12)


def test_affine_fit_of_three_voxels_by_hand():
    # Percentiles 0.1 and 99.9 of (0, 1, 2) are 0.002 and 1.998, so N spans 1.996 and
    # g = (-1, 0, 1) / 1.996. cov with ddof 1 over var with ddof 0 is 3/2 of the slope.
    g, x = metrics.affine_fit([0, 1, 2], [10, 20, 30])
    np.testing.assert_allclose(g, np.array([-1, 0, 1]) / 1.996)
    np.testing.assert_allclose(x, np.array([-1.5, 0, 1.5]) / 1.996)
    error = math.sqrt(2 / 3) * 0.5 / 1.996
    assert metrics.nrmse_fit([0, 1, 2], [10, 20, 30]) == pytest.approx(error)
    assert metrics.psnr_fit([0, 1, 2], [10, 20, 30]) == pytest.approx(-20 * math.log10(error))


def test_nrmse_after_the_fit_is_not_divided_again():
    true, prediction = pair(4)
    g, x = metrics.affine_fit(true, prediction)
    assert metrics.nrmse_fit(true, prediction) == pytest.approx(np.sqrt(np.mean((g - x) ** 2)))


def test_ssim_after_the_fit_is_that_of_the_centred_images():
    true, prediction = pair(5)
    g, x = metrics.affine_fit(true, prediction)
    centerd = metrics.ssim(g, x, data_range=1.0)
    assert metrics.ssim_fit(true, prediction) == pytest.approx(centerd)
    # Centring matters: with their mean back, the images look more alike.
    assert metrics.ssim(g + 0.5, x + 0.5, data_range=1.0) > centerd + 0.01


@FEW
@given(SEEDS, GAINS, OFFSETS)
def test_scores_after_the_fit_do_not_see_gain_and_offset_of_either_image(seed, gain, offset):
    true, prediction = pair(seed, (8, 9))
    for score in (metrics.nrmse_fit, metrics.psnr_fit, metrics.ssim_fit):
        expected = score(true, prediction)
        assert score(true, gain * prediction + offset) == pytest.approx(expected, abs=1e-6)
        assert score(gain * true + offset, prediction) == pytest.approx(expected, abs=1e-6)


def test_the_best_fit_of_a_constant_prediction_is_zero():
    true, _ = pair()
    g, x = metrics.affine_fit(true, np.full_like(true, 7.0))
    assert not x.any()
    assert metrics.nrmse_fit(true, np.full_like(true, 7.0)) == pytest.approx(g.std())


def test_scores_after_the_fit_are_nan_where_the_truth_is_all_but_empty():
    true, prediction = np.zeros((40, 40)), pair(shape=(40, 40))[0]
    true[3, 4] = 1  # one voxel of 1,600 lies beyond both percentiles
    scores = metrics.all_metrics(true, prediction)
    assert {k for k, v in scores.items() if math.isnan(v)} == {"nrmse_fit", "psnr_fit", "ssim_fit"}


def test_all_metrics_are_the_single_ones_and_state_the_data_range():
    true, prediction = pair(6)
    scores = metrics.all_metrics(true, prediction)
    assert scores["data_range"] == np.ptp(true)
    assert scores.pop("r") == pytest.approx(metrics.pearson(true, prediction))
    for name in ("r2", "mae", "mse", "normalized_l2", "nrmse_fit", "psnr_fit", "ssim_fit"):
        assert scores.pop(name) == pytest.approx(getattr(metrics, name)(true, prediction)), name
    for name in ("psnr", "ssim"):
        assert scores.pop(name) == getattr(metrics, name)(true, prediction, np.ptp(true)), name
    assert set(scores) == {"data_range"}


def test_all_metrics_take_a_given_data_range():
    true, prediction = pair(6)
    scores = metrics.all_metrics(true, prediction, data_range=255)
    assert scores["data_range"] == 255
    assert scores["psnr"] == metrics.psnr(true, prediction, 255)


def test_all_metrics_of_a_perfect_prediction():
    true, _ = pair()
    scores = metrics.all_metrics(true, true)
    assert scores["r"] == scores["r2"] == pytest.approx(1)
    assert scores["mae"] == scores["mse"] == scores["normalized_l2"] == 0
    assert scores["psnr"] == math.inf


def test_a_constant_truth_cannot_be_scored_without_a_data_range():
    true, prediction = np.full((8, 8), 3.0), pair(shape=(8, 8))[0]
    with pytest.raises(ValueError, match=r"truth is constant.*3 in all 64 voxels"):
        metrics.all_metrics(true, prediction)
    assert math.isnan(metrics.all_metrics(true, prediction, data_range=1)["r"])


SCORES = [
    metrics.pearson,
    metrics.r2,
    metrics.mae,
    metrics.mse,
    metrics.normalized_l2,
    metrics.nrmse_fit,
    metrics.psnr_fit,
    metrics.ssim_fit,
    metrics.all_metrics,
    lambda true, prediction: metrics.psnr(true, prediction, 1.0),
    lambda true, prediction: metrics.ssim(true, prediction, 1.0),
]


@pytest.mark.parametrize("score", SCORES)
def test_shapes_that_differ_are_named_and_never_broadcast(score):
    with pytest.raises(ValueError, match=r"true \(4, 4\), prediction \(1, 4\)"):
        score(np.ones((4, 4)), np.ones((1, 4)))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(score, bad):
    true, prediction = pair(shape=(8, 8))
    prediction[0, :2] = bad
    with pytest.raises(ValueError, match=r"`prediction` holds 2 values that are NaN.*out of 64"):
        score(true, prediction)
    with pytest.raises(ValueError, match=r"`true` holds 2 values"):
        score(prediction, true)


def test_empty_images_are_refused():
    with pytest.raises(ValueError, match=r"voxels in it. Received: true \(0, 3\)"):
        metrics.mse(np.ones((0, 3)), np.ones((0, 3)))


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim])
@pytest.mark.parametrize("data_range", [0, -1, math.nan])
def test_a_data_range_that_is_not_positive_is_refused(score, data_range):
    with pytest.raises(ValueError, match=r"`data_range` must be above 0. Received: data_range="):
        score(*pair(), data_range)
