"""Choose the places of patches in images; no pixel is read here."""

import itertools
from collections.abc import Sequence

import numpy as np

SAMPLING = ("uniform", "foreground")
BACKGROUND, BRIGHT = 2.0, 99.9  # percentiles of a channel
SHARE = 0.4  # of the way from the one to the other, above which a voxel is signal


def make_generator(seed: int, epoch: int, *step: int) -> np.random.Generator:
    """Return the random generator of one epoch, or of one step of it."""
    return np.random.default_rng((seed, epoch, *step))


def check_fits(patch_size: Sequence[int], shape: Sequence[int], axes: str, name: str) -> None:
    """Raise `ValueError` for a patch that is larger along one of `axes` than the image `name`."""
    for letter, size, length in zip(axes, patch_size, shape):
        if size > length:
            raise ValueError(
                f"A patch of {size} voxels along {letter} does not fit into {name}, which has "
                f"{length}: use at most {length} there, or leave this image out. Received: "
                f"patch_size={tuple(patch_size)}, spatial shape {tuple(shape)}."
            )


def sample_starts(
    shapes: Sequence[Sequence[int]], patch_size: Sequence[int], count: int,
    rng: np.random.Generator, cells: Sequence[np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Sample `count` images uniformly, `(count,)`, and a first voxel in each, `(count, rank)`.

    Starts are uniform over all that fit (as in divelab/GVTNets 66e1007, the label-free data
    set), or over `cells`, one result of `foreground_starts` per image, and within the cell.
    """
    images = rng.integers(len(shapes), size=count)
    room = np.subtract(shapes, patch_size)[images] + 1
    if cells is None:
        return images, rng.integers(room)
    first = np.stack([rng.choice(cells[i]) for i in images])
    return images, first + rng.integers(np.minimum(_cell_size(patch_size), room - first))


def foreground_starts(target: np.ndarray, patch_size: Sequence[int]) -> np.ndarray:
    """Find the cells of patch starts that lead to signal in a target `(*spatial, channels)`.

    Starts are divided into cells of a quarter patch, given as their first starts `(cells, rank)`.
    A cell counts if the middle half of the patch at its corner (all of an axis that the patch
    fills) holds a voxel brighter than `p2 + 0.4 (p99.9 - p2)` of its channel, the percentiles
    taken over the whole image; so each patch that starts in it holds such a voxel. An image
    without any such cell is sampled uniformly.

    Rule and numbers are those of CSBDeep's `no_background_patches`, except that the background
    is taken off first (cameras have an offset): Weigert et al. (2018), Nat. Methods 15,
    1090-1097. https://doi.org/10.1038/s41592-018-0216-7
    """
    bright = np.zeros(target.shape[:-1], bool)
    for channel in np.moveaxis(target, -1, 0):
        if np.isnan(channel.flat[0]):
            continue  # a label that was not taken
        low, high = np.percentile(channel, (BACKGROUND, BRIGHT))
        bright |= channel > low + SHARE * (high - low)
    cell_size = _cell_size(patch_size)
    for axis, (length, size, cell) in enumerate(zip(bright.shape, patch_size, cell_size)):
        margin = size // 4 if size < length else 0
        middles = [slice(c + margin, c + size - margin) for c in range(0, length - size + 1, cell)]
        along = np.moveaxis(bright, axis, 0)
        bright = np.moveaxis(np.stack([along[m].any(0) for m in middles]), 0, axis)
    return np.argwhere(bright if bright.any() else ~bright) * cell_size


def cover(shape: Sequence[int], patch_size: Sequence[int]) -> list[tuple]:
    """Cover an image with patches, the last along an axis flush with its end; list the starts."""
    starts = ([*range(0, n - size, size), n - size] for n, size in zip(shape, patch_size))
    return list(itertools.product(*starts))


def _cell_size(patch_size):
    return np.maximum(1, np.asarray(patch_size) // 4)
