import itertools
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from fitted import watch_fit

from gvtnets_tf.data import multiscale
from gvtnets_tf.data.augmentation import Elastic, Intensity
from gvtnets_tf.data.batches import TrainingBatches, ValidationBatches
from gvtnets_tf.data.pipeline import (
    AHEAD,
    to_py_dataset,
    to_tf_dataset,
    training_dataset,
    validation_dataset,
)
from gvtnets_tf.data.training_pairs import TrainingPair
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card

SAME = Normalizer("none")


def image(shape, axes="ZYX", name="cells", offset=0):
    """An image whose every voxel has a value of its own."""
    return Image(np.arange(np.prod(shape)).reshape(shape) + offset, axes, name=name)


def pair(shape=(4, 10, 12), axes="ZYX", name="cells", offset=0):
    """A pair whose target is the input plus one half, both as they are."""
    source = image(shape, axes, name, offset)
    target = Image(source.array + 0.5, axes, name=f"{name} stained")
    return TrainingPair(source, target).measure(SAME, SAME)


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
    return {"patch_size": (2, 4, 4), "batch_size": 3, "steps": 4, "seed": 7} | changes


# The law of epochs


@pytest.mark.parametrize("sampling", ["uniform", "foreground"])
def test_the_patches_of_an_epoch_depend_only_on_seed_and_epoch(sampling):
    pairs = [pair(), pair((6, 9, 8), name="others")]
    settings = options(flip=True, rotate=True, sampling=sampling)
    whole = passes(training_dataset(pairs, **settings), 4)
    check_same(whole, passes(training_dataset(pairs, **settings), 4))
    check_same(whole[2:], passes(training_dataset(pairs, **settings, first_epoch=2), 2))
    firsts = {x.tobytes() for epoch in whole for x, _ in epoch}
    assert len(firsts) == 4 * 4
    other = passes(training_dataset(pairs, **settings | {"seed": 8}))
    assert not (other[0][0][0] == whole[0][0][0]).all()


def test_a_pass_that_is_left_early_is_begun_again():
    whole = passes(training_dataset([pair()], **options()), 2)
    dataset = training_dataset([pair()], **options())
    for taken in (1, 3):
        for _, _ in zip(range(taken), dataset):
            pass
    check_same(whole, passes(dataset, 2))


def test_more_steps_or_augmentation_leave_the_first_patches_where_they_were():
    short, long = (
        passes(training_dataset([pair()], **options(steps=steps)))[0] for steps in (2, 5)
    )
    check_same([short], [long[:2]])
    turned = passes(training_dataset([pair()], **options(steps=2, flip=True, rotate=True)))[0]
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
    dataset = training_dataset([one], **options())
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
    dataset = training_dataset([one], (4, 4), 2, 3, axes="YX", flip=True, rotate=True)
    for x, y in passes(dataset)[0]:
        assert x.shape == (2, 4, 4, one.input.sizes.get("C", 1))
        np.testing.assert_array_equal(y, x + 0.5)


def test_input_and_target_are_turned_alike_and_z_is_not_mixed_with_y_and_x():
    z, y, x = np.meshgrid(*map(np.arange, (4, 4, 4)), indexing="ij")
    source, target = np.stack([z, y, x]), np.stack([z, y, x], -1) * 2
    one = TrainingPair(Image(source, "CZYX"), Image(target, "ZYXC")).measure(SAME, SAME)
    seen = set()
    for a, b in passes(training_dataset([one], (4, 4, 4), 16, 4, flip=True, rotate=True))[0]:
        np.testing.assert_array_equal(b, 2 * a)
        for block in a:
            assert (np.ptp(block[..., 0], axis=(1, 2)) == 0).all()
            seen.add(block.tobytes())
    assert len(seen) == 16  # up or down, and the 8 ways a square can lie


def test_each_image_is_normalized_by_its_own_map_per_channel():
    source = Image(np.stack([np.full((4, 4), 30.0), np.full((4, 4), 8.0)]), "CYX", name="a")
    target = Image(np.full((4, 4), 5.0), "YX", name="b")
    one = TrainingPair(
        source, target, Affine(np.array([10.0, 2]), np.array([2.0, 3])), Affine([0], [5])
    )
    ((x, y),) = passes(training_dataset([one], (2, 2), 1, 1, axes="YX"))[0]
    np.testing.assert_array_equal(x[0, 0, 0], [10, 2])
    assert (y == 1).all()


