"""Augmentation: flips, quarter turns in the Y-X plane, displacements, and changes of light."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from gvtnets_tf.checks import check_at_least, check_fits, quote

FURTHEST = 100  # voxels of a blur or a displacement: what they cost grows with it


@dataclass(frozen=True)
class Intensity:
    """Random changes of the light of normalized inputs; targets stay as they are.

    A patch is blurred, made brighter or darker, and becomes noisy, in this order.

    Attributes:
        gain: float below 1. A patch is multiplied by a number from `1 - gain` to `1 + gain`.
        offset: float. A number from `-offset` to `offset` is added to it.
        noise: float, or a pair of them. Standard deviation of the normal noise that is added to
            each voxel; of a pair `(low, high)`, each patch draws its own from `low` to `high`.
        blur: float. Each patch is blurred by a Gaussian whose standard deviation is drawn from 0
            to `blur` voxels of the image; at a scale of 2, that is half as many of the patch.
        drop: float below 1. Probability that a channel is replaced by 0, at all its scales.

    Raises:
        ValueError: for a negative number, a `gain` or `drop` of 1 or more, a `blur` above 100, or
            a `noise` that is neither one number nor two in order.

    Examples:
        >>> x = np.ones((2, 2, 1), np.float32)
        >>> Intensity(gain=0.2, blur=1.5).apply(x, np.random.default_rng(0)).max() < 1.2
        np.True_
    """

    gain: float = 0.0
    offset: float = 0.0
    noise: float | tuple[float, ...] = 0.0
    drop: float = 0.0
    blur: float = 0.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            key = f"augment.intensity.{name}"
            if name == "noise" and isinstance(value, list | tuple):
                low_first = len(value) == 2 and 0 <= value[0] <= value[1]
                check_fits(low_first, key, value, "a number, or [low, high] with 0 <= low <= high")
                continue
            if not isinstance(value, (int, float)):
                raise ValueError(f"`{key}` is a number. Received: {quote(value)}.")
            check_at_least(key, value, 0)
            if name in ("gain", "drop") and value >= 1:
                raise ValueError(f"`{key}` must be below 1. Received: {name}={quote(value)}.")
        key, fits = "augment.intensity.blur", f"at most {FURTHEST} voxels"
        check_fits(self.blur <= FURTHEST, key, self.blur, fits)

    def apply(
        self, x: np.ndarray, rng: np.random.Generator, scales: Sequence[float] = (1,)
    ) -> np.ndarray:
        """Change one normalized patch, float32 `(*grid, scales * channels)`, scale by scale."""
        gain, offset = 1 + self.gain * rng.uniform(-1, 1), self.offset * rng.uniform(-1, 1)
        shown = np.tile(rng.random(x.shape[-1] // len(scales)) >= self.drop, len(scales))
        # Numbers are drawn only for what is asked for: older recipes keep their patches.
        if self.blur:
            x = _blur(x, self.blur * rng.random() / np.asarray(scales))
        x = (x * np.float32(gain) + np.float32(offset)) * shown
        level = rng.uniform(*self.noise) if isinstance(self.noise, list | tuple) else self.noise
        if level:
            x = x + level * rng.standard_normal(x.shape, np.float32)
        return x.astype(np.float32)


def _blur(x, sigmas):
    """Blur the channels of a patch apart, those of each scale by one of `sigmas`, in voxels."""
    widths = np.repeat(sigmas, x.shape[-1] // len(sigmas))
    blurred = [ndimage.gaussian_filter(x[..., i], width) for i, width in enumerate(widths)]
    return np.stack(blurred, -1)


@dataclass(frozen=True)
class Elastic:
    """Smooth random displacement of a patch, input and target alike.

    Attributes:
        alpha: float. Largest displacement, in voxels; each patch draws its own from 0 to `alpha`.
        sigma: float above 0. Distance over which the displacement changes, in voxels: it is a sum
            of Gaussians of this standard deviation and random sign and height.

    Raises:
        ValueError: for an `alpha` below 0, a `sigma` of 0 or less, or one of them above 100.

    Reference:
        Simard, Steinkraus & Platt (2003), Best practices for convolutional neural networks
        applied to visual document analysis, ICDAR, whose alpha is no distance.

    Examples:
        >>> field = Elastic(alpha=3, sigma=8).sample((32, 32), np.random.default_rng(0))
        >>> field.shape, bool(np.linalg.norm(field, axis=0).max() <= 3)
        ((2, 32, 32), True)
    """

    alpha: float
    sigma: float

    def __post_init__(self):
        far = f"at most {FURTHEST} voxels"
        fit = 0 <= self.alpha <= FURTHEST
        check_fits(fit, "augment.elastic.alpha", self.alpha, f"from 0 to {far}")
        fit = 0 < self.sigma <= FURTHEST
        check_fits(fit, "augment.elastic.sigma", self.sigma, f"above 0 and {far}")

    def sample(self, grid: Sequence[int], rng: np.random.Generator) -> np.ndarray:
        """Sample the displacement of each voxel along each axis, `(rank, *grid)`, in voxels."""
        # Nodes as far apart as the Gaussians are wide, also around the patch: all numbers of a
        # smooth field, at a fraction of the time that smoothing each voxel takes.
        step = max(self.sigma, 1)
        places = [np.arange(-2 * step, size + 2 * step, step) for size in grid]
        field = rng.uniform(-1, 1, (len(grid), *map(len, places)))
        for size, nodes in zip(grid, places):
            weights = np.exp(-(((np.arange(size)[:, None] - nodes) / self.sigma) ** 2) / 2)
            # Not a product of matrices, whose rounding depends on the number of threads. The axis
            # that was summed over goes to the end, so that after all of them the order is back.
            field = np.einsum("rn...,vn->r...v", field, weights)
        return field * self.alpha * rng.random() / np.linalg.norm(field, axis=0).max()


def displace(array: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Take each voxel of `(..., *grid, channels)` from where `field` `(rank, *grid)` points.

    Values are interpolated linearly, and mirrored at the border of the patch. A channel with
    missing values (NaN) takes the nearest ones, so that none spread.
    """
    grid = field.shape[1:]
    places, stacks = field + np.indices(grid), array.reshape(-1, *grid, array.shape[-1])
    moved = np.empty_like(stacks)
    for stack, channel in np.ndindex(len(stacks), stacks.shape[-1]):
        part = stacks[stack, ..., channel]
        order = 0 if np.isnan(part).any() else 1
        moved[stack, ..., channel] = ndimage.map_coordinates(
            part, places, order=order, mode="mirror"
        )
    return moved.reshape(array.shape)


