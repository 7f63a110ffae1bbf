import itertools
import re

import numpy as np
import pytest
import tifffile

from gvtnets_tf.data import pipeline
from gvtnets_tf.data.image import Image
from gvtnets_tf.data.normalize import Affine, Normalizer
from gvtnets_tf.data.pipeline import Pair

SAME = Normalizer("none")


def image(shape, axes="ZYX", name="cells", offset=0):
    """An image whose every voxel has a value of its own."""
    return Image(np.arange(np.prod(shape)).reshape(shape) + offset, axes, name=name)


def pair(shape=(4, 10, 12), axes="ZYX", name="cells", offset=0):
    """A pair whose target is the input plus one half, both as they are."""
    source = image(shape, axes, name, offset)
    target = Image(source.array + 0.5, axes, name=f"{name} stained")
    return Pair.measured(source, target, SAME, SAME)


def passes(dataset, count=1):
    return [[(np.array(x), np.array(y)) for x, y in dataset] for _ in range(count)]


def check_same(passes, others):
    for (x, y), (x2, y2) in zip(itertools.chain(*passes), itertools.chain(*others), strict=True):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)


class Watched:
    """Stands for an array on disk and keeps what was asked of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.asked = array, array.shape, array.dtype, []

    def __getitem__(self, index):
        self.asked.append(index)
        return self.array[index]


def options(**changes):
    return {"patch": (2, 4, 4), "batch": 3, "steps": 4, "seed": 7} | changes


# The law of epochs


@pytest.mark.parametrize("weighting", ["uniform", "foreground"])
def test_the_patches_of_an_epoch_depend_only_on_seed_and_epoch(weighting):
    pairs = [pair(), pair((6, 9, 8), name="others")]
    settings = options(flip=True, rotate=True, weighting=weighting)
    whole = passes(pipeline.patches(pairs, **settings), 4)
    check_same(whole, passes(pipeline.patches(pairs, **settings), 4))
    check_same(whole[2:], passes(pipeline.patches(pairs, **settings, first_epoch=2), 2))
    firsts = {x.tobytes() for epoch in whole for x, _ in epoch}
    assert len(firsts) == 4 * 4
    other = passes(pipeline.patches(pairs, **settings | {"seed": 8}))
    assert not (other[0][0][0] == whole[0][0][0]).all()


def test_a_pass_that_is_left_early_is_begun_again():
    whole = passes(pipeline.patches([pair()], **options()), 2)
    dataset = pipeline.patches([pair()], **options())
    for taken in (1, 3):
        for _, _ in zip(range(taken), dataset):
            pass
    check_same(whole, passes(dataset, 2))


def test_more_steps_or_augmentation_leave_the_first_patches_where_they_were():
    short, long = (
        passes(pipeline.patches([pair()], **options(steps=steps)))[0] for steps in (2, 5)
    )
    check_same([short], [long[:2]])
    turned = passes(pipeline.patches([pair()], **options(steps=2, flip=True, rotate=True)))[0]
    for (x, _), (t, _) in zip(short, turned):
        np.testing.assert_array_equal(*(np.sort(part.reshape(3, -1)) for part in (x, t)))
        assert not (x == t).all()


# What a batch holds


@pytest.mark.parametrize(
    "shape, axes", [((4, 10, 12), "ZYX"), ((3, 4, 10, 12), "CZYX"), ((10, 12, 4, 2), "YXZC")]
)
def test_batches_hold_blocks_of_the_images_whatever_their_axis_order(shape, axes):
    one = pair(shape, axes)
    channels = one.input.sizes.get("C", 1)
    full = one.input.numpy("ZYXC")
    dataset = pipeline.patches([one], **options())
    assert dataset.element_spec[0].shape == (3, 2, 4, 4, channels)
    assert dataset.cardinality() == 4
    for x, y in passes(dataset)[0]:
        assert x.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(y, x + 0.5)
        for block in x:
            z, r, c = (int(i[0]) for i in np.nonzero((full == block[0, 0, 0]).all(-1)))
            np.testing.assert_array_equal(full[z : z + 2, r : r + 4, c : c + 4], block)


@pytest.mark.parametrize(
    "shape, axes", [((10, 12), "YX"), ((3, 10, 12), "CYX"), ((10, 12, 3), "YXC")]
)
def test_plane_images_give_plane_patches(shape, axes):
    one = pair(shape, axes)
    dataset = pipeline.patches([one], (4, 4), 2, 3, axes="YX", flip=True, rotate=True)
    for x, y in passes(dataset)[0]:
        assert x.shape == (2, 4, 4, one.input.sizes.get("C", 1))
        np.testing.assert_array_equal(y, x + 0.5)


def test_input_and_target_are_turned_alike_and_z_is_not_mixed_with_y_and_x():
    z, y, x = np.meshgrid(*map(np.arange, (4, 4, 4)), indexing="ij")
    one = Pair.measured(
        Image(np.stack([z, y, x]), "CZYX"), Image(np.stack([z, y, x], -1) * 2, "ZYXC"), SAME, SAME
    )
    seen = set()
    for a, b in passes(pipeline.patches([one], (4, 4, 4), 16, 4, flip=True, rotate=True))[0]:
        np.testing.assert_array_equal(b, 2 * a)
        for block in a:
            assert (np.ptp(block[..., 0], axis=(1, 2)) == 0).all()
            seen.add(block.tobytes())
    assert len(seen) == 16  # up or down, and the 8 ways a square can lie


def test_each_image_is_normalised_by_its_own_map_per_channel():
    source = Image(np.stack([np.full((4, 4), 30.0), np.full((4, 4), 8.0)]), "CYX", name="a")
    target = Image(np.full((4, 4), 5.0), "YX", name="b")
    one = Pair(source, target, Affine(np.array([10.0, 2]), np.array([2.0, 3])), Affine([0], [5]))
    ((x, y),) = passes(pipeline.patches([one], (2, 2), 1, 1, axes="YX"))[0]
    np.testing.assert_array_equal(x[0, 0, 0], [10, 2])
    assert (y == 1).all()


def test_measured_pairs_normalise_channels_apart_in_any_axis_order():
    source = Image(np.random.default_rng(0).normal([5, 50], [1, 10], (4, 8, 8, 2)), "ZYXC")
    one = Pair.measured(source, image((4, 8, 8)), Normalizer("zscore"), Normalizer("unit"))
    two = Pair.measured(
        Image(source.numpy("CXZY"), "CXZY"), image((4, 8, 8)), Normalizer("zscore"), SAME
    )
    np.testing.assert_allclose(one.input_affine.offset, [5, 50], rtol=0.05)
    np.testing.assert_allclose(one.input_affine.gain, two.input_affine.gain)
    assert (one.target_affine.offset, one.target_affine.gain) == (127.5, 127.5)


@pytest.mark.parametrize("target_axes", ["YX", "ZYX", "YXC"])
def test_a_projection_pair_gives_whole_stacks_and_planes(target_axes):
    source = image((3, 8, 10))
    plane = Image(source.array.max(0), "YX")
    one = Pair.measured(source, Image(plane.numpy(target_axes), target_axes), SAME, SAME)
    for weighting in ("uniform", "foreground"):
        dataset = pipeline.patches(
            [one], (3, 4, 4), 2, 3, flip=True, rotate=True, weighting=weighting
        )
        assert dataset.element_spec[1].shape == (2, 4, 4, 1)
        for x, y in passes(dataset)[0]:
            np.testing.assert_array_equal(y, x.max(1))
    assert [y.shape for _, y in passes(pipeline.grid([one], (3, 4, 4), 4))[0]] == [
        (4, 4, 4, 1),
        (2, 4, 4, 1),
    ]


def test_foreground_patches_show_the_signal():
    target = np.zeros((8, 60, 60))
    target[5, 40:44, 12:16] = 1
    one = Pair.measured(Image(target, "ZYX"), Image(target, "ZYX"), SAME, SAME)
    for weighting, least in (("uniform", 0), ("foreground", 1)):
        dataset = pipeline.patches([one], (4, 12, 12), 8, 4, weighting=weighting)
        shown = [y.max() for _, ys in passes(dataset)[0] for y in ys]
        assert min(shown) == least


# Reading


def test_only_the_patches_of_an_array_on_disk_are_read():
    arrays = [Watched(np.zeros((5, 20, 30), np.uint16)) for _ in range(2)]
    affine = Affine(np.zeros(1), np.ones(1))
    one = Pair(*(Image(a, "ZYX") for a in arrays), affine, affine)
    passes(pipeline.patches([one], **options()))
    passes(pipeline.grid([one], (5, 10, 10), 4))
    for array in arrays:
        sizes = [tuple(s.stop - s.start for s in index) for index in array.asked]
        assert sizes == [(2, 4, 4)] * 12 + [(5, 10, 10)] * 6


def mapped(path, array):
    tifffile.imwrite(path.with_suffix(".tif"), array, photometric="minisblack")
    return tifffile.memmap(path.with_suffix(".tif"), mode="r")


def chunked(path, array):
    zarr = pytest.importorskip("zarr")
    return zarr.create_array(path.with_suffix(".zarr"), data=array, chunks=(2, 5, 5))


@pytest.mark.parametrize("store", [mapped, chunked])
def test_files_give_the_same_patches_as_arrays(store, tmp_path):
    one = pair((4, 10, 12))
    parts = {"in": one.input, "out": one.target}
    lazy = Pair.measured(
        *(
            Image(store(tmp_path / name, part.array.astype(np.float32)), "ZYX")
            for name, part in parts.items()
        ),
        SAME,
        SAME,
    )
    check_same(*(passes(pipeline.patches([p], **options())) for p in (one, lazy)))


@pytest.mark.parametrize("batch", [4, 5])
def test_a_grid_shows_every_voxel_of_every_image_the_same_in_each_pass(batch):
    pairs = [pair((4, 10, 12)), pair((2, 8, 9), name="small", offset=1000)]
    dataset = pipeline.grid(pairs, (2, 4, 5), batch)
    one, two = passes(dataset, 2)
    check_same([one], [two])
    count = 2 * 3 * 3 + 1 * 2 * 2
    assert dataset.cardinality() == len(one) == -(-count // batch)
    assert [len(x) for x, _ in one[:-1]] == [batch] * (len(one) - 1)
    assert sum(len(x) for x, _ in one) == count
    seen = np.unique(np.concatenate([x.ravel() for x, _ in one]))
    np.testing.assert_array_equal(seen, [*range(480), *range(1000, 1144)])


# Keras says that it does not shuffle a data set, which is as it should be.
def test_a_plain_fit_takes_the_data_set():
    import keras

    keras.utils.set_random_seed(0)
    settings = options(patch=(8, 8), axes="YX")
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, x, training=False):
            if training:
                seen.append(np.array(x))
            return x

    planes = [pair((16, 16), "YX"), pair((20, 12), "YX", "others")]
    planes = [Pair.measured(p.input, p.target, Normalizer(), Normalizer()) for p in planes]
    model = keras.Sequential([keras.layers.Conv2D(1, 1)])
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(
        pipeline.patches(planes, **settings),
        epochs=2,
        validation_data=pipeline.grid(planes, (8, 8), 3, axes="YX"),
        verbose=0,
    ).history
    assert len(history["loss"]) == 2 and history["val_loss"][1] < history["val_loss"][0]

    watched = keras.Sequential([Watch(), keras.layers.Conv2D(1, 1)])
    watched.compile("sgd", "mse", run_eagerly=True)
    watched.fit(pipeline.patches(planes, **settings), epochs=2, verbose=0)
    expected = [x for x, _ in itertools.chain(*passes(pipeline.patches(planes, **settings), 2))]
    np.testing.assert_array_equal(seen, expected)


# What is refused


def test_pairs_that_differ_in_size_are_refused_by_name():
    with pytest.raises(ValueError, match=re.escape("along Y: crop or resample one")) as error:
        Pair(image((4, 10, 12)), image((4, 9, 12), name="stained"), None, None)
    assert "cells (ZYX (4, 10, 12)) and stained (ZYX (4, 9, 12))" in str(error.value)
    with pytest.raises(ValueError, match="along Z"):
        Pair(image((4, 10, 12)), image((2, 10, 12)), None, None)
    with pytest.raises(ValueError, match="along Z"):
        Pair(image((10, 12), "YX"), image((2, 10, 12)), None, None)


def test_a_normalisation_for_another_number_of_channels_is_refused():
    affine = Affine(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"cells .*each of its 1 channels.*shapes \(2,\)"):
        Pair(image((4, 4), "YX"), image((4, 4), "YX"), affine, affine)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch": (2, 16, 4)}, r"16 voxels along Y does not fit into cells .*use at most 10"),
        ({"patch": (4, 4)}, r"at least one voxel for each axis of 'ZYX'.*patch=\(4, 4\)"),
        ({"patch": (0, 4, 4)}, r"at least one voxel .*patch=\(0, 4, 4\)"),
        ({"patch": (2, 4, 6), "rotate": True}, "use a square patch"),
        ({"weighting": "forground"}, "Did you mean 'foreground'"),
        ({"axes": "YX", "patch": (4, 4)}, "Axis Z has 4 entries and no place in 'YXC'"),
        ({"axes": "ZYC"}, "distinct letters of 'ZYX'"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"first_epoch": -1}, "`first_epoch` must be at least 0"),
    ],
)
def test_impossible_patches_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        pipeline.patches([pair()], **options(**changes))


def test_a_grid_refuses_what_patches_refuse():
    with pytest.raises(ValueError, match="16 voxels along Y does not fit into cells"):
        pipeline.grid([pair()], (2, 16, 4), 1)
    with pytest.raises(ValueError, match="`batch` must be at least 1"):
        pipeline.grid([pair()], (2, 4, 4), 0)
    with pytest.raises(ValueError, match="There are no pairs"):
        pipeline.grid([], (2, 4, 4), 1)


def test_a_projection_of_part_of_a_stack_is_refused():
    one = Pair.measured(image((5, 8, 8), name="wing"), image((8, 8), "YX"), SAME, SAME)
    with pytest.raises(ValueError, match=r"must have the 5 planes of wing .*patch=\(3, 4, 4\)"):
        pipeline.patches([one], (3, 4, 4), 1, 1)


def test_pairs_that_do_not_go_together_are_refused():
    projection = Pair.measured(image((4, 10, 12), name="wing"), image((10, 12), "YX"), SAME, SAME)
    channels = pair((4, 10, 12, 2), "ZYXC", name="colours")
    for other, name in ((projection, "wing"), (channels, "colours")):
        with pytest.raises(ValueError, match=f"All pairs must have the same channels.*{name}"):
            pipeline.patches([pair(), other], (4, 4, 4), 1, 1)
