"""Check that an image, a network and the memory fit together, before the first call."""

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.limits import format_size
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.tiling import Plan
from gvtnets_tf.zoo.card import Card

VOXEL_TOLERANCE = 0.1
logger = logging.getLogger("gvtnets_tf")


def check_image(image: Image, model: Callable, card: Card, options: PredictionOptions) -> None:
    """Raise unless a network reads an image, with these statistics; warn of other voxel sizes."""
    name = image.name or "the image"
    missing = [letter for letter in card.axes if letter not in image.axes]
    if missing:
        raise ValueError(
            f"The model reads {card.axes} images, and {name} lacks axis "
            f"{' and '.join(missing)}: name its axes, or use another model. "
            f"Received: axes={image.axes!r}, shape={image.shape}."
        )
    if 0 in image.shape:
        raise ValueError(f"{name} is empty. Received: shape={image.shape}.")
    channels, expected = image.sizes.get("C", 1), _count_input_channels(model, card)
    if expected not in (None, channels):
        named = f" ({', '.join(card.input_channels)})" if card.input_channels else ""
        raise ValueError(
            f"The model reads {expected} channels{named}, and {name} has {channels} "
            f"({', '.join(image.names)}): choose with --input-channels (`input_channels`). "
            f"Received: axes={image.axes!r}, shape={image.shape}."
        )
    given = isinstance(options.statistics, Affine)
    known = np.size(options.statistics.gain) if given else channels
    if known not in (1, channels):
        raise ValueError(f"`statistics` are for {known} channels, and {name} has {channels}.")
    if options.uncertainty and not (card.probabilistic or card.classes):
        raise ValueError(
            "The model predicts no scale: `uncertainty` needs one that was trained with a "
            "scale head (loss 'laplace' or 'gaussian') or with classes."
        )
    if card.output_channels:
        if card.denormalize == "stored":
            known = np.size(card.target_affine.gain)
        check_units(card.denormalize, known, len(card.output_channels))
    _check_voxel_size(image, card.voxel_size, name)


def check_units(denormalize: str, known: int, channels: int) -> None:
    """Raise `ValueError` if an affine map has neither one entry nor one per output channel."""
    if denormalize != "none" and known not in (1, channels):
        raise ValueError(
            f"The result has {channels} channels and cannot take the units of {known} "
            f"(`denormalize` is {denormalize!r}): use 'none', or 'stored' with one offset and gain "
            f"per channel of the result."
        )


def check_memory(
    name: str, plan: Plan, batch_size: int, per_voxel: float, besides: int, limit: float,
    may_tile: bool = False, operators: Sequence[str] = (),
) -> tuple | None:  # fmt: skip
    """Raise for a call that does not fit the memory, with a tile that does.

    A batch of tiles needs so many bytes `per_voxel`, and the result some `besides`. If the image
    `may_tile`, the tile is returned and logged instead, with the `operators` that it changes.
    """
    need = per_voxel * math.prod(plan.tile) * batch_size + besides
    if need <= limit:
        return None
    size = None if besides else plan.smaller_tile(limit / per_voxel / batch_size)
    if may_tile and size:
        note = (
            f" The network looks at the whole image at once ({', '.join(operators)}), and sees "
            f"only a tile: the result depends on the tile."
        )
        logger.warning(
            f"{name or 'the image'} does not fit the memory: it needs about {format_size(need)}, "
            f"and {format_size(limit)} may be used. It is predicted in tiles of {size} voxels."
            f"{note if operators else ''}"
        )
        return size
    if besides:
        advice = (
            "Ask for fewer channels with --output-channels (`output_channels`), for fewer windows "
            "at a time with --batch-size (`batch_size`), or"
        )
    elif size:
        advice = f"Predict in tiles with --tile {' '.join(map(str, size))} (`tile={size}`), or"
    else:
        advice = "No tile is small enough:"
    raise ValueError(
        f"{name or 'The image'} does not fit the memory: {batch_size} x {plan.tile} voxels "
        f"need about {format_size(need)} ({per_voxel:.0f} bytes per voxel), and "
        f"{format_size(limit)} may be used. {advice} allow more with --max-memory (`max_memory`)."
    )


def _count_input_channels(model, card):
    """Count the channels that the network reads; `None` where nothing tells."""
    if card.input_channels:
        return len(card.input_channels)
    built = getattr(model, "get_build_config", dict)() or {}
    shape = built.get("input_shape") or getattr(model, "input_shape", None) or (None,)
    return shape[-1] // len(card.scales) if isinstance(shape[-1], int) else None


def _check_voxel_size(image, trained, name):
    both = [a for a in "ZYX" if image.voxel_size.get(a) and trained.get(a)]
    off = [a for a in both if abs(image.voxel_size[a] / trained[a] - 1) > VOXEL_TOLERANCE + 1e-9]
    if off:
        sizes = [", ".join(f"{a} {s[a]:g} µm" for a in off) for s in (image.voxel_size, trained)]
        warnings.warn(
            f"{name} has voxels of {sizes[0]}, and the model was trained on {sizes[1]}: resample "
            f"it, or expect a worse result.",
            stacklevel=4,
        )


def warn_thin(sizes: Mapping, card: Card, divisor: tuple, name: str = "") -> None:
    """Warn of an axis so short that most of what the network sees is a mirror image."""
    thin = [(a, sizes[a], d) for a, d in zip(card.axes, divisor) if sizes[a] < d]
    if thin:
        short = " and ".join(f"{n} voxels along {a}, fewer than {d}" for a, n, d in thin)
        warnings.warn(
            f"{name or 'the image'} has {short}, the least that the network can halve: it is "
            f"padded by reflection, and the result is worth less. Received: {dict(sizes)}.",
            stacklevel=5,
        )
