import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.data.augmentation import (
    Elastic,
    Intensity,
    check_one_scale,
    check_square,
    displace,
    flip_and_rotate,
    sample_transforms,
)
from gvtnets_tf.data.patch_sampling import make_generator

STACK = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)


@given(st.permutations("ZYXC"), st.integers(-4, 7), st.sets(st.sampled_from("ZYX")))
@settings(deadline=None, max_examples=50)
def test_a_turn_can_be_undone_in_any_axis_order(axes, turns, flips):
    axes, flips = "".join(axes), "".join(sorted(flips))
    turned = flip_and_rotate(STACK, turns, flips, axes)
    back = flip_and_rotate(flip_and_rotate(turned, -turns, "", axes), 0, flips, axes)
    np.testing.assert_array_equal(back, STACK)


def test_a_quarter_turn_takes_y_to_x_and_leaves_z_and_channels():
    turned = flip_and_rotate(STACK, 1, "", "ZYXC")
    assert turned.shape == (2, 4, 3, 2)
    for z, c in np.ndindex(2, 2):
        np.testing.assert_array_equal(turned[z, ..., c], np.rot90(STACK[z, ..., c]))


def test_flips_reverse_the_axes_they_name():
    np.testing.assert_array_equal(flip_and_rotate(STACK, 0, "ZX", "ZYXC"), STACK[::-1, :, ::-1])


def test_a_projected_target_is_turned_as_its_stack():
    projection = STACK.max(0)
    turned = flip_and_rotate(STACK, 3, "ZY", "ZYXC").max(0)
    np.testing.assert_array_equal(flip_and_rotate(projection, 3, "ZY", "YXC"), turned)


def test_all_turns_and_flips_are_drawn_equally_often():
    turns, flips = sample_transforms(4000, "ZYX", make_generator(0, 0), flip=True, rotate=True)
    assert np.bincount(turns) == pytest.approx(1000, rel=0.1)
    assert flips.shape == (4000, 3) and flips.dtype == bool
    assert flips.mean(0) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(flips.T) - np.eye(3)).max() < 0.05


def test_what_is_switched_off_is_not_drawn_but_uses_up_its_numbers():
    both, neither, flips = make_generator(0, 0), make_generator(0, 0), make_generator(0, 0)
    sample_transforms(9, "YX", both, flip=True, rotate=True)
    assert not any(part.any() for part in sample_transforms(9, "YX", neither))
    turns, _ = sample_transforms(9, "YX", flips, flip=True)
    assert not turns.any()
    assert both.random() == neither.random() == flips.random()


def test_quarter_turns_of_oblong_patches_are_refused():
    check_square((3, 8, 8), "ZYX")
    with pytest.raises(ValueError, match=r"use a square patch.*8 voxels along Y and 4 along X"):
        check_square((3, 8, 4), "ZYX")
    with pytest.raises(ValueError, match=r"need the axes Y and X. Received: axes='ZY'"):
        check_square((3, 8), "ZY")


# Other light.


def test_the_brightness_of_a_patch_is_one_line():
    x = np.linspace(-1, 1, 96, dtype=np.float32).reshape(4, 4, 6)
    y = Intensity(gain=0.5, offset=0.3).apply(x, make_generator(0, 0), scales=(1, 2, 0.5))
    assert y.dtype == np.float32
    slope, shift = np.polyfit(x.ravel(), y.ravel(), 1)
    np.testing.assert_allclose(y, slope * x + shift, atol=1e-5)
    assert slope != 1 and shift != 0


def test_gain_and_offset_reach_as_far_as_they_say():
    zero, one = np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32)
    draws = [make_generator(0, i) for i in range(500)]
    offsets = [Intensity(offset=0.25).apply(zero, r).item() for r in draws]
    assert min(offsets) == pytest.approx(-0.25, abs=0.01)
    assert max(offsets) == pytest.approx(0.25, abs=0.01)
    gains = [Intensity(gain=0.25).apply(one, r).item() for r in draws]
    assert min(gains) == pytest.approx(0.75, abs=0.01)
    assert max(gains) == pytest.approx(1.25, abs=0.01)
    assert np.mean(gains) == pytest.approx(1, abs=0.02)


