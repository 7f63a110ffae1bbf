"""Batches of patches as `tf.data`. No other module of this room imports TensorFlow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import augmentation, patch_sampling
from gvtnets_tf.data.augmentation import Intensity
from gvtnets_tf.data.patch_reader import PatchReader
from gvtnets_tf.data.training_pairs import TrainingPair

if TYPE_CHECKING:
    import tensorflow as tf

AHEAD = 2  # batches that are made while the network works; more would only take memory


def training_dataset(
    pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int, steps: int, *,
    seed: int = 0, flip: bool = False, rotate: bool = False, sampling: str = "uniform",
    first_epoch: int = 0, axes: str = "ZYX", scales: Sequence[float] = (1,),
    classes: int | None = None, intensity: Intensity | None = None,
) -> "tf.data.Dataset":  # fmt: skip
    """Draw random patches for training, an epoch per pass.

    The patches of epoch e depend only on `seed` and e, whatever was read before. The first pass
    is epoch `first_epoch`; a pass that was taken to its last batch is followed by the next epoch,
    one that was left early (Keras may look at a batch to build a model) is begun again.

    Args:
        pairs: sequence of measured `TrainingPair`, of any sizes; what is on disk is read by patch.
        patch_size: sequence of int. Voxels along each letter of `axes`. For a projection its Z
            is that of the stacks.
        batch_size, steps: int. Patches per batch, and batches per pass.
        flip, rotate: bool. Flip each axis with probability 1/2; quarter turns in the Y-X plane.
        sampling: `"uniform"`, or `"foreground"` for starts near signal in the target (see
            `patch_sampling.foreground_starts`); each target is then read once beforehand.
        seed, first_epoch: int, not negative. A run that continues begins with `first_epoch`.
        axes: str. Spatial axes of a patch: `"ZYX"` or `"YX"`.
        scales: sequence of float. Extents at which the input is cut around the center of a
            patch, see `crop_multiscale`; x then has as many times the channels.
        classes: int or `None`. Give the target as classes, `round(v (classes - 1))` of its
            normalized values v, clipped to 0..1, and -1 where a label is missing.
        intensity: `Intensity`, or `None`.

    Returns:
        `tf.data.Dataset` of `steps` batches `(x, y)`: float32, normalized, x
        `(batch, *patch_size, channels_in)`, y `(batch, *patch_size, channels_out)`, without Z
        for a projection. A channel of the target that is NaN throughout is a missing label.

    Raises:
        ValueError: naming the image, if a patch does not fit, or the pairs do not go together.

    Examples:
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> dataset = training_dataset([pair], (8, 8), batch_size=4, steps=2, axes="YX")
        >>> [tuple(x.shape) for x, y in dataset]
        [(4, 8, 8, 1), (4, 8, 8, 1)]
    """
    for name, value in {"batch_size": batch_size, "steps": steps}.items():
        check_at_least(name, value, 1)
    for name, value in {"seed": seed, "first_epoch": first_epoch}.items():
        check_at_least(name, value, 0)
    check_choice("sampling", sampling, patch_sampling.SAMPLING)
    reader = PatchReader(pairs, patch_size, axes, scales, classes)
    if rotate:
        augmentation.check_square(reader.patch_size, reader.axes)
    cells = reader.foreground_starts() if sampling == "foreground" else None

    def make(epoch, step):
        rng = patch_sampling.make_generator(seed, epoch, step)
        return reader.sample(batch_size, rng, cells, flip, rotate, intensity)

    return _dataset(reader, make, steps, batch_size, first_epoch)


def validation_dataset(
    pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int, *,
    validation_patches: int | None = None, axes: str = "ZYX", scales: Sequence[float] = (1,),
    classes: int | None = None,
) -> "tf.data.Dataset":  # fmt: skip
    """Cut the fixed patches that cover each image.

    Args:
        pairs, patch_size, axes, scales, classes: as in `training_dataset`, also their errors.
        batch_size: int. Patches per batch; the last batch may hold fewer.
        validation_patches: int or `None`. At most so many patches, at even distances in the
            list of all; `None` for all.

    Returns:
        `tf.data.Dataset` of `(x, y)` as in `training_dataset`, the same in each pass.

    Examples:
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> dataset = validation_dataset([pair], (8, 8), batch_size=5, axes="YX")
        >>> [len(x) for x, y in dataset]
        [5, 4]
    """
    check_at_least("batch_size", batch_size, 1)
    if validation_patches is not None:
        check_at_least("validation_patches", validation_patches, 1)
    reader = PatchReader(pairs, patch_size, axes, scales, classes)
    covers = (patch_sampling.cover(shape, reader.patch_size) for shape in reader.shapes)
    starts = [(i, *start) for i, cover in enumerate(covers) for start in cover]
    count = min(len(starts), validation_patches or len(starts))
    starts = [starts[i * len(starts) // count] for i in range(count)]
    rows = np.pad(starts, ((0, 0), (0, 1 + len(reader.axes))))  # neither turned nor flipped
    batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return _dataset(reader, lambda _, step: reader.read(batches[step]), len(batches))


def _dataset(reader, make, steps, batch_size=None, first_epoch=0):
    """Turn `make(epoch, step)` into a data set whose batches are made ahead, in order."""
    import tensorflow as tf

    with tf.device("CPU"):
        upcoming = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def plan(_):
        epoch = upcoming.read_value()
        return tf.data.Dataset.range(steps).map(lambda step: (epoch, step))

    def read(epoch, step):
        xy = tf.numpy_function(make, [epoch, step], (tf.float32, tf.float32))
        return epoch, step, *map(tf.ensure_shape, xy, reader.batch_shapes(batch_size))

    def take(epoch, step, x, y):
        # Runs when a batch is taken, not when it is made ahead of time.
        done = tf.cast(step + 1 == steps, tf.int64)
        upcoming.assign(tf.maximum(upcoming, epoch + done))
        return x, y

    # One call into Python per batch, two at a time: benchmarks/pipeline.py measures this
    # against a generator.
    batches = tf.data.Dataset.range(1).flat_map(plan)
    batches = batches.map(read, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # `take` would run too early
    count = tf.data.experimental.assert_cardinality(steps)
    return batches.map(take).apply(count).with_options(options)
