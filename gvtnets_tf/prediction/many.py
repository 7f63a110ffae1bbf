"""Many structures from one input: several networks, one image with a channel for each."""

import gc
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gvtnets_tf.checks import check_choice
from gvtnets_tf.images import display, writers
from gvtnets_tf.images.axes import ORDER, rearrange
from gvtnets_tf.images.metadata import file_stem
from gvtnets_tf.prediction import outputs, partial_results, time_series
from gvtnets_tf.zoo.card import Card

SUFFIXES = (".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr")


def predict_many(
    inputs, models, out, *, axes=None, input_channels=None, voxel_size=None, resample=False,
    flips=False, frames=None, statistics="frame", gif=None, gif_plane=None, dtype=None,
    colors=None, precision="float32", resume=False, force=False, progress=True, **options,
):  # fmt: skip
    """Predict files with several models, into one image with a channel per structure.

    An input is read once. It is measured and resampled once for all models that want it
    alike (rule of normalization, voxel size, channels), and one model at a time is in
    memory. Models may differ in depth, padding and normalization, not in the axes of
    their results. A time series is opened once, and read frame by frame for each model.

    Args:
        inputs, axes, input_channels, voxel_size, resample, flips, frames, statistics, gif,
            gif_plane, dtype, precision, progress, **options: as in `files.predict`, for
            each of the models.
        models: list of zoo names, model folders and `Predictor`, or a mapping to these
            from the names that the models get.
        out: for one input and with the suffix `.ome.tif` or `.zarr`, the file to write; else
            a folder, in which each result has the stem of its input and `.ome.tif`
            (`.zarr` for a Zarr input).
        colors: list of `"#rrggbb"`, one per channel, for display.
        resume: bool. Leave the inputs whose results are there. A run that was stopped
            goes on with the next model or frame.
        force: bool. Whether existing files are replaced.

    Returns:
        List of `Path`: for each input the image, and beside it a figure (`.png`) of all
        channels, each the maximum over Z in its color. The GIF comes last. A channel
        has the name that its model's card gives, with the model's name in front where
        two would be the same.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: naming the file or the model and
            the reason.
    """
    if options.get("uncertainty"):
        raise ValueError(
            "The scale (--uncertainty, `uncertainty`) is written for one model at a time, and here "
            "are several: predict them apart for it."
        )
    paths = outputs.found(inputs)
    if dtype is not None:
        check_choice("dtype", str(dtype), writers.DTYPES)
    movie = outputs.check_gif(gif, paths)
    results = [
        [place, place.with_name(file_stem(place) + ".png"), *movie]
        for place in outputs.places(paths, Path(out), ".ome.tif", SUFFIXES)
    ]
    todo = outputs.todo(paths, results, dtype, resume=resume, force=force)
    found = _structures(models, precision, flips)
    how = {"statistics": statistics, "resample": resample}
    about = outputs.about(precision=precision, flips=flips, frames=frames)
    for path, written in todo:
        image = _held(outputs.opened(path, axes, voxel_size, frames))
        wanted = [outputs.channels(image, s.card, input_channels) for s in found]
        outputs.check_result(image, found[0].card, written[0], movie, gif_plane)
        cards = {s.name: s.card.to_dict() for s in found}
        asked = {**about, **how, "input_channels": input_channels}
        settings = outputs.settings(path, image, cards, options, **asked)
        with partial_results.parts(written[0], settings, resume=resume, force=force) as kept:
            answers = _answers(found, wanted, kept, how, {**options, "progress": progress})
            merged = _merged([result for result, _ in answers], found)
            models = [{"model": s.name, **info} for s, (_, info) in zip(found, answers)]
            shown = _colors(colors, merged.channel_names)
            replaced = {"force": force or resume}
            # The result last: where it is, everything is.
            for file in movie:
                display.write_movie(file, merged, gif_plane, shown, **replaced)
            display.write_merged_figure(written[1], merged, shown, **replaced)
            said = {**about, "models": models}
            writers.write(written[0], merged, dtype=dtype, metadata=said, colors=shown, **replaced)
    return [output for written in results for output in written]


