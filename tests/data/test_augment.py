import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.data.augment import back, check_square, draw, turn
from gvtnets_tf.data.patches import rng

STACK = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)


@given(st.permutations("ZYXC"), st.integers(-4, 7), st.sets(st.sampled_from("ZYX")))
@settings(deadline=None, max_examples=50)
def test_a_turn_can_be_undone_in_any_axis_order(axes, turns, flips):
    axes, flips = "".join(axes), "".join(sorted(flips))
    turned = turn(STACK, turns, flips, axes)
    np.testing.assert_array_equal(back(turned, turns, flips, axes), STACK)


def test_a_quarter_turn_takes_y_to_x_and_leaves_z_and_channels():
    turned = turn(STACK, 1, "", "ZYXC")
    assert turned.shape == (2, 4, 3, 2)
    for z, c in np.ndindex(2, 2):
        np.testing.assert_array_equal(turned[z, ..., c], np.rot90(STACK[z, ..., c]))


def test_flips_reverse_the_axes_they_name():
    np.testing.assert_array_equal(turn(STACK, 0, "ZX", "ZYXC"), STACK[::-1, :, ::-1])


def test_a_projected_target_is_turned_as_its_stack():
    projection = STACK.max(0)
    turned = turn(STACK, 3, "ZY", "ZYXC").max(0)
    np.testing.assert_array_equal(turn(projection, 3, "ZY", "YXC"), turned)


def test_all_turns_and_flips_are_drawn_equally_often():
    turns, flips = draw(4000, "ZYX", rng(0, 0), flip=True, rotate=True)
    assert np.bincount(turns) == pytest.approx(1000, rel=0.1)
    assert flips.shape == (4000, 3) and flips.dtype == bool
    assert flips.mean(0) == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(flips.T) - np.eye(3)).max() < 0.05


def test_what_is_switched_off_is_not_drawn_but_uses_up_its_numbers():
    both, neither, flips = rng(0, 0), rng(0, 0), rng(0, 0)
    draw(9, "YX", both, flip=True, rotate=True)
    assert not any(part.any() for part in draw(9, "YX", neither))
    turns, _ = draw(9, "YX", flips, flip=True)
    assert not turns.any()
    assert both.random() == neither.random() == flips.random()


def test_quarter_turns_of_oblong_patches_are_refused():
    check_square((3, 8, 8), "ZYX")
    with pytest.raises(ValueError, match=r"use a square patch.*8 voxels along Y and 4 along X"):
        check_square((3, 8, 4), "ZYX")
    with pytest.raises(ValueError, match=r"need the axes Y and X. Received: axes='ZY'"):
        check_square((3, 8), "ZY")