def test_measured_pairs_normalize_channels_apart_in_any_axis_order():
    source = Image(np.random.default_rng(0).normal([5, 50], [1, 10], (4, 8, 8, 2)), "ZYXC")
    one = TrainingPair(source, image((4, 8, 8))).measure(Normalizer("zscore"), Normalizer("unit"))
    two = TrainingPair(Image(source.numpy("CXZY"), "CXZY"), image((4, 8, 8))).measure("zscore")
    np.testing.assert_allclose(one.input_affine.offset, [5, 50], rtol=0.05)
    np.testing.assert_allclose(one.input_affine.gain, two.input_affine.gain)
    assert (one.target_affine.offset, one.target_affine.gain) == (127.5, 127.5)


@pytest.mark.parametrize("target_axes", ["YX", "ZYX", "YXC"])
def test_a_projection_pair_gives_whole_stacks_and_planes(target_axes):
    source = image((3, 8, 10))
    plane = Image(source.array.max(0), "YX")
    one = TrainingPair(source, Image(plane.numpy(target_axes), target_axes)).measure(SAME, SAME)
    for sampling in ("uniform", "foreground"):
        dataset = training_dataset(
            [one], (3, 4, 4), 2, 3, flip=True, rotate=True, sampling=sampling
        )
        assert dataset.element_spec[1].shape == (2, 4, 4, 1)
        for x, y in passes(dataset)[0]:
            np.testing.assert_array_equal(y, x.max(1))
    assert [y.shape for _, y in passes(validation_dataset([one], (3, 4, 4), 4))[0]] == [
        (4, 4, 4, 1),
        (2, 4, 4, 1),
    ]


def test_foreground_patches_show_the_signal():
    target = np.zeros((8, 60, 60))
    target[5, 40:44, 12:16] = 1
    one = TrainingPair(Image(target, "ZYX"), Image(target, "ZYX")).measure(SAME, SAME)
    for sampling, least in (("uniform", 0), ("foreground", 1)):
        dataset = training_dataset([one], (4, 12, 12), 8, 4, sampling=sampling)
        shown = [y.max() for _, ys in passes(dataset)[0] for y in ys]
        assert min(shown) == least


# Reading


def test_only_the_patches_of_an_array_on_disk_are_read():
    arrays = [Watched(np.zeros((5, 20, 30), np.uint16)) for _ in range(2)]
    affine = Affine(np.zeros(1), np.ones(1))
    one = TrainingPair(*(Image(a, "ZYX") for a in arrays), affine, affine)
    passes(training_dataset([one], **options()))
    passes(validation_dataset([one], (5, 10, 10), 4))
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
    images = (
        Image(store(tmp_path / name, part.array.astype(np.float32)), "ZYX")
        for name, part in parts.items()
    )
    lazy = TrainingPair(*images).measure(SAME, SAME)
    check_same(*(passes(training_dataset([p], **options())) for p in (one, lazy)))


@pytest.mark.parametrize("batch", [4, 5])
def test_a_grid_shows_every_voxel_of_every_image_the_same_in_each_pass(batch):
    pairs = [pair((4, 10, 12)), pair((2, 8, 9), name="small", offset=1000)]
    dataset = validation_dataset(pairs, (2, 4, 5), batch)
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
    planes = textured_planes()
    model = keras.Sequential([keras.layers.Conv2D(1, 1)])
    model.compile("sgd", "mse", metrics=["mae"])
    history = model.fit(
        training_dataset(planes, **options(patch_size=(8, 8), axes="YX")),
        epochs=2,
        validation_data=validation_dataset(planes, (8, 8), 3, axes="YX"),
        verbose=0,
    ).history
    assert len(history["loss"]) == 2 and history["val_loss"][1] < history["val_loss"][0]


def textured_planes():
    pairs = pair((16, 16), "YX"), pair((20, 12), "YX", "others")
    return [TrainingPair(p.input, p.target).measure(Normalizer(), Normalizer()) for p in pairs]


