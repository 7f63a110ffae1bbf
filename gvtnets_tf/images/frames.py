"""Time series: frames put together, and frames chosen, without reading them."""

import re
from dataclasses import replace

import numpy as np

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import Pages, Stored


def join(frames, axes=None, name="the series", step=None):
    """Make a time series of frames, which are read when they are asked for.

    Args:
        frames: list of arrays, or of `Image`, of one shape.
        axes: str. One letter of `CZYX` per axis of an array; an `Image` knows its own.
        name: str. What to call the series.
        step: float. Seconds from frame to frame, if known.

    Returns:
        `Image` with axis T in front.

    Raises:
        ValueError: naming the first frame that differs in shape or axes, or an empty list.
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
    dtype = np.result_type(*(image.array.dtype for image in images))
    pages = Pages(
        lambda i: np.asarray(images[i].array), (len(images), *first.shape), first.shape, dtype
    )
    steps = {**first.voxel_size, **({"T": step} if step else {})}
    array = Stored(name, pages, "a time series")
    return replace(first, array=array, axes="T" + first.axes, voxel_size=steps, name=name)


def select(image, frames):
    """Choose frames of a time series, without reading them.

    Args:
        image: `Image` with axis T.
        frames: str `"A:B:STEP"`, or slice, with the meaning that Python gives it;
            `None` keeps all.

    Returns:
        `Image`.

    Raises:
        ValueError: if there is no axis T, for another form, or if no frame is left.
    """
    if frames is None:
        return image
    name = image.name or "the image"
    if "T" not in image.axes:
        raise ValueError(
            f"--frames (`frames`) chooses frames of a time series, and {name} has no axis T: name "
            f"its axes with --axes. Received: axes {image.axes}, shape {image.shape}."
        )
    part = _slice(frames)
    chosen = image.along("T")[part]
    if not chosen:
        raise ValueError(
            f"No frame is left: `frames` {frames!r} of {name}, which has {image.sizes['T']}, "
            f"counted from 0."
        )
    step = image.voxel_size.get("T", 0) * abs(part.step or 1)
    # Frames are counted among the chosen ones; the name says so in messages.
    return join(chosen, name=f"{image.name}[{_text(part)}]", step=step)


def _slice(frames):
    if isinstance(frames, slice):
        return frames
    found = re.fullmatch(r"(-?\d+)?:(-?\d+)?(?::(-?\d+)?)?", str(frames).strip())
    bounds = [int(b) if b else None for b in found.groups()] if found else [None, None, 0]
    if bounds[2] == 0:
        raise ValueError(
            f"--frames (`frames`) is A:B or A:B:STEP, as in Python, e.g. 0:10, ::2 or -5: (written "
            f"--frames=-5:). Received: {frames!r}."
        )
    return slice(*bounds)


def _text(part):
    bounds = [part.start, part.stop, *([] if part.step is None else [part.step])]
    return ":".join("" if bound is None else str(bound) for bound in bounds)
