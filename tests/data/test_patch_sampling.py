import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.data.patch_sampling import (
    check_fits,
    cover,
    foreground_starts,
    make_generator,
    sample_starts,
)

axis = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))
grids = st.lists(axis, min_size=1, max_size=3).map(lambda pairs: tuple(zip(*pairs)))


@given(grids)
@settings(deadline=None, max_examples=50)
def test_a_grid_covers_every_voxel_and_stays_inside(case):
    shape, patch = case
    count = np.zeros(shape, int)
    for start in cover(shape, patch):
        assert all(0 <= s <= n - p for s, n, p in zip(start, shape, patch))
        count[tuple(slice(s, s + p) for s, p in zip(start, patch))] += 1
    assert (count > 0).all()
    assert len(cover(shape, patch)) == np.prod([-(-n // p) for n, p in zip(shape, patch)])


def test_the_last_patch_of_a_grid_is_flush_with_the_end():
    assert cover((10, 4), (4, 4)) == [(0, 0), (4, 0), (6, 0)]


@given(grids, grids, st.integers(0, 5))
@settings(deadline=None, max_examples=50)
def test_drawn_patches_lie_inside_images_of_unequal_size(one, other, seed):
    rank = min(len(one[0]), len(other[0]))
    patch = np.minimum(one[1][:rank], other[1][:rank])
    shapes = [one[0][:rank], other[0][:rank]]
    images, starts = sample_starts(shapes, patch, 20, make_generator(seed, 0))
    assert starts.shape == (20, rank)
    assert (starts >= 0).all() and (starts + patch <= np.array(shapes)[images]).all()


def test_images_and_starts_are_drawn_uniformly():
    images, starts = sample_starts([(5,), (50,)], (3,), 9000, make_generator(0, 0))
    assert np.bincount(images) == pytest.approx(4500, rel=0.05)
    assert np.bincount(starts[images == 0, 0]) == pytest.approx(1500, rel=0.1)
    assert starts[images == 1].max() == 47


def test_random_numbers_depend_on_seed_epoch_and_step_only():
    def numbers(*key):
        return make_generator(*key).random(4).tolist()

    keys = [(0, 0), (0, 1), (1, 0), (0, 1, 2), (0, 2, 1)]
    assert [numbers(*k) for k in keys] == [numbers(*k) for k in keys]
    assert len({tuple(numbers(*k)) for k in keys}) == len(keys)


@given(grids.filter(lambda case: len(case[0]) > 1), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_each_foreground_patch_holds_signal(case, seed):
    shape, patch = case
    target = np.full((*shape, 2), 100)
    middle = tuple(n // 2 for n in shape)
    target[(*middle, 1)] = 200  # a single bright voxel, in the second channel
    corners = foreground_starts(target, patch)
    _, starts = sample_starts([shape], patch, 30, make_generator(seed, 1), [corners])
    assert (starts >= 0).all() and (starts + patch <= np.array(shape)).all()
    cells = {tuple(c) for c in corners}
    if len(cells) < np.prod([-(-(n - p + 1) // max(1, p // 4)) for n, p in zip(shape, patch)]):
        assert (starts <= middle).all() and (starts + patch > np.array(middle)).all()


def test_foreground_leaves_dark_regions_out_and_offsets_do_not_matter():
    target = np.zeros((64, 64, 1))
    target[40:48, 40:48] = 50
    corners = foreground_starts(target, (16, 16))
    assert corners.min() == 32 and corners.max() == 40
    np.testing.assert_array_equal(foreground_starts(target + 1000, (16, 16)), corners)


def test_an_image_whose_signal_no_patch_can_centre_is_sampled_uniformly():
    target = np.zeros((40, 40, 1))
    target[0, 0] = 1
    assert len(foreground_starts(target, (8, 8))) == 17 * 17


def test_patch_larger_than_an_image_is_refused_by_name():
    with pytest.raises(
        ValueError, match=r"64 voxels along Y does not fit into embryo, which has 40: use at most"
    ):
        check_fits((16, 64, 64), (20, 40, 80), "ZYX", "embryo")