@pytest.mark.parametrize("hand", [to_tf_dataset, to_py_dataset])
@pytest.mark.parametrize("steps, first_epoch", [(1, 0), (2, 0), (5, 0), (4, 2)])
@pytest.mark.parametrize("shape", [None, (None, 8, 8, 1)])
def test_three_epochs_of_fit_show_the_batches_of_three_epochs(hand, steps, first_epoch, shape):
    planes = textured_planes()
    settings = options(patch_size=(8, 8), axes="YX", steps=steps)
    batches = TrainingBatches(planes, **settings, first_epoch=first_epoch)
    held = hand(ValidationBatches(planes, (8, 8), 3, axes="YX"))
    seen = watch_fit(hand(batches), 3, shape, held)
    places = itertools.product(range(first_epoch, first_epoch + 3), range(steps))
    # A plan that has read nothing gives the same.
    expected = [TrainingBatches(planes, **settings).read(*place)[0] for place in places]
    np.testing.assert_array_equal(seen, expected)


class Recorded:
    """Batches that keep what was asked of them."""

    first_epoch = 3

    def __init__(self, steps):
        self.steps, self.asked = steps, []

    def __len__(self):
        return self.steps

    def read(self, epoch, step):
        self.asked.append((epoch, step))
        if epoch == 5:
            raise ValueError("cells.tif cannot be read as TIFF.")
        return np.full((1, 2, 2, 1), epoch), np.full((1, 2, 2, 1), step)


def test_batches_are_made_ahead_each_once():
    batches = Recorded(3)
    dataset = to_py_dataset(batches)
    dataset.on_epoch_end()
    for epoch in (3, 4):
        dataset.on_epoch_begin()
        for step in range(3):
            x, y = dataset[step]
            assert (x.max(), y.max()) == (epoch, step)
        dataset.on_epoch_end()
    dataset.reader.pool.shutdown()
    assert sorted(batches.asked) == [(epoch, step) for epoch in (3, 4) for step in range(3)]


def test_two_batches_are_made_while_the_first_is_used():
    batches = Recorded(9)
    dataset = to_py_dataset(batches)
    dataset[0]
    dataset.reader.pool.shutdown()
    assert sorted(batches.asked) == [(3, 0), (3, 1), (3, 2)]


def test_in_any_order_batches_are_right_and_few_are_kept():
    dataset = to_py_dataset(Recorded(50))
    for step in np.random.default_rng(0).permutation(50):
        x, y = dataset[int(step)]
        assert (x.max(), y.max()) == (3, step)
        assert len(dataset.reader.ahead) <= 1 + AHEAD


def test_what_a_reader_raises_comes_when_its_batch_is_asked_for():
    dataset = to_py_dataset(Recorded(2))
    dataset.on_epoch_end()
    for _ in range(2):
        dataset.on_epoch_begin()
        assert len(list(dataset)) == 2
        dataset.on_epoch_end()
    with pytest.raises(ValueError, match=r"cells\.tif cannot be read as TIFF"):
        dataset[0]


LEFT = """
import os, threading, types
import numpy as np
from gvtnets_tf.data.pipeline import to_tf_dataset

class Stuck:
    first_epoch, batch_size = 0, 1
    reader = types.SimpleNamespace(batch_shapes=lambda size: ((1, 1), (1, 1)))

    def __len__(self):
        return 9

    def read(self, epoch, step):
        if step > 0:
            stuck.set()
            threading.Event().wait()
        return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)

stuck, iterator = threading.Event(), iter(to_tf_dataset(Stuck()))
next(iterator)
stuck.wait()
del iterator
print("left", flush=True)
os._exit(0)
"""


