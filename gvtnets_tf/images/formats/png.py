"""PNG: one plane per file, gray."""

import json

import numpy as np

from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.lazy_arrays import Pages, Stored
from gvtnets_tf.images.metadata import KEY, decoding, parse, restore

COLORS = ("RGB", "RGBA", "LA", "P", "PA")
DTYPES = ("uint8", "uint16")


def read(path, axes=None):
    """Open a plane, or a color image whose axes are given; see `readers.read`."""
    file = _open(path)
    about, mode = parse(file.info.get(KEY)), "RGB" if file.mode == "P" else file.mode
    if axes is not None:
        about["axes"] = axes
    if file.mode not in COLORS:
        return restore(path, _pixels(path, file, mode), axes or "YX", about)
    if axes is None:
        raise ValueError(
            f"{path} is a color image ({file.mode}): convert it to gray, or take its colors as "
            f"channels with --axes YXC."
        )
    if _depth(path) == 16:  # Pillow would keep 8 of them and say nothing
        raise ValueError(f"{path} has colors of 16 bits, which are not read: convert it to TIFF.")
    return restore(path, _pixels(path, file, mode), axes, about)


def read_about(path):
    """The record of a PNG file."""
    return parse(_open(path).info.get(KEY))


def write(path, image, about, colors=()):
    """Write one plane, with its record as a text chunk."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    if colors:
        raise ValueError("A .png file holds one gray plane, without colors: write .tif or .zarr.")
    note = PngInfo()
    note.add_itxt(KEY, json.dumps(about))
    plane = rearrange(image.array[...], image.axes, "YX")
    Pillow.fromarray(np.ascontiguousarray(plane)).save(path, pnginfo=note)


def _open(path):
    from PIL import Image as Pillow

    with decoding(path, "PNG"), Pillow.open(path) as file:
        file.verify()  # the sums of all its parts, without decoding
        return file


def _pixels(path, file, mode):
    """The pixels of a file of which the header was read, decoded as they are asked for."""
    from PIL import Image as Pillow

    def decode(_):
        with Pillow.open(path) as again:
            return np.asarray(again.convert(mode) if again.mode != mode else again)

    one = np.asarray(Pillow.new(mode, (1, 1)))
    shape = (file.height, file.width, *one.shape[2:])
    return Stored(path, Pages(decode, shape, shape, one.dtype), "PNG")


def _depth(path):
    with path.open("rb") as file:
        return file.read(25)[24]  # of one sample, in the header that every PNG begins with
