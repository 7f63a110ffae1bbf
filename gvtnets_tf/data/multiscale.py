"""Windows of an image at several scales around one center.

Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of microscopy
images, section III-D. https://doi.org/10.1109/TMI.2020.2968504
"""

from collections.abc import Callable, Sequence

import numpy as np


def check_scales(scales: Sequence[float], size: Sequence[int], axes: str) -> tuple[float, ...]:
    """Return `scales` as floats if a window of `size` pixels along `axes` can be cut at each."""
    scales = tuple(float(s) for s in scales)
    if 1.0 not in scales:
        given = ", ".join(f"{s:g}" for s in scales)
        raise ValueError(f"`scales` must hold 1, the window itself. Received: [{given}].")
    if scales == (1.0,):
        return scales
    if axes != "YX":
        raise ValueError(f"Several scales are of YX windows. Received: axes={axes!r}.")
    for scale in scales:
        for letter, n in zip(axes, size):
            extent = n * scale
            if scale <= 0 or extent != round(extent) or (round(extent) - n) % 2:
                raise ValueError(
                    f"A window of {n} pixels along {letter} cannot be cut at scale {scale:g} "
                    f"around the same center, which needs {extent:g} pixels, an even number more "
                    f"or less: use a multiple of 4 with scales such as 2 and 0.5."
                )
    return scales


def crop_multiscale(
    read: Callable[[tuple[slice, ...]], np.ndarray], shape: Sequence[int], start: Sequence[int],
    size: Sequence[int], scales: Sequence[float] = (1,),
) -> np.ndarray:  # fmt: skip
    """Crop a window at several scales, each resized to the window.

    Beyond its border the image is reflected. A larger cut is shrunk by a filter as wide as it
    shrinks (every pixel counts), a smaller one is enlarged linearly.

    Args:
        read: function of a tuple of slices, inside the image, to an array `(y, x, channels)`.
        shape: tuple of int. Pixels of the image along y and x.
        start, size: tuples of int. First pixel and pixels of the window.
        scales: sequence of float. `(1, 2, 0.5)` is the paper's: the window, twice and half of it.

    Returns:
        Float32 array `(*size, len(scales) * channels)`, scale by scale.

    Examples:
        >>> ramp = np.arange(32.0)[:, None, None] * np.ones((32, 32, 1))
        >>> window = crop_multiscale(lambda index: ramp[index], (32, 32), (12, 12), (8, 8), (1, 2))
        >>> window.shape, window[:, 4, 0].tolist()
        ((8, 8, 2), [12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0])
    """
    reach = [max(round(n * max(scales)), n) for n in size]
    first = [s - (r - n) // 2 for s, r, n in zip(start, reach, size)]
    block, parts = _read_reflected(read, shape, first, reach), []
    for scale in scales:
        extents = [round(n * scale) for n in size]
        cut = tuple(slice((r - e) // 2, (r - e) // 2 + e) for r, e in zip(reach, extents))
        parts.append(_resize(block[cut], size))
    return np.concatenate(parts, axis=-1)


def _read_reflected(read, shape, start, size):
    """Read a block that may reach beyond the image, where the image is reflected."""
    if all(0 <= a <= n - m for n, a, m in zip(shape, start, size)):
        inside = tuple(slice(a, a + m) for a, m in zip(start, size))
        return np.asarray(read(inside), np.float32)
    # The row, or column, of the image that each one of the block shows.
    shown = [
        np.pad(np.arange(n), (max(-a, 0), max(a + m - n, 0)), mode="reflect")[max(a, 0) :][:m]
        for n, a, m in zip(shape, start, size)
    ]
    first, stop = [int(p.min()) for p in shown], [int(p.max()) + 1 for p in shown]
    block = np.asarray(read(tuple(map(slice, first, stop))), np.float32)
    return block[np.ix_(*(p - a for p, a in zip(shown, first)))]


def _resize(block, size):
    """Bring an array `(y, x, channels)` to another size."""
    if block.shape[:2] == tuple(size):
        return block
    from PIL import Image

    planes = [
        Image.fromarray(np.ascontiguousarray(plane)).resize(size[::-1], Image.Resampling.BILINEAR)
        for plane in np.moveaxis(block, -1, 0)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)