def test_a_pass_that_is_left_does_not_wait_for_what_is_read_ahead():
    """TensorFlow would, and for ever for a read by threads that end before, as those of Zarr."""
    command = [sys.executable, "-c", LEFT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "left\n", done.stderr


def test_an_epoch_of_fit_that_is_left_early_is_begun_again():
    dataset = to_py_dataset(Recorded(3))
    for taken, epoch in ((1, 3), (3, 3), (2, 4), (3, 4)):
        dataset.on_epoch_begin()
        assert {dataset[step][0].max() for step in range(taken)} == {epoch}
        dataset.on_epoch_end()
        dataset.on_epoch_end()  # as `evaluate` does
    assert dataset.epoch == 5


# What is refused


def test_pairs_that_differ_in_size_are_refused_by_name():
    with pytest.raises(ValueError, match=re.escape("along Y: crop or resample one")) as error:
        TrainingPair(image((4, 10, 12)), image((4, 9, 12), name="stained"))
    assert "cells (ZYX (4, 10, 12)) and stained (ZYX (4, 9, 12))" in str(error.value)
    with pytest.raises(ValueError, match="along Z"):
        TrainingPair(image((4, 10, 12)), image((2, 10, 12)))
    with pytest.raises(ValueError, match="along Z"):
        TrainingPair(image((10, 12), "YX"), image((2, 10, 12)))


def test_a_pair_that_was_not_measured_is_refused_by_name():
    whole = TrainingPair(image((4, 10, 12)), image((4, 10, 12)))
    half = TrainingPair(image((4, 10, 12), name="half"), image((4, 10, 12)), pair().input_affine)
    for one, name in ((whole, "cells"), (half, "half")):
        with pytest.raises(ValueError, match=rf"{name} .* no normalization yet: call `pair\.measu"):
            training_dataset([pair(), one], **options())
        with pytest.raises(ValueError, match=rf"{name} .* no normalization yet: call `pair\.measu"):
            validation_dataset([pair(), one], (2, 4, 4), 1)


def test_a_normalization_for_another_number_of_channels_is_refused():
    affine = Affine(np.zeros(2), np.ones(2))
    with pytest.raises(ValueError, match=r"cells .*each of its 1 channels.*shapes \(2,\)"):
        TrainingPair(image((4, 4), "YX"), image((4, 4), "YX"), affine, affine)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"patch_size": (2, 16, 4)}, r"16 voxels along Y does not fit into cells .*use at most 10"),
        ({"patch_size": (4, 4)}, r"at least one voxel for each axis of 'ZYX'.*patch_size=\(4, 4\)"),
        ({"patch_size": (0, 4, 4)}, r"at least one voxel .*patch_size=\(0, 4, 4\)"),
        ({"patch_size": (2, 4, 6), "rotate": True}, "use a square patch"),
        ({"sampling": "forground"}, "Did you mean 'foreground'"),
        ({"axes": "YX", "patch_size": (4, 4)}, "Axis Z has 4 entries and no place in 'YXC'"),
        ({"axes": "ZYC"}, "distinct letters of 'ZYX'"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"steps": 0}, "`steps` must be at least 1"),
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"first_epoch": -1}, "`first_epoch` must be at least 0"),
    ],
)
def test_impossible_patches_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        training_dataset([pair()], **options(**changes))


def test_a_grid_refuses_what_patches_refuse():
    with pytest.raises(ValueError, match="16 voxels along Y does not fit into cells"):
        validation_dataset([pair()], (2, 16, 4), 1)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        validation_dataset([pair()], (2, 4, 4), 0)
    with pytest.raises(ValueError, match="`validation_patches` must be at least 1"):
        validation_dataset([pair()], (2, 4, 4), 1, validation_patches=0)
    with pytest.raises(ValueError, match="There are no pairs"):
        validation_dataset([], (2, 4, 4), 1)


def test_a_projection_of_part_of_a_stack_is_refused():
    one = TrainingPair(image((5, 8, 8), name="wing"), image((8, 8), "YX")).measure(SAME, SAME)
    with pytest.raises(
        ValueError, match=r"must have the 5 planes of wing .*patch_size=\(3, 4, 4\)"
    ):
        training_dataset([one], (3, 4, 4), 1, 1)


def test_pairs_that_do_not_go_together_are_refused():
    projection = TrainingPair(image((4, 10, 12), name="wing"), image((10, 12), "YX")).measure(
        SAME, SAME
    )
    channels = pair((4, 10, 12, 2), "ZYXC", name="colors")
    for other, name in ((projection, "wing"), (channels, "colors")):
        with pytest.raises(ValueError, match=f"All pairs must have the same channels.*{name}"):
            training_dataset([pair(), other], (4, 4, 4), 1, 1)


# Several scales, classes, other light


def places(shape=(40, 48), name="places"):
    """A pair of planes that tell where they are: input in counts, target as row and column."""
    rows, columns = np.meshgrid(*map(np.arange, shape), indexing="ij")
    source = np.random.default_rng(0).integers(0, 1000, (2, *shape)).astype(np.uint16)
    target = np.stack([rows, columns]).astype(np.float32)
    images = Image(source, "CYX", name=name), Image(target, "CYX")
    return TrainingPair(*images).measure(Normalizer("zscore"), SAME)


