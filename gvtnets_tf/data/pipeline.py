"""Pairs of images -> `tf.data` ready for `model.fit`. No other module knows `tf.data`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import augment, multiscale
from gvtnets_tf.data import patches as geometry
from gvtnets_tf.images.axes import check_axes, rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine

AHEAD = 2  # batches that are made while the network works; more would only take memory


@dataclass(frozen=True)
class Pair:
    """An input, its target, and how each is normalised.

    Attributes:
        input, target: `Image`, in any axis order, possibly still on disk. Their spatial
            sizes agree, except that the target of a projection has no Z, or one plane.
        input_affine, target_affine: `Affine` with one offset and one gain per channel.
        around: `Image` of which the input is a region, or `None`. A patch at several scales
            is cut out of it.
        origin: mapping from axis letter to the first voxel of the input in `around`.

    Raises:
        ValueError: naming both images, if their sizes differ or an affine is for
            another number of channels.
    """

    input: Image
    target: Image
    input_affine: Affine
    target_affine: Affine
    around: Image | None = None
    origin: Mapping = field(default_factory=dict)

    def __post_init__(self):
        check_same_size(self.input, self.target)
        _check_channels(self.input, self.input_affine)
        _check_channels(self.target, self.target_affine)

    @classmethod
    def measured(cls, input, target, input_normalizer, target_normalizer, **where):
        """Make a pair, its two maps measured on these two images, each read once.

        Args:
            input, target: `Image`.
            input_normalizer, target_normalizer: `Normalizer`.
            **where: `around` and `origin`; then the input is measured on all of `around`.
        """
        seen = where.get("around") or input
        affines = (
            rule.measure_images([image], _describe(image))
            for rule, image in ((input_normalizer, seen), (target_normalizer, target))
        )
        return cls(input, target, *affines, **where)

    @property
    def projects(self):
        """Whether the target is one plane made from a stack."""
        return _projects(self.input, self.target)

    @property
    def kind(self):
        """What pairs must share to be mixed: channels in and out, and whether they project."""
        return (*(i.sizes.get("C", 1) for i in (self.input, self.target)), self.projects)


def check_same_size(input, target):
    """Refuse an input and a target whose voxels are not the same ones.

    Raises:
        ValueError: naming both images and the axes, unless all that differs is Z of a
            projection, whose target has none or one plane.
    """
    differ = [a for a in "TZYX" if input.sizes.get(a, 1) != target.sizes.get(a, 1)]
    if differ and not (differ == ["Z"] and _projects(input, target)):
        raise ValueError(
            f"Input and target must have the same size along {', '.join(differ)}: crop or "
            f"resample one of them, or check that they belong together. Received: "
            f"{_describe(input)} and {_describe(target)}."
        )


def _projects(input, target):
    return input.sizes.get("Z", 1) > target.sizes.get("Z", 1) == 1


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
        scales: sequence of float. Extents at which the input is cut around the centre of a
            patch, see `multiscale.cut`; x then has as many times the channels.
        classes: int or `None`. Give the target as classes, `round(v (classes - 1))` of its
            normalised values v, clipped to 0..1, and -1 where a label is missing.
        intensity: `augment.Intensity`, or `None`.

    Returns:
        `tf.data.Dataset` of `steps` batches `(x, y)`: float32, normalised, x
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
    check_choice("weighting", weighting, geometry.WEIGHTINGS)
    source = _Source.checked(pairs, patch, axes, scales, classes)
    if rotate:
        augment.check_square(source.patch, source.axes)
    corners = source.corners() if weighting == "foreground" else None
    with tf.device("CPU"):
        upcoming = tf.Variable(first_epoch, dtype=tf.int64, trainable=False)

    def make(epoch, step):
        rng = geometry.rng(seed, epoch, step)
        where = geometry.draw(source.shapes, source.patch, batch, rng, corners)
        how = augment.draw(batch, source.axes, rng, flip, rotate)
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
    source = _Source.checked(pairs, patch, axes, scales, classes)
    starts = [
        (i, *start)
        for i, shape in enumerate(source.shapes)
        for start in geometry.grid(shape, source.patch)
    ]
    if most is not None and len(starts) > most:
        starts = [starts[i * len(starts) // most] for i in range(most)]
    rows = np.pad(starts, ((0, 0), (0, 1 + len(source.axes))))  # neither turned nor flipped
    return _dataset(
        source,
        lambda _, step: source.read(rows[step * batch : (step + 1) * batch]),
        -(-len(rows) // batch),
    )


@dataclass(frozen=True)
class _Source:
    """Pairs that one patch size fits: checked once, then read by the patch."""

    pairs: Sequence
    patch: tuple
    axes: str
    scales: tuple = (1,)
    classes: int | None = None

    @classmethod
    def checked(cls, pairs, patch, axes, scales, classes):
        axes, patch = check_axes(axes, allowed="ZYX"), tuple(patch)
        source = cls(tuple(pairs), patch, axes, classes=classes)
        return replace(source, scales=multiscale.check_scales(scales, patch, axes))

    def __post_init__(self):
        if not self.pairs:
            raise ValueError("There are no pairs to take patches from. Received: an empty list.")
        if len(self.patch) != len(self.axes) or min(self.patch) < 1:
            raise ValueError(
                f"`patch` must give at least one voxel for each axis of {self.axes!r}. "
                f"Received: patch={self.patch}."
            )
        for pair, shape in zip(self.pairs, self.shapes):
            geometry.check_fits(self.patch, shape, self.axes, _describe(pair.input))
            self._check_whole_stack(pair)
            self._check_alike(pair)

    @cached_property
    def shapes(self):
        return [_shape(pair.input, self.axes + "C")[:-1] for pair in self.pairs]

    @cached_property
    def target_axes(self):
        return self.axes.replace("Z", "") if self.pairs[0].projects else self.axes

    def corners(self):
        """The foreground of each target, one image in memory at a time."""
        sizes = [n if a in self.target_axes else 1 for a, n in zip(self.axes, self.patch)]
        return [geometry.foreground(p.target.numpy(self.axes + "C"), sizes) for p in self.pairs]

    def batch_shapes(self, batch):
        """Shapes of x and y."""
        sizes, (ins, outs, _) = dict(zip(self.axes, self.patch)), self.pairs[0].kind
        return (
            (batch, *self.patch, ins * len(self.scales)),
            (batch, *(sizes[a] for a in self.target_axes), outs),
        )

    def read(self, rows):
        """Read a batch; a row is image, start, quarter turns, flips."""
        xs, ys = (np.empty(shape, np.float32) for shape in self.batch_shapes(len(rows)))
        rank = len(self.axes)
        for x, y, row in zip(xs, ys, rows):
            pair, turns = self.pairs[row[0]], int(row[1 + rank])
            flips = "".join(a for a, flip in zip(self.axes, row[2 + rank :]) if flip)
            start = row[1 : 1 + rank]
            x[...] = augment.turn(self._input(pair, start), turns, flips, self.axes + "C")
            y[...] = augment.turn(self._target(pair, start), turns, flips, self.target_axes + "C")
        return xs, ys

    def _input(self, pair, start):
        image = pair.input

        def read(slices):
            block = _cut(image, dict(zip(self.axes, slices)), self.axes + "C")
            return pair.input_affine.apply(block)

        if len(self.scales) == 1:
            return read([slice(a, a + n) for a, n in zip(start, self.patch)])
        if pair.around is not None:
            image = pair.around
            start = [s + pair.origin.get(a, 0) for s, a in zip(start, self.axes)]
        shape = _shape(image, self.axes + "C")[:-1]
        return multiscale.cut(read, shape, start, self.patch, self.scales)

    def _target(self, pair, start):
        region = {a: slice(s, s + n) for a, s, n in zip(self.axes, start, self.patch)}
        y = pair.target_affine.apply(_cut(pair.target, region, self.target_axes + "C"))
        if self.classes is None:
            return y
        missing, last = np.isnan(y), self.classes - 1
        return np.where(missing, -1, np.round(np.clip(np.where(missing, 0, y), 0, 1) * last))

    def _check_whole_stack(self, pair):
        depth = pair.input.sizes.get("Z", 1)
        if pair.projects and self.patch[self.axes.index("Z")] != depth:
            raise ValueError(
                f"A projection sees whole stacks: the patch must have the {depth} planes of "
                f"{_describe(pair.input)} along Z. Received: patch={self.patch}."
            )

    def _check_alike(self, pair):
        first = self.pairs[0]
        if pair.kind != first.kind:
            raise ValueError(
                f"All pairs must have the same channels, and be projections all or none. "
                f"Received: {_describe(first.input)} with {_describe(first.target)}, but "
                f"{_describe(pair.input)} with {_describe(pair.target)}."
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


def _describe(image):
    return f"{image.name or 'an image without a name'} ({image.axes} {image.shape})"


def _shape(image, axes):
    """Shape in another axis order; nothing is read."""
    return rearrange(np.broadcast_to(np.uint8(0), image.shape), image.axes, axes).shape


def _cut(image, region, axes):
    """Read a block of an image, and only that, in the given axis order."""
    index = tuple(region.get(letter, slice(None)) for letter in image.axes)
    return rearrange(image.array[index], image.axes, axes)


def _check_channels(image, affine):
    channels = image.sizes.get("C", 1)
    if np.shape(affine.offset) != (channels,) or np.shape(affine.gain) != (channels,):
        raise ValueError(
            f"The normalisation of {_describe(image)} must have one offset and one gain for each "
            f"of its {channels} channels. Received: shapes {np.shape(affine.offset)} and "
            f"{np.shape(affine.gain)}."
        )
