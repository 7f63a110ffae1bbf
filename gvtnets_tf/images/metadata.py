"""What image files say beside their pixels: names, units, and a record of our own."""

import contextlib
import functools
import json
import logging
import math
import re

from gvtnets_tf.images.axes import check_axes, rearrange
from gvtnets_tf.images.image import Image

logger = logging.getLogger("gvtnets_tf")

KEY = "gvtnets"  # under which the record lies in every format
SUFFIXES = re.compile(r"(\.ome)?\.(tiff?|png|npy|npz|zarr|czi|nd2)$", re.IGNORECASE)

# OME-XML, OME-Zarr and ImageJ each write units in their own way.
MICROMETRES = {
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("pm", "picometer"), 1e-6),
    **dict.fromkeys(("Å", "angstrom"), 1e-4),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("in", "inch", "inches"), 25400.0),
}
SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("µs", "us", "microsecond"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millisecond"), 1e-3),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}


def stem(path):
    """Return a file name without the suffixes of image files: `a` for `a.ome.tif`."""
    return SUFFIXES.sub("", path.name)


def step(letter, value, unit):
    """Convert the distance between neighbours along an axis.

    Args:
        letter: str. The axis; `T` is measured in time.
        value: number, its text, or `None`.
        unit: str or `None`. As written by OME, OME-Zarr or ImageJ.

    Returns:
        Float in micrometres, for `T` in seconds; `None` where the value or the
        unit says nothing (a pixel is not a length).
    """
    unit = str(unit).strip().replace("\\u00B5", "µ").replace("μ", "µ")  # Greek mu, micro sign
    table = SECONDS if letter == "T" else MICROMETRES
    factor = table.get(unit) or table.get(unit.lower() if len(unit) > 2 else unit)
    try:
        size = float(value) * factor
    except (TypeError, ValueError):
        return None
    return size if 0 < size < math.inf else None


def record(image, metadata=None):
    """Describe an image where a format has no words for it, as a mapping for JSON.

    Raises:
        ValueError: naming what JSON cannot hold.
    """
    values = {
        "axes": image.axes,
        "voxel_size": dict(image.voxel_size),
        "channel_names": list(image.channel_names),
        "metadata": dict(metadata or {}),
    }
    try:
        return json.loads(json.dumps(values))
    except TypeError as error:
        raise ValueError(f"`metadata` must be what JSON can hold: {error}.") from error


def parse(text):
    """Read a record back; what is none gives an empty one."""
    try:
        values = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def restore(path, array, axes, about):
    """Make an `Image` in the axis order it had before it was written.

    Args:
        path: `Path` of the file.
        array: array-like with one axis per letter of `axes`.
        axes: str. Order in the file.
        about: mapping, a `record`, possibly empty or out of date: another program may
            have cut or projected the pixels and kept the text.

    Returns:
        `Image`.

    Raises:
        ValueError: naming the file, if `axes` does not name each axis of `array`.
    """
    try:
        check_axes(axes, len(array.shape))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    sizes = dict(zip(axes, array.shape))
    to = about.get("axes", axes)
    if to != axes and all(size == 1 or letter in to for letter, size in sizes.items()):
        array, axes = rearrange(array, axes, to), to
    voxel_size = {k: v for k, v in about.get("voxel_size", {}).items() if k in axes}
    names = tuple(about.get("channel_names", ()))
    if len(names) != sizes.get("C", 1):
        names = ()
    return Image(array, axes, voxel_size, names, stem(path))


@contextlib.contextmanager
def decoding(path, kind):
    """Name the file in whatever a decoder raises about its content.

    Raises:
        ValueError: with the path and the decoder's reason.
        OSError: of the operating system, as it is.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything: struct.error, zlib.error, their own
        if isinstance(error, OSError) and error.errno is not None:
            raise
        hint = " Install it: pip install 'gvtnets_tf[io]'." if "imagecodecs" in str(error) else ""
        raise ValueError(
            f"{path} cannot be read as {kind}; is it whole? Reason: {error}.{hint}"
        ) from error


@functools.cache
def log_once(message):
    """Log a message once, however often a file is read."""
    logger.warning(message)


def log_pages_are_z(path):
    """Log that pages without axes were taken as Z."""
    log_once(
        f"{path}: pages without axes are taken as Z; say otherwise with --axes, e.g. --axes TYX."
    )


def guess_axes(path, ndim):
    """Axes of an array that came without any.

    Raises:
        ValueError: for one axis, or more than three.
    """
    if ndim not in (2, 3):
        raise ValueError(
            f"{path} has {ndim} axes and does not name them: say which they are with --axes, "
            f"e.g. --axes CZYX."
        )
    if ndim == 3:
        log_pages_are_z(path)
    return "ZYX"[-ndim:]


def natural(path):
    """Sort key that counts: `z2` before `z10`."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