def staining(**changes):
    return options(patch_size=(8, 8), axes="YX", scales=(1, 2, 0.5)) | changes


def cut_at(pair, start, image=None):
    """The patch that `multiscale` makes at a place of an image, normalized as a whole."""
    image = pair.input if image is None else image
    whole = pair.input_affine.apply(image.numpy("YXC"))
    return multiscale.crop_multiscale(
        lambda index: whole[index], whole.shape[:2], start, (8, 8), (1, 2, 0.5)
    )


def test_inputs_at_several_scales_are_cuts_around_the_place_of_their_target():
    one = places()
    dataset = training_dataset([one], **staining())
    assert dataset.element_spec[0].shape == (3, 8, 8, 6)
    assert dataset.element_spec[1].shape == (3, 8, 8, 2)
    batches = [
        *passes(dataset)[0],
        *passes(validation_dataset([one], (8, 8), 7, axes="YX", scales=(1, 2, 0.5)))[0],
    ]
    seen = set()
    for x, y in ((x, y) for xs, ys in batches for x, y in zip(xs, ys)):
        start = tuple(y[0, 0].astype(int))
        np.testing.assert_allclose(x, cut_at(one, start), atol=1e-5)
        seen.add(start)
    # Corners of the image are among them, where half of the outer cut is a reflection.
    assert {(0, 0), (32, 40)} < seen


def test_a_patch_of_a_region_sees_what_lies_around_it():
    one, (top, left) = places(), (16, 24)
    region = {"Y": (top, top + 16), "X": (left, left + 16)}
    inner = TrainingPair(one.input, one.target).crop(region).measure(Normalizer("zscore"), SAME)
    # Its numbers are those of the whole, as they will be in a prediction.
    np.testing.assert_array_equal(inner.input_affine.offset, one.input_affine.offset)
    np.testing.assert_array_equal(inner.input_affine.gain, one.input_affine.gain)
    starts = set()
    for x, y in passes(training_dataset([inner], **staining(batch_size=20)))[0]:
        for a, b in zip(x, y):
            start = tuple(b[0, 0].astype(int))
            np.testing.assert_allclose(a, cut_at(one, start), atol=1e-5)
            starts.add(start)
    rows, columns = zip(*starts)
    assert (min(rows), max(rows)) == (top, top + 8)
    assert (min(columns), max(columns)) == (left, left + 8)
    # Without what lies around, it is reflected at the border of the region.
    alone = TrainingPair(inner.input, inner.target).measure(Normalizer("zscore"), SAME)
    ((x, y),) = passes(validation_dataset([alone], (8, 8), 4, axes="YX", scales=(1, 2, 0.5)))[0]
    np.testing.assert_allclose(x[0], cut_at(alone, (0, 0)), atol=1e-5)
    assert np.abs(x[0] - cut_at(one, (top, left))).max() > 0.1


def test_all_scales_of_a_patch_are_turned_with_its_target():
    ramp = np.add.outer(3.0 * np.arange(48), np.arange(48)).astype(np.float32)
    whole, region = Image(ramp, "YX"), {"Y": (16, 32), "X": (16, 32)}
    one = TrainingPair(whole, whole).crop(region).measure(SAME, SAME)
    corners = set()
    settings = staining(flip=True, rotate=True, batch_size=16)
    for x, y in passes(training_dataset([one], **settings))[0]:
        np.testing.assert_array_equal(y[..., 0], x[..., 0])
        middle = y.mean((1, 2))[:, None, None]
        inner = (slice(None), slice(1, -1), slice(1, -1))
        for channel, step in ((1, 2), (2, 0.5)):
            expected = middle + step * (y - middle)
            np.testing.assert_allclose(x[..., [channel]][inner], expected[inner], rtol=1e-4)
        corners |= {int(np.argmax(b[[0, 0, -1, -1], [0, -1, 0, -1]])) for b in y[..., 0]}
    assert corners == {0, 1, 2, 3}


