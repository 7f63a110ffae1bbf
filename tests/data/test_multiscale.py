import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gvtnets_tf.data.multiscale import check_scales, crop_multiscale

PAPER = (1, 2, 0.5)


def shrunk_or_enlarged(line, size):
    """Linear interpolation of a line at `size` places, as wide as it shrinks, by definition."""
    step = len(line) / size
    width = max(step, 1)
    centers = (np.arange(size) + 0.5) * step
    distance = np.abs(np.arange(len(line)) + 0.5 - centers[:, None]) / width
    weights = np.maximum(1 - distance, 0)
    return (weights / weights.sum(1, keepdims=True)) @ line


def directly(image, start, size, scales):
    """The cuts of the whole image, padded far enough, one axis and one channel at a time."""
    reach = 4 * max(size) + max(image.shape) + max(map(abs, start))
    padded = np.pad(image, [(reach, reach)] * 2 + [(0, 0)], mode="reflect").astype(float)
    parts = []
    for scale in scales:
        part = padded
        for axis, (first, n) in enumerate(zip(start, size)):
            extent = int(n * scale)
            before = reach + first - (extent - n) // 2
            part = np.take(part, range(before, before + extent), axis)
            part = np.apply_along_axis(shrunk_or_enlarged, axis, part, n)
        parts.append(part)
    return np.concatenate(parts, axis=-1)


def cut_of(image, start, size, scales=PAPER):
    return crop_multiscale(lambda index: image[index], image.shape[:2], start, size, scales)