def check_one_scale(scales: Sequence[float]) -> None:
    """Raise `ValueError` where a displacement would tear the scales of a patch apart."""
    if len(scales) > 1:
        raise ValueError(
            f"An elastic displacement is of patches at one scale: leave out `augment.elastic`, or "
            f"take `scales: [1]`. Received: scales={list(scales)}."
        )


def sample_transforms(
    count: int, axes: str, rng: np.random.Generator, flip: bool = False, rotate: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the quarter turns `(count,)`, 0 to 3, and the flips `(count, len(axes))` of patches.

    The same random numbers are used up whatever is switched on, so a run with flips
    sees the patches of the run without them.
    """
    turns, flips = rng.integers(4, size=count), rng.integers(2, size=(count, len(axes)))
    return turns * bool(rotate), (flips * bool(flip)).astype(bool)


def flip_and_rotate(array: np.ndarray, turns: int, flips: str, axes: str) -> np.ndarray:
    """Flip an array of order `axes`, then turn it by quarters that take Y to X; return a view.

    Of `flips` those that `axes` lacks are passed over: a projected target has no Z.
    """
    array = np.flip(array, [axes.index(letter) for letter in flips if letter in axes])
    return np.rot90(array, turns, (axes.index("Y"), axes.index("X"))) if turns % 4 else array


def check_square(patch_size: Sequence[int], axes: str) -> None:
    """Raise `ValueError` for a patch that a quarter turn would not map onto itself."""
    if not {"Y", "X"} <= set(axes):
        raise ValueError(f"Quarter turns need the axes Y and X. Received: axes={axes!r}.")
    y, x = (patch_size[axes.index(letter)] for letter in "YX")
    if y != x:
        raise ValueError(
            f"Quarter turns need patches as long along Y as along X: use a square patch, or "
            f"`rotate=False`. Received: {y} voxels along Y and {x} along X."
        )