def test_targets_become_classes_and_missing_labels_minus_one():
    counts = [90, 100, 112, 113, 150, 187, 188, 200, 900]
    target = np.full((2, 3, 3), np.nan)
    target[0] = np.reshape(counts, (3, 3))
    rule = Normalizer("fixed", offset=[100, 0], gain=[100, 1])
    source = Image(np.zeros((3, 3)), "YX")
    one = TrainingPair(source, Image(target, "CYX")).measure(SAME, rule)
    settings = {"patch_size": (3, 3), "batch_size": 1, "axes": "YX"}
    for dataset in (
        training_dataset([one], steps=1, classes=5, **settings),
        validation_dataset([one], classes=5, **settings),
    ):
        ((_, y),) = passes(dataset)[0]
        # round(4 v), below and above clipped: 0.12 -> 0.48, 0.13 -> 0.52, 0.87 -> 3.48.
        assert y[0, ..., 0].ravel().tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 4]
        assert (y[..., 1] == -1).all()
        assert y.dtype == np.float32
    ((_, y),) = passes(validation_dataset([one], **settings))[0]
    np.testing.assert_allclose(y[0, ..., 0].ravel(), (np.array(counts) - 100) / 100, rtol=1e-5)
    assert np.isnan(y[..., 1]).all()


def test_256_classes_of_8_bit_labels_are_their_counts():
    counts = np.arange(256, dtype=np.uint8).reshape(16, 16)
    rule = Normalizer("fixed", offset=[0], gain=[255])
    one = TrainingPair(Image(counts, "YX"), Image(counts, "YX")).measure(SAME, rule)
    ((_, y),) = passes(validation_dataset([one], (16, 16), 1, axes="YX", classes=256))[0]
    np.testing.assert_array_equal(y[0, ..., 0], counts)


def test_images_that_lack_other_labels_are_mixed():
    source = image((8, 8), "YX")
    first, second = np.zeros((2, 2, 8, 8), np.float32) + np.eye(8, dtype=np.float32)
    first[1], second[0] = np.nan, np.nan
    pairs = [TrainingPair(source, Image(t, "CYX")).measure(SAME, SAME) for t in (first, second)]
    for sampling in ("uniform", "foreground"):
        dataset = training_dataset(pairs, (4, 4), 8, 2, axes="YX", classes=3, sampling=sampling)
        lacks = {tuple((y == -1).all((0, 1))) for _, ys in passes(dataset)[0] for y in ys}
        assert lacks == {(False, True), (True, False)}


def test_other_light_changes_inputs_only_and_not_where_they_are():
    one, light = places(), Intensity(gain=0.5, offset=0.5, drop=0.5)
    plain, lit, again = (
        passes(training_dataset([one], **staining(steps=8, intensity=i)))[0]
        for i in (None, light, light)
    )
    check_same([lit], [again])
    kinds, lines = set(), []
    for (x, y), (x2, y2) in zip(plain, lit):
        np.testing.assert_array_equal(y, y2)
        assert x2.dtype == np.float32
        # Dropped or not, a channel is so at all three scales.
        shown = x2.any((1, 2)).reshape(len(x2), 3, 2)
        assert (shown == shown[:, :1]).all()
        kinds |= {tuple(kept) for kept in shown[:, 0].tolist()}
        lines += [np.polyfit(a.ravel(), b.ravel(), 1) for a, b in zip(x, x2) if b[0, 0].all()]
    assert len(kinds) == 4
    # Each patch has light of its own.
    assert len(np.unique(np.round(lines, 3), axis=0)) == len(lines) > 3


def test_patches_of_recipes_without_newer_keys_are_those_they_always_were():
    """The bytes of one batch, frozen before blur, levels of noise and displacement came."""
    light = Intensity(gain=0.5, offset=0.25, drop=0.25)
    settings = staining(flip=True, rotate=True, intensity=light)
    x, y = TrainingBatches([places()], **settings).read(1, 2)
    assert (zlib.crc32(np.round(x, 4).tobytes()), zlib.crc32(y.tobytes())) == (
        2456640287,
        3941631270,
    )


def test_a_displaced_patch_shows_input_and_target_of_the_same_places():
    ramp = np.add.outer(3.0 * np.arange(48), np.arange(48)).astype(np.float32)
    one = TrainingPair(Image(ramp, "YX"), Image(2 * ramp, "YX")).measure(SAME, SAME)
    settings = options(patch_size=(16, 16), axes="YX", flip=True, rotate=True)
    plain = TrainingBatches([one], **settings).read(0, 0)
    bent = TrainingBatches([one], **settings, elastic=Elastic(3, 4)).read(0, 0)
    np.testing.assert_allclose(bent[1], 2 * bent[0], rtol=1e-5)
    # The places are those of the run without it, from which no voxel moves further than it says.
    away = np.abs(bent[0] - plain[0]).max((1, 2, 3))
    assert (away > 0.5).all() and (away <= 3 * np.sqrt(10) + 1e-3).all()
    again = TrainingBatches([one], **settings, elastic=Elastic(3, 4)).read(0, 0)
    check_same([[bent]], [[again]])


