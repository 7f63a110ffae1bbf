"""Whether an image, a network and the memory fit together: refused before the first call."""

import math
import warnings

import numpy as np

from gvtnets_tf.prediction.memory import format_size

VOXEL_TOLERANCE = 0.1


def check_image(image, model, card, uncertainty=False, statistics=None):
    """Refuse an image that the network cannot read; warn of a voxel size far from its own.

    Args:
        image: `Image`.
        model: callable, see `Predictor`.
        card: `Card`.
        uncertainty: bool. Whether the scale is asked for.
        statistics: `Affine` of the input, or `None`.

    Raises:
        ValueError: naming the image, what it has, and what the network wants.
    """
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
    channels, expected = image.sizes.get("C", 1), _channels(model, card)
    if expected not in (None, channels):
        named = f" ({', '.join(card.input_channels)})" if card.input_channels else ""
        raise ValueError(
            f"The model reads {expected} channels{named}, and {name} has {channels}: select "
            f"its channels. Received: axes={image.axes!r}, shape={image.shape}."
        )
    if statistics is not None and np.size(statistics.gain) not in (1, channels):
        raise ValueError(
            f"`statistics` are for {np.size(statistics.gain)} channels, and {name} has {channels}."
        )
    if uncertainty and not (card.probabilistic or card.classes):
        raise ValueError(
            "The model predicts no scale: `uncertainty` needs one that was trained with a "
            "scale head (loss 'laplace' or 'gaussian') or with classes."
        )
    if card.output_channels:
        known = channels if statistics is None else np.size(statistics.gain)
        if card.denormalize == "stored":
            known = len(card.target_normalizer.gain)
        check_units(card.denormalize, known, len(card.output_channels))
    _check_voxel_size(image, card.voxel_size, name)


def check_units(denormalize, known, channels):
    """Refuse to give so many channels of a result the units of the known ones."""
    if denormalize != "none" and known not in (1, channels):
        raise ValueError(
            f"The result has {channels} channels and cannot take the units of {known} "
            f"(`denormalize` is {denormalize!r}): use 'none', or 'stored' with one offset and gain "
            f"per channel of the result."
        )


def check_memory(image, plan, batch, each, held, limit):
    """Refuse a call that does not fit the memory, and say which tile would.

    Args:
        image: `Image`.
        plan: `tiles.Plan`.
        batch: int. Tiles at a time.
        each: float. Bytes that a call needs per voxel.
        held: int. Bytes that are held besides.
        limit: int. Bytes that may be used.

    Raises:
        ValueError: naming the image, what it needs, what there is and what to do.
    """
    voxels = math.prod(plan.tile) * batch
    if each * voxels + held <= limit:
        return
    advice = "No tile is small enough: allow more with --max-memory (`max_memory`)."
    size = plan.shrink((limit - held) / each / batch) if limit > held else None
    if held:
        advice = (
            "Ask for fewer labels with --labels (`labels`), for fewer windows at a time with "
            "--batch (`batch`), or allow more with --max-memory (`max_memory`)."
        )
    elif size:
        advice = (
            f"Predict in tiles with --tile {' '.join(map(str, size))} (`tile={size}`), or "
            f"allow more with --max-memory (`max_memory`)."
        )
    raise ValueError(
        f"{image.name or 'The image'} does not fit the memory: {batch} x {plan.tile} voxels "
        f"need about {format_size(each * voxels + held)} ({each:.0f} bytes per voxel), and "
        f"{format_size(limit)} may be used. {advice}"
    )


def _channels(model, card):
    """How many channels the network reads, or `None` where nothing says so."""
    if card.input_channels:
        return len(card.input_channels)
    built = getattr(model, "get_build_config", dict)() or {}
    shape = built.get("input_shape") or getattr(model, "input_shape", None) or (None,)
    return shape[-1] // len(card.scales) if isinstance(shape[-1], int) else None


def _check_voxel_size(image, trained, name):
    both = [a for a in "ZYX" if image.voxel_size.get(a) and trained.get(a)]
    off = [a for a in both if abs(image.voxel_size[a] / trained[a] - 1) > VOXEL_TOLERANCE + 1e-9]
    if off:
        sizes = ", ".join(f"{a} {image.voxel_size[a]:g} µm" for a in off)
        known = ", ".join(f"{a} {trained[a]:g} µm" for a in off)
        warnings.warn(
            f"{name} has voxels of {sizes}, and the model was trained on {known}: resample it, or "
            f"expect a worse result.",
            stacklevel=4,
        )
