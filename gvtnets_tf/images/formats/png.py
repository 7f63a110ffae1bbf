"""PNG: one plane per file, gray."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import MARK
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray
from gvtnets_tf.images.limits import DEFLATE, check_capacity, check_memory
from gvtnets_tf.images.metadata import KEY, name_file_in_errors, parse_record, restore_image

COLORS = ("RGB", "RGBA", "LA", "P", "PA")  # modes of Pillow
DTYPES = ("uint8", "uint16")


def read(path: Path, axes: str | None = None) -> Image:
    """Read a gray plane, or a color image whose axes are given; see `readers.read`."""
    file, record = _open(path), read_record(path)
    mode = "RGB" if file.mode == "P" else file.mode
    if axes is not None:
        record["axes"] = axes
    elif file.mode in COLORS:
        raise ValueError(
            f"{path} is a color image ({file.mode}): convert it to gray, or take its colors as "
            f"channels with --axes YXC."
        )
    with path.open("rb") as raw:
        depth = raw.read(25)[24]  # of the header chunk, which comes first in every PNG
    if file.mode in COLORS and depth == 16:  # Pillow would round them to 8 bits without a warning
        raise ValueError(f"{path} has colors of 16 bits, which are not read: convert it to TIFF.")
    with name_file_in_errors(path, "PNG"):
        size = file.height * file.width * depth // 8
        check_capacity("its header", size, path.stat().st_size, DEFLATE)
    return restore_image(path, _pixels(path, file, mode), axes or "YX", record)


def read_record(path: Path) -> dict:
    """Read the record of a PNG file; see `metadata.describe_image`."""
    note = _open(path).info.get(KEY)
    with name_file_in_errors(path, "PNG"):
        return parse_record(note)


def write(path: Path, image: Image, record: Mapping, colors: Sequence[str] = ()) -> None:
    """Write one plane, with its record in a text chunk."""
    from PIL import Image as Pillow
    from PIL.PngImagePlugin import PngInfo

    if colors:
        raise ValueError("A .png file holds one gray plane, without colors: write .tif or .zarr.")
    note = PngInfo()
    note.add_text("Software", MARK)
    note.add_itxt(KEY, json.dumps(record))
    Pillow.fromarray(np.ascontiguousarray(image.numpy("YX"))).save(path, pnginfo=note)


def _open(path):
    from PIL import Image as Pillow

    with name_file_in_errors(path, "PNG"), Pillow.open(path) as file:
        file.verify()  # checksums of all chunks, without decoding
        return file


def _pixels(path, file, mode):
    """Return the pixels of a file with this header; they are decoded when they are read."""
    from PIL import Image as Pillow

    def decode(_):
        with Pillow.open(path) as again:
            return np.asarray(again.convert(mode) if again.mode != mode else again)

    pixel = np.asarray(Pillow.new(mode, (1, 1)))
    shape = (file.height, file.width, *pixel.shape[2:])
    check_memory(path, math.prod(shape) * pixel.itemsize)
    return LazyArray(path, PagedArray(decode, shape, shape, pixel.dtype), "PNG")