def test_noise_has_the_spread_it_says_in_every_voxel_by_itself():
    x = np.zeros((40, 40, 4), np.float32)
    y = Intensity(noise=0.2).apply(x, make_generator(0, 0), scales=(1, 2))
    assert y.dtype == np.float32
    assert y.std() == pytest.approx(0.2, rel=0.05)
    assert np.abs(np.corrcoef(y.reshape(-1, 4).T) - np.eye(4)).max() < 0.1


def test_a_channel_is_dropped_at_all_its_scales():
    x = np.ones((2, 2, 12), np.float32)  # four channels at three scales
    kept = [
        Intensity(drop=0.5).apply(x, make_generator(0, i), scales=(1, 2, 0.5))[0, 0]
        for i in range(400)
    ]
    kept = np.reshape(kept, (400, 3, 4))
    assert (kept == kept[:, :1]).all()
    np.testing.assert_allclose(kept.mean((0, 1)), 0.5, atol=0.08)
    assert set(np.unique(kept)) == {0, 1}
    # A dropped channel is 0, which is the mean, whatever the offset is.
    dark = Intensity(drop=0.5, offset=0.3).apply(x, make_generator(0, 1), scales=(1, 2, 0.5))[0, 0]
    assert 0 in dark


def test_nothing_is_changed_by_default_and_the_same_numbers_give_the_same_patch():
    x = np.random.default_rng(0).random((3, 4, 2), np.float32)
    np.testing.assert_array_equal(Intensity().apply(x, make_generator(0, 0)), x)
    before = x.copy()
    light = Intensity(0.2, 0.1, (0.1, 0.3), 0.1, 1.5)
    np.testing.assert_array_equal(
        light.apply(x, make_generator(0, 0)), light.apply(x, make_generator(0, 0))
    )
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["gain", "offset", "noise", "drop", "blur"])
def test_changes_of_brightness_that_make_no_sense_are_refused(name):
    with pytest.raises(ValueError, match=f"`augment.intensity.{name}` must be at least 0"):
        Intensity(**{name: -0.1})
    if name in ("gain", "drop"):
        with pytest.raises(ValueError, match=f"`augment.intensity.{name}` must be below 1. Recei"):
            Intensity(**{name: 1})
    else:
        Intensity(**{name: 1})


def test_each_patch_draws_its_own_level_of_noise():
    x, light = np.zeros((40, 40, 1), np.float32), Intensity(noise=(0.1, 0.4))
    levels = [light.apply(x, make_generator(0, i)).std() for i in range(200)]
    assert min(levels) == pytest.approx(0.1, abs=0.02)
    assert max(levels) == pytest.approx(0.4, abs=0.02)
    assert np.mean(levels) == pytest.approx(0.25, abs=0.02)
    # Equal ends are a fixed level.
    fixed = Intensity(noise=(0.2, 0.2)).apply(x, make_generator(0, 0))
    assert fixed.std() == pytest.approx(0.2, rel=0.05)


def test_a_level_of_noise_does_not_change_the_brightness_that_is_drawn():
    x = np.ones((2, 2, 1), np.float32)
    plain = Intensity(gain=0.5).apply(x, make_generator(0, 0))
    np.testing.assert_array_equal(
        Intensity(gain=0.5, noise=(0, 0)).apply(x, make_generator(0, 0)), plain
    )


@pytest.mark.parametrize("noise", [(0.2,), (), (0.3, 0.1), (-0.1, 0.1), (0, 0.1, 0.2)])
def test_levels_of_noise_are_two_in_order(noise):
    with pytest.raises(ValueError, match=r"noise` must be a number, or \[low, high\] with 0 <= lo"):
        Intensity(noise=noise)


def test_a_blur_spreads_a_point_and_keeps_its_light():
    x = np.zeros((41, 41, 1), np.float32)
    x[20, 20] = 1
    place, widths = np.arange(41) - 20, []
    for i in range(200):
        y = Intensity(blur=3).apply(x, make_generator(0, i))
        assert y.dtype == np.float32 and y.sum() == pytest.approx(1, abs=1e-3)
        widths.append(np.sqrt(y.sum((1, 2)) @ place**2))
    assert min(widths) < 0.3 and 2.8 < max(widths) < 3.05
    assert np.mean(widths) == pytest.approx(1.5, abs=0.2)


