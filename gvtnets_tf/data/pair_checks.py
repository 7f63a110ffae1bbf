"""Check that inputs and targets belong together, before a network is trained on them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gvtnets_tf.images.readers import read

SATURATED = 0.01  # share of voxels at the dtype's maximum
SHIFT = 1.0  # pixels
# A shift is reported if it raises the correlation of the edges above the first number, and by
# at least the second.
CORRELATION, GAIN = 0.2, 0.1


@dataclass(frozen=True)
class Finding:
    """A problem of a pair.

    Attributes:
        pair: tuple of the two paths.
        level: `"error"` if it cannot be trained on, `"warning"` if it should be looked at.
        message: str. The problem, with its numbers.
    """

    pair: tuple[Path, Path]
    level: str
    message: str


def check_pairs(
    pairs: Sequence[tuple[str | Path, str | Path]], axes: str | None = None,
    input_channels: Sequence[int | str] | None = None,
    target_channels: Sequence[int | str] | None = None,
) -> list[Finding]:  # fmt: skip
    """Find pairs that cannot be trained on, or that do not belong together.

    Checked are sizes, dtypes, saturation, constant images, NaN, and a shift between input and
    target. The shift is found by phase correlation of their edges, since two modalities agree
    in the outlines of structures rather than in their brightness.

    Args:
        pairs: list of `(input, target)` paths.
        axes: str or `None`. Axes of inputs and targets; a target with one axis less lacks `Z`.
        input_channels, target_channels: lists of indices or names, or `None` for all.

    Returns:
        List of `Finding`, empty for good pairs. A file that cannot be read is one.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "light.npy", np.eye(16))
        >>> np.save(folder / "dna.npy", np.zeros((16, 16)))
        >>> check_pairs([(folder / "light.npy", folder / "dna.npy")], axes="YX")[0].message
        'The target is constant: all values are 0.0.'
    """
    findings, dtypes = [], {}
    for pair in map(tuple, pairs):
        try:
            x = read(pair[0], axes).select_channels(input_channels)
            y = _read_target(pair[1], axes).select_channels(target_channels)
            problems = _compare(x, y)
            dtypes[pair] = x.array.dtype.name, y.array.dtype.name
        except (ValueError, OSError) as error:
            problems = [("error", str(error))]
        findings += [Finding(pair, *problem) for problem in problems]
    return [*findings, *_check_dtypes(dtypes)]


def _read_target(path, axes):
    try:
        return read(path, axes)
    except ValueError:
        if not axes or "Z" not in axes.upper():
            raise
        return read(path, axes.upper().replace("Z", ""))


def _compare(x, y):
    """Return a list of `(level, message)`."""
    sizes = [{k: image.sizes.get(k, 1) for k in "TZYX"} for image in (x, y)]
    flat = sizes[0]["Z"] > sizes[1]["Z"] == 1  # a projection
    differ = [k for k in "TZYX" if sizes[0][k] != sizes[1][k] and not (k == "Z" and flat)]
    shapes = f"input {x.axes} {x.shape}, target {y.axes} {y.shape}"
    problems = [("error", f"Sizes differ along {', '.join(differ)}: {shapes}.")] if differ else []
    planes = []
    for side, image in (("input", x), ("target", y)):
        stack = image.numpy("CTZYX")
        for channel, pixels in enumerate(stack):
            name = f"{side}, channel {channel}," if len(stack) > 1 else side
            problems += _check_pixels(name, pixels)
        planes.append(stack[0, 0].max(0) if flat else stack[0, 0, len(stack[0, 0]) // 2])
    usable = not any(level == "error" for level, _ in problems)
    return problems + (_check_shift(*planes) if usable else [])


def _check_pixels(name, pixels):
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


def _check_shift(x, y):
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
    before, after = _correlate(x, y, 0, 0), _correlate(x, y, dy, dx)
    if after < CORRELATION or after - before < GAIN:
        return []
    message = (
        f"The target is shifted: moving it by {dy} pixels along Y and {dx} along X raises the "
        f"correlation of the edges from {before:.2f} to {after:.2f}."
    )
    return [("warning", message)]


def _correlate(x, y, dy, dx):
    """Correlate `x` with `y` moved by (dy, dx), where they overlap."""
    x, y = x[max(dy, 0) :, max(dx, 0) :], y[max(-dy, 0) :, max(-dx, 0) :]
    height, width = np.minimum(x.shape, y.shape)
    return float(np.corrcoef(x[:height, :width].ravel(), y[:height, :width].ravel())[0, 1])


def _check_dtypes(dtypes):
    """Find files of another dtype than the others: such a file was often scaled as well."""
    for side, names in zip(("input", "target"), zip(*dtypes.values())):
        usual = Counter(names).most_common(1)[0][0]
        for pair, name in zip(dtypes, names):
            if name != usual:
                message = f"The {side} is of {name}, most others are of {usual}."
                yield Finding(pair, "warning", message)
