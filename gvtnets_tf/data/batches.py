"""Which patches make up each batch of training and of validation, for any library."""

from collections.abc import Sequence

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import augmentation, patch_sampling
from gvtnets_tf.data.augmentation import Elastic, Intensity
from gvtnets_tf.data.patch_reader import PatchReader
from gvtnets_tf.data.training_pairs import TrainingPair


class TrainingBatches:
    """Random patches for training: each batch depends on `seed`, its epoch and its step only.

    `to_py_dataset` and `to_tf_dataset` hand the batches to Keras, an epoch per pass.

    Args:
        pairs: sequence of measured `TrainingPair`, of any sizes; what is on disk is read by patch.
        patch_size: sequence of int. Voxels along each letter of `axes`. For a projection its Z
            is that of the stacks.
        batch_size, steps: int. Patches per batch, and batches per epoch.
        flip, rotate: bool. Flip each axis with probability 1/2; quarter turns in the Y-X plane.
        elastic: `Elastic` displacement of input and target, or `None`.
        intensity: `Intensity` of the inputs, or `None`.
        sampling: `"uniform"`, or `"foreground"` for starts near signal in the target (see
            `patch_sampling.foreground_starts`); each target is then read once beforehand.
        seed, first_epoch: int, not negative. A run that continues begins with `first_epoch`.
        axes: str. Spatial axes of a patch: `"ZYX"` or `"YX"`.
        scales: sequence of float. Extents at which the input is cut around the center of a
            patch, see `crop_multiscale`; x then has as many times the channels.
        classes: int or `None`. Give the target as classes, `round(v (classes - 1))` of its
            normalized values v, clipped to 0..1, and -1 where a label is missing.

    Raises:
        ValueError: naming the image, if a patch does not fit, or the pairs do not go together.

    Examples:
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> batches = TrainingBatches([pair], (8, 8), batch_size=4, steps=2, axes="YX")
        >>> x, y = batches.read(epoch=0, step=1)
        >>> x.shape, len(batches)
        ((4, 8, 8, 1), 2)
    """

    def __init__(
        self, pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int,
        steps: int, *, seed: int = 0, flip: bool = False, rotate: bool = False,
        elastic: Elastic | None = None, intensity: Intensity | None = None,
        sampling: str = "uniform", first_epoch: int = 0, axes: str = "ZYX",
        scales: Sequence[float] = (1,), classes: int | None = None,
    ):  # fmt: skip
        for name, value in {"batch_size": batch_size, "steps": steps}.items():
            check_at_least(name, value, 1)
        for name, value in {"seed": seed, "first_epoch": first_epoch}.items():
            check_at_least(name, value, 0)
        check_choice("sampling", sampling, patch_sampling.SAMPLING)
        self.reader = PatchReader(pairs, patch_size, axes, scales, classes)
        if rotate:
            augmentation.check_square(self.reader.patch_size, self.reader.axes)
        if elastic is not None:
            augmentation.check_one_scale(self.reader.scales)
        self.batch_size, self.steps, self.seed = batch_size, steps, seed
        self.first_epoch = first_epoch
        cells = self.reader.foreground_starts() if sampling == "foreground" else None
        self.changes = {
            "cells": cells, "flip": flip, "rotate": rotate, "elastic": elastic,
            "intensity": intensity,
        }  # fmt: skip

    def __len__(self):
        return self.steps

    def read(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one batch `(x, y)`: float32, normalized.

        x is `(batch, *patch_size, channels_in)`, y `(batch, *patch_size, channels_out)`, without
        Z for a projection. A channel of y that is NaN throughout is a missing label.
        """
        rng = patch_sampling.make_generator(self.seed, epoch, step)
        return self.reader.sample(self.batch_size, rng, **self.changes)


class ValidationBatches:
    """The fixed patches that cover each image, the same in every epoch.

    Args:
        pairs, patch_size, axes, scales, classes: as in `TrainingBatches`, also their errors.
        batch_size: int. Patches per batch; the last batch may hold fewer.
        validation_patches: int or `None`. At most so many patches, at even distances in the
            list of all; `None` for all.

    Examples:
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> batches = ValidationBatches([pair], (8, 8), batch_size=5, axes="YX")
        >>> [len(batches.read(epoch=0, step=step)[0]) for step in range(len(batches))]
        [5, 4]
    """

    first_epoch = 0
    batch_size = None  # not the same for all

    def __init__(
        self, pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int, *,
        validation_patches: int | None = None, axes: str = "ZYX",
        scales: Sequence[float] = (1,), classes: int | None = None,
    ):  # fmt: skip
        check_at_least("batch_size", batch_size, 1)
        if validation_patches is not None:
            check_at_least("validation_patches", validation_patches, 1)
        self.reader = PatchReader(pairs, patch_size, axes, scales, classes)
        shapes, patch_size = self.reader.shapes, self.reader.patch_size
        covers = (patch_sampling.cover(shape, patch_size) for shape in shapes)
        starts = [(i, *start) for i, cover in enumerate(covers) for start in cover]
        count = min(len(starts), validation_patches or len(starts))
        starts = [starts[i * len(starts) // count] for i in range(count)]
        rows = np.pad(starts, ((0, 0), (0, 1 + len(axes))))  # neither turned nor flipped
        self.batches = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]

    def __len__(self):
        return len(self.batches)

    def read(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Read one batch, as `TrainingBatches.read`; it is the same in each epoch."""
        return self.reader.read(self.batches[step])
