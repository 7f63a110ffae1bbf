"""Whether an input and its target really belong together."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from gvtnets_tf.images.readers import read

SATURATED = 0.01  # share of voxels at the dtype's maximum
SHIFT = 1.0  # pixels
# A shift is believed where edges agree well once it is undone, and clearly better than before.
AGREEMENT, GAIN = 0.2, 0.1


@dataclass(frozen=True)
class Finding:
    """Something wrong with a pair.

    Attributes:
        pair: tuple of the two `Path`.
        level: `"error"` if it cannot be trained on, `"warning"` if it should be looked at.
        message: str. What is wrong, and how.
    """

    pair: tuple
    level: str
    message: str


def check_pairs(pairs, axes=None, input_channels=None, target_channels=None):
    """Look for what makes a pair useless, before hours are spent on it.

    Sizes, dtypes, saturation, constant images, NaN, and a shift between input and
    target, found by phase correlation of their edges, since two modalities agree in
    where structures end rather than in how bright they are.

    Args:
        pairs: list of `(input, target)` paths.
        axes: str or `None`. Axes of the inputs, and of targets that have as many; a
            target with one axis less lacks `Z`.
        input_channels, target_channels: lists of indices or names, or `None` for all.

    Returns:
        List of `Finding`, empty if nothing was found. A file that cannot be read is one.
    """
    findings, dtypes = [], {"input": {}, "target": {}}
    for pair in map(tuple, pairs):
        try:
            x = read(pair[0], axes).select_channels(input_channels)
            y = _read_target(pair[1], axes).select_channels(target_channels)
            found = _compare(x, y)
            dtypes["input"][pair], dtypes["target"][pair] = x.array.dtype.name, y.array.dtype.name
        except (ValueError, OSError) as error:
            found = [("error", str(error))]
        findings += [Finding(pair, *what) for what in found]
    return findings + [f for side, kinds in dtypes.items() for f in _odd_dtypes(side, kinds)]


def _read_target(path, axes):
    try:
        return read(path, axes)
    except ValueError:
        if not axes or "Z" not in axes.upper():
            raise
        return read(path, axes.upper().replace("Z", ""))


def _compare(x, y):
    """List (level, message) of all that one pair shows."""
    sizes = [{k: image.sizes.get(k, 1) for k in "TZYX"} for image in (x, y)]
    flat = sizes[0]["Z"] > sizes[1]["Z"] == 1  # a projection
    differ = [k for k in "TZYX" if sizes[0][k] != sizes[1][k] and not (k == "Z" and flat)]
    found = []
    if differ:
        found.append(
            (
                "error",
                f"Sizes differ along {', '.join(differ)}: input {x.axes} {x.shape}, "
                f"target {y.axes} {y.shape}.",
            )
        )
    planes = []
    for side, image in (("input", x), ("target", y)):
        stack = image.numpy("CTZYX")
        for channel, pixels in enumerate(stack):
            name = f"{side}, channel {channel}," if len(stack) > 1 else side
            found += _look(name, pixels)
        planes.append(stack[0, 0].max(0) if flat else stack[0, 0, len(stack[0, 0]) // 2])
    usable = not any(level == "error" for level, _ in found)
    return found + (_shift(*planes) if usable else [])


def _look(name, pixels):
    dtype = pixels.dtype
    if dtype.kind not in "biuf":
        return [("error", f"The {name} is of {dtype}, which cannot be trained on.")]
    if dtype.kind == "f" and (bad := pixels.size - np.count_nonzero(np.isfinite(pixels))):
        return [("error", f"The {name} holds {bad} NaN or infinite values of {pixels.size}.")]
    low, high = pixels.min(), pixels.max()
    if low == high:
        return [("error", f"The {name} is constant: all values are {low}.")]
    if dtype.kind in "iu" and (share := np.mean(pixels == np.iinfo(dtype).max)) > SATURATED:
        return [("warning", f"The {name} is saturated: {share:.1%} of its voxels are {high}.")]
    return []


def _shift(x, y):
    from scipy.ndimage import gaussian_gradient_magnitude
    from skimage.registration import phase_cross_correlation

    x, y = (gaussian_gradient_magnitude(plane.astype(np.float32), 2) for plane in (x, y))
    if min(x.std(), y.std()) == 0:
        return []
    # Plain correlation: whitening ("phase") lifts noise above edges of few frequencies.
    shift = phase_cross_correlation(x - x.mean(), y - y.mean(), normalization=None)[0]
    dy, dx = (round(float(d)) for d in shift)
    if np.hypot(dy, dx) <= SHIFT or any(abs(d) > n // 4 for d, n in zip((dy, dx), x.shape)):
        return []
    before, after = _agreement(x, y, 0, 0), _agreement(x, y, dy, dx)
    if after < AGREEMENT or after - before < GAIN:
        return []
    return [
        (
            "warning",
            f"The target is shifted: moving it by {dy} pixels along Y and {dx} along X raises the "
            f"correlation of the edges from {before:.2f} to {after:.2f}.",
        )
    ]


def _agreement(x, y, dy, dx):
    """Correlation of `x` with `y` moved by (dy, dx), where they overlap."""
    x, y = x[max(dy, 0) :, max(dx, 0) :], y[max(-dy, 0) :, max(-dx, 0) :]
    height, width = np.minimum(x.shape, y.shape)
    return float(np.corrcoef(x[:height, :width].ravel(), y[:height, :width].ravel())[0, 1])


def _odd_dtypes(side, dtypes):
    """A file saved in another dtype than its fellows was often scaled as well."""
    if not dtypes:
        return []
    usual = Counter(dtypes.values()).most_common(1)[0][0]
    return [
        Finding(pair, "warning", f"The {side} is of {dtype}, most others are of {usual}.")
        for pair, dtype in dtypes.items()
        if dtype != usual
    ]
