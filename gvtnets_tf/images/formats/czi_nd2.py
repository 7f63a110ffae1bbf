"""Files as microscopes write them: CZI of Zeiss, through bioio, and ND2 of Nikon."""

import numpy as np

from gvtnets_tf.checks import optional
from gvtnets_tf.images.lazy_arrays import Pages, Stored
from gvtnets_tf.images.metadata import decoding, log_once, restore, step


def read_czi(path, axes):
    """Open a CZI file; see `readers.read`."""
    reader = optional("bioio_czi", "czi")
    with decoding(path, "CZI"):
        file = reader.Reader(path, chunk_dims=["Y", "X"])
        names = tuple(map(str, file.channel_names or ()))
        array, sizes = file.dask_data, file.physical_pixel_sizes
        letters, scenes = file.dims.order, file.scenes
    if len(scenes) > 1:
        _say_first(path, len(scenes), f"scenes ({', '.join(map(str, scenes))})")
    return _opened(path, "CZI", array, letters, axes, sizes._asdict(), names)


def read_nd2(path, axes):
    """Open an ND2 file; see `readers.read`."""
    reader = optional("nd2", "nd2")
    with decoding(path, "ND2"), reader.ND2File(path) as file:
        letters = "".join(file.sizes)
        array = file.to_dask()  # opens the file again for each page
        channels = getattr(file.metadata, "channels", None) or ()
        names = tuple(channel.channel.name for channel in channels)
        sizes = _calibrated(file, channels)
    if "P" in letters:
        count = array.shape[letters.index("P")]
        if count > 1:
            _say_first(path, count, "positions")
        array = array[(slice(None),) * letters.index("P") + (0,)]
        letters = letters.replace("P", "")
    return _opened(path, "ND2", array, letters, axes, sizes, names)


def _calibrated(file, channels):
    """Micrometres per axis; of an axis that was never calibrated the file says 1."""
    sizes = dict(zip("XYZ", file.voxel_size()))
    known = channels[0].volume.axesCalibrated if channels else (True,) * 3
    return {letter: sizes[letter] for letter, calibrated in zip("XYZ", known) if calibrated}


def _say_first(path, count, what):
    log_once(
        f"{path} holds {count} {what}: the first is read; save the others as files of their own."
    )


def _opened(path, kind, array, letters, axes, sizes, names):
    """Make an `Image` of an array that decodes what it is asked for.

    Args:
        path, kind: of the file, for messages.
        array: dask array.
        letters: str. Its axes as the library names them, `S` for color samples.
        axes: str or `None`. What to call the axes that are left, in their order.
        sizes: mapping from axis letter to micrometers or `None`.
        names: tuple of str. Names of the channels.

    Raises:
        ValueError: naming the file, if it is a color image or `axes` does not fit.
    """
    # These libraries show every image with all their axes; those of length one say nothing.
    kept = [i for i, n in enumerate(array.shape) if n > 1 or letters[i] in "YX"]
    array = array[tuple(slice(None) if i in kept else 0 for i in range(array.ndim))]
    letters = "".join(letters[i] for i in kept)
    if "S" in letters and axes is None:
        raise ValueError(
            f"{path} is a color image (axes {letters}, shape {array.shape}): say which axis "
            f"counts its channels with --axes, e.g. --axes {letters.replace('S', 'C')}."
        )
    about = {
        "voxel_size": {k: size for k, v in sizes.items() if (size := step(k, v, "µm"))},
        "channel_names": names,
    }
    pages = _pages(array, letters.index("Y"))
    return restore(path, Stored(path, pages, kind), axes or letters, about)


def _pages(array, first):
    """A dask array as pages that begin at an axis, kept when they are decoded."""
    lead = array.shape[:first]

    def page(number):
        return np.asarray(array[tuple(map(int, np.unravel_index(number, lead)))])

    return Pages(page, array.shape, array.shape[first:], array.dtype)
