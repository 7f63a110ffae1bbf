"""Normalize, resize and crop volumes of the label-free data set as published.

Reference:
    Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images,
    Nat. Methods 15, 917-920. https://doi.org/10.1038/s41592-018-0111-2
    Cropping: divelab/GVTNets @ 66e1007.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gvtnets_tf.images import readers, resampling
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer

MAX_VOXELS = 9_732_096  # of a test volume, as published
MULTIPLE = 16  # of its sizes


def prepare_pair(
    row, resize: Sequence[float], max_voxels: int | None = None
) -> tuple[Image, Image]:
    """Read the two images of a row, and normalize, resize and crop them as published.

    Each is z-scored as a whole (ddof 0), resized by cubic splines along z, y and x
    (`resampling.resize`), and, where `max_voxels` is given, cropped as the test volumes were.
    `row` is a `data.pairing.PairPaths`.

    Returns:
        Input and target, `Image`s `ZYX` of float32 without units.

    Raises:
        ValueError: naming the image, if it is constant, not finite, or too thin to be cropped.
    """
    sides = ((row.input, row.input_channel), (row.target, row.target_channel))
    return tuple(_prepare(path, channel, resize, max_voxels) for path, channel in sides)


def compute_crop_shape(shape: Sequence[int], max_voxels: int = MAX_VOXELS) -> tuple[int, ...]:
    """Compute the shape `(z, y, x)` that a test volume is cropped to, as published.

    Its sizes are made multiples of 16; y and x then shrink by 16 in turn, y first, until no
    more than `max_voxels` voxels are left: `(65, 624, 924)` becomes `(64, 256, 560)`.
    """
    sizes, axis = [n // MULTIPLE * MULTIPLE for n in shape], 1
    while math.prod(sizes) > max_voxels:
        sizes[axis] -= MULTIPLE
        axis = 3 - axis
    if not all(sizes):
        raise ValueError(
            f"a test volume is cropped to multiples of {MULTIPLE}, the divisor of `fnet`, and to "
            f"{max_voxels} voxels: it must be thicker, or `max_voxels` larger. Received: shape "
            f"{tuple(shape)}."
        )
    return tuple(sizes)


def read_volume(path: str | Path) -> Image:
    """Read an image that is not a time series."""
    image = readers.read(path)
    if image.sizes.get("T", 1) > 1:
        raise ValueError(
            f"{path} is a time series of {image.sizes['T']} frames: these are pairs of volumes. "
            f"Save its frames as files of their own."
        )
    return image


def _prepare(path, channel, resize, max_voxels):
    image = read_volume(path)
    if channel is not None:
        image = image.select_channels([channel])
    pixels = image.numpy("ZYX")[..., None]
    pixels = Normalizer("zscore").measure(pixels, image.name).apply(pixels)[..., 0]
    size = {a: v for a, v in image.voxel_size.items() if a in "ZYX"}
    image = resampling.resize(replace(image, array=pixels, axes="ZYX", voxel_size=size), resize)
    return image if max_voxels is None else _crop(image, max_voxels)


def _crop(image, max_voxels):
    try:
        shape = compute_crop_shape(image.shape, max_voxels)
    except ValueError as error:
        raise ValueError(f"{image.name}: {error}") from error
    starts = [(n - m) // 2 for n, m in zip(image.shape, shape)]
    return image.crop({a: (s, s + m) for a, s, m in zip("ZYX", starts, shape)})
