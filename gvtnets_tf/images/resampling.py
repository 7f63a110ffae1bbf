"""Images on another grid of voxels."""

import math
from dataclasses import replace

import numpy as np

from gvtnets_tf.images.axes import spatial
from gvtnets_tf.images.lazy_arrays import Pages, Stored


def factors(image, voxel_size):
    """How many voxels one voxel of an image becomes, along each axis.

    Args:
        image: `Image` with a `voxel_size`, in micrometers.
        voxel_size: mapping from axis letter to the micrometers wanted. An axis that it
            or the image lacks is left alone.

    Returns:
        Mapping from axis letter to float, above 1 where voxels become smaller.

    Raises:
        ValueError: naming the image and the axis, if a voxel size is absent, zero or
            negative.
    """
    name, wanted = image.name or "The image", [a for a in spatial(image.axes) if a in voxel_size]
    return {
        a: _size(name, a, image.voxel_size) / _size("The grid to resample to", a, voxel_size)
        for a in wanted
    }


def resample(image, voxel_size=None, order=3, *, like=None):
    """Bring an image to another voxel size, or to the very grid of another image.

    The first and the last voxel of an axis stay where they are, and those between are
    spread evenly, as `scipy.ndimage.zoom` does (mode `"nearest"`). The way back
    therefore meets each voxel where it was.

    Args:
        image: `Image`.
        voxel_size: mapping from axis letter to the micrometers wanted; see `factors`.
            An axis of `n` voxels gets `round(n * factor)`, at least one.
        order: int, 0 to 5. Of the spline; 3 is cubic.
        like: `Image` in place of `voxel_size`. The result takes its sizes along Z, Y, X.

    Returns:
        `Image`, float32, with axes T and C in front of the spatial ones. It is computed
        when it is read, one volume of one channel and frame at a time. An image that
        already has the wanted sizes keeps its array.

    Raises:
        ValueError: as `factors`, or unless one of `voxel_size` and `like` is given.

    Reference:
        Cubic, after the z-score of the whole volume: Wang, Xie & Ji (2021), for the
        voxels of Ounkomol et al. (2018). https://doi.org/10.1038/s42256-020-00283-x
    """
    if (voxel_size is None) == (like is None):
        raise ValueError("Pass `voxel_size` or `like`, the one or the other.")
    grid, sizes = spatial(image.axes), image.sizes
    if like is None:
        scale = factors(image, voxel_size)
        size = {a: max(1, round(sizes[a] * scale.get(a, 1))) for a in grid}
        steps = {a: float(voxel_size[a]) for a in scale}
    else:
        size = {a: like.sizes[a] for a in grid}
        steps = {a: like.voxel_size[a] for a in grid if a in like.voxel_size}
    image = replace(image, voxel_size={**image.voxel_size, **steps})
    if size == {a: sizes[a] for a in grid}:
        return image
    lead, page = [a for a in "TC" if a in sizes], tuple(size[a] for a in grid)
    pages = _pages(image, lead, page, order)
    return replace(
        image,
        array=Stored(image.name or "the image", pages, "a volume to resample"),
        axes="".join(lead) + grid,
    )


def resize(image, scale):
    """Resize an image by factors, whatever its voxel size, and hold it in memory.

    Args:
        image: `Image`.
        scale: one float per spatial axis, for Z, Y and X or for the last of them.

    Returns:
        `Image`, float32, as `resample` makes it; its voxel size is that of the image, where
        it has one, over the factors.
    """
    scale = dict(zip("ZYX"[-len(scale) :], scale))
    # With a voxel of the result as the unit, a voxel of the image is as large as its factor.
    found = resample(replace(image, voxel_size=scale), dict.fromkeys(scale, 1.0))
    sizes = {a: size / scale.get(a, 1) for a, size in image.voxel_size.items()}
    return replace(found, array=found.numpy(), voxel_size=sizes)


def _pages(image, lead, page, order):
    counts = tuple(image.sizes[a] for a in lead)

    def read(number):
        from scipy.ndimage import zoom

        place = dict(zip(lead, np.unravel_index(number, counts))) if lead else {}
        index = tuple(int(place[a]) if a in place else slice(None) for a in image.axes)
        volume = np.asarray(image.array[index])
        ratio = [new / old for new, old in zip(page, volume.shape)]
        return zoom(volume, ratio, np.float32, order, mode="nearest")

    return Pages(read, (*counts, *page), page, np.float32)


def _size(name, letter, voxel_size):
    size = voxel_size.get(letter)
    if size is None or not 0 < size < math.inf:
        found = "no voxel size" if size is None else f"a voxel size of {size:g} µm"
        raise ValueError(
            f"{name} has {found} along {letter}, and resampling needs one: give it with "
            f"--voxel-size (`voxel_size`), in micrometers. Received: {dict(voxel_size)}."
        )
    return size
