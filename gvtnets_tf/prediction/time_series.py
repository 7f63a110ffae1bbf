"""Open an image or a time series, and predict its frames one after the other."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from gvtnets_tf.checks import read_value
from gvtnets_tf.data.sources import Source
from gvtnets_tf.images import limits, resampling
from gvtnets_tf.images.axes import rearrange, spatial_axes
from gvtnets_tf.images.frames import join_frames, select_frames
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction.options import PredictionOptions, collect_options
from gvtnets_tf.prediction.partial_results import Parts
from gvtnets_tf.prediction.results import choose_axes
from gvtnets_tf.zoo.card import Card

# What is read of the record of a frame that a stopped run has kept.
KEPT = {
    "tile": tuple[int, ...] | None,
    "statistics": tuple[Mapping[str, tuple[float, ...]], ...],
}


def open_input(source: Source | Image, options: PredictionOptions, strict: bool = False) -> Image:
    """Open an input with the axes, the voxel size and the frames that the options name.

    With `strict`, a file with pages or chunks without data is refused; see `readers.read`.
    """
    if isinstance(source, Image):
        image = replace(source, axes=options.axes or source.axes)
    else:
        image = source.open(options.axes, strict)
    if options.voxel_size is not None:
        voxel_size = _check_voxel_size(options.voxel_size, image)
        image = replace(image, voxel_size={**image.voxel_size, **voxel_size})
    return select_frames(image, options.frames)


def select_channels(image: Image, card: Card, channels: Sequence | None = None) -> Image:
    """Select the channels that a network reads, as `PredictionOptions.input_channels` says."""
    names, count = card.input_channels, image.sizes.get("C", 1)
    if channels is not None or not names:
        return image.select_channels(channels)
    # Numbers tell channels without names only where there are as many as in training.
    known = image.channel_names or (image.names if image.names == card.file_channels else ())
    if set(names) <= set(known):
        return image.select_channels(list(names))
    if count == len(names):
        return image  # as many as it reads, under other names
    missing = next(name for name in names if name not in known)
    lacks = "has no channel" if image.channel_names else "does not name its channels, so none is"
    trained = f", out of {', '.join(card.file_channels)}" if card.file_channels else ""
    raise ValueError(
        f"{image.name or 'The image'} {lacks} {missing!r}, which the model reads: choose "
        f"with --input-channels (`input_channels`) among its {count} ({', '.join(image.names)}). "
        f"The model reads {len(names)} ({', '.join(names)}{trained})."
    )


@dataclass(frozen=True)
class Series:
    """Frames on the voxels that a network knows, and their statistics.

    Frames are read one at a time, first all of them to be measured, so that a blank one is
    named before hours of work, then each to be predicted.
    """

    image: Image  # the result gets its grid
    scaled: Image  # with the voxel size that the network knows, computed when it is read
    normalizer: Normalizer
    scope: str | Affine  # as `PredictionOptions.statistics`

    @property
    def count(self) -> int:
        return self.image.sizes.get("T", 1)

    @functools.cached_property
    def statistics(self) -> list[Affine]:
        """Statistics of each frame, measured before any resampling."""
        return _measure(self)

    @property
    def info(self) -> dict:
        """Choices that all frames share, for JSON."""
        scope = "elsewhere" if isinstance(self.scope, Affine) else self.scope
        info = {"statistics_of": scope} if "T" in self.image.axes else {}
        if self.scaled is not self.image:
            sizes = self.scaled.voxel_size
            info["resampled_to"] = {a: float(sizes[a]) for a in "ZYX" if a in sizes}
        return info

    def read_frame(self, number: int) -> Image:
        """Read a frame; that of an image without axis T is kept."""
        return _read(self.scaled, number) if "T" in self.image.axes else self._still

    @functools.cached_property
    def _still(self):
        return _read(self.scaled, 0)


def prepare(image: Image, card: Card, options: PredictionOptions) -> Series:
    """Bring an input to the voxels of a network, frame by frame as they are read.

    Models of one rule of normalization, voxel size and channels can share the `Series`.
    """
    if options.max_memory is not None and not isinstance(image.array, np.ndarray):
        # What is in memory, or mapped, takes no more of it.
        voxels = math.prod(n for letter, n in image.sizes.items() if letter != "T")
        size = voxels * np.dtype(image.array.dtype).itemsize
        limits.check_memory(image.name, size, limits.parse_size(options.max_memory))
    if "T" not in image.axes:  # A series may be larger than memory; one frame is read once.
        image = replace(image, array=np.asarray(image.array[...]))
    if options.resample and not card.voxel_size:
        raise ValueError(
            "The model does not say the voxel size that it was trained on, so nothing can be "
            "resampled to it: leave out --resample (`resample`), or write `voxel_size` into "
            "its model.json."
        )
    scaled = resampling.resample(image, card.voxel_size) if options.resample else image
    return Series(image, scaled, card.input_normalizer, options.statistics)


def predict_frames(
    series: Series, predictor, options: PredictionOptions, parts: Parts | None = None,
    progress: bool = False,
) -> tuple:  # fmt: skip
    """Predict each frame, and bring the results to the grid of the input.

    Each frame is put into `parts` as soon as it is done; those that are there are not predicted
    again. Returned is as by `predict_series`.
    """
    first = _read_part(parts, 0)  # of a run that stopped: all have its tile
    if first is not None:
        options = replace(options, tile=first[1].get("tile") or options.tile)
    options = predictor.check(series.scaled, options, may_tile=first is None)
    statistics, count = series.statistics, series.count
    bar = {"desc": series.image.name, "unit": "frame", "leave": False}
    info = {"statistics": []}
    for number in tqdm(range(count), **bar, disable=not (progress and count > 1)):
        done = _read_part(parts, number)
        if done is None:
            frame, one = series.read_frame(number), progress and count == 1
            images, about = predictor.predict_frame(frame, statistics[number], options, one)
            images = [resampling.resample(image, like=series.image) for image in images]
            done = [replace(image, array=np.asarray(image.array)) for image in images], about
            if parts:
                parts.put(number, *done)
        images, about = done
        info = {**about, **series.info, "statistics": info["statistics"] + about["statistics"]}
        if count == 1:  # not copied, which would take its memory twice
            first, arrays = images, [np.asarray(image.array)[None] for image in images]
            break
        if number == 0:
            first, arrays = images, [np.empty((count, *i.shape), np.float32) for i in images]
        for array, image in zip(arrays, images):
            array[number] = rearrange(image.array, image.axes, first[0].axes)
    return [_join_results(*pair, series.image) for pair in zip(arrays, first)], info


def _read_part(parts, number):
    """Return what is kept of a frame, or `None`; what is read from its record has its type."""
    done = parts.get(number) if parts else None
    for key, hint in KEPT.items() if done else ():
        read_value(hint, done[1].get(key), f"{key} of frame {number} in {parts.folder}")
    return done


def predict_series(
    image: Image | Sequence, predictor, options: PredictionOptions | None = None, *,
    progress: bool = False, **fields,
) -> tuple:  # fmt: skip
    """Predict an image or a time series.

    Args:
        image: `Image`, or a list of frames (arrays with the axes of `predictor.card`).
        predictor: `Predictor`.
        options, progress, **fields: as in `Predictor.predict`.

    Returns:
        `(results, info)`: a list of `Image` (the location and, with `uncertainty`, the scale),
        and a mapping that says how all frames were predicted.

    Raises:
        ValueError: as `Predictor.predict`.

    Examples:
        >>> from gvtnets_tf.prediction.predictor import Predictor
        >>> card = Card("YX", "YX", Normalizer("zscore"), denormalize="input")
        >>> frames = [np.eye(4), 2 * np.eye(4)]
        >>> (result,), info = predict_series(frames, Predictor(lambda x: x, card))
        >>> result.axes, result.shape, len(info["statistics"])
        ('TYX', (2, 4, 4), 2)
    """
    options = collect_options(options, fields)
    if isinstance(image, (list, tuple)):
        image = join_frames(image, predictor.card.axes)
    image = select_channels(open_input(image, options), predictor.card, options.input_channels)
    series = prepare(image, predictor.card, options)
    return predict_frames(series, predictor, options, progress=progress)


def _check_voxel_size(voxel_size, image):
    """Return micrometers by axis letter, for those that `PredictionOptions.voxel_size` takes."""
    letters, name = [a for a in "ZYX" if a in image.axes], image.name or "the image"
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
    return voxel_size


def _read(image, number):
    """Read one frame. All have the name of the series, so that a warning is given once."""
    index = tuple(number if letter == "T" else slice(None) for letter in image.axes)
    return replace(image, array=np.asarray(image.array[index]), axes=image.axes.replace("T", ""))


def _join_results(array, first, image):
    """Join the frames of a result, in the order of axes of the input."""
    axes = choose_axes(image.axes, spatial_axes(first.axes), first.sizes.get("C", 1))
    steps = {a: size for a, size in image.voxel_size.items() if a == "T" and a in axes}
    array, voxel_size = rearrange(array, "T" + first.axes, axes), {**steps, **first.voxel_size}
    return replace(first, array=array, axes=axes, voxel_size=voxel_size, name=image.name)


def _measure(series):
    rule, scope, image = series.normalizer, series.scope, series.image
    name, one = image.name or "the image", "T" not in image.axes
    frames = (_read(image, number) for number in range(series.count))
    frames = (rearrange(f.array, f.axes, spatial_axes(f.axes) + "C") for f in frames)
    if scope == "series" and not one:
        return [rule.measure(frames, name)] * series.count
    given = isinstance(scope, Affine)
    rule = Normalizer("none") if given else rule  # It refuses NaN, and measures nothing.
    names = [name] if one else [f"frame {t} of {name}" for t in range(series.count)]
    measured = [rule.measure(frame, name) for frame, name in zip(frames, names)]
    return [scope] * series.count if given else measured
