"""An image with the names of its axes and the size of its voxels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gvtnets_tf.images.axes import check_axes, rearrange


@dataclass(frozen=True)
class Image:
    """Pixels, possibly still on disk, and what is known of them.

    Attributes:
        array: array-like with `shape`, `dtype` and slicing: `numpy.ndarray`,
            `numpy.memmap`, or a zarr array. Camera counts, or whatever was stored.
        axes: str. One letter of `TCZYX` per axis of `array`, in its order.
        voxel_size: mapping from axis letter to micrometers; an unknown one is absent.
        channel_names: tuple of str. Empty, or one per entry of axis `C`.
        name: str. Stem of the file it came from, used in tables and messages.
    """

    array: Any
    axes: str
    voxel_size: Mapping = field(default_factory=dict)
    channel_names: tuple = ()
    name: str = ""

    def __post_init__(self):
        axes = check_axes(self.axes, len(self.array.shape))
        object.__setattr__(self, "axes", axes)

    @property
    def shape(self):
        return tuple(self.array.shape)

    @property
    def sizes(self):
        """Mapping from axis letter to length."""
        return dict(zip(self.axes, self.shape))

    @property
    def names(self) -> tuple[str, ...]:
        """A name per channel: the known one, else `channel 0`, `channel 1`, ..."""
        count = self.sizes.get("C", 1)
        known = self.channel_names if len(self.channel_names) == count else ()
        return tuple(known) or tuple(f"channel {i}" for i in range(count))

    @property
    def missing(self):
        """Tuple of bool, for each channel whether it is one that was not taken.

        Such a channel is NaN throughout. Looked at is its first voxel.
        """
        if np.dtype(self.array.dtype).kind != "f":
            return (False,) * self.sizes.get("C", 1)
        corner = self.array[tuple(slice(None) if a == "C" else 0 for a in self.axes)]
        return tuple(bool(x) for x in np.isnan(np.atleast_1d(corner)))

    def numpy(self, axes=None):
        """Read the pixels, in the given axis order (see `axes.rearrange`)."""
        array = np.asarray(self.array[...])
        return array if axes is None else rearrange(array, self.axes, axes)

    def crop(self, region):
        """Cut a block out, without reading it where the array is a view on a file.

        Args:
            region: mapping from axis letter to `(start, stop)` in voxels, e.g. `{"X": (0, 440)}`.

        Returns:
            `Image`.

        Raises:
            ValueError: if an axis is unknown or a range is empty or outside the image.
        """
        for letter, (start, stop) in region.items():
            if letter not in self.axes or not 0 <= start < stop <= self.sizes[letter]:
                raise ValueError(
                    f"The region {letter}: [{start}, {stop}] is not inside "
                    f"{self.name or 'the image'} with axes {self.axes} and shape {self.shape}."
                )
        index = tuple(slice(*region.get(letter, (None, None))) for letter in self.axes)
        return replace(self, array=self.array[index])

    def select_channels(self, channels):
        """Keep the channels with these indices or names, in this order; `None` keeps all.

        Raises:
            ValueError: naming the channel that is missing and those there are.
        """
        if channels is None:
            return self
        if not channels:
            raise ValueError(
                f"{self.name or 'The image'} is left with no channel: name at least one. "
                f"Received: {channels!r}."
            )
        count = self.sizes.get("C", 1)
        names = list(self.channel_names)
        indices = [names.index(c) if c in names else c for c in channels]
        for channel in indices:
            if not isinstance(channel, (int, np.integer)) or not 0 <= channel < count:
                raise ValueError(
                    f"{self.name or 'The image'} has no channel {channel!r}: it has {count} "
                    f"({', '.join(names) or 'without names'}), counted from 0."
                )
        kept = tuple(names[i] for i in indices) if names else ()
        if "C" not in self.axes:
            return replace(self, channel_names=kept)
        axis, first = self.axes.index("C"), indices[0]
        if indices == list(range(first, first + len(indices))):
            # A run of channels is a slice, which need not be read yet.
            index = (slice(None),) * axis + (slice(first, first + len(indices)),)
            return replace(self, array=self.array[index], channel_names=kept)
        array = np.take(self.array[...], indices, axis=axis)
        return replace(self, array=array, channel_names=kept)

    def along(self, letters):
        """Take the image apart along some axes, without reading it.

        Args:
            letters: str. Axes to take apart, e.g. `"T"`; those it lacks are passed over.

        Returns:
            List of `Image` without these axes, in order.
        """
        found = [letter for letter in letters if letter in self.axes]
        if not found:
            return [self]
        axis = self.axes.index(found[0])
        parts = []
        for i in range(self.shape[axis]):
            array = self.array[(slice(None),) * axis + (i,)]
            axes = self.axes.replace(found[0], "")
            part = replace(self, array=array, axes=axes, name=f"{self.name}[{found[0]}{i}]")
            parts += part.along(letters)
        return parts
