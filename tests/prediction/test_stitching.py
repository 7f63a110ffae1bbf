import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.prediction import stitching, tiling
from gvtnets_tf.prediction.stitching import estimate_from_distribution, stitch, stitch_distributions

BLENDS = ("crop", "average", "ramp")


def planned(shape, size, overlap, axes="YX", divisor=None):
    """The plan of an image whose leading axes are gone along one by one."""
    sizes = dict(zip("ZYX"[-len(shape) :], shape))
    return tiling.plan_tiles(
        sizes, axes, axes, divisor or (1,) * len(axes), tile=size, overlap=overlap
    )


def answers(plan, channels=2, classes=4, seed=0):
    """Random distributions of every place."""
    rng = np.random.default_rng(seed)
    size = (*plan.select_output(plan.size), channels, classes)
    found = rng.random((len(plan.places), *size)) ** 4
    return (found / found.sum(-1, keepdims=True)).astype(np.float32)


def at_once(plan, parts, blend):
    """All distributions of an image in one array, from the definition of each blend."""
    total = np.zeros((*plan.padded, *parts.shape[-2:]))
    count = np.zeros(plan.padded)
    for place, part in zip(plan.places, parts):
        if blend == "crop":
            weight = np.zeros(plan.size)
            weight[place.keep] = 1
        else:
            weight = np.ones(plan.size)
            for axis, n in enumerate(plan.size if blend == "ramp" else ()):
                line = np.minimum(np.arange(n), np.arange(n)[::-1]) + 1
                weight *= line.reshape([-1 if i == axis else 1 for i in range(len(plan.size))])
        total[place.read] += weight[..., None, None] * part
        count[place.read] += weight
    return total / count[..., None, None]


