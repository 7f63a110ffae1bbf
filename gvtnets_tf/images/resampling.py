"""Resampling of images to another voxel size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gvtnets_tf.images.axes import spatial_axes
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray


def resampling_factors(image: Image, voxel_size: Mapping[str, float]) -> dict[str, float]:
    """Compute the factors by which resampling multiplies the number of voxels, by axis letter.

    Voxel sizes are in micrometers; axes that `voxel_size` or the image lacks are not resampled.
    """
    name, grid = image.name or "The image", "The grid to resample to"
    return {
        a: _check_size(name, a, image.voxel_size) / _check_size(grid, a, voxel_size)
        for a in spatial_axes(image.axes)
        if a in voxel_size
    }


def resample(
    image: Image,
    voxel_size: Mapping[str, float] | None = None,
    order: int = 3,
    *,
    like: Image | None = None,
) -> Image:
    """Resample an image to a voxel size, or to the grid of another image.

    The first and the last voxel of an axis keep their places and the others are spaced evenly
    between them, as in `scipy.ndimage.zoom` (mode `"nearest"`). Resampling back therefore
    returns each voxel to its place.

    Args:
        voxel_size: mapping from axis letter to micrometers; an axis that it lacks is not
            resampled. An axis of `n` voxels gets `round(n * factor)`, at least one.
        order: int, 0 to 5. Order of the spline; 3 is cubic.
        like: `Image` in place of `voxel_size`. The result has its sizes along Z, Y and X.

    Returns:
        `Image`, float32, with axes T and C before the spatial ones. It is computed when it is
        read, one channel and frame at a time. An image whose sizes do not change keeps its
        array.

    Raises:
        ValueError: naming image and axis, if a voxel size is absent, zero or negative; or unless
            either `voxel_size` or `like` is given.

    Examples:
        >>> image = Image(np.array([[0, 2], [0, 2]]), "YX", {"Y": 1.0, "X": 1.0})
        >>> result = resample(image, {"X": 0.5}, order=1)
        >>> result.shape, result.voxel_size
        ((2, 4), {'Y': 1.0, 'X': 0.5})

    Reference:
        Cubic, after the z-score of the whole volume: Wang, Xie & Ji (2021), for the
        voxels of Ounkomol et al. (2018). https://doi.org/10.1038/s42256-020-00283-x
    """
    if (voxel_size is None) == (like is None):
        raise ValueError("Pass `voxel_size` or `like`, the one or the other.")
    grid, sizes = spatial_axes(image.axes), image.sizes
    if like is None:
        scale = resampling_factors(image, voxel_size)
        size = {a: max(1, round(sizes[a] * scale.get(a, 1))) for a in grid}
        steps = {a: float(voxel_size[a]) for a in scale}
    else:
        size = {a: like.sizes[a] for a in grid}
        steps = {a: like.voxel_size[a] for a in grid if a in like.voxel_size}
    image = replace(image, voxel_size={**image.voxel_size, **steps})
    if size == {a: sizes[a] for a in grid}:
        return image
    leading, page = [a for a in "TC" if a in sizes], tuple(size[a] for a in grid)
    pages = _make_pages(image, leading, page, order)
    array = LazyArray(image.name or "the image", pages, "a volume to resample")
    return replace(image, array=array, axes="".join(leading) + grid)


def resize(image: Image, scale: Sequence[float]) -> Image:
    """Resize an image in memory as `resample` does, by factors, with or without a voxel size.

    `scale` is for Z, Y and X or for the last of them.

    Examples:
        >>> image = Image(np.zeros((4, 6)), "YX", {"Y": 0.5, "X": 0.5})
        >>> result = resize(image, (0.5, 2))
        >>> result.shape, result.voxel_size
        ((2, 12), {'Y': 1.0, 'X': 0.25})
    """
    scale = dict(zip("ZYX"[-len(scale) :], scale))
    # In units of a voxel of the result, the voxel size of the image is the factor.
    result = resample(replace(image, voxel_size=scale), dict.fromkeys(scale, 1.0))
    sizes = {a: size / scale.get(a, 1) for a, size in image.voxel_size.items()}
    return replace(result, array=result.numpy(), voxel_size=sizes)


def _make_pages(image, leading, page, order):
    counts = tuple(image.sizes[a] for a in leading)

    def read(number):
        from scipy.ndimage import zoom

        place = dict(zip(leading, map(int, np.unravel_index(number, counts))))
        volume = np.asarray(image.array[tuple(place.get(a, slice(None)) for a in image.axes)])
        ratio = [new / old for new, old in zip(page, volume.shape)]
        return zoom(volume, ratio, np.float32, order, mode="nearest")

    return PagedArray(read, (*counts, *page), page, np.float32)


def _check_size(name, letter, voxel_size):
    size = voxel_size.get(letter)
    if size is None or not 0 < size < math.inf:
        stated = "no voxel size" if size is None else f"a voxel size of {size:g} µm"
        raise ValueError(
            f"{name} has {stated} along {letter}, and resampling needs one: give it with "
            f"--voxel-size (`voxel_size`), in micrometers. Received: {dict(voxel_size)}."
        )
    return size
