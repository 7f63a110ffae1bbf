"""What a network answers tile by tile, put together."""

import math

import numpy as np

from gvtnets_tf.prediction import tiling

ESTIMATES = ("median", "mean")


def stitch(answers, plan, blend):
    """Put images together.

    Args:
        answers: iterable of `(index of the place, array (*tile, channels))`.
        plan: `tiles.Plan`.
        blend: `"crop"`, or one of `tiles.WEIGHTS`.

    Returns:
        Float32 array `(*padded grid of the result, channels)`.
    """
    places, shares = _places(plan, blend)
    out = None
    for i, part in answers:
        if out is None:
            out = np.zeros((*plan.result(plan.padded), part.shape[-1]), np.float32)
        _add(out, part, places[i], shares and shares[i])
    return out


def stitch_distributions(answers, plan, blend, estimate="median", spread=False):
    """Average distributions and reduce them, band by band: they would not fit the memory.

    Rows that no later tile reaches are finished at once, so that one row of tiles is held.

    Args:
        answers: iterable of `(index of the place, array (*tile, channels, classes))` of
            probabilities, in the order of the places.
        plan, blend: as in `stitch`.
        estimate: one of `ESTIMATES`.
        spread: bool. Whether the standard deviations follow the estimates.

    Returns:
        Float32 array `(*padded grid, channels)`, with `spread` twice as many channels, in
        0..1 from the first class to the last.
    """
    places, shares = _places(plan, blend)
    # Leading axes that the network is repeated along, then rows, then the rest.
    rows, out, band, top = len(plan.grid) - plan.rank, None, None, None
    for i, part in answers:
        place = places[i]
        start = tuple(s.start for s in place.read[: rows + 1])
        if out is None:
            count = part.shape[-2] * (1 + spread)
            out = np.empty((*plan.padded, count), np.float32)
            high = (plan.size[rows], *plan.padded[rows + 1 :], *part.shape[-2:])
            band = np.zeros((1,) * rows + high, np.float32)
            top = start
        if start != top:
            done = start[-1] - top[-1] if start[:-1] == top[:-1] else plan.size[rows]
            _finish(out, band, top, done, estimate, spread)
            top = start
        shift = (*top, *(0 for _ in plan.padded[rows + 1 :]))
        local = tiling.Tile(_moved(place.read, shift), _moved(place.write, shift))
        _add(band, part, local, shares and shares[i])
    _finish(out, band, top, plan.padded[rows] - top[-1], estimate, spread)
    return out


def band_voxels(plan):
    """Voxels whose distributions are held at a time."""
    first = len(plan.grid) - plan.rank
    return plan.size[first] * math.prod(plan.padded[first + 1 :])


def reduce(probabilities, estimate="median", spread=False):
    """Reduce distributions over classes to numbers.

    Args:
        probabilities: float array `(..., classes)`, with sums of one.
        estimate: `"median"`, the first class up to which there is half of the
            probability; or `"mean"`.
        spread: bool. Return the standard deviations behind the estimates.

    Returns:
        Float32 array `(...)`, with `spread` `(2, ...)`, in 0..1 from the first class to the last.
    """
    classes = probabilities.shape[-1]
    values = np.linspace(0, 1, classes, dtype=np.float32)
    mean = probabilities @ values
    found = mean
    if estimate == "median":
        # A sum of floats may end a little below one.
        half = np.cumsum(probabilities, axis=-1) >= 0.5 - 1e-6
        found = values[np.argmax(half, axis=-1)]
    if not spread:
        return found
    variance = probabilities @ values**2 - mean**2
    return np.stack([found, np.sqrt(np.maximum(variance, 0))])


def _places(plan, blend):
    places = [place.along(plan.kept) for place in plan.places]
    return places, None if blend == "crop" else tiling.shares(places, blend)


def _add(out, part, place, share):
    if share is None:
        out[place.write] = part[place.keep]
    else:
        weight = tiling.weight(share)
        out[place.read] += part * weight.reshape(weight.shape + (1,) * (part.ndim - weight.ndim))


def _moved(slices, shift):
    return tuple(slice(s.start - n, s.stop - n) for s, n in zip(slices, shift))


def _finish(out, band, top, rows, estimate, spread):
    """Reduce the first rows of a band into the result, and move the others up."""
    axis = len(top) - 1
    lead, band = tuple(top[:-1]), band[(0,) * axis]
    for row in range(rows):  # one at a time: a sum over classes is as large as they are
        found = reduce(band[row], estimate, spread)
        out[(*lead, top[-1] + row)] = np.concatenate(found, axis=-1) if spread else found
    band[: len(band) - rows] = band[rows:].copy()
    band[len(band) - rows :] = 0
