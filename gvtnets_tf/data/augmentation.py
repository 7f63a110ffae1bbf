"""Augmentation: flips, quarter turns in the Y-X plane, and changes of brightness."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gvtnets_tf.checks import check_at_least, quote


@dataclass(frozen=True)
class Intensity:
    """Random changes of the brightness of normalized inputs; targets stay as they are.

    Attributes:
        gain: float below 1. A patch is multiplied by a number from `1 - gain` to `1 + gain`.
        offset: float. A number from `-offset` to `offset` is added to it.
        noise: float. Standard deviation of the normal noise that is added to each voxel.
        drop: float below 1. Probability that a channel is replaced by 0, at all its scales.

    Raises:
        ValueError: for a negative number, or a `gain` or `drop` of 1 or more.

    Examples:
        >>> x = np.ones((2, 2, 1), np.float32)
        >>> Intensity(gain=0.2).apply(x, np.random.default_rng(0)).max() < 1.2
        np.True_
    """

    gain: float = 0.0
    offset: float = 0.0
    noise: float = 0.0
    drop: float = 0.0

    def __post_init__(self):
        for name, value in asdict(self).items():
            key = f"augment.intensity.{name}"
            if not isinstance(value, (int, float)):
                raise ValueError(f"`{key}` is a number. Received: {quote(value)}.")
            check_at_least(key, value, 0)
            if name in ("gain", "drop") and value >= 1:
                raise ValueError(f"`{key}` must be below 1. Received: {name}={quote(value)}.")

    def apply(self, x: np.ndarray, rng: np.random.Generator, scales: int = 1) -> np.ndarray:
        """Change one normalized patch, float32 `(*grid, scales * channels)`, scale by scale."""
        gain, offset = 1 + self.gain * rng.uniform(-1, 1), self.offset * rng.uniform(-1, 1)
        shown = np.tile(rng.random(x.shape[-1] // scales) >= self.drop, scales)
        x = (x * np.float32(gain) + np.float32(offset)) * shown
        if self.noise:
            x = x + self.noise * rng.standard_normal(x.shape, np.float32)
        return x.astype(np.float32)


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
