"""CZI of Zeiss, read by bioio, and ND2 of Nikon."""

import math
from pathlib import Path

import numpy as np

from gvtnets_tf.checks import import_optional
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray
from gvtnets_tf.images.limits import check_memory
from gvtnets_tf.images.metadata import convert_step, log_once, name_file_in_errors, restore_image


def read_czi(path: Path, axes: str | None) -> Image:
    """Read a CZI file; see `readers.read`."""
    reader = import_optional("bioio_czi", "czi")
    with name_file_in_errors(path, "CZI"):
        file = reader.Reader(path, chunk_dims=["Y", "X"])
        names = tuple(map(str, file.channel_names or ()))
        array, sizes = file.dask_data, file.physical_pixel_sizes
        letters, scenes = file.dims.order, file.scenes
    _log_first(path, len(scenes), f"scenes ({', '.join(map(str, scenes))})")
    return _make_image(path, "CZI", array, letters, axes, sizes._asdict(), names)


def read_nd2(path: Path, axes: str | None) -> Image:
    """Read an ND2 file; see `readers.read`."""
    reader = import_optional("nd2", "nd2")
    with name_file_in_errors(path, "ND2"), reader.ND2File(path) as file:
        letters = "".join(file.sizes)
        array = file.to_dask()  # opens the file again for each page
        channels = getattr(file.metadata, "channels", None) or ()
        names = tuple(channel.channel.name for channel in channels)
        sizes = _calibrated_sizes(file, channels)
    if "P" in letters:
        axis = letters.index("P")
        _log_first(path, array.shape[axis], "positions")
        array = array[(slice(None),) * axis + (0,)]
        letters = letters.replace("P", "")
    return _make_image(path, "ND2", array, letters, axes, sizes, names)


def _calibrated_sizes(file, channels):
    """Return micrometers per calibrated axis; ND2 states 1 for the others."""
    sizes = dict(zip("XYZ", file.voxel_size()))
    flags = channels[0].volume.axesCalibrated if channels else (True,) * 3
    return {letter: sizes[letter] for letter, calibrated in zip("XYZ", flags) if calibrated}


def _log_first(path, count, parts):
    if count > 1:
        advice = "the first is read; save the others as files of their own."
        log_once(f"{path} holds {count} {parts}: {advice}")


def _make_image(path, kind, array, letters, axes, sizes, names):
    """Make an `Image` of a dask array, whose chunks are decoded when they are read.

    `letters` are all of its axes, `S` for color samples; `axes` names those longer than one.
    """
    # These libraries give every image all of their axes; those of length one mean nothing.
    long = [i for i, n in enumerate(array.shape) if n > 1 or letters[i] in "YX"]
    array = array[tuple(slice(None) if i in long else 0 for i in range(array.ndim))]
    letters = "".join(letters[i] for i in long)
    if "S" in letters and axes is None:
        raise ValueError(
            f"{path} is a color image (axes {letters}, shape {array.shape}): say which axis "
            f"counts its channels with --axes, e.g. --axes {letters.replace('S', 'C')}."
        )
    record = {
        "voxel_size": {k: convert_step(k, v, "µm") for k, v in sizes.items()},
        "channel_names": names,
    }
    first = letters.index("Y")  # axis of a page
    check_memory(path, math.prod(array.shape[first:]) * array.dtype.itemsize)

    def read_page(number):
        return np.asarray(array[tuple(map(int, np.unravel_index(number, array.shape[:first])))])

    pages = PagedArray(read_page, array.shape, array.shape[first:], array.dtype)
    return restore_image(path, LazyArray(path, pages, kind), axes or letters, record)
