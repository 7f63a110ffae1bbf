import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.prediction import tiling

few = settings(deadline=None, max_examples=40)


@st.composite
def layouts(draw):
    """A padded grid, a tile and margins that leave something, all on multiples of `align`."""
    rank = draw(st.integers(1, 3))
    axes = [
        (align * draw(st.integers(1, 9)), align * draw(st.integers(1, 5)), align)
        for align in draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    ]
    margin = [draw(st.integers(0, (size - align) // 2)) for _, size, align in axes]
    shape, size, align = zip(*axes)
    return shape, size, margin, align


@few
@given(layouts())
def test_every_voxel_is_written_exactly_once_from_where_it_was_read(layout):
    shape, size, margin, align = layout
    image = np.arange(np.prod(shape)).reshape(shape)
    count, copy = np.zeros(shape, int), np.zeros_like(image)
    for tile in tiling.split(*layout):
        count[tile.write] += 1
        copy[tile.write] = image[tile.read][tile.keep]
        assert image[tile.read].shape == tuple(map(min, size, shape))
        for read, write, n, m, a in zip(tile.read, tile.write, shape, margin, align):
            assert read.start % a == 0
            assert write.start == 0 or write.start - read.start >= m
            assert write.stop == n or read.stop - write.stop >= m
    assert (count == 1).all()
    np.testing.assert_array_equal(copy, image)


@few
@given(layouts(), st.sampled_from(sorted(tiling.WEIGHTS)))
def test_weights_of_all_tiles_sum_to_one_in_every_voxel(layout, blend):
    total = np.zeros(layout[0])
    places = tiling.split(*layout)
    for tile, lines in zip(places, tiling.blend_weights(places, blend)):
        assert tiling.outer_weight(lines).shape == total[tile.read].shape
        total[tile.read] += tiling.outer_weight(lines)
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_tiles_of_a_line_by_hand():
    places = tiling.split((10,), (6,), (1,))
    assert [t.read for t in places] == [(slice(0, 6),), (slice(4, 10),)]
    assert [t.write for t in places] == [(slice(0, 5),), (slice(5, 10),)]
    assert [t.keep for t in places] == [(slice(0, 5),), (slice(1, 6),)]
    average, ramp = (tiling.blend_weights(places, blend) for blend in ("average", "ramp"))
    np.testing.assert_allclose(average[0][0], [1, 1, 1, 1, 0.5, 0.5])
    np.testing.assert_allclose(ramp[0][0], [1, 1, 1, 1, 2 / 3, 1 / 3])
    np.testing.assert_allclose(ramp[1][0], [1 / 3, 2 / 3, 1, 1, 1, 1])


def test_published_tiles_step_by_the_tile_less_the_overlap_and_end_flush():
    plan = tiling.plan_tiles(
        {"Z": 95, "Y": 500, "X": 256}, "ZYX", "ZYX", (4, 4, 4), tile=(128, 256, 256), overlap=64
    )
    assert (plan.padded, plan.tile) == ((96, 500, 256), (96, 256, 256))
    starts = sorted({tuple(s.start for s in t.read) for t in plan.places})
    assert starts == [(0, 0, 0), (0, 192, 0), (0, 244, 0)]


def test_a_tile_with_nothing_between_its_halos_is_refused_by_axis():
    with pytest.raises(ValueError, match=r"tile of 16 voxels along Y.*margins of 8.*at least 24"):
        tiling.split((8, 64, 64), (8, 16, 64), (0, 8, 8), (8, 8, 8))


def test_an_unknown_blend_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"`blend` cannot be 'avrage'. Did you mean 'average'"):
        tiling.blend_weights(tiling.split((4,), (4,), (0,)), "avrage")


@few
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_crop_undoes_pad_and_pad_reaches_multiples(axes, channels):
    shape, divisor = zip(*axes)
    image = np.random.default_rng(0).normal(size=(*shape, *(2,) * channels))
    padded = tiling.pad(image, divisor)
    assert all(n % d == 0 and n - s < d for n, s, d in zip(padded.shape, shape, divisor))
    np.testing.assert_array_equal(tiling.crop(padded, shape, divisor), image)


def test_padding_puts_the_odd_voxel_after_and_reflects_without_the_edge():
    assert tiling.pad_amounts((5, 8), (8, 8)) == [(1, 2), (0, 0)]
    np.testing.assert_array_equal(tiling.pad(np.arange(5), (8,)), [1, 0, 1, 2, 3, 4, 3, 2])


def test_an_axis_shorter_than_its_padding_is_reflected_again_and_one_plane_is_repeated():
    np.testing.assert_array_equal(tiling.pad(np.arange(2), (8,)), [1, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(tiling.pad(np.array([[7, 9]]), (8, 1)), [[7, 9]] * 8)


def test_nothing_is_copied_where_nothing_is_missing():
    image = np.zeros((8, 16, 1), np.uint16)
    assert tiling.pad(image, (8, 8)) is image


@pytest.mark.parametrize(
    "shape, divisor, message",
    [((0, 4), (2, 2), "size of the image"), ((4,), (0,), "divisor")],
    ids=["empty axis", "no divisor"],
)
def test_impossible_padding_is_refused(shape, divisor, message):
    with pytest.raises(ValueError, match=f"`{message}` must be at least 1"):
        tiling.pad_amounts(shape, divisor)


@few
@given(
    st.tuples(*[st.integers(1, 200)] * 3),
    st.sampled_from([1, 4, 8]),
    st.integers(50, 10**6),
    st.sampled_from(["ZYX", "YX"]),
)
def test_a_suggested_tile_fits_and_leaves_something_between_its_halos(shape, d, voxels, output):
    sizes = dict(zip("ZYX", shape))
    divisor = (d, d, d) if output == "ZYX" else (1, d, d)
    plan = tiling.plan_tiles(sizes, "ZYX", output, divisor)
    tile = plan.smaller_tile(voxels)
    if tile is None:
        least = [n if a not in output else min(n, 2 * d) for a, n in zip("ZYX", plan.padded)]
        assert np.prod(least) > voxels
        return
    assert np.prod(tile) <= voxels
    assert tiling.plan_tiles(sizes, "ZYX", output, divisor, tile=tile).places


def test_a_default_overlap_is_an_eighth_per_side_at_least_the_divisor_at_most_a_quarter():
    sizes = {"Z": 16, "Y": 1000, "X": 1000}
    assert tiling.plan_tiles(sizes, "ZYX", "ZYX", (8,) * 3, tile=(16, 256, 32)).overlap == (
        0,
        64,
        16,
    )
    assert tiling.plan_tiles(sizes, "ZYX", "ZYX", (8,) * 3, tile=(16, 16, 16)).overlap == (0, 8, 8)


def test_a_network_of_planes_goes_along_z_one_by_one():
    plan = tiling.plan_tiles(
        {"Z": 5, "Y": 9, "X": 9, "C": 2}, "YX", "YX", (4, 4), tile=8, overlap=2
    )
    assert (plan.grid, plan.size, plan.tile) == ("ZYX", (1, 8, 8), (8, 8))
    assert len(plan.places) == 5 * 2 * 2


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"tile": (8, 8)},
            r"`tile` is one number, or one for each axis of ZYX. Received: \(8, 8\)",
        ),
        ({"tile": 0}, "`tile` must be at least 1"),
        ({"tile": 8, "overlap": -1}, "`overlap` must be at least 0"),
        ({"overlap": 4}, "`overlap` is of tiles: pass `tile` too"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiling.plan_tiles({"Z": 8, "Y": 32, "X": 32}, "ZYX", "ZYX", (4, 4, 4), **options)


def test_a_tile_of_a_projection_holds_the_whole_stack():
    sizes = {"Z": 9, "Y": 64, "X": 64}
    assert tiling.plan_tiles(sizes, "ZYX", "YX", (1, 16, 16), tile=32).tile == (9, 32, 32)
    with pytest.raises(ValueError, match="projects along Z, so a tile must hold all 9 voxels"):
        tiling.plan_tiles(sizes, "ZYX", "YX", (1, 16, 16), tile=(8, 32, 32))
