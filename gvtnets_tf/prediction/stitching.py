"""Put the answers of a network to single tiles together."""

import math
from collections.abc import Iterable

import numpy as np

from gvtnets_tf.prediction import tiling

ESTIMATES = ("median", "mean")


def stitch(answers: Iterable, plan: tiling.Plan, blend: str) -> np.ndarray:
    """Put the tiles of an image together.

    Each answer is `(index of the place, array (*tile, channels))`; `blend` is one of
    `tiling.BLENDS`. The result is float32 `(*padded grid, channels)`.
    """
    places, weights = _places(plan, blend)
    out = None
    for i, part in answers:
        if out is None:
            out = np.zeros((*plan.select_output(plan.padded), part.shape[-1]), np.float32)
        _add(out, part, places[i], weights and weights[i])
    return out


def stitch_distributions(
    answers: Iterable, plan: tiling.Plan, blend: str, estimate: str = "median",
    with_std: bool = False,
) -> np.ndarray:  # fmt: skip
    """Average distributions and estimate numbers from them, band by band to save memory.

    Rows that no later tile reaches are finished at once, so that one row of tiles is held. Answers
    are as in `stitch`, in the order of the places, of arrays `(*tile, channels, classes)`. The
    result is float32 `(*padded grid, channels)`, with the deviations after all estimates.
    """
    places, weights = _places(plan, blend)
    # Leading axes that the network is repeated along, then rows, then the rest.
    rows, out = len(plan.grid) - plan.rank, None
    tops = [tuple(s.start for s in place.read[: rows + 1]) for place in places]
    for (i, part), top, after in zip(answers, tops, [*tops[1:], None]):
        if out is None:
            count = part.shape[-2] * (1 + with_std)
            out = np.empty((*plan.padded, count), np.float32)
            high = (plan.size[rows], *plan.padded[rows + 1 :], *part.shape[-2:])
            band = np.zeros((1,) * rows + high, np.float32)
        local = places[i].shift((*top, *(0 for _ in plan.padded[rows + 1 :])))
        _add(band, part, local, weights and weights[i])
        if after != top:
            below = after is not None and after[:-1] == top[:-1]
            done = after[-1] - top[-1] if below else plan.size[rows]
            _finish_rows(out, band, top, done, estimate, with_std)
    return out


def count_band_voxels(plan: tiling.Plan) -> int:
    """Count the voxels whose distributions are held at a time."""
    first = len(plan.grid) - plan.rank
    return plan.size[first] * math.prod(plan.padded[first + 1 :])


def estimate_from_distribution(
    probabilities: np.ndarray, estimate: str = "median", with_std: bool = False
) -> np.ndarray:
    """Estimate a number from each distribution `(..., classes)`, in 0..1 from first class to last.

    The median is the first class up to which there is half of it. Returned is float32 `(...)`, or
    `(2, ...)` of which the second are the standard deviations.
    """
    values = np.linspace(0, 1, probabilities.shape[-1], dtype=np.float32)
    center = mean = probabilities @ values
    if estimate == "median":
        # A sum of floats may end a little below one.
        half = np.cumsum(probabilities, axis=-1) >= 0.5 - 1e-6
        center = values[np.argmax(half, axis=-1)]
    if not with_std:
        return center
    variance = probabilities @ values**2 - mean**2
    return np.stack([center, np.sqrt(np.maximum(variance, 0))])


def _places(plan, blend):
    places = [place.along(plan.output_indices) for place in plan.places]
    return places, None if blend == "crop" else tiling.blend_weights(places, blend)


def _add(out, part, place, lines):
    if lines is None:
        out[place.write] = part[place.keep]
    else:
        weight = tiling.outer_weight(lines)
        out[place.read] += part * weight.reshape(weight.shape + (1,) * (part.ndim - weight.ndim))


def _finish_rows(out, band, top, rows, estimate, with_std):
    """Estimate the first rows of a band into the result, and move the others up."""
    *lead, first = top
    band = band[(0,) * len(lead)]
    for row in range(rows):  # one at a time: a sum over classes is as large as they are
        values = estimate_from_distribution(band[row], estimate, with_std)
        out[(*lead, first + row)] = np.concatenate(values, axis=-1) if with_std else values
    band[: len(band) - rows] = band[rows:].copy()
    band[len(band) - rows :] = 0
