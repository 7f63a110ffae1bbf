"""Axis strings such as `"TCZYX"`, and moving arrays between orders."""

import numpy as np

ORDER = "TCZYX"


def check_axes(axes, ndim=None, allowed=ORDER):
    """Refuse an axis string that is not made of distinct letters of `TCZYX`.

    Args:
        axes: str. One letter per axis.
        ndim: int or `None`. How many axes the array has, where it is known.
        allowed: str. Letters that may occur.

    Returns:
        `axes`, in capitals.

    Raises:
        ValueError: naming the letters that came in and those that are known.
    """
    letters = str(axes).upper()
    if set(letters) - set(allowed) or len(set(letters)) != len(letters):
        raise ValueError(
            f"`axes` must be distinct letters of {allowed!r}, one per axis. "
            f"Received: axes={axes!r}."
        )
    if ndim is not None and len(letters) != ndim:
        raise ValueError(
            f"`axes` must name each axis of the image. Received: axes={axes!r} "
            f"({len(letters)} letters) for an image with {ndim} axes."
        )
    return letters


def spatial(axes):
    """Return the letters of `axes` that are `Z`, `Y` or `X`, in their order."""
    return "".join(letter for letter in axes if letter in "ZYX")


def rearrange(array, axes, to):
    """Move an array from one axis order to another.

    Args:
        array: array with one axis per letter of `axes`.
        axes: str. Order of `array`, e.g. `"CZYX"`.
        to: str. Order wanted, e.g. `"ZYXC"`. A letter that `axes` lacks becomes
            an axis of length one; a letter that `to` lacks is dropped, and must
            have length one.

    Returns:
        `numpy.ndarray`, a view where possible.

    Raises:
        ValueError: if an axis longer than one would be dropped.
    """
    array = np.asarray(array)
    axes, to = check_axes(axes, array.ndim), check_axes(to)
    for letter in axes:
        size = array.shape[axes.index(letter)]
        if letter not in to and size != 1:
            raise ValueError(
                f"Axis {letter} has {size} entries and no place in {to!r}: choose one of them "
                f"first. Received: axes={axes!r}, shape={array.shape}."
            )
    dropped = tuple(i for i, letter in enumerate(axes) if letter not in to)
    array = np.squeeze(array, dropped)
    kept = [letter for letter in axes if letter in to]
    array = np.transpose(array, [kept.index(letter) for letter in to if letter in kept])
    missing = tuple(i for i, letter in enumerate(to) if letter not in kept)
    return np.expand_dims(array, missing)
