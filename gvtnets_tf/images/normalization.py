"""Normalization as numbers that can be stored, applied and undone."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np

from gvtnets_tf.checks import check_choice

KINDS = ("percentile", "zscore", "unit", "fixed", "none")
SCOPES = ("image", "dataset")
SAMPLES = 1_000_000  # voxels per image that a percentile over a whole data set looks at


@dataclass(frozen=True)
class Affine:
    """The map `(x - offset) / gain`, kept so that predictions can go back.

    `offset` and `gain` are in camera counts (or whatever unit `x` has), one per
    channel, shape `(channels,)`; `x` is channel-last. What comes out has no unit.
    """

    offset: np.ndarray
    gain: np.ndarray

    def apply(self, x):
        """Normalize a channel-last array; the result is float32."""
        # The offset is float64: large counts lose nothing before it is taken off.
        return ((np.asarray(x) - self.offset) / self.gain).astype(np.float32)

    def undo(self, x):
        """Give a channel-last normalized array its units back; the result is float32."""
        return (np.asarray(x, np.float32) * self.gain + self.offset).astype(np.float32)


@dataclass(frozen=True)
class Normalizer:
    """How an image is normalized: the rule, before any image was seen.

    Args:
        kind: `"percentile"` sends two percentiles to 0 and 1, `"zscore"` takes the
            mean off and divides by the standard deviation (ddof 0), `"unit"` sends
            the smallest and the largest value to -1 and 1, `"fixed"` uses `offset`
            and `gain`, `"none"` changes nothing.
        low, high: float. The two percentiles, `0 <= low < high <= 100`.
        offset, gain: float, or sequences of float, one per channel, of `"fixed"`.
        scope: `"image"` measures every image by itself, `"dataset"` all training
            images together.

    Raises:
        ValueError: for an unknown kind or scope, or impossible percentiles.

    Reference:
        Percentiles 2 and 99.8 as in CSBDeep: Weigert et al. (2018), Content-aware
        image restoration, Nat. Methods 15, 1090-1097.
        https://doi.org/10.1038/s41592-018-0216-7
    """

    kind: str = "percentile"
    low: float = 2.0
    high: float = 99.8
    offset: tuple[float, ...] | float = ()
    gain: tuple[float, ...] | float = ()
    scope: str = "image"

    def __post_init__(self):
        check_choice("normalize", self.kind, KINDS)
        check_choice("scope", self.scope, SCOPES)
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"Percentiles must satisfy 0 <= low < high <= 100. "
                f"Received: low={self.low}, high={self.high}."
            )
        for name in ("offset", "gain"):
            object.__setattr__(self, name, tuple(map(float, np.atleast_1d(getattr(self, name)))))
        if self.kind == "fixed" and (not self.gain or len(self.gain) != len(self.offset)):
            raise ValueError(
                f"A fixed normalization needs one offset and one gain per channel. "
                f"Received: offset={self.offset}, gain={self.gain}."
            )
        if 0 in self.gain:
            raise ValueError(f"`gain` must not be zero. Received: gain={self.gain}.")

    @classmethod
    def parse(cls, value):
        """Make one from a kind, a mapping of arguments, or one already made."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            check_choice("key of normalize", sorted(unknown)[0], list(cls.__dataclass_fields__))
        return cls(**value)

    def to_dict(self):
        """The arguments as a mapping that JSON and YAML can hold."""
        return asdict(self) | {"offset": list(self.offset), "gain": list(self.gain)}

    def measure(self, images, name="image"):
        """Measure the map on one channel-last array, or on several together.

        Args:
            images: array `(..., channels)`, or an iterable of such arrays, read one
                at a time.
            name: str. What to call it in messages.

        Returns:
            `Affine`.

        Raises:
            ValueError: if there is NaN or infinity, nothing but one value, or no real number.
        """
        one = hasattr(images, "ndim") or not isinstance(images, Iterable)
        arrays = [images] if one else images
        samples = None if one else SAMPLES
        parts = []
        for array in map(np.asarray, arrays):
            _check_numbers(array, name)
            parts.append(self._statistics(array.reshape(-1, array.shape[-1]), samples))
        if not parts:
            raise ValueError(f"There is nothing to measure: {name} is an empty list.")
        offset, gain = self._combine(parts)
        if not (gain > 0).all() and self.kind != "fixed":
            channel = int(np.argmin(gain > 0))
            where = f" from percentile {self.low:g} to {self.high:g}"
            raise ValueError(
                f"Channel {channel} of {name} is constant"
                f"{where if self.kind == 'percentile' else ''}: there is nothing to normalize by "
                f"{self.kind}. Received: a spread of {gain[channel]:g} around {offset[channel]:g}."
            )
        return Affine(offset, gain)

    def measure_images(self, images, name):
        """Measure the map on one or several `Image`, each channel where it was taken.

        Args:
            images: list of `Image`, read one at a time.
            name: str. What to call them in messages.

        Returns:
            `Affine`. A channel that no image has keeps its values (offset 0, gain 1), unless
            the rule has stored ones.

        Raises:
            ValueError: as `measure`, also for a channel that is NaN in some places only, and
                for images that differ in their channels.
        """
        missing = [image.missing for image in images]
        counts = sorted(set(map(len, missing)))
        if len(counts) > 1:
            raise ValueError(f"{name} must have equally many channels. Received: {counts}.")
        if not any(map(any, missing)):
            return self.measure(_arrays(images), name)
        self._check_stored(counts[0])
        found = []
        for c in range(len(missing[0])):
            alone = [image.select_channels([c]) for image in images]
            for image, lacks in zip(alone, missing):
                if lacks[c] and not np.isnan(image.numpy()).all():
                    _check_numbers(image.numpy(), f"{name}, channel {c}")
            taken = [image for image, lacks in zip(alone, missing) if not lacks[c]]
            rule = self._of_channel(c)
            if not taken:
                found.append(
                    Affine(np.asarray(rule.offset or [0.0]), np.asarray(rule.gain or [1.0]))
                )
            else:
                found.append(rule.measure(_arrays(taken), f"{name}, channel {c}"))
        return Affine(*(np.concatenate([getattr(a, k) for a in found]) for k in ("offset", "gain")))

    def _of_channel(self, c):
        if self.kind != "fixed":
            return self
        return replace(self, offset=self.offset[c : c + 1], gain=self.gain[c : c + 1])

    def _statistics(self, x, samples):
        x = x.view(np.uint8) if x.dtype == bool else x  # NumPy has no percentile of a mask
        if self.kind == "zscore":
            return x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64), len(x)
        if self.kind == "unit":
            return x.min(0).astype(np.float64), x.max(0).astype(np.float64)
        if self.kind == "percentile":
            # An odd step, which does not meet the same few columns of each row.
            return x if samples is None else x[:: (len(x) // samples) | 1]
        return x.shape[-1]

    def _combine(self, parts):
        if self.kind == "percentile":
            # float64 so that 16-bit counts and their percentiles are exact.
            low, high = np.percentile(np.concatenate(parts), (self.low, self.high), axis=0)
            return low.astype(np.float64), (high - low).astype(np.float64)
        if self.kind == "zscore":
            means, variances, counts = map(np.asarray, zip(*parts))
            weights = (counts / counts.sum())[:, None]
            mean = (weights * means).sum(0)
            return mean, np.sqrt((weights * (variances + (means - mean) ** 2)).sum(0))
        if self.kind == "unit":
            low = np.min([p[0] for p in parts], axis=0)
            high = np.max([p[1] for p in parts], axis=0)
            return (high + low) / 2, (high - low) / 2
        channels = parts[0]
        if self.kind == "none":
            return np.zeros(channels), np.ones(channels)
        self._check_stored(channels)
        return np.asarray(self.offset), np.asarray(self.gain)

    def _check_stored(self, channels):
        if self.kind == "fixed" and len(self.gain) != channels:
            raise ValueError(
                f"The stored normalization is for {len(self.gain)} channels. "
                f"Received: an image with {channels}."
            )

    def frozen(self, affine):
        """Return the `fixed` rule that always gives this map."""
        return Normalizer("fixed", offset=tuple(affine.offset), gain=tuple(affine.gain))


def _arrays(images):
    """Channel-last arrays of images: one as it is, several read one at a time."""
    orders = [image.axes.replace("C", "") + "C" for image in images]
    if len(images) == 1:
        return images[0].numpy(orders[0])
    return (image.numpy(order) for image, order in zip(images, orders))


def _check_numbers(array, name):
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers. Received: {array.dtype}.")
    if array.dtype.kind != "f":
        return
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite, out of {array.size}: "
            f"replace them before training or prediction."
        )
