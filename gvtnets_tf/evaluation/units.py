"""Units of images, as the metadata of a prediction says them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from gvtnets_tf.checks import check_fits, read_value
from gvtnets_tf.data.sources import Source
from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import log_once
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.images.readers import read_metadata


def give_target_units(image: Image, source: Source) -> Image:
    """Give an image the units of the training targets, if its file says that it is normalized.

    Raises:
        ValueError: naming the file, if its metadata lacks the statistics for it.
    """
    if source.well:
        return image
    affine = _read_map(source.path, image.sizes.get("C", 1))
    if affine is None:
        return image
    log_once(
        f"{source.path.parent} holds normalized values: they are compared in the units of the "
        f"training targets, by the statistics in their metadata."
    )
    order = image.axes.replace("C", "") + "C"
    array = affine.undo(image.numpy(order))
    return replace(image, array=rearrange(array, order, image.axes))


def _read_map(path, channels):
    """Read the map of normalized channels, the identity for others; `None` if none is."""
    record = read_metadata(path)
    one = {**record, "channels": channels}
    parts = read_value(tuple[Mapping, ...], record.get("models", [one]), f"{path}: models")
    if all(part.get("units") != "normalized" for part in parts):
        return None
    maps = []
    for part in parts:
        count = read_value(int, part.get("channels"), f"{path}: channels")
        check_fits(0 < count <= channels, f"{path}: channels", count, f"from 1 to {channels}")
        known = {"offset": [0.0], "gain": [1.0]}
        if part.get("units") == "normalized":
            known = part.get("target_statistics")
        if known is None:
            raise ValueError(
                f"{path} holds normalized values, and no statistics that would give them the units "
                f"of the targets: predict with --denormalize input (`denormalize`), or pass "
                f"normalized targets and predictions as `Image`. Received: units 'normalized'."
            )
        affine = Affine.parse(known, f"{path}: target_statistics")
        entries = len(affine.gain)
        check_fits(
            entries in (1, count), f"{path}: target_statistics", entries, f"of {count} channels"
        )
        maps.append([np.broadcast_to(values, count) for values in (affine.offset, affine.gain)])
    offset, gain = map(np.concatenate, zip(*maps))
    check_fits(len(gain) == channels, f"{path}: channels", len(gain), f"{channels} in all")
    return Affine(offset, gain)
