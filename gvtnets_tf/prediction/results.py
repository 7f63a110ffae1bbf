"""Turn the numbers of a network into images, and describe how they were made."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gvtnets_tf.images.axes import ORDER, rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.prediction.compatibility import check_units
from gvtnets_tf.prediction.tiling import Plan
from gvtnets_tf.zoo.card import Card


def choose_axes(axes: str, grid: str, channels: int) -> str:
    """Choose the axes of a result: those of the input, as far as the result has them.

    Where the input has no axis C, several channels stand in front of the spatial axes (`grid`).
    """
    axes = "".join(letter for letter in axes if letter in "TC" + grid)
    if "C" in axes or channels == 1:
        return axes
    first = min(axes.index(letter) for letter in grid)
    return f"{axes[:first]}C{axes[first:]}"


def denormalize(
    y: np.ndarray, affine: Affine, card: Card, chosen: tuple | None, uncertainty: bool
) -> None:
    """Give a result its units, in place; a scale has a gain and no offset.

    `y` is float32 `(*grid, channels)`; with `uncertainty`, the scales follow the locations. It
    holds the `chosen` channels of the card, `None` for all; `affine` is that of the input.
    """
    channels = y.shape[-1] // (1 + uncertainty)
    affine = _output_affine(affine, card, channels, chosen)
    for plane in y:  # One at a time, so that no second copy is made.
        plane[..., :channels] = affine.undo(plane[..., :channels])
        if uncertainty:
            plane[..., channels:] *= affine.gain


def check_finite(y: np.ndarray, name: str) -> None:
    """Raise `ValueError` if a result `(*grid, channels)` of an image holds NaN or infinity."""
    # Plane by plane, so that no mask of the whole is made.
    if bad := y.size - sum(np.count_nonzero(np.isfinite(plane)) for plane in y):
        raise ValueError(
            f"The prediction of {name or 'the image'} holds {bad} values that are NaN or infinite, "
            f"out of {y.size}. Nothing is kept: are the intensities, axes and channels of the "
            f"image those that the network was trained on?"
        )


def to_images(
    array: np.ndarray, frame: Image, plan: Plan, names: Sequence, uncertainty: bool
) -> list[Image]:
    """Turn an array as in `denormalize` into one image with the axes of a frame, or into two."""
    grid = "".join(plan.select_output(plan.grid))
    channels = array.shape[-1] // (1 + uncertainty)
    axes = choose_axes(frame.axes, grid, channels)
    voxel_size = {a: size for a, size in frame.voxel_size.items() if a in axes}
    about = {"channel_names": tuple(names), "file_channels": ()}
    about |= {"axes": axes, "voxel_size": voxel_size}
    parts = (array[..., :channels], array[..., channels:])[: 1 + uncertainty]
    return [replace(frame, array=rearrange(part, f"{grid}C", axes), **about) for part in parts]


def describe_units(card: Card, chosen: tuple | None) -> dict:
    """Describe the units of the `chosen` channels of a card, as `denormalize` gives them.

    For `"normalized"` values the map to the units of the targets is told, if it is known.
    """
    info = {"denormalize": card.denormalize, "units": card.units}
    if card.units == "normalized" and card.target_affine is not None:
        info["target_statistics"] = card.target_affine.select_channels(chosen).to_dict()
    return info


def describe(
    plan: Plan, card: Card, chosen: tuple | None, estimate: str, blend: str, affine: Affine,
    operators: Iterable,
) -> dict:  # fmt: skip
    """Describe how a frame was predicted, in values that JSON can hold.

    There is an `estimate` of distributions, and a `note` where the result depends on the tiles
    (or on operators, as `Predictor` reads them).
    """
    whole = plan.whole and not card.tile
    info = {
        "mode": "whole" if whole else "tiles",
        "tile": None if whole else list(plan.tile),
        "overlap": None if whole else list(plan.overlap),
        "blend": None if whole else blend,
        **describe_units(card, chosen),
        "statistics": [affine.to_dict()],
    }
    if card.classes:
        info["estimate"] = estimate
    if card.tile:
        info["note"] = "The network reads windows of one size: the result depends on them."
    elif operators and not whole:
        info["note"] = (
            f"The network looks at the whole image at once ({', '.join(operators)}), and saw "
            f"only a tile: the result depends on the tile."
        )
    return info


def merge_structures(results: Mapping) -> Image:
    """Merge images of one size, by the name of their model, into one with axes as in OME.

    A channel has the name that its image gives, with that of the model in front where two would
    be the same.
    """
    images = list(results.values())
    order = "".join(letter for letter in ORDER if letter == "C" or letter in images[0].axes)
    named = [(model, name) for model, i in results.items() for name in _channel_names(model, i)]
    count = Counter(name for _, name in named)
    unique = tuple(f"{model} {name}" if count[name] > 1 else name for model, name in named)
    arrays = [rearrange(image.array, image.axes, order) for image in images]
    array = np.concatenate(arrays, order.index("C"))
    return replace(images[0], array=array, axes=order, channel_names=unique)


def _channel_names(model, image):
    count = image.sizes.get("C", 1)
    alone = [model] if count == 1 else [f"{model} {name}" for name in image.names]
    return list(image.channel_names) or alone


def _output_affine(affine, card, channels, chosen):
    """Return the map that gives a result with so many channels its units."""
    if card.denormalize == "none":
        return Affine(np.zeros(1), np.ones(1))
    affine = card.target_affine if card.denormalize == "stored" else affine
    affine = affine.select_channels(chosen)
    check_units(card.denormalize, np.size(affine.gain), channels)
    return affine