def test_labels_are_displaced_before_they_become_classes():
    target = np.stack([np.kron(np.eye(4), np.ones((4, 4))), np.full((16, 16), np.nan)])
    one = TrainingPair(image((16, 16), "YX"), Image(target, "CYX")).measure(SAME, SAME)
    settings = {"patch_size": (16, 16), "batch_size": 4, "steps": 1, "axes": "YX", "classes": 5}
    x, y = TrainingBatches([one], **settings, elastic=Elastic(3, 3)).read(0, 0)
    assert (y[..., 1] == -1).all()
    # Between a label of 0 and one of 1, linear values are rounded to the classes between.
    assert set(np.unique(y[..., 0])) == {0, 1, 2, 3, 4}
    assert np.isfinite(x).all()


def test_a_projection_is_displaced_with_its_stack():
    stack = Image(np.random.default_rng(0).random((3, 16, 16)).astype(np.float32), "ZYX")
    plane = Image(stack.array[1], "YX")
    one = TrainingPair(stack, plane).measure(SAME, SAME)
    batches = TrainingBatches([one], (3, 16, 16), 4, 1, elastic=Elastic(3, 3), flip=True)
    x, y = batches.read(0, 0)
    np.testing.assert_array_equal(x[:, 1], y)


def test_a_displacement_at_several_scales_is_refused_before_any_patch_is_read():
    with pytest.raises(ValueError, match="An elastic displacement is of patches at one scale"):
        TrainingBatches([places()], **staining(elastic=Elastic(3, 3)))


def test_the_same_patch_is_made_in_training_and_in_prediction():
    shape = (32, 48)
    counts = np.random.default_rng(0).integers(0, 1000, (3, *shape)).astype(np.uint16)
    source = Image(counts, "CYX")
    one = TrainingPair(source, image(shape, "YX")).measure(Normalizer("percentile"), SAME)
    trained = passes(validation_dataset([one], (16, 16), 99, axes="YX", scales=(1, 2, 0.5)))[0][0][
        0
    ]
    seen = []

    def model(x):
        seen.extend(x)
        return x[..., :1]

    card = Card(
        axes="YX", output_axes="YX", input_normalizer=Normalizer("percentile"), denormalize="none",
        input_channels=("z0", "z1", "z2"), scales=(1, 2, 0.5), tile=(16, 16),
    )  # fmt: skip
    Predictor(model, card)(counts, "CYX", overlap=0)
    np.testing.assert_array_equal(seen, trained)
    assert len(seen) == 6


def test_only_what_a_patch_shows_is_read_at_several_scales():
    array = Watched(np.zeros((3, 200, 300), np.uint16))
    affine = Affine(np.zeros(3), np.ones(3))
    one = TrainingPair(
        Image(array, "CYX"), image((200, 300), "YX"), affine, Affine(np.zeros(1), np.ones(1))
    )
    passes(training_dataset([one], **staining(batch_size=4, steps=5)))
    sizes = [tuple(s.stop - s.start for s in index[1:]) for index in array.asked]
    assert len(sizes) == 20
    assert max(map(max, sizes)) <= 16


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scales": (1, 2), "patch_size": (2, 4, 4)}, "Several scales are of YX windows"),
        (
            {"scales": (1, 0.5), "axes": "YX", "patch_size": (4, 6)},
            "6 pixels along X .* at scale 0.5",
        ),
        ({"scales": (2,)}, r"`scales` must hold 1, the window itself\. Received: \[2\]"),
        ({"scales": ()}, r"`scales` must hold 1, the window itself\. Received: \[\]"),
    ],
)
def test_impossible_scales_are_refused(changes, message):
    for make in (training_dataset, validation_dataset):
        given = options(**changes)
        if make is validation_dataset:
            given = {k: given[k] for k in given if k not in ("steps", "seed")}
        shape, axes = ((10, 12), "YX") if given.get("axes") else ((4, 10, 12), "ZYX")
        with pytest.raises(ValueError, match=message):
            make([pair(shape, axes)], **given)
