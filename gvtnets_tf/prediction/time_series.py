"""Frames of a time series, or one image, through a predictor, one after the other."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from gvtnets_tf.checks import check_choice
from gvtnets_tf.images import resampling as grids
from gvtnets_tf.images.axes import rearrange, spatial_axes
from gvtnets_tf.images.frames import join_frames, select_frames
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine

SCOPES = ("frame", "series")


@dataclass(frozen=True)
class Prepared:
    """An input as a network wants it, without its values being normalized yet.

    Attributes:
        image: `Image`, the input. The result gets its grid.
        frames: list of `Image` without axis T, of the voxel size that the network knows.
        statistics: list of `Affine`, one per frame, measured before any resampling.
        info: mapping. What was done, in values that JSON can hold.
    """

    image: Image
    frames: list
    statistics: list
    info: dict


def prepare(image, card, *, statistics="frame", resample=False):
    """Measure the statistics of an input, and bring it to the voxels of a network.

    Frames are read one at a time; all are measured now, so that a blank one is named
    before hours of work, and resampled when they are predicted.

    Args:
        image: `Image`, with or without axis T.
        card: `Card` of the network.
        statistics: `"frame"`, each frame has its own; `"series"`, those of all frames
            together; or an `Affine` measured elsewhere.
        resample: bool. Resample to the card's voxel size, where that differs.

    Returns:
        `Prepared`. What is no series is held in memory.

    Raises:
        ValueError: for NaN or a constant image, or if a voxel size is missing.
    """
    frames = image.split_along("T")
    if len(frames) == 1:  # A series may be larger than memory; one frame is read once.
        frames = [replace(frames[0], array=np.asarray(frames[0].array))]
    measured = _measure(frames, image, card, statistics)
    info = {} if "T" not in image.axes else {"statistics_of": _scope(statistics)}
    if resample:
        if not card.voxel_size:
            raise ValueError(
                "The model does not say the voxel size that it was trained on, so nothing can be "
                "resampled to it: leave out --resample (`resample`), or write `voxel_size` into "
                "its model.json."
            )
        info["resampled_to"] = {
            a: float(card.voxel_size[a]) for a in spatial_axes(image.axes) if a in card.voxel_size
        }
        frames = [grids.resample(replace(f, name=image.name), card.voxel_size) for f in frames]
        if len(frames) == 1:
            frames = [replace(frames[0], array=np.asarray(frames[0].array))]
    return Prepared(image, frames, measured, info)


def run(prepared, predictor, parts=None, *, uncertainty=False, progress=False, **options):
    """Predict what was prepared, and bring the result to the grid of the input.

    Args:
        prepared: `Prepared`.
        predictor: `Predictor`.
        parts: `Parts` that keep each frame as soon as it is done; what is there already
            is taken from there.
        uncertainty: bool. Return the scale of a probabilistic network as well.
        progress: bool. Show a bar on standard error.
        **options: of `Predictor.predict`.

    Returns:
        `(results, info)`: a list of `Image` (the location and, with `uncertainty`, the
        scale), and what `Predictor.predict` says of all frames together.

    Raises:
        ValueError: as `Predictor.predict`.
    """
    name, count = prepared.image.name, len(prepared.frames)
    _warn_thin(prepared.frames[0], predictor, name)
    numbers = tqdm(
        range(count), desc=name, unit="frame", disable=not (progress and count > 1), leave=False
    )
    options |= {"uncertainty": uncertainty, "progress": progress and count == 1}
    info = {**prepared.info, "statistics": []}
    arrays = None
    for number in numbers:
        done = parts.get(number) if parts else None
        if done is None:
            done = _frame(prepared, number, predictor, options)
            if parts:
                parts.put(number, *done)
        images, about = done
        info = {**about, **info, "statistics": info["statistics"] + about["statistics"]}
        if arrays is None:
            first = images
            arrays = [np.empty((count, *image.shape), np.float32) for image in images]
        for array, image in zip(arrays, images):
            array[number] = image.array
    return [_series(*pair, prepared.image) for pair in zip(arrays, first)], info


def predict(image, predictor, *, frames=None, statistics="frame", resample=False, **options):
    """Predict an image or a time series: `select`, `prepare` and `run`.

    Args:
        image: `Image`, or a list of frames as `join` takes it (arrays with the axes of
            `predictor.card`).
        predictor: `Predictor`.
        frames, statistics, resample: see `select` and `prepare`.
        **options: see `run`.

    Returns:
        `(results, info)`; see `run`.

    Raises:
        ValueError: as these.
    """
    if isinstance(image, (list, tuple)):
        image = join_frames(image, predictor.card.axes)
    chosen = select_frames(image, frames)
    prepared = prepare(chosen, predictor.card, statistics=statistics, resample=resample)
    return run(prepared, predictor, **options)


def _frame(prepared, number, predictor, options):
    """Predict one frame, back on the grid of the input."""
    image, frame = prepared.image, prepared.frames[number]
    # Under one name for all frames, so that a warning about them is given once.
    frame = replace(frame, array=np.asarray(frame.array), name=image.name)
    found, info = predictor.predict(frame, statistics=prepared.statistics[number], **options)
    axes = image.axes.replace("T", "")
    images = []
    for result in found if isinstance(found, tuple) else (found,):
        back = grids.resample(result, like=image)
        images.append(_ordered(replace(back, array=np.asarray(back.array)), axes))
    return images, info


def _ordered(image, axes):
    """Give the axes the order that they have in `axes`, if it names all of them."""
    to = "".join(letter for letter in axes if letter in image.axes)
    if len(to) < len(image.axes):
        return image
    return replace(image, array=rearrange(image.array, image.axes, to), axes=to)


def _series(array, first, image):
    """The frames of a result together, in the order of axes of the input."""
    if "T" not in image.axes:
        return replace(first, array=array[0], name=image.name)
    steps = {a: size for a, size in image.voxel_size.items() if a == "T"}
    result = replace(
        first,
        array=array,
        axes="T" + first.axes,
        voxel_size={**steps, **first.voxel_size},
        name=image.name,
    )
    return _ordered(result, image.axes)


def _measure(frames, image, card, statistics):
    if isinstance(statistics, Affine):
        return [statistics] * len(frames)
    check_choice("statistics", statistics, SCOPES)
    name = image.name or "the image"
    if statistics == "series" and len(frames) > 1:
        return [card.input_normalizer.measure(map(_channels_last, frames), name)] * len(frames)
    names = [f"frame {t} of {name}" for t in range(len(frames))] if "T" in image.axes else [name]
    return [card.input_normalizer.measure(_channels_last(f), n) for f, n in zip(frames, names)]


def _channels_last(frame):
    return frame.numpy(spatial_axes(frame.axes) + "C")


def _scope(statistics):
    return "elsewhere" if isinstance(statistics, Affine) else statistics


def _warn_thin(frame, predictor, name):
    """Say where most of what the network sees will be a mirror image."""
    sizes = frame.sizes
    thin = {
        letter: divisor
        for letter, divisor in zip(predictor.card.axes, predictor.divisor)
        if sizes.get(letter, divisor) < divisor
    }
    if thin:
        found = " and ".join(
            f"{sizes[a]} voxels along {a}, fewer than {d}" for a, d in thin.items()
        )
        warnings.warn(
            f"{name or 'the image'} has {found}, the least that the network can halve: it is "
            f"padded by reflection, and the result is worth less. Received: shape {frame.shape}.",
            stacklevel=3,
        )