@dataclass(frozen=True)
class _Structure:
    """One of the models: its name and card are held, the network is not."""

    name: str
    source: Any
    card: Card
    precision: str
    flips: bool

    def predictor(self):
        from gvtnets_tf.prediction.test_time_augmentation import averaged

        found = _load(self.source, self.precision)
        return averaged(found) if self.flips else found


def _load(source, precision):
    from gvtnets_tf.prediction.loading import load
    from gvtnets_tf.prediction.predictor import Predictor

    if isinstance(source, Predictor):
        return source
    gc.collect()  # The network before this one is a circle of references.
    return load(source, precision=precision)


def _structures(models, precision, flips):
    """Load each model once, so that a wrong one is found before any work, and let it go."""
    named = models if isinstance(models, Mapping) else _named(list(models))
    if not named:
        raise ValueError("There is no model to predict with: name at least one.")
    found = [
        _Structure(name, source, _load(source, precision).card, precision, flips)
        for name, source in named.items()
    ]
    _check_alike(found)
    return found


def _named(models):
    """Names of models: the last part of a path, or all of it where that is not enough."""
    paths = [m if isinstance(m, (str, Path)) else f"model {i}" for i, m in enumerate(models)]
    short = Counter(Path(p).name for p in paths)
    names = [str(p) if short[Path(p).name] > 1 else Path(p).name for p in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"The model {twice[0]} is given twice: name each model once.")
    return dict(zip(names, models))


def _check_alike(structures):
    first = structures[0]
    for other in structures[1:]:
        gone, lost = (set(s.card.axes) - set(s.card.output_axes) for s in (first, other))
        if gone != lost:
            raise ValueError(
                f"The models do not go into one image, because the axes of their results differ: "
                f"{first.name} predicts {first.card.output_axes} from {first.card.axes}, "
                f"{other.name} {other.card.output_axes} from {other.card.axes}. Predict them apart."
            )


def _held(image):
    """The image in memory, read once for all models; a series may be larger than that."""
    return image if "T" in image.axes else replace(image, array=np.asarray(image.array[...]))


def _answers(structures, wanted, kept, how, options):
    """Predict an input with one model after the other, those alike in a row.

    Returns:
        List of `(result, info)`, in the order of the models.
    """
    groups, answers = {}, {}
    for number, (structure, image) in enumerate(zip(structures, wanted)):
        groups.setdefault(_preparation(structure.card, image, how), []).append(number)
    for numbers in groups.values():
        prepared = time_series.prepare(wanted[numbers[0]], structures[numbers[0]].card, **how)
        for number in numbers:
            predictor = structures[number].predictor()
            images, info = time_series.run(prepared, predictor, kept.inner(number), **options)
            answers[number] = images[0], info
            del predictor
            gc.collect()
    return [answers[number] for number in range(len(structures))]


def _preparation(card, image, how):
    """What the preparation of an input depends on."""
    voxel_size = dict(card.voxel_size) if how["resample"] else None
    return json.dumps(
        [image.channel_names, card.input_normalizer.to_dict(), voxel_size], sort_keys=True
    )


def _merged(results, structures):
    """One image of all results, with axis C and axes in the order of OME."""
    order = "".join(letter for letter in ORDER if letter == "C" or letter in results[0].axes)
    arrays = [rearrange(result.array, result.axes, order) for result in results]
    counts = [array.shape[order.index("C")] for array in arrays]
    return replace(
        results[0],
        array=np.concatenate(arrays, axis=order.index("C")),
        axes=order,
        channel_names=_names(structures, [r.channel_names for r in results], counts),
    )


def _colors(colors, names):
    """A display color for each channel: those that were asked for, or chosen here."""
    if colors and len(colors) != len(names):
        raise ValueError(
            f"`colors` must be one '#rrggbb' for each of the {len(names)} channels "
            f"({', '.join(names)}). Received: {list(colors)}."
        )
    return tuple(colors or display.choose_colors(len(names)))


def _names(structures, known, counts):
    """A name for each channel, with the model's in front where two would be the same."""
    own = []
    for structure, names, count in zip(structures, known, counts):
        alone = [structure.name] if count == 1 else [f"{structure.name} {i}" for i in range(count)]
        own.append(list(names) or alone)
    taken = Counter(name for names in own for name in names)
    return tuple(
        f"{structure.name} {name}" if taken[name] > 1 else name
        for structure, names in zip(structures, own)
        for name in names
    )
