"""Random shapes to build cells from: smooth fields, tessellations, spots."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


def smooth_field(
    shape: Sequence[int], scale: Sequence[float] | float, rng: np.random.Generator
) -> np.ndarray:
    """Smooth white noise to a field of mean 0 and standard deviation 1, bumps of `scale` voxels."""
    noise = rng.standard_normal(shape, np.float32)
    noise = ndimage.gaussian_filter(noise, scale, mode="wrap", truncate=3)
    return (noise - noise.mean()) / noise.std()


def evaluate_gaussian(x: np.ndarray) -> np.ndarray:
    """Evaluate a Gaussian of height 1, cut off at 5 standard deviations."""
    return np.where(np.abs(x) < 5, np.exp(-0.5 * np.square(x)), 0)


def jitter_lattice(counts: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    """Jitter lattice points one unit apart, one ring more than `counts` units; `(n, axes)`."""
    ranges = [np.arange(-1.0, np.ceil(count) + 2) for count in counts]
    points = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(counts))
    # Every other row is half a step further, as in a honeycomb.
    points[:, -1] += 0.5 * (points[:, :-1].sum(1) % 2)
    return points + rng.uniform(-0.25, 0.25, points.shape)


def bend_grid(shape: Sequence[int], cell: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend the coordinates of a grid by a smooth random field, so that borders curve.

    `cell` has the voxels per cell along each axis; the result is float `(*shape, axes)`, in cells.
    """
    bends = [0.06 * smooth_field(shape, cell / 4, rng) for _ in shape]
    return np.stack([x / c + bend for x, c, bend in zip(np.indices(shape), cell, bends)], -1)


def find_nearest(points: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest of the seeds `(n, axes)` for each point of a grid `(*grid, axes)`.

    Returns its index, and the distance of the point to the plane half-way between the two nearest
    seeds, each `(*grid)`.
    """
    distance, index = cKDTree(seeds).query(points, k=2)
    apart = np.linalg.norm(seeds[index[..., 1]] - seeds[index[..., 0]], axis=-1)
    return index[..., 0], np.diff(distance**2)[..., 0] / (2 * apart)


def paint_spots(
    room: np.ndarray, count: int, sigma: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Paint Gaussian spots of varied size and brightness, at most 1; where they meet, the brighter.

    `room` is true where centers may be, `sigma` the mean standard deviation (z, y, x) in voxels.
    """
    volume = np.zeros(room.shape, np.float32)
    free = np.argwhere(room)
    count = min(count, len(free))
    centers = free[rng.choice(len(free), count, replace=False)]
    reach = np.ceil(3 * np.asarray(sigma)).astype(int)
    offsets = np.argwhere(np.ones(2 * reach + 1)) - reach
    width = rng.uniform(0.8, 1.2, (count, 1))
    distance = np.linalg.norm(offsets / sigma, axis=-1)
    values = rng.uniform(0.5, 1, (count, 1)) * evaluate_gaussian(distance / width)
    places = centers[:, None] + offsets
    here = ((places >= 0) & (places < room.shape)).all(-1)
    np.maximum.at(volume, tuple(places[here].T), values[here].astype(np.float32))
    return volume
