import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.data.augmentation import (
    Intensity,
    check_square,
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
    light = Intensity(0.2, 0.1, 0.1, 0.1)
    np.testing.assert_array_equal(
        light.apply(x, make_generator(0, 0)), light.apply(x, make_generator(0, 0))
    )
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", ["gain", "offset", "noise", "drop"])
def test_changes_of_brightness_that_make_no_sense_are_refused(name):
    with pytest.raises(ValueError, match=f"`augment.intensity.{name}` must be at least 0"):
        Intensity(**{name: -0.1})
    if name in ("gain", "drop"):
        with pytest.raises(ValueError, match=f"`augment.intensity.{name}` must be below 1. Recei"):
            Intensity(**{name: 1})
    else:
        Intensity(**{name: 1})
