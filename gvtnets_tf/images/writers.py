"""Writing images in formats that other programs read."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from gvtnets_tf.atomic_files import MARK, atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.images.formats import ome_zarr, png, tiff
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import describe_image, file_stem

logger = logging.getLogger("gvtnets_tf")

INTEGERS = ("uint8", "uint16", "uint32", "int8", "int16", "int32")
DTYPES = (*INTEGERS, "float16", "float32", "float64")
COLOR = re.compile("#[0-9a-f]{6}", re.IGNORECASE)


def cast(array: ArrayLike, dtype: DTypeLike) -> tuple[np.ndarray, float]:
    """Round and clip an array of real numbers to the range of a dtype of `DTYPES`.

    Returns the array, and the fraction of its values, 0 to 1, outside the range after rounding.
    """
    array = np.asarray(array)
    dtype = np.dtype(check_choice("dtype", str(dtype), DTYPES))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Only real numbers can be cast. Received: {array.dtype}.")
    if array.dtype == dtype:
        return array, 0.0
    whole = dtype.kind in "iu"
    limits = np.iinfo(dtype) if whole else np.finfo(dtype)
    # Wide enough for both dtypes, so that a limit such as 2**32 - 1 is exact.
    values = array.astype(np.result_type(array, dtype), copy=False)
    if whole and array.dtype.kind == "f":
        if bad := int(np.count_nonzero(np.isnan(values))):
            raise ValueError(
                f"{dtype} has no NaN: write float32, or replace them. Received: {bad} NaN out of "
                f"{values.size} values."
            )
        values = np.rint(values)
    outside = int(np.count_nonzero((values < limits.min) | (values > limits.max)))
    return np.clip(values, limits.min, limits.max).astype(dtype), outside / max(1, values.size)


def write(
    path: str | Path,
    image: Image,
    *,
    dtype: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    colors: Sequence[str] | None = None,
    force: bool = False,
) -> Path:
    """Write an image in the format of the suffix.

    | suffix | format |
    |---|---|
    | `.ome.tif`, `.ome.tiff` | OME-TIFF |
    | `.tif`, `.tiff` | ImageJ hyperstack (uint8, uint16, float32; to 4 GiB), else axes in JSON |
    | `.zarr` | OME-Zarr 0.5 with smaller levels; axes in the order T, C, Z, Y, X |
    | `.png` | one plane of uint8 or uint16 |
    | `.npy` | pixels only, with a warning |

    Args:
        path: file, or `.zarr` folder, to write.
        image: `Image`. `readers.read` restores its axes, voxel size (micrometers, `T` in
            seconds) and channel names.
        dtype: str. One of `DTYPES`; values are rounded and clipped, with a warning that states
            the clipped fraction. `None` is the dtype of the image.
        metadata: mapping for JSON; `readers.read_metadata` returns it.
        colors: sequence of `"#rrggbb"`, one per channel, for display.
        force: bool. Replace an existing `path` that this package wrote.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        ValueError: if the suffix is unknown, or if the format cannot hold the image.
        OSError: if the disk is full or the folder is not writable; no partial file remains.

    Examples:
        >>> import tempfile
        >>> from gvtnets_tf.images.readers import read
        >>> image = Image(np.zeros((4, 5), "uint16"), "YX", {"Y": 0.1, "X": 0.2})
        >>> read(write(Path(tempfile.mkdtemp(), "a.ome.tif"), image)).voxel_size
        {'X': 0.2, 'Y': 0.1}
    """
    path = Path(path)
    check_dtype(path, dtype or image.array.dtype.name)
    writer = WRITERS[_image_suffix(path)]
    _check_channels(image, colors)
    record = describe_image(image, metadata)
    image = replace(image, name=image.name or file_stem(path))
    with atomic_write(path, force) as beside:
        if dtype is not None:
            array, clipped = cast(image.array[...], dtype)
            image = replace(image, array=array)
            if clipped:
                logger.warning(f"{path}: {clipped:.2%} of the values were clipped to {dtype}.")
        writer(beside, image, record, tuple(colors or ()))
    return path


def check_dtype(path: str | Path, dtype: DTypeLike) -> None:
    """Raise if the format of a path cannot hold a dtype, or if its suffix is unknown."""
    suffix = check_choice("suffix of the output", _image_suffix(Path(path)), WRITERS)
    dtypes = FORMAT_DTYPES.get(suffix)
    if dtypes and str(dtype) not in dtypes:
        raise ValueError(
            f"A {suffix} file holds no {dtype}: pass a dtype (--dtype {dtypes[-1]}), or write .tif "
            f"or .zarr. It holds {', '.join(dtypes)}."
        )


def check_planes(path: str | Path, sizes: Mapping[str, int]) -> None:
    """Raise if the format of a path holds one plane and the image, of these sizes, has several."""
    longer = {letter: n for letter, n in sizes.items() if letter not in "YX" and n > 1}
    if _image_suffix(Path(path)) == ".png" and longer:
        raise ValueError(
            f"{path} would hold one plane: write .tif or .zarr. Received: an image with "
            f"{', '.join(f'{letter} {n}' for letter, n in longer.items())}."
        )


def _image_suffix(path):
    return path.name[len(file_stem(path)) :].lower() or path.suffix


def _check_channels(image, colors):
    count = image.sizes.get("C", 1)
    names = image.channel_names
    if 0 in image.shape:
        raise ValueError(f"An empty image cannot be written. Received: shape {image.shape}.")
    if names and len(names) != count:
        raise ValueError(f"{count} channels need {count} names. Received: {', '.join(names)}.")
    if colors and (len(colors) != count or not all(COLOR.fullmatch(str(c)) for c in colors)):
        raise ValueError(f"{count} channels need {count} colors '#rrggbb'. Received: {colors}.")


def _write_npy(path, image, record, colors):
    if colors:
        raise ValueError("A .npy file cannot hold channel colors: write .ome.tif or .zarr.")
    lost = [key for key in ("voxel_size", "channel_names", "metadata") if record[key]]
    logger.warning(
        f"{image.name}: .npy holds pixels only; not kept: {', '.join(['axes', *lost])} "
        f"(axes are {image.axes})."
    )
    with path.open("wb") as file:
        np.save(file, image.array[...], allow_pickle=False)
        file.write(MARK.encode())  # behind the pixels, where readers of NumPy's format stop


FORMAT_DTYPES = {".ome.tif": tiff.OME_DTYPES, ".ome.tiff": tiff.OME_DTYPES, ".png": png.DTYPES}
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
