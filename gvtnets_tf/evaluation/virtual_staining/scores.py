"""Score virtual staining as its paper does: the pixels of all images of a label together.

Liu et al. (2020), Global Pixel Transformers for virtual staining of microscopy images, IEEE
Trans. Med. Imaging 39(6), 2256-2266, section IV-C: Pearson correlation over a million random
pixels, 30 times (Table III), and pixel values in ten bins (Table V, Fig. 4).
https://doi.org/10.1109/TMI.2020.2968504
"""

from collections.abc import Iterable
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.evaluation.comparisons import Comparison
from gvtnets_tf.evaluation.metrics import LOW
from gvtnets_tf.evaluation.virtual_staining.report import BINS, LabelScores, StainingReport
from gvtnets_tf.images.axes import rearrange

PIXELS, REPEATS = 1_000_000, 30
SHOWN, SIDE = 4, 256  # crops of a label in its figure, and their side in pixels
MOST = 10**9 - 1  # pixels that NumPy draws from without replacement


def score_pixels(
    comparisons: Iterable[Comparison], *, pixels: int = PIXELS, repeats: int = REPEATS,
    ranges: dict | None = None, seed: int = 0,
) -> StainingReport:  # fmt: skip
    """Score each label over all images that have it.

    Correlations are those of pixels drawn uniformly from all images of a label together,
    without replacement, the same for all models (and for all labels of the same images). A
    label of fewer pixels is used whole and once, since every repeat would give the same.
    Accuracies are those of ten bins that divide the range of a label. They count every pixel.

    Args:
        comparisons: list of `Comparison`, or `Comparisons`; iterated over three times.
        pixels: int. How many to draw.
        repeats: int. How often to draw.
        ranges: mapping from label to `(low, high)`, the values sent to 0 and 1; by default
            the percentiles 0.1 and 99.9 of the truth over all images of a label, or its
            least and greatest value where these are equal. Values outside are clipped.
        seed: int. The same seed draws the same pixels.

    Raises:
        ValueError: if `ranges` has an unknown label or an empty range, if a truth is constant, or
            if values are NaN or infinite.
    """
    from tqdm import tqdm

    check_at_least("pixels", pixels, 2)
    check_at_least("repeats", repeats, 1)
    sizes = _count_pixels(comparisons)
    ranges = _measure_ranges(comparisons, sizes, ranges or {})
    tallies = {
        label: _Tally(label, sizes[label], ranges[label], pixels, repeats, seed) for label in sizes
    }
    for comparison in tqdm(comparisons, desc="staining", disable=None):
        for label, images in comparison.channels():
            tallies[label].add(comparison, images)
    return StainingReport({label: tally.scores() for label, tally in tallies.items()})


def assign_bins(values: ArrayLike, low: float, high: float) -> np.ndarray:
    """Send `low` and `high` to 0 and 1, and return the bin of each value, an int of 0 to 9.

    Bin i holds [0.1 i, 0.1 i + 0.1), the last one 1.0 as well. Values outside are clipped.
    """
    scaled = (np.asarray(values, np.float64) - low) / (high - low)
    if not np.isfinite(scaled).all():
        raise ValueError("Values that are NaN or infinite belong to no bin: replace them.")
    return np.digitize(scaled, np.arange(1, BINS) / BINS)


def _count_pixels(comparisons):
    """Count the pixels of each label in each image that has it."""
    sizes = {}
    for comparison in comparisons:
        for label, images in comparison.channels("target"):
            sizes.setdefault(label, []).append(images["target"].size)
    for label, counts in sizes.items():
        if sum(counts) > MOST:
            raise ValueError(
                f"{label} has {sum(counts)} pixels, more than can be drawn from ({MOST}): evaluate "
                f"a region, or fewer images at a time."
            )
    return sizes


def _measure_ranges(comparisons, sizes, fixed):
    """Return the values sent to 0 and 1 of each label: those of `fixed`, else percentiles."""
    for label in fixed:
        check_choice("ranges", label, sizes)
    tails = {label: _Tails(sum(n)) for label, n in sizes.items() if label not in fixed}
    for comparison in comparisons if tails else ():
        for label, images in comparison.channels("target"):
            if label in tails:
                tails[label].add(images["target"])
    ranges = {**fixed, **{label: tail.range() for label, tail in tails.items()}}
    for label, (low, high) in ranges.items():
        if not high > low:
            raise ValueError(
                f"The range of {label} must go from a lower to a higher value. "
                f"Received: {low:g} to {high:g}."
            )
    return ranges


