"""Time series: joining and selecting frames without reading their pixels."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray


def join_frames(
    frames: Sequence[Image | np.ndarray],
    axes: str | None = None,
    name: str = "the series",
    step: float | None = None,
) -> Image:
    """Join frames to a time series, with axis T in front; pixels are read when they are needed.

    Args:
        frames: sequence of arrays or of `Image`, all of one shape.
        axes: str. One letter of `CZYX` per axis of an array; ignored for an `Image`.
        name: str. Name of the series, for messages.
        step: float or `None`. Time between frames in seconds.

    Raises:
        ValueError: if there are no frames, or if one differs from the first in shape or axes.

    Examples:
        >>> series = join_frames([np.zeros((4, 5)), np.ones((4, 5))], "YX", step=2.0)
        >>> series.axes, series.shape, series.voxel_size
        ('TYX', (2, 4, 5), {'T': 2.0})
    """
    images = [f if isinstance(f, Image) else Image(np.asarray(f), axes or "") for f in frames]
    if not images:
        raise ValueError(f"{name} has no frames: there is nothing to predict.")
    first = images[0]
    for number, image in enumerate(images):
        if (image.axes, image.shape) != (first.axes, first.shape):
            raise ValueError(
                f"The frames of {name} must have one size: frame {number} has axes {image.axes} "
                f"and shape {image.shape}, frame 0 {first.axes} and {first.shape}. Crop them to "
                f"one size, or predict them apart."
            )
    dtype, shape = np.result_type(*(image.array.dtype for image in images)), first.shape
    pages = PagedArray(lambda i: images[i].numpy(), (len(images), *shape), shape, dtype)
    voxel_size = {**first.voxel_size, **({"T": step} if step else {})}
    array = LazyArray(name, pages, "a time series")
    return replace(first, array=array, axes="T" + first.axes, voxel_size=voxel_size, name=name)


def select_frames(image: Image, frames: str | slice | None) -> Image:
    """Select frames of a time series without reading them.

    The entry T of the voxel size is multiplied by the step.

    Args:
        image: `Image` with axis T.
        frames: str `"START:STOP:STEP"` or slice, as in Python; `None` selects all.

    Raises:
        ValueError: if there is no axis T, if `frames` has another form, or if it selects none.

    Examples:
        >>> series = Image(np.zeros((6, 4, 5)), "TYX", {"T": 2.0})
        >>> part = select_frames(series, "::3")
        >>> part.shape, part.voxel_size
        ((2, 4, 5), {'T': 6.0})
    """
    if frames is None:
        return image
    name = image.name or "the image"
    if "T" not in image.axes:
        raise ValueError(
            f"--frames (`frames`) chooses frames of a time series, and {name} has no axis T: name "
            f"its axes with --axes. Received: axes {image.axes}, shape {image.shape}."
        )
    part = _parse_slice(frames)
    selection = image.split_along("T")[part]
    if not selection:
        raise ValueError(
            f"No frame is left: `frames` {frames!r} of {name}, which has {image.sizes['T']}, "
            f"counted from 0."
        )
    step = image.voxel_size.get("T", 0) * abs(part.step or 1)
    # Messages count frames within the selection; the name of the series tells which it is.
    return join_frames(selection, name=f"{image.name}[{_format_slice(part)}]", step=step)


def _parse_slice(frames):
    if isinstance(frames, slice):
        return frames
    match = re.fullmatch(r"(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?", str(frames).strip())
    bounds = [int(b) if b else None for b in match.groups()] if match else [None, None, 0]
    if bounds[2] == 0:
        raise ValueError(
            f"--frames (`frames`) is A:B or A:B:STEP, as in Python, e.g. 0:10, ::2 or -5: (written "
            f"--frames=-5:). Received: {frames!r}."
        )
    return slice(*bounds)


def _format_slice(part):
    bounds = [part.start, part.stop, *([] if part.step is None else [part.step])]
    return ":".join("" if bound is None else str(bound) for bound in bounds)
