"""Read patches of pairs that share one patch size."""

from collections.abc import Sequence

import numpy as np

from gvtnets_tf.data import multiscale, patch_sampling
from gvtnets_tf.data.augmentation import displace, flip_and_rotate, sample_transforms
from gvtnets_tf.data.training_pairs import TrainingPair, describe
from gvtnets_tf.images.axes import check_axes, rearrange


class PatchReader:
    """Measured pairs that fit one patch size; pixels are read by the patch.

    Arguments and errors are those of `batches.TrainingBatches`. `shapes` has the spatial shape
    of each input in the order of `axes`; `target_axes` are `axes`, for projections without Z.
    """

    def __init__(
        self, pairs: Sequence[TrainingPair], patch_size: Sequence[int], axes: str,
        scales: Sequence[float] = (1,), classes: int | None = None,
    ):  # fmt: skip
        self.pairs, self.patch_size, self.classes = tuple(pairs), tuple(patch_size), classes
        self.axes = check_axes(axes, allowed="ZYX")
        if not self.pairs:
            raise ValueError("There are no pairs to take patches from. Received: an empty list.")
        if len(self.patch_size) != len(self.axes) or min(self.patch_size) < 1:
            raise ValueError(
                f"`patch_size` must give at least one voxel for each axis of {self.axes!r}. "
                f"Received: patch_size={self.patch_size}."
            )
        self.shapes = [_spatial_shape(pair.input, self.axes) for pair in self.pairs]
        for pair, shape in zip(self.pairs, self.shapes):
            patch_sampling.check_fits(self.patch_size, shape, self.axes, describe(pair.input))
            self._check_pair(pair)
        self.target_axes = self.axes.replace("Z", "") if self.pairs[0].projects else self.axes
        self.scales = multiscale.check_scales(scales, self.patch_size, self.axes)

    def foreground_starts(self) -> list[np.ndarray]:
        """Find the starts near signal in each target, one image in memory at a time."""
        sizes = [n if a in self.target_axes else 1 for a, n in zip(self.axes, self.patch_size)]
        return [
            patch_sampling.foreground_starts(pair.target.numpy(self.axes + "C"), sizes)
            for pair in self.pairs
        ]

    def batch_shapes(self, batch_size: int | None) -> tuple[tuple, tuple]:
        """Return the shapes of x and y."""
        sizes, (inputs, outputs, _) = dict(zip(self.axes, self.patch_size)), self.pairs[0].kind
        return (
            (batch_size, *self.patch_size, inputs * len(self.scales)),
            (batch_size, *(sizes[a] for a in self.target_axes), outputs),
        )

    def sample(
        self, count, rng, cells=None, flip=False, rotate=False, elastic=None, intensity=None
    ):
        """Read a batch of random patches; `cells` is `None` or comes from `foreground_starts`."""
        places = patch_sampling.sample_starts(self.shapes, self.patch_size, count, rng, cells)
        transforms = sample_transforms(count, self.axes, rng, flip, rotate)
        grid = self.patch_size[-len(self.target_axes) :]  # a projected stack moves as one
        fields = None if elastic is None else [elastic.sample(grid, rng) for _ in range(count)]
        x, y = self.read(np.column_stack([*places, *transforms]), fields)
        if intensity is not None:
            x = np.stack([intensity.apply(patch, rng, self.scales) for patch in x])
        return x, y

    def read(self, rows: np.ndarray, fields: Sequence | None = None) -> tuple:
        """Read a batch `(x, y)`, displaced by one field per patch, if there are any.

        A row is the pair, the start, the quarter turns and the flips.
        """
        xs, ys = (np.empty(shape, np.float32) for shape in self.batch_shapes(len(rows)))
        rank, axes, target_axes = len(self.axes), self.axes + "C", self.target_axes + "C"
        for x, y, row, field in zip(xs, ys, rows, fields or [None] * len(rows)):
            pair, start, turns = self.pairs[row[0]], row[1 : 1 + rank], int(row[1 + rank])
            flips = "".join(a for a, flip in zip(self.axes, row[2 + rank :]) if flip)
            parts = self._read_input(pair, start), self._read_target(pair, start)
            if field is not None:
                parts = [displace(part, field) for part in parts]
            x[...] = flip_and_rotate(parts[0], turns, flips, axes)
            y[...] = flip_and_rotate(self._classify(parts[1]), turns, flips, target_axes)
        return xs, ys

    def _read_input(self, pair, start):
        image = pair.input

        def read(slices):
            block = _read_block(image, dict(zip(self.axes, slices)), self.axes + "C")
            return pair.input_affine.apply(block)

        if len(self.scales) == 1:
            return read([slice(a, a + n) for a, n in zip(start, self.patch_size)])
        if pair.around is not None:
            image = pair.around
            start = [s + pair.origin.get(a, 0) for s, a in zip(start, self.axes)]
        shape = _spatial_shape(image, self.axes)
        return multiscale.crop_multiscale(read, shape, start, self.patch_size, self.scales)

    def _read_target(self, pair, start):
        region = {a: slice(s, s + n) for a, s, n in zip(self.axes, start, self.patch_size)}
        return pair.target_affine.apply(_read_block(pair.target, region, self.target_axes + "C"))

    def _classify(self, y):
        if self.classes is None:
            return y
        missing, last = np.isnan(y), self.classes - 1
        return np.where(missing, -1, np.round(np.clip(np.where(missing, 0, y), 0, 1) * last))

    def _check_pair(self, pair):
        first, depth = self.pairs[0], pair.input.sizes.get("Z", 1)
        if pair.projects and self.patch_size[self.axes.index("Z")] != depth:
            raise ValueError(
                f"A projection sees whole stacks: the patch must have the {depth} planes of "
                f"{describe(pair.input)} along Z. Received: patch_size={self.patch_size}."
            )
        if pair.kind != first.kind:
            raise ValueError(
                f"All pairs must have the same channels, and be projections all or none. "
                f"Received: {describe(first.input)} with {describe(first.target)}, but "
                f"{describe(pair.input)} with {describe(pair.target)}."
            )
        if None in (pair.input_affine, pair.target_affine):
            raise ValueError(
                f"The pair of {describe(pair.input)} has no normalization yet: call "
                f"`pair.measure(input_normalizer, target_normalizer)` first. Received: "
                f"input_affine={pair.input_affine}, target_affine={pair.target_affine}."
            )


def _spatial_shape(image, axes):
    """Return the shape of an image in another axis order, without C; nothing is read."""
    empty = np.broadcast_to(np.uint8(0), image.shape)
    return rearrange(empty, image.axes, axes + "C").shape[:-1]


def _read_block(image, region, axes):
    """Read a block of an image, and only that, in the given axis order."""
    index = tuple(region.get(letter, slice(None)) for letter in image.axes)
    return rearrange(image.array[index], image.axes, axes)
