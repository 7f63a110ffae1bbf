"""Pairs of images that one patch size fits, read by the patch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gvtnets_tf.data import augmentation, multiscale, patch_sampling
from gvtnets_tf.data.training_pairs import describe
from gvtnets_tf.images.axes import check_axes, rearrange


@dataclass(frozen=True)
class PatchReader:
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
            patch_sampling.check_fits(self.patch, shape, self.axes, describe(pair.input))
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
        return [
            patch_sampling.foreground(p.target.numpy(self.axes + "C"), sizes) for p in self.pairs
        ]

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
            x[...] = augmentation.turn(self._input(pair, start), turns, flips, self.axes + "C")
            y[...] = augmentation.turn(
                self._target(pair, start), turns, flips, self.target_axes + "C"
            )
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
        return multiscale.crop_multiscale(read, shape, start, self.patch, self.scales)

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
                f"{describe(pair.input)} along Z. Received: patch={self.patch}."
            )

    def _check_alike(self, pair):
        first = self.pairs[0]
        if pair.kind != first.kind:
            raise ValueError(
                f"All pairs must have the same channels, and be projections all or none. "
                f"Received: {describe(first.input)} with {describe(first.target)}, but "
                f"{describe(pair.input)} with {describe(pair.target)}."
            )


def _shape(image, axes):
    """Shape in another axis order; nothing is read."""
    return rearrange(np.broadcast_to(np.uint8(0), image.shape), image.axes, axes).shape


def _cut(image, region, axes):
    """Read a block of an image, and only that, in the given axis order."""
    index = tuple(region.get(letter, slice(None)) for letter in image.axes)
    return rearrange(image.array[index], image.axes, axes)
