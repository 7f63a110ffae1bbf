"""The mean of a network's answers to mirrored images."""

import itertools
from collections.abc import Callable

import numpy as np


def average_flips(run: Callable, axes: str, output_axes: str) -> Callable:
    """Return a network that averages over the four mirror images along Y and X.

    Each tile, or the whole image where there are none, goes through the network four
    times: as it is, mirrored along Y, along X, and along both; each answer is mirrored
    back. A scale is averaged as a location is, a distribution as it is.

    Args:
        run: function `(batch, *axes, channels) -> (batch, *output_axes, ...)`.
        axes, output_axes: str. Spatial axes of the input and of the result.

    Returns:
        Function of the same shapes.

    Reference:
        Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence
        images, Nat. Methods 15, 917-920, in its released code.
        https://doi.org/10.1038/s41592-018-0111-2

    Examples:
        >>> shift = lambda x: np.roll(x, 1, axis=2)
        >>> image = np.array([[[1.0, 0, 0, 0]]])[..., None]
        >>> average_flips(shift, "YX", "YX")(image).ravel()
        array([0. , 0.5, 0. , 0.5])
    """
    # The batch comes before the grid.
    pairs = [(1 + axes.index(letter), 1 + output_axes.index(letter)) for letter in "YX"]

    def average(x):
        total = 0
        for mirrored in itertools.product((False, True), repeat=len(pairs)):
            chosen = list(itertools.compress(pairs, mirrored))
            y = run(np.flip(x, [there for there, _ in chosen]))
            total = total + np.flip(y, [back for _, back in chosen])
        return total / 2 ** len(pairs)

    return average
