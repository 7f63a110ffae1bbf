"""Normalization by an affine map that is stored with the model and can be inverted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gvtnets_tf.checks import check_choice, check_fits, read_value
from gvtnets_tf.images.image import Image

KINDS = ("percentile", "zscore", "unit", "fixed", "none")
SCOPES = ("image", "dataset")
SAMPLES = 1_000_000  # voxels per image for the percentiles of a whole data set


@dataclass(frozen=True)
class Affine:
    """The map `(x - offset) / gain` from the units of an image to normalized values.

    Attributes:
        offset, gain: arrays `(channels,)`, in the units of the image, mostly camera counts.

    Examples:
        >>> affine = Affine(offset=np.array([100.0]), gain=np.array([50.0]))
        >>> affine.apply([[100], [200]])
        array([[0.],
               [2.]], dtype=float32)
        >>> affine.undo([[2.0]])
        array([[200.]], dtype=float32)
    """

    offset: np.ndarray
    gain: np.ndarray

    def apply(self, x: ArrayLike) -> np.ndarray:
        """Normalize an array `(..., channels)`; the result is float32."""
        # The offset is float64, so that large counts are subtracted exactly.
        return self._to_float32((np.asarray(x) - self.offset) / self.gain)

    def undo(self, x: ArrayLike) -> np.ndarray:
        """Return a normalized array `(..., channels)` to the units of the image, in float32."""
        return self._to_float32(np.asarray(x, np.float32) * self.gain + self.offset)

    def _to_float32(self, values):
        with np.errstate(over="raise"):
            try:
                return values.astype(np.float32)
            except FloatingPointError:
                raise ValueError(
                    f"Values up to {np.nanmax(np.abs(values)):g} are beyond float32, with offset "
                    f"{self.offset} and gain {self.gain}: scale the image to smaller numbers."
                ) from None

    def select_channels(self, channels: Sequence[int] | None) -> "Affine":
        """Select the entries of some channels; `None`, or one entry for all channels, is kept."""
        if channels is None or np.size(self.gain) == 1:
            return self
        return Affine(self.offset[list(channels)], self.gain[list(channels)])

    def to_dict(self) -> dict[str, list[float]]:
        """Return offset and gain as a mapping for JSON, which `parse` reads."""
        return {k: np.ravel(v).astype(float).tolist() for k, v in vars(self).items()}

    @classmethod
    def parse(cls, values: Mapping, path: str = "statistics") -> "Affine":
        """Make the map that a file describes; `path` is its key there, for messages.

        Raises:
            ValueError: unless there is one finite offset and one gain, not zero, per channel.
        """
        check_fits(isinstance(values, Mapping), path, values, "a mapping of offset, gain")
        for key in values:
            check_choice(f"key of {path}", key, ("offset", "gain"))
        lists = [
            read_value(tuple[float, ...], values.get(key), f"{path}.{key}")
            for key in ("offset", "gain")
        ]
        fits = "as many numbers as `offset`, none of them 0"
        alike = len(lists[0]) == len(lists[1]) > 0 and 0 not in lists[1]
        check_fits(alike, f"{path}.gain", lists[1], fits)
        return cls(*map(np.asarray, lists))


@dataclass(frozen=True)
class Normalizer:
    """A rule of normalization, from which `measure` makes an `Affine` for given images.

    Args:
        kind: str. `"percentile"` maps two percentiles to 0 and 1; `"zscore"` subtracts the mean
            and divides by the standard deviation (ddof 0); `"unit"` maps the minimum and the
            maximum to -1 and 1; `"fixed"` takes `offset` and `gain`; `"none"` is the identity.
        low, high: float. Percentiles mapped to 0 and to 1, `0 <= low < high <= 100`.
        offset, gain: float, or sequence of float, one per channel; only of `"fixed"`, which needs
            both. No gain is zero.
        scope: str. `"image"` measures each image separately, `"dataset"` all training images
            together.

    Raises:
        ValueError: for another kind or scope, or numbers that the rule excludes.

    Examples:
        >>> stack = np.array([[2.0], [4.0], [6.0]])  # three voxels of one channel
        >>> Normalizer("unit").measure(stack).apply(stack).ravel()
        array([-1.,  0.,  1.], dtype=float32)

    Reference:
        Percentiles 2 and 99.8 as in CSBDeep: Weigert et al. (2018), Nat. Methods 15, 1090-1097.
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
        if not np.isfinite((*self.offset, *self.gain)).all():
            raise ValueError(
                f"`offset` and `gain` must be finite numbers. Received: offset={self.offset}, "
                f"gain={self.gain}."
            )
        if 0 in self.gain:
            raise ValueError(f"`gain` must not be zero. Received: gain={self.gain}.")

    @classmethod
    def parse(cls, value: "Normalizer | str | Mapping[str, Any]") -> "Normalizer":
        """Make a `Normalizer` from its kind, or from a mapping of its arguments."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        for key in sorted(value, key=str):
            check_choice("key of normalize", key, list(cls.__dataclass_fields__))
        return cls(**value)

    @classmethod
    def from_affine(cls, affine: Affine) -> "Normalizer":
        """Make the `"fixed"` rule of a measured map."""
        return cls("fixed", offset=tuple(affine.offset), gain=tuple(affine.gain))

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments as a mapping for JSON or YAML."""
        return asdict(self) | {"offset": list(self.offset), "gain": list(self.gain)}

    def measure(self, images: ArrayLike | Iterable[ArrayLike], name: str = "image") -> Affine:
        """Measure the map of one array, or of several together.

        Args:
            images: array `(..., channels)`, or an iterable of such arrays, of which one at a time
                is in memory.
            name: str. Name of the images, for messages.

        Raises:
            ValueError: if a value is NaN, infinite or not a real number, or if a channel is
                constant.
        """
        one = hasattr(images, "ndim") or not isinstance(images, Iterable)
        arrays, samples = ([images], None) if one else (images, SAMPLES)
        parts = []
        for array in map(np.asarray, arrays):
            _check_numbers(array, name)
            parts.append(self._statistics(array.reshape(-1, array.shape[-1]), samples))
        if not parts:
            raise ValueError(f"There is nothing to measure: {name} is an empty list.")
        offset, gain = self._combine(parts)
        if not (gain > 0).all() and self.kind != "fixed":
            channel = int(np.argmin(gain > 0))
            between = f" from percentile {self.low:g} to {self.high:g}"
            raise ValueError(
                f"Channel {channel} of {name} is constant"
                f"{between if self.kind == 'percentile' else ''}: there is nothing to normalize by "
                f"{self.kind}. Received: a spread of {gain[channel]:g} around {offset[channel]:g}."
            )
        return Affine(offset, gain)

    def measure_images(self, images: Sequence[Image], name: str) -> Affine:
        """Measure the map of several `Image` together, each channel where it was acquired.

        One image at a time is read. A channel that no image has gets offset 0 and gain 1, or those
        of a `"fixed"` rule. Raises as `measure`, if a channel is NaN in a part of an image, or if
        the images differ in their number of channels.
        """
        missing = [image.missing for image in images]
        counts = sorted(set(map(len, missing)))
        if len(counts) > 1:
            raise ValueError(f"{name} must have equally many channels. Received: {counts}.")
        if not any(map(any, missing)):
            return self.measure(_arrays(images), name)
        self._check_stored(counts[0])
        maps = []
        for c in range(counts[0]):
            acquired = []
            for image, lacks in zip(images, missing):
                channel = image.select_channels([c])
                if not lacks[c]:
                    acquired.append(channel)
                elif not np.isnan(channel.numpy()).all():
                    _check_numbers(channel.numpy(), f"{name}, channel {c}")
            rule = replace(self, offset=self.offset[c : c + 1], gain=self.gain[c : c + 1])
            if acquired:
                maps.append(rule.measure(_arrays(acquired), f"{name}, channel {c}"))
            else:
                maps.append(Affine(np.array(rule.offset or [0.0]), np.array(rule.gain or [1.0])))
        return Affine(*(np.concatenate([getattr(m, k) for m in maps]) for k in ("offset", "gain")))

    def _statistics(self, x, samples):
        x = x.view(np.uint8) if x.dtype == bool else x  # NumPy has no percentile of a mask
        if self.kind == "zscore":
            return x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64), len(x)
        if self.kind == "unit":
            return x.min(0).astype(np.float64), x.max(0).astype(np.float64)
        if self.kind == "percentile":
            # With an odd step, samples do not fall into the same few columns of each row. A copy,
            # since a view keeps all voxels in memory.
            return x if samples is None else x[:: (len(x) // samples) | 1].copy()
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


def _arrays(images):
    """Return images as channel-last arrays; several of them as a generator, read one by one."""
    orders = [image.axes.replace("C", "") + "C" for image in images]
    if len(images) == 1:
        return images[0].numpy(orders[0])
    return (image.numpy(order) for image, order in zip(images, orders))


def _check_numbers(array, name):
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers. Received: {array.dtype}.")
    if array.dtype.kind == "f" and (bad := array.size - np.count_nonzero(np.isfinite(array))):
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite, out of {array.size}: "
            f"replace them before training or prediction."
        )
    limit, wide = np.finfo(np.float32).max, array.dtype.kind == "f" and array.dtype.itemsize > 4
    if wide and (largest := abs(array).max(initial=0)) > limit:
        raise ValueError(
            f"{name} holds values up to {largest:g}, and networks compute in float32, to "
            f"{limit:g}: scale it to smaller numbers."
        )
