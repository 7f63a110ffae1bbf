"""Metadata of image files: names, units, and a JSON record of everything else."""

import contextlib
import functools
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gvtnets_tf.checks import cut, parse_json, read_value
from gvtnets_tf.images.axes import check_axes, rearrange
from gvtnets_tf.images.image import Image

logger = logging.getLogger("gvtnets_tf")

LONGEST_REASON = 500  # characters; an inner file may have a long path
KEY = "gvtnets"  # of the record, in every format
# What a record holds, and the types of it.
RECORD = {
    "axes": str,
    "voxel_size": Mapping[str, float],
    "channel_names": tuple[str, ...],
    "metadata": Mapping[str, Any],
}
SUFFIXES = re.compile(r"(\.ome)?\.(tiff?|png|npy|npz|zarr|czi|nd2)$", re.IGNORECASE)

# OME-XML, OME-Zarr and ImageJ each write units in their own way.
MICROMETERS = {
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


def file_stem(path: Path) -> str:
    """Return a file name without the suffixes of image files."""
    return SUFFIXES.sub("", path.name)


def convert_step(letter: str, value: float | str | None, unit: str | None) -> float | None:
    """Convert the distance of neighboring voxels to micrometers, of frames (`T`) to seconds.

    A value that is not positive, or a unit of neither length nor time such as "pixel", is `None`.
    """
    unit = str(unit).strip().replace("\\u00B5", "µ").replace("μ", "µ")  # Greek mu, micro sign
    table = SECONDS if letter == "T" else MICROMETERS
    factor = table.get(unit) or table.get(unit.lower() if len(unit) > 2 else unit)
    try:
        size = float(value) * factor
    except (TypeError, ValueError):
        return None
    return size if 0 < size < math.inf else None


def describe_image(image: Image, metadata: Mapping | None = None) -> dict[str, Any]:
    """Return the record of an image: what its format may lack, as a mapping for JSON."""
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


def parse_record(text: str | None) -> dict[str, Any]:
    """Parse the text of a record, empty where there is none; `ValueError` where it was damaged."""
    if text is None:
        return {}
    try:
        values = read_value(Mapping[str, Any], parse_json(text), "the record")
        record = {key: read_value(RECORD[key], values[key], key) for key in RECORD if key in values}
        check_axes(record.get("axes", ""))
    except ValueError as error:
        raise ValueError(f"its record of gvtnets_tf was damaged: {cut(error)}") from error
    return record


def restore_image(path: Path, array: Any, axes: str, record: Mapping) -> Image:
    """Make an `Image` of an array in order `axes`, in the axis order it had before it was written.

    An entry of `record` (see `describe_image`) that does not fit `array` is ignored: other programs
    crop or project the pixels and copy the text. A voxel size may be `None`.
    """
    try:
        check_axes(axes, len(array.shape))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    sizes = dict(zip(axes, array.shape))
    to = record.get("axes", axes)
    if to != axes and all(size == 1 or letter in to for letter, size in sizes.items()):
        array, axes = rearrange(array, axes, to), to
    voxel_size = {k: v for k, v in record.get("voxel_size", {}).items() if v and k in axes}
    names = tuple(record.get("channel_names", ()))
    fits = len(names) == sizes.get("C", 1)
    return Image(array, axes, voxel_size, names if fits else (), file_stem(path))


@contextlib.contextmanager
def name_file_in_errors(path: Path | str, kind: str) -> Iterator[None]:
    """Turn errors of a decoder into a `ValueError` with the path.

    Those of the system pass, and those that begin with the path.
    """
    try:
        yield
    except Exception as error:  # struct.error, zlib.error, and classes of the decoders
        ours = isinstance(error, ValueError) and str(error).startswith(str(path))
        if ours or isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise
        hint = " Install it: pip install 'gvtnets_tf[io]'." if "imagecodecs" in str(error) else ""
        first = (str(error).splitlines() or [""])[0]
        reason = cut(first, LONGEST_REASON).rstrip(".")
        raise ValueError(
            f"{path} cannot be read as {kind}; is it whole? Reason: {reason}.{hint}"
        ) from error


@functools.cache
def log_once(message: str) -> None:
    """Log a warning, once per process."""
    logger.warning(message)


def guess_axes(path: Path, ndim: int) -> str:
    """Return the axes of an array whose file names none: `YX`, or `ZYX` with a message."""
    if ndim not in (2, 3):
        raise ValueError(
            f"{path} has {ndim} axes and does not name them: say which they are with --axes, "
            f"e.g. --axes CZYX."
        )
    if ndim == 3:
        advice = "say otherwise with --axes, e.g. --axes TYX."
        log_once(f"{path}: pages without axes are taken as Z; {advice}")
    return "ZYX"[-ndim:]


def natural_key(path: Path | str) -> list[int | str]:
    """Return a key that sorts numbers by value: `z2` before `z10`."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