def test_a_blur_leaves_channels_apart_and_is_as_wide_in_the_image_at_each_scale():
    x = np.zeros((41, 41, 6), np.float32)  # two channels at three scales
    x[20, 20, ::2] = 1
    y = Intensity(blur=3).apply(x, make_generator(0, 4), scales=(1, 2, 0.5))
    assert not y[..., 1::2].any()
    place = np.arange(41) - 20
    one, two, half = (np.sqrt(y[..., i].sum(1) @ place**2) for i in (0, 2, 4))
    assert one > 1
    assert (two, half) == pytest.approx((one / 2, 2 * one), rel=0.1)


# Displacement.


@given(st.integers(2, 3), st.floats(0, 8), st.floats(0.5, 20), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_a_displacement_is_never_larger_than_it_says_and_is_smooth(rank, alpha, sigma, seed):
    grid = (6, 16, 20)[-rank:]
    field = Elastic(alpha, sigma).sample(grid, np.random.default_rng(seed))
    assert field.shape == (rank, *grid)
    assert np.linalg.norm(field, axis=0).max() <= alpha * (1 + 1e-9)
    if sigma >= 2:
        steps = [np.abs(np.diff(field, axis=1 + axis)).max() for axis in range(rank)]
        assert max(steps) <= alpha * 2 / sigma + 1e-12


@given(st.integers(0, 2**32 - 1), st.sampled_from([(12, 14), (5, 12, 14)]))
@settings(deadline=None, max_examples=30)
def test_input_and_target_are_displaced_alike(seed, grid):
    rng = np.random.default_rng(seed)
    x = rng.random((*grid, 2)).astype(np.float32)
    field = Elastic(3, 2).sample(grid, rng)
    moved = displace(x, field)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(displace(3 * x[..., 1:] + 1, field), 3 * moved[..., 1:] + 1, 1e-4)
    # Linear interpolation invents no values.
    assert x.min() <= moved.min() and moved.max() <= x.max()


def test_a_displacement_by_whole_voxels_is_a_shift():
    x = np.arange(30, dtype=np.float32).reshape(5, 6, 1)
    field = np.zeros((2, 5, 6))
    np.testing.assert_array_equal(displace(x, field), x)
    field[1] = 1  # each voxel is taken from its neighbor along X, the last from its mirror image
    np.testing.assert_array_equal(displace(x, field)[:, :-1], x[:, 1:])
    np.testing.assert_array_equal(displace(x, field)[:, -1], x[:, -2])
    field[1] = 0.25
    np.testing.assert_allclose(displace(x, field)[:, :-1], x[:, :-1] + 0.25)


def test_the_planes_of_a_projected_stack_move_as_one():
    rng = np.random.default_rng(0)
    stack = rng.random((4, 12, 12, 1)).astype(np.float32)
    field = Elastic(3, 2).sample((12, 12), rng)
    moved = displace(stack, field)
    for plane, expected in zip(moved, stack):
        np.testing.assert_array_equal(plane, displace(expected, field))


def test_missing_labels_stay_missing_and_do_not_spread():
    y = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    y[..., 1], y[3, 4, 2] = np.nan, np.nan
    moved = displace(y, Elastic(2, 3).sample((12, 12), np.random.default_rng(1)))
    assert np.isnan(moved[..., 1]).all() and np.isfinite(moved[..., 0]).all()
    assert np.isnan(moved[..., 2]).sum() <= 4
    known = set(y[..., 2][np.isfinite(y[..., 2])])
    assert set(moved[..., 2][np.isfinite(moved[..., 2])]) <= known


def test_a_displacement_at_several_scales_is_refused():
    check_one_scale((1,))
    text = r"patches at one scale: leave out `augment.elastic`.* Received: scales=\[1, 2\]\."
    with pytest.raises(ValueError, match=text):
        check_one_scale((1, 2))
