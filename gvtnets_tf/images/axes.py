"""Axis strings such as `"TCZYX"`, and arrays moved from one order to another."""

import numpy as np
from numpy.typing import ArrayLike

from gvtnets_tf.checks import quote

ORDER = "TCZYX"


def check_axes(axes: str, ndim: int | None = None, allowed: str = ORDER) -> str:
    """Return `axes` in capitals, if they are `ndim` distinct letters of `allowed`."""
    letters = str(axes).upper()
    if set(letters) - set(allowed) or len(set(letters)) != len(letters):
        raise ValueError(
            f"`axes` must be distinct letters of {allowed!r}, one per axis. "
            f"Received: axes={quote(axes)}."
        )
    if ndim is not None and len(letters) != ndim:
        raise ValueError(
            f"`axes` must name each axis of the image. Received: axes={quote(axes)} "
            f"({len(letters)} letters) for an image with {ndim} axes."
        )
    return letters


def spatial_axes(axes: str) -> str:
    """Return the letters of `axes` that are `Z`, `Y` or `X`, in their order."""
    return "".join(letter for letter in axes if letter in "ZYX")


def rearrange(array: ArrayLike, axes: str, to: str) -> np.ndarray:
    """Move an array from one axis order to another.

    Args:
        array: array with one axis per letter of `axes`.
        axes: str. Order of `array`, e.g. `"CZYX"`.
        to: str. Order of the result, e.g. `"ZYXC"`. A letter that `axes` lacks becomes an axis
            of length one; a letter that `to` lacks is dropped, and must have length one.

    Returns:
        `numpy.ndarray`, a view where possible. To drop an axis longer than one is a `ValueError`.
    """
    array = np.asarray(array)
    axes, to = check_axes(axes, array.ndim), check_axes(to)
    for letter in axes:
        size = array.shape[axes.index(letter)]
        if letter not in to and size != 1:
            raise ValueError(
                f"Axis {letter} has {size} entries and no place in {to!r}: choose one of them "
                f"first. Received: axes={quote(axes)}, shape={array.shape}."
            )
    array = np.squeeze(array, tuple(i for i, letter in enumerate(axes) if letter not in to))
    common = [letter for letter in axes if letter in to]
    array = np.transpose(array, [common.index(letter) for letter in to if letter in common])
    return np.expand_dims(array, tuple(i for i, letter in enumerate(to) if letter not in common))
