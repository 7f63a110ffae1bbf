"""Open the input of a prediction, and choose its channels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gvtnets_tf.data.sources import Source
from gvtnets_tf.images.axes import spatial
from gvtnets_tf.images.frames import select
from gvtnets_tf.images.image import Image
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.zoo.card import Card


def open_input(source: Source | Image, options: PredictionOptions) -> Image:
    """Open an input with the axes, the voxel size and the frames that the options name.

    Args:
        source: `Source` of a file, or an `Image`.
        options: `PredictionOptions`.

    Raises:
        FileNotFoundError, ValueError: naming the image and the reason.
    """
    if isinstance(source, Image):
        image = replace(source, axes=options.axes or source.axes)
    else:
        image = source.open(options.axes)
    return select(set_voxel_size(image, options.voxel_size), options.frames)


def set_voxel_size(image: Image, voxel_size: Mapping | Sequence | None) -> Image:
    """Return an image with another voxel size.

    Args:
        image: `Image`.
        voxel_size: micrometers: a mapping from axis letter, or one number per spatial axis of
            the image, in the order Z, Y, X; `None` keeps those of the image.

    Raises:
        ValueError: naming the axis, for a size that is none, or for another number of them.
    """
    if voxel_size is None:
        return image
    letters, name = [a for a in "ZYX" if a in spatial(image.axes)], image.name or "the image"
    if not isinstance(voxel_size, Mapping):
        if len(voxel_size) != len(letters):
            raise ValueError(
                f"--voxel-size (`voxel_size`) has one number for each of the axes "
                f"{''.join(letters)} of {name}. Received: {list(voxel_size)}."
            )
        voxel_size = dict(zip(letters, voxel_size))
    for letter, size in voxel_size.items():
        if letter not in "TZYX" or not 0 < size < math.inf:
            raise ValueError(
                f"--voxel-size (`voxel_size`) is in micrometers, above zero, along Z, Y or X. "
                f"Received: {letter} {size}, for {name}."
            )
    return replace(image, voxel_size={**image.voxel_size, **voxel_size})


def select_channels(image: Image, card: Card, channels: Sequence | None = None) -> Image:
    """Select the channels that a network reads.

    Args:
        image: `Image`.
        card: `Card` of the network.
        channels: list of int or str, by index or name. By default those that the card
            names, where the image names them too; else all there are.

    Returns:
        `Image`.

    Raises:
        ValueError: naming the channel that is missing, and those there are.
    """
    names, count = card.input_channels, image.sizes.get("C", 1)
    if channels is not None or not names or not image.channel_names:
        return image.select_channels(channels)
    missing = [name for name in names if name not in image.channel_names]
    if not missing:
        return image.select_channels(list(names))
    if count == len(names):
        return image  # as many as it reads, under other names
    raise ValueError(
        f"{image.name or 'The image'} has no channel {missing[0]!r}, which the model reads: choose "
        f"with --input-channels (`input_channels`) among its {count} "
        f"({', '.join(image.channel_names)}). The model reads {len(names)} ({', '.join(names)})."
    )
