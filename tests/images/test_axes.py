import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.images.axes import ORDER, check_axes, rearrange, spatial_axes

orders = st.permutations(ORDER).map("".join)


@given(axes=orders, count=st.integers(1, 5), to=orders)
@settings(deadline=None, max_examples=50)
def test_moving_there_and_back_changes_nothing(axes, count, to):
    axes = axes[:count]
    array = np.arange(np.prod(range(2, 2 + count))).reshape(range(2, 2 + count))
    moved = rearrange(array, axes, to)
    assert moved.ndim == 5
    for letter, size in zip(to, moved.shape):
        assert size == (array.shape[axes.index(letter)] if letter in axes else 1)
    np.testing.assert_array_equal(rearrange(moved, to, axes), array)


def test_each_letter_keeps_its_entries():
    array = np.arange(6).reshape(2, 3)
    assert rearrange(array, "CX", "XC")[2, 1] == array[1, 2]
    assert rearrange(array, "CX", "ZXC").shape == (1, 3, 2)
    assert rearrange(array[None], "TCX", "XC").shape == (3, 2)


def test_letters_may_be_small():
    assert check_axes("zyx") == "ZYX"
    assert rearrange(np.zeros((2, 3)), "yx", "xyc").shape == (3, 2, 1)


def test_a_view_is_not_a_copy():
    array = np.zeros((2, 3))
    rearrange(array, "YX", "XYC")[0, 1, 0] = 5
    assert array[1, 0] == 5


def test_an_axis_longer_than_one_is_not_dropped():
    with pytest.raises(ValueError, match=r"Axis C has 3 entries and no place in 'YX'.*\(3, 4, 4\)"):
        rearrange(np.zeros((3, 4, 4)), "CYX", "YX")


@pytest.mark.parametrize("axes", ["ZZX", "ZYW", "Z Y"])
def test_letters_that_are_unknown_or_double_are_refused(axes):
    with pytest.raises(ValueError, match=f"distinct letters of 'TCZYX'.*axes='{axes}'"):
        check_axes(axes)
    with pytest.raises(ValueError, match=f"distinct letters of 'TCZYX'.*axes='{axes}'"):
        rearrange(np.zeros((2, 2, 2)), "ZYX", axes)


def test_a_letter_is_needed_for_every_axis():
    with pytest.raises(ValueError, match=r"axes='YX' \(2 letters\) for an image with 3 axes"):
        check_axes("YX", 3)
    with pytest.raises(ValueError, match=r"distinct letters of 'ZYX'"):
        check_axes("CYX", allowed="ZYX")


def test_spatial_letters_keep_their_order():
    assert spatial_axes("TCXZY") == "XZY"
