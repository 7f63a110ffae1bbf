"""An image with the names of its axes and the size of its voxels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gvtnets_tf.checks import quote
from gvtnets_tf.images.axes import check_axes, rearrange


@dataclass(frozen=True)
class Image:
    """Pixels, in memory or on disk, with the names of their axes and channels.

    Attributes:
        array: array-like with `shape`, `dtype` and slicing (`numpy.ndarray`, `LazyArray`, a Zarr
            array), in the units of the file, mostly camera counts.
        axes: str. One letter of `TCZYX` per axis of `array`, in its order.
        voxel_size: mapping from axis letter to micrometers, `T` to seconds. An axis that was
            not calibrated has no entry.
        channel_names: tuple of str. Empty, or one per entry of axis `C`.
        name: str. Name of the file without its suffix, for tables and messages.
        file_channels: tuple of str. `names` of all channels, where some of them were selected.

    Raises:
        ValueError: if `axes` does not name each axis of `array`.

    Examples:
        >>> image = Image(np.zeros((2, 8, 9), "uint16"), "CYX", {"Y": 0.1, "X": 0.1})
        >>> image.sizes
        {'C': 2, 'Y': 8, 'X': 9}
        >>> image.crop({"X": (0, 4)}).select_channels([1]).shape
        (1, 8, 4)
        >>> image.numpy("YXC").shape
        (8, 9, 2)
    """

    array: Any
    axes: str
    voxel_size: Mapping = field(default_factory=dict)
    channel_names: tuple = ()
    name: str = ""
    file_channels: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "axes", check_axes(self.axes, len(self.array.shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis, in the order of `axes`."""
        return tuple(self.array.shape)

    @property
    def sizes(self) -> dict[str, int]:
        """Mapping from axis letter to length."""
        return dict(zip(self.axes, self.shape))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels: `channel_names`, or `channel 0`, `channel 1`, ..."""
        count = self.sizes.get("C", 1)
        named = self.channel_names if len(self.channel_names) == count else ("",) * count
        return tuple(name or f"channel {i}" for i, name in enumerate(named))

    @property
    def missing(self) -> tuple[bool, ...]:
        """One bool per channel, `True` if it was not acquired: such a channel is NaN throughout."""
        # So only the first voxel of each channel is read.
        if np.dtype(self.array.dtype).kind != "f":
            return (False,) * self.sizes.get("C", 1)
        corner = self.array[tuple(slice(None) if a == "C" else 0 for a in self.axes)]
        return tuple(bool(x) for x in np.isnan(np.atleast_1d(corner)))

    def numpy(self, axes: str | None = None) -> np.ndarray:
        """Read the pixels, in the given axis order (see `axes.rearrange`)."""
        array = np.asarray(self.array[...])
        return array if axes is None else rearrange(array, self.axes, axes)

    def crop(self, region: Mapping[str, tuple[int, int]]) -> "Image":
        """Crop a block, without reading it if the array is on disk.

        `region` maps axis letters to `(start, stop)` in voxels, e.g. `{"X": (0, 440)}`. An unknown
        axis, or a range that is empty or outside the image, is a `ValueError`.
        """
        for letter, (start, stop) in region.items():
            if letter not in self.axes or not 0 <= start < stop <= self.sizes[letter]:
                raise ValueError(
                    f"The region {letter}: [{start}, {stop}] is not inside "
                    f"{self.name or 'the image'} with axes {self.axes} and shape {self.shape}."
                )
        index = tuple(slice(*region.get(letter, (None, None))) for letter in self.axes)
        return replace(self, array=self.array[index])

    def select_channels(self, channels: Sequence[int | str] | None) -> "Image":
        """Select channels by index or name, in the given order; `None` selects all.

        They keep their `names`. Neighboring channels in ascending order are not read yet. An empty
        sequence, or a channel that the image lacks, is a `ValueError`.
        """
        if channels is None:
            return self
        if not channels:
            raise ValueError(
                f"{self.name or 'The image'} is left with no channel: name at least one. "
                f"Received: {quote(channels)}."
            )
        names = list(self.names)
        count = len(names)
        indices = [names.index(c) if c in names else c for c in channels]
        for channel in indices:
            if not isinstance(channel, (int, np.integer)) or not 0 <= channel < count:
                raise ValueError(
                    f"{self.name or 'The image'} has no channel {channel!r}: it has {count} "
                    f"({', '.join(names)}), counted from 0."
                )
        whole = self.file_channels or self.names
        selected = replace(self, channel_names=(), file_channels=whole)
        first, stop = indices[0], indices[0] + len(indices)
        if "C" in self.axes and indices == list(range(first, stop)):
            selected = selected.crop({"C": (first, stop)})
        elif "C" in self.axes:
            array = np.take(self.array[...], indices, axis=self.axes.index("C"))
            selected = replace(selected, array=array)
        return replace(selected, channel_names=tuple(names[i] for i in indices))

    def split_along(self, letters: str) -> list["Image"]:
        """Split the image along those of the axes `letters` that it has, without reading it."""
        letter = next((letter for letter in letters if letter in self.axes), None)
        if letter is None:
            return [self]
        axis, axes = self.axes.index(letter), self.axes.replace(letter, "")
        parts = []
        for i in range(self.shape[axis]):
            array = self.array[(slice(None),) * axis + (i,)]
            part = replace(self, array=array, axes=axes, name=f"{self.name}[{letter}{i}]")
            parts += part.split_along(letters)
        return parts
