"""`Image` to files that other programs open."""

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.images.formats import ome_zarr, png, tiff
from gvtnets_tf.images.metadata import record, stem

logger = logging.getLogger("gvtnets_tf")

DTYPES = tuple(
    ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]
)  # what image formats hold
COLOR = re.compile("#[0-9a-f]{6}", re.IGNORECASE)


def cast(array, dtype):
    """Round and clip an array to the range of a dtype.

    Args:
        array: array of real numbers.
        dtype: str. One of `DTYPES`.

    Returns:
        The array, and the share of its values, 0 to 1, that lay outside the range
        after rounding and were clipped.

    Raises:
        ValueError: for another dtype, complex numbers, or NaN where `dtype` holds integers.
    """
    array = np.asarray(array)
    dtype = np.dtype(check_choice("dtype", str(dtype), DTYPES))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Only real numbers can be cast. Received: {array.dtype}.")
    if array.dtype == dtype:
        return array, 0.0
    whole = dtype.kind in "iu"
    limits = np.iinfo(dtype) if whole else np.finfo(dtype)
    low, high = (limits.min, limits.max) if whole else (float(limits.min), float(limits.max))
    # Wide enough for both, so that a limit such as 2**32 - 1 is exact.
    values = array.astype(np.result_type(array, dtype), copy=False)
    if whole and array.dtype.kind == "f":
        if bad := int(np.count_nonzero(np.isnan(values))):
            raise ValueError(
                f"{dtype} has no NaN: write float32, or replace them. Received: {bad} NaN out of "
                f"{values.size} values."
            )
        values = np.rint(values)
    outside = np.count_nonzero((values < low) | (values > high))
    return np.clip(values, low, high).astype(dtype), outside / max(1, values.size)


def write(path, image, *, dtype=None, metadata=None, colors=None, force=False):
    """Write an image; the format is that of the suffix.

    | suffix | format |
    |---|---|
    | `.ome.tif`, `.ome.tiff` | OME-TIFF |
    | `.tif`, `.tiff` | ImageJ hyperstack (uint8, uint16, float32; to 4 GiB), else axes in JSON |
    | `.zarr` | OME-Zarr 0.5 with smaller levels; axes in the order T, C, Z, Y, X |
    | `.png` | one plane of uint8 or uint16 |
    | `.npy` | pixels only, which standard error says |

    Args:
        path: file, or `.zarr` folder, to make.
        image: `Image`. Axes, voxel size (micrometers, `T` in seconds) and channel names
            come back when `readers.read` reads the file.
        dtype: str or `None`. One of `DTYPES`; `None` keeps the image's. Values are
            rounded and clipped, and the clipped share is said on standard error.
        metadata: mapping from str to what JSON can hold; `readers.read_metadata`
            gives it back.
        colors: sequence of `"#rrggbb"`, one per channel, for display.
        force: bool. Whether an existing `path` may be replaced.

    Returns:
        `Path` that was written.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        ValueError: if the format cannot hold the image, or for an unknown suffix.
        OSError: if the disk is full or the folder cannot be written; nothing is left.
    """
    path = Path(path)
    check_dtype(path, dtype or image.array.dtype.name)
    writer = WRITERS[_suffix(path)]
    _check(image, colors)
    about = record(image, metadata)
    with atomic_write(path, force) as beside:
        if dtype is not None:
            array, clipped = cast(image.array[...], dtype)
            image = replace(image, array=array)
            if clipped:
                logger.warning(f"{path}: {clipped:.2%} of the values were clipped to {dtype}.")
        writer(beside, replace(image, name=image.name or stem(path)), about, tuple(colors or ()))
    return path


def check_dtype(path, dtype):
    """Refuse a type that the format of a path cannot hold, before anything is computed.

    Raises:
        ValueError: with the types that it can hold, or for an unknown suffix.
    """
    suffix = check_choice("suffix of the output", _suffix(Path(path)), WRITERS)
    known = HOLDS.get(suffix)
    if known and str(dtype) not in known:
        raise ValueError(
            f"A {suffix} file holds no {dtype}: pass a dtype (--dtype {known[-1]}), or write .tif "
            f"or .zarr. It holds {', '.join(known)}."
        )


def check_planes(path, sizes):
    """Refuse a stack where the format holds one plane, before anything is computed.

    Args:
        path: file to be written.
        sizes: mapping from axis letter to length.

    Raises:
        ValueError: naming the sizes that have no place.
    """
    more = {letter: n for letter, n in sizes.items() if letter not in "YX" and n > 1}
    if _suffix(Path(path)) == ".png" and more:
        raise ValueError(
            f"{path} would hold one plane: write .tif or .zarr. Received: an image with "
            f"{', '.join(f'{letter} {n}' for letter, n in more.items())}."
        )


def _suffix(path):
    return path.name[len(stem(path)) :].lower() or path.suffix


def _check(image, colors):
    count = image.sizes.get("C", 1)
    names = image.channel_names
    if 0 in image.shape:
        raise ValueError(f"An empty image cannot be written. Received: shape {image.shape}.")
    if names and len(names) != count:
        raise ValueError(f"{count} channels need {count} names. Received: {', '.join(names)}.")
    if colors and (len(colors) != count or not all(COLOR.fullmatch(str(c)) for c in colors)):
        raise ValueError(f"{count} channels need {count} colors '#rrggbb'. Received: {colors}.")


def _write_npy(path, image, about, colors):
    if colors:
        raise ValueError("A .npy file cannot hold channel colors: write .ome.tif or .zarr.")
    kept = [key for key in ("voxel_size", "channel_names", "metadata") if about[key]]
    logger.warning(
        f"{image.name}: .npy holds pixels only; not kept: {', '.join(['axes', *kept])} "
        f"(axes are {image.axes})."
    )
    np.save(path, image.array[...], allow_pickle=False)


HOLDS = {".ome.tif": tiff.OME_DTYPES, ".ome.tiff": tiff.OME_DTYPES, ".png": png.DTYPES}
WRITERS = {
    ".ome.tif": tiff.write_ome,
    ".ome.tiff": tiff.write_ome,
    ".tif": tiff.write_plain,
    ".tiff": tiff.write_plain,
    ".zarr": ome_zarr.write,
    ".ome.zarr": ome_zarr.write,
    ".png": png.write,
    ".npy": _write_npy,
}