@settings(deadline=None, max_examples=80)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    size=st.tuples(st.sampled_from([4, 8]), st.sampled_from([4, 8, 12])),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    scales=st.sampled_from([PAPER, (1,), (1, 2), (0.5, 1), (1, 2, 0.5, 4), (1, 1.5)]),
    channels=st.integers(1, 3),
)
@example((16, 16), (8, 8), (0.25, 0.25), PAPER, 2)  # corners
@example((16, 16), (8, 8), (0.75, 0.75), PAPER, 2)
@example((8, 8), (8, 8), (0.5, 0.5), PAPER, 1)  # the image is the window
@example((1, 3), (8, 8), (0.5, 0.5), (1, 2, 0.5, 4), 1)  # ... and far less than it
def test_cuts_are_those_of_the_whole_image_reflected(shape, size, place, scales, channels):
    image = np.random.default_rng(0).integers(0, 1000, (*shape, channels)).astype(np.uint16)
    # From half a window before the image to half of one behind it.
    start = [round(f * n) - s // 2 for f, n, s in zip(place, shape, size)]
    found = cut_of(image, start, size, scales)
    assert found.dtype == np.float32
    assert found.shape == (*size, len(scales) * channels)
    np.testing.assert_allclose(found, directly(image, start, size, scales), rtol=1e-4, atol=1e-2)


def test_a_pixel_of_each_cut_by_hand():
    # A ramp along x, far from its ends: the outer cut begins 4 pixels before the window and
    # takes steps of two, the inner one 2 pixels after it and takes half steps.
    ramp = np.broadcast_to(np.arange(40.0, dtype=np.float32), (40, 40))[..., None]
    found = cut_of(ramp, (16, 20), (8, 8))
    x = np.arange(8)
    np.testing.assert_allclose(found[4, :, 0], 20 + x)
    np.testing.assert_allclose(found[4, 1:-1, 1], (16.5 + 2 * x)[1:-1], rtol=1e-6)
    np.testing.assert_allclose(found[4, 1:-1, 2], (21.75 + x / 2)[1:-1], rtol=1e-6)
    # All three show the same place in their middle.
    np.testing.assert_allclose(found[:, 3:5].mean((0, 1)), 23.5, rtol=1e-6)


def test_channels_follow_each_other_scale_by_scale():
    image = np.zeros((20, 20, 3), np.float32) + [1, 2, 3]
    found = cut_of(image, (4, 8), (8, 8))
    assert found[0, 0].tolist() == [1, 2, 3] * 3


def test_every_pixel_of_the_outer_cut_counts():
    # One bright pixel is seen wherever it lies: a filter that skips pixels would lose it.
    for place in range(4, 12):
        image = np.zeros((40, 40, 1), np.float32)
        image[place, 7] = 1
        outer = cut_of(image, (4, 4), (8, 8))[..., 1]
        assert outer.sum() == pytest.approx(1 / 4, rel=1e-5)


def test_one_scale_is_the_window_itself():
    image = np.arange(5 * 7 * 2).reshape(5, 7, 2)
    np.testing.assert_array_equal(cut_of(image, (1, 2), (3, 4), (1,)), image[1:4, 2:6])


def test_a_window_with_one_column_of_the_image_shows_the_others_reflected():
    image = np.arange(6.0) * np.ones((6, 1))
    found = cut_of(image[..., None], (1, -3), (1, 4), (1,))
    assert found[0, :, 0].tolist() == [3, 2, 1, 0]


@settings(deadline=None, max_examples=40)
@given(
    start=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    turns=st.integers(0, 3),
    flips=st.sets(st.sampled_from([0, 1])),
)
def test_turning_the_image_turns_the_cut(start, turns, flips):
    image = np.random.default_rng(1).random((20, 20, 2), np.float32)
    turn = lambda array: np.rot90(np.flip(array, sorted(flips)), turns)
    where = np.zeros((20, 20), bool)
    where[start[0] : start[0] + 8, start[1] : start[1] + 8] = True
    moved = np.argwhere(turn(where))[0]
    np.testing.assert_allclose(
        cut_of(turn(image), moved, (8, 8)), turn(cut_of(image, start, (8, 8))), atol=1e-5
    )


@pytest.mark.parametrize("start", [(0, 0), (44, 90), (100, 192), (0, 192)])
def test_only_what_is_shown_is_read_and_never_beyond_the_image(start):
    asked = []

    def read(index):
        asked.append(index)
        return np.zeros([len(range(*s.indices(10**6))) for s in index] + [1], np.float32)

    crop_multiscale(read, (108, 200), start, (8, 8), PAPER)
    ((rows, columns),) = asked
    for s, n in zip((rows, columns), (108, 200)):
        assert 0 <= s.start < s.stop <= n
        assert s.stop - s.start <= 16


def test_scales_that_fit_are_numbers_in_order():
    assert check_scales([1, 2, 0.5], (8, 12), "YX") == (1.0, 2.0, 0.5)
    assert check_scales((1, 1.5), (4, 8), "YX") == (1.0, 1.5)
    # One scale is the window, of any axes and size.
    assert check_scales([1], (3, 5, 7), "ZYX") == (1.0,)


@pytest.mark.parametrize(
    "scales, size, axes, message",
    [
        (PAPER, (8, 8, 8), "ZYX", "Several scales are of YX windows. Received: axes='ZYX'."),
        (
            PAPER,
            (8, 6),
            "YX",
            "A window of 6 pixels along X cannot be cut at scale 0.5 around the same center, which "
            "needs 3 pixels, an even number more or less: use a multiple of 4 with scales such as "
            "2 and 0.5.",
        ),
        ((1, 2), (5, 8), "YX", "A window of 5 pixels along Y cannot be cut at scale 2 "),
        ((1, 1.3), (8, 8), "YX", "at scale 1.3 around the same center, which needs 10.4 pixels"),
        ((1, 0), (8, 8), "YX", "at scale 0 "),
        ((1, -1), (8, 8), "YX", "at scale -1 "),
        ((), (8, 8), "YX", "`scales` must hold 1, the window itself. Received: []."),
        ((2,), (8, 8), "YX", "`scales` must hold 1, the window itself. Received: [2]."),
        ((2, 0.5), (8, 8), "YX", "`scales` must hold 1, the window itself. Received: [2, 0.5]."),
    ],
)
def test_scales_that_do_not_fit_are_named(scales, size, axes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_scales(scales, size, axes)