def check_averaged(plan, blend, estimate, with_std, **kwargs):
    parts = answers(plan, **kwargs)
    found = stitch_distributions(enumerate(parts), plan, blend, estimate, with_std)
    expected = at_once(plan, parts, blend)
    channels, classes = expected.shape[-2:]
    assert found.dtype == np.float32
    assert found.shape == (*plan.padded, channels * (1 + with_std))
    values = np.arange(classes) / (classes - 1)
    mean = (expected * values).sum(-1)
    if estimate == "mean":
        np.testing.assert_allclose(found[..., :channels], mean, atol=1e-5)
    else:
        # Half of the probability lies on either side; rounding may decide a tie.
        chosen = np.round(found[..., :channels] * (classes - 1)).astype(int)
        below = np.cumsum(expected, -1)
        upto = np.take_along_axis(below, chosen[..., None], -1)[..., 0]
        before = upto - np.take_along_axis(expected, chosen[..., None], -1)[..., 0]
        assert (upto >= 0.5 - 1e-5).all()
        assert (before < 0.5 + 1e-5).all()
    if with_std:
        variance = (expected * (values - mean[..., None]) ** 2).sum(-1)
        np.testing.assert_allclose(found[..., channels:], np.sqrt(variance), atol=2e-3)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 23), st.integers(1, 23)),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    overlap=st.tuples(st.integers(0, 8), st.integers(0, 8)),
    planes=st.integers(0, 3),
    blend=st.sampled_from(BLENDS),
    estimate=st.sampled_from(stitching.ESTIMATES),
    with_std=st.booleans(),
)
def test_bands_are_averages_of_everything_at_once(
    shape, size, overlap, planes, blend, estimate, with_std
):
    overlap = tuple(min(o, s - 2) // 2 * 2 for o, s in zip(overlap, size))
    plan = planned(((planes,) if planes else ()) + shape, size, overlap)
    check_averaged(plan, blend, estimate, with_std)


@pytest.mark.parametrize("blend", BLENDS)
def test_bands_of_a_stack_are_planes(blend):
    plan = planned((9, 7, 8), (4, 4, 5), (2, 2, 2), axes="ZYX")
    assert len(plan.places) == 4 * 3 * 2
    check_averaged(plan, blend, "mean", True)


def test_published_windows_of_128_with_a_step_of_64():
    plan = planned((256, 200), (128, 128), (64, 64), divisor=(8, 8))
    starts = sorted({place.read[0].start for place in plan.places})
    assert starts == [0, 64, 128]
    assert sorted({place.read[1].start for place in plan.places}) == [0, 64, 72]
    check_averaged(plan, "average", "median", False, channels=1, classes=3)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("estimate", stitching.ESTIMATES)
def test_what_is_constant_stays_constant(blend, estimate):
    plan = planned((21, 17), (8, 8), (4, 4))
    parts = np.zeros((len(plan.places), 8, 8, 2, 6), np.float32)
    parts[..., 0, 3] = parts[..., 1, 5] = 1
    found = stitch_distributions(enumerate(parts), plan, blend, estimate, with_std=True)
    np.testing.assert_allclose(found[..., :2], np.broadcast_to([0.6, 1], (21, 17, 2)), atol=1e-6)
    np.testing.assert_allclose(found[..., 2:], 0, atol=1e-3)


@pytest.mark.parametrize("blend", BLENDS)
def test_one_window_is_what_the_network_says(blend):
    plan = planned((6, 7), (6, 7), (2, 2))
    (part,) = parts = answers(plan)
    found = stitch_distributions(enumerate(parts), plan, blend)
    np.testing.assert_array_equal(found, estimate_from_distribution(part))
    np.testing.assert_array_equal(stitch(enumerate(parts[..., 0]), plan, blend), part[..., 0])


def test_distributions_are_averaged_before_they_are_reduced():
    # Two windows that are sure of another class each: in the middle the median is the lower of
    # both, and the mean half way; medians that are averaged would be neither.
    plan = planned((1, 6), (1, 4), (0, 2))
    parts = np.zeros((2, 1, 4, 1, 11), np.float32)
    parts[0, ..., 2] = parts[1, ..., 8] = 1
    expected = {"median": [0.2] * 4 + [0.8] * 2, "mean": [0.2, 0.2, 0.5, 0.5, 0.8, 0.8]}
    for estimate, line in expected.items():
        found = stitch_distributions(enumerate(parts), plan, "average", estimate, with_std=True)
        np.testing.assert_allclose(found[0, :, 0], line, atol=1e-6)
        np.testing.assert_allclose(found[0, :, 1], [0, 0, 0.3, 0.3, 0, 0], atol=1e-3)
    found = stitch_distributions(enumerate(parts), plan, "crop", "mean")
    np.testing.assert_allclose(found[0, :, 0], [0.2, 0.2, 0.2, 0.8, 0.8, 0.8], atol=1e-6)


def test_median_mean_and_deviation_by_hand():
    # Classes 0, 1/4, 1/2, 3/4, 1.
    p = np.array([[0.1, 0.2, 0.3, 0.4, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5], [0, 0, 0, 0, 1]])
    p = p.astype(np.float32)
    np.testing.assert_allclose(estimate_from_distribution(p), [0.5, 0, 1])
    np.testing.assert_allclose(estimate_from_distribution(p, "mean"), [0.5, 0.5, 1], rtol=1e-6)
    variance = 0.1 * 0.25 + 0.2 * 0.0625 + 0.4 * 0.0625
    found = estimate_from_distribution(p, "median", with_std=True)
    np.testing.assert_allclose(found[0], [0.5, 0, 1])
    np.testing.assert_allclose(found[1], [np.sqrt(variance), 0.5, 0], rtol=1e-5, atol=1e-6)
    assert estimate_from_distribution(p).dtype == found.dtype == np.float32


def test_a_sum_that_ends_below_one_still_has_a_median():
    p = np.full((1, 2), 0.5, np.float32)
    assert estimate_from_distribution(p * np.float32(1 - 1e-7)) == 0
    assert estimate_from_distribution(np.full((1, 256), 1 / 256, np.float32)) == pytest.approx(
        127 / 255
    )


@pytest.mark.parametrize("blend", BLENDS)
def test_numbers_are_put_together_by_the_same_weights(blend):
    plan = planned((2, 13, 17), (6, 8), (2, 4))
    parts = np.random.default_rng(0).random((len(plan.places), 1, 6, 8, 3), np.float32)
    expected = at_once(plan, parts[..., None], blend)[..., 0]
    found = stitch(enumerate(parts), plan, blend)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_one_band_of_distributions_is_held_at_a_time():
    plan = planned((640, 64), (32, 32), (16, 16))
    assert stitching.count_band_voxels(plan) == 32 * 64
    one = answers(planned((32, 32), (32, 32), (0, 0)), channels=3, classes=64)[0]
    band, window = 4 * 32 * 64 * 3 * 64, one.nbytes
    tracemalloc.start()
    try:
        out = stitch_distributions(((i, one) for i in range(len(plan.places))), plan, "average")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The band, half of it while it is moved up, a weighted window and the result. All
    # distributions would be twenty bands.
    assert peak < 1.6 * band + 2 * window + out.nbytes


def test_a_band_of_a_plane_of_a_stack_is_one_plane_high():
    assert stitching.count_band_voxels(planned((5, 100, 64), (32, 32), (16, 16))) == 32 * 64
    assert (
        stitching.count_band_voxels(planned((20, 64, 64), (8, 32, 32), (2, 2, 2), "ZYX"))
        == 8 * 64**2
    )
