"""Pairs of images -> `tf.data` ready for `model.fit`. No other module knows `tf.data`."""

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import augmentation, patch_sampling
from gvtnets_tf.data.patch_reader import PatchReader

AHEAD = 2  # batches that are made while the network works; more would only take memory


def patches(
    pairs,
    patch,
    batch,
    steps,
    *,
    seed=0,
    flip=False,
    rotate=False,
    weighting="uniform",
    first_epoch=0,
    axes="ZYX",
    scales=(1,),
    classes=None,
    intensity=None,
):
    """Random patches for training, an epoch per pass.

    The patches of epoch e depend only on `seed` and e, whatever was read before. The
    first pass is epoch `first_epoch`; a pass that was taken to its last batch is followed by
    the next epoch, one that was left early (Keras may look at a batch to build a model) is
    begun again.

    Args:
        pairs: sequence of `Pair`. Sizes may differ; arrays on disk are read by the patch.
        patch: tuple of int. Voxels along each letter of `axes`. For a projection its Z
            is that of the stacks.
        batch: int. Patches per batch.
        steps: int. Batches per pass.
        seed: int, not negative.
        flip: bool. Flip each axis with probability 1/2, input and target alike.
        rotate: bool. Quarter turns in the Y-X plane, input and target alike.
        weighting: `"uniform"`, or `"foreground"` for starts near signal in the target
            (see `patches.foreground`); each target is then read once beforehand.
        first_epoch: int. Epoch of the first pass, for a run that continues.
        axes: str. Spatial axes of a patch: `"ZYX"` or `"YX"`.
        scales: sequence of float. Extents at which the input is cut around the center of a
            patch, see `multiscale.crop_multiscale`; x then has as many times the channels.
        classes: int or `None`. Give the target as classes, `round(v (classes - 1))` of its
            normalized values v, clipped to 0..1, and -1 where a label is missing.
        intensity: `augment.Intensity`, or `None`.

    Returns:
        `tf.data.Dataset` of `steps` batches `(x, y)`: float32, normalized, x
        `(batch, *patch, channels_in)`, y `(batch, *patch, channels_out)`, without Z for
        a projection. A channel of the target that is NaN throughout is a missing label.

    Raises:
        ValueError: naming the image and the axis, where a patch does not fit or the
            pairs do not go together.
    """
    import tensorflow as tf

    for name, value, least in (
        ("batch", batch, 1),
        ("steps", steps, 1),
        ("seed", seed, 0),
        ("first_epoch", first_epoch, 0),
    ):
        check_at_least(name, value, least)
    check_choice("weighting", weighting, patch_sampling.WEIGHTINGS)
    source = PatchReader.checked(pairs, patch, axes, scales, classes)
    if rotate:
        augmentation.check_square(source.patch, source.axes)
    corners = source.corners() if weighting == "foreground" else None
    with tf.device("CPU"):
        upcoming = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def make(epoch, step):
        rng = patch_sampling.rng(seed, epoch, step)
        where = patch_sampling.draw(source.shapes, source.patch, batch, rng, corners)
        how = augmentation.draw(batch, source.axes, rng, flip, rotate)
        x, y = source.read(np.column_stack([*where, *how]))
        if intensity is not None:
            x = np.stack([intensity.apply(one, rng, len(source.scales)) for one in x])
        return x, y

    def take(epoch, step, x, y):
        # Runs when a batch is taken, not when it is made ahead of time.
        done = tf.cast(step + 1 == steps, tf.int64)
        upcoming.assign(tf.maximum(upcoming, epoch + done))
        return x, y

    return _dataset(source, make, steps, batch=batch, epoch=upcoming.read_value, take=take)


def grid(pairs, patch, batch, axes="ZYX", most=None, scales=(1,), classes=None):
    """The fixed patches that cover each image, as validation data.

    Args:
        pairs, patch, axes, scales, classes: as in `patches`.
        batch: int. Patches per batch; the last batch may hold fewer.
        most: int or `None`. At most so many patches, at even distances in the list of all.

    Returns:
        `tf.data.Dataset` of `(x, y)` as in `patches`, the same in each pass.

    Raises:
        ValueError: as in `patches`.
    """
    check_at_least("batch", batch, 1)
    source = PatchReader.checked(pairs, patch, axes, scales, classes)
    starts = [
        (i, *start)
        for i, shape in enumerate(source.shapes)
        for start in patch_sampling.grid(shape, source.patch)
    ]
    if most is not None and len(starts) > most:
        starts = [starts[i * len(starts) // most] for i in range(most)]
    rows = np.pad(starts, ((0, 0), (0, 1 + len(source.axes))))  # neither turned nor flipped
    return _dataset(
        source,
        lambda _, step: source.read(rows[step * batch : (step + 1) * batch]),
        -(-len(rows) // batch),
    )


def _dataset(source, make, steps, *, batch=None, epoch=lambda: 0, take=lambda *b: b[-2:]):
    """Turn `make(epoch, step)` into a data set whose batches are made ahead, in order.

    `epoch()` is asked once as a pass begins, `take(epoch, step, x, y)` gives what is
    handed over for each batch that is taken.
    """
    import tensorflow as tf

    def plan(_):
        now = tf.cast(epoch(), tf.int64)
        return tf.data.Dataset.range(steps).map(lambda step: (now, step))

    def read(now, step):
        xy = tf.numpy_function(make, [now, step], (tf.float32, tf.float32))
        return now, step, *map(tf.ensure_shape, xy, source.batch_shapes(batch))

    # One call into Python per batch, two at a time: benchmarks/pipeline.py measures this
    # against a generator.
    batches = tf.data.Dataset.range(1).flat_map(plan)
    batches = batches.map(read, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # `take` would run too early
    return (
        batches.map(take)
        .apply(tf.data.experimental.assert_cardinality(steps))
        .with_options(options)
    )