class _Tails:
    """Percentiles of more pixels than fit the memory: only the two ends are kept."""

    def __init__(self, count):
        self.rank = LOW / 100 * (count - 1)  # from either end, since LOW + HIGH is 100
        self.kept = int(self.rank) + 2
        self.low = self.high = np.empty(0)

    def add(self, values):
        values = np.asarray(values, np.float64).ravel()
        self.low, self.high = self._keep(self.low, values), self._keep(self.high, -values)

    def _keep(self, ends, values):
        both = np.concatenate([ends, values])
        if self.kept < both.size:
            both = np.partition(both, self.kept)[: self.kept]
        return np.sort(both)

    def range(self):
        low, high = (np.interp(self.rank, range(len(x)), x) for x in (self.low, self.high))
        if not -high > low:
            low, high = self.low[0], self.high[0]
        return float(low), float(-high)


class _Moments:
    """Correlations of the first variable with each other one, summed in parts."""

    def __init__(self, variables):
        self.count, self.mean = 0, np.zeros(variables)
        self.products = np.zeros((variables, variables))
        self.low, self.high = np.full((2, variables), np.inf) * [[1], [-1]]

    def add(self, x):
        """Add values, an array `(variables, pixels)`."""
        count, mean = x.shape[1], x.mean(1)
        shift, total = mean - self.mean, self.count + count
        centered = x - mean[:, None]
        # Around the mean of each part, or large counts would cost the digits that matter.
        between = np.outer(shift, shift) * (self.count * count / total)
        self.products += centered @ centered.T + between
        self.mean, self.count = self.mean + shift * (count / total), total
        self.low, self.high = np.minimum(self.low, x.min(1)), np.maximum(self.high, x.max(1))

    def pearson(self):
        """Return the correlations; `nan` if a variable is constant, as in `metrics.pearson`."""
        spread = np.where(self.high > self.low, np.diag(self.products), np.nan)
        return np.clip(self.products[0, 1:] / np.sqrt(spread[0] * spread[1:]), -1, 1)


class _Tally:
    """Sums over the images of one label."""

    def __init__(self, label, sizes, range, pixels, repeats, seed):
        self.label, self.sizes, self.range, self.seed = label, sizes, range, seed
        self.pixels = min(pixels, sum(sizes))
        self.repeats = repeats if self.pixels < sum(sizes) else 1
        # Pixels per image; which ones is drawn when the image is added.
        self.shares = [
            np.random.default_rng((seed, repeat)).multivariate_hypergeometric(sizes, self.pixels)
            for repeat in np.arange(self.repeats)
        ]
        self.moments, self.counts, self.crops, self.added = None, {}, [], 0
        examples = np.linspace(0, len(sizes) - 1, min(SHOWN, len(sizes)))
        self.examples = {*examples.round().astype(int)}

    def add(self, comparison, images):
        """Add an image: arrays of its truth and of the predictions."""
        flat = [image.ravel() for image in images.values()]
        if self.moments is None:
            self.moments = [_Moments(len(flat)) for _ in self.shares]
        for repeat, moments in enumerate(self.moments):
            indices = self._draw(repeat)
            if len(indices):
                moments.add(np.stack([np.asarray(x[indices], np.float64) for x in flat]))
        true, *others = (assign_bins(x, *self.range) for x in flat)
        for model, predicted in zip(list(images)[1:], others):
            counts = np.bincount(BINS * true + predicted, minlength=BINS**2)
            self.counts[model] = self.counts.get(model, 0) + counts.reshape(BINS, BINS)
        if self.added in self.examples:
            self.crops.append((comparison.name, _crop(comparison, images)))
        self.added += 1

    def _draw(self, repeat):
        """Draw the indices of pixels of the image that is added."""
        size, share = self.sizes[self.added], self.shares[repeat][self.added]
        if share == size:
            return np.arange(size)
        generator = np.random.default_rng((self.seed, repeat, self.added))
        return generator.choice(size, share, replace=False, shuffle=False)

    def scores(self):
        r = np.stack([moments.pearson() for moments in self.moments])
        return LabelScores(
            len(self.sizes), sum(self.sizes), self.pixels, self.range,
            r=dict(zip(self.counts, r.T)), counts=self.counts, crops=self.crops,
        )  # fmt: skip


def _crop(comparison, images):
    """Crop the central planes to the window in which the truth varies most."""
    planes = {
        role: _central_plane(rearrange(x, comparison.axes, "TZYX")) for role, x in images.items()
    }
    height, width = planes["target"].shape
    h, w = min(SIDE, height), min(SIDE, width)
    rows, columns = range(0, height - h + 1, h // 2 or 1), range(0, width - w + 1, w // 2 or 1)
    windows = [(slice(y, y + h), slice(x, x + w)) for y, x in product(rows, columns)]
    best = max(windows, key=lambda window: planes["target"][window].std())
    if "input" in comparison.images:
        plane = _central_plane(comparison.images["input"].numpy("CTZYX"))
        # An input of another size (before a refinement, say) has no such window.
        planes = ({"input": plane} if plane.shape == (height, width) else {}) | planes
    return {role: np.array(plane[best]) for role, plane in planes.items()}


def _central_plane(stack):
    planes = stack.reshape(-1, *stack.shape[-2:])
    return planes[len(planes) // 2]
