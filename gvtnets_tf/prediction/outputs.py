"""What is to be done: inputs as they are wanted, and where results go."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gvtnets_tf.atomic_files import check_writable, remove
from gvtnets_tf.checks import check_choice
from gvtnets_tf.data.in_silico_labeling import file_names, wells
from gvtnets_tf.data.sources import find
from gvtnets_tf.images import display, readers, writers
from gvtnets_tf.images.axes import spatial_axes
from gvtnets_tf.images.frames import select_frames
from gvtnets_tf.images.metadata import file_stem
from gvtnets_tf.prediction import partial_results

# What a result does not depend on: a run that stopped may go on with other values.
FREE = ("max_memory", "batch")


@dataclass(frozen=True)
class WellInput:
    """A well of the in-silico labeling data set, in place of the path of a file."""

    well: wells.Well
    suffix = ""

    @property
    def name(self):
        return self.well.name

    def __str__(self):
        return self.well.name

    def stat(self):
        return self.well.planes[0].stat()


def found(inputs):
    """List what is to be predicted.

    Args:
        inputs: what `sources.find` takes; or a folder of the in-silico labeling data set,
            which stands for its wells.

    Returns:
        List of `Path`, or of `WellInput`, which have a name, a suffix and `stat` as well.

    Raises:
        FileNotFoundError, ValueError: as `sources.find` and `isl.wells`.
    """
    one = isinstance(inputs, (str, Path))
    if one and Path(inputs).is_dir() and file_names.is_dataset(inputs):
        return [WellInput(well) for well in wells.find_wells(inputs)]
    return [source.path for source in find(inputs)]


def opened(path, axes=None, voxel_size=None, frames=None):
    """Open an input.

    Args:
        path: one of `found`.
        axes: str. In place of what the file says.
        voxel_size: micrometers in place of what the file says: a mapping from axis letter,
            or one number per spatial axis of the file, in the order Z, Y, X.
        frames: see `images.frames.select_frames`.

    Returns:
        `Image`.

    Raises:
        FileNotFoundError, ValueError: naming the file and the reason.
    """
    image = path.well.input() if isinstance(path, WellInput) else readers.read(path, axes)
    if voxel_size is not None:
        steps = _steps(voxel_size, spatial_axes("".join(sorted(image.axes, reverse=True))), path)
        image = replace(image, voxel_size={**image.voxel_size, **steps})
    return select_frames(image, frames)


def channels(image, card, asked=None):
    """Choose the channels that a network reads.

    Args:
        image: `Image`.
        card: `Card` of the network.
        asked: list of int or str, the channels by index or name. By default those that the
            card names, where the image names them too; else all there are.

    Returns:
        `Image`.

    Raises:
        ValueError: naming the channel that is missing, and those there are.
    """
    names, count = card.input_channels, image.sizes.get("C", 1)
    if asked is not None or not names or not image.channel_names:
        return image.select_channels(asked)
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


def about(precision, flips, frames):
    """What the metadata of a result say of how it was asked for."""
    said = {"precision": precision}
    if flips:
        said["flips"] = True
    if frames is not None:
        said["frames"] = str(frames)
    return said


def settings(path, image, card, options, **others):
    """What a result depends on, so that a run goes on with its own parts only.

    Args:
        path: `Path` of the input.
        image: `Image` that it holds.
        card: mapping that describes the network, or the networks.
        options: mapping of what `Predictor.predict` is given.
        **others: what else was asked for.

    Returns:
        Mapping.
    """
    return {
        "input": [str(path), path.stat().st_mtime_ns, image.axes, image.shape],
        "voxel_size": dict(image.voxel_size),
        "cards": card,
        "options": {
            key: value
            for key, value in options.items()
            if key not in FREE and value is not None and value is not False
        },
        **others,
    }


def places(paths, out, suffix=".tif", known=writers.WRITERS):
    """Where each result goes; two inputs of one name would overwrite each other.

    Args:
        paths: list of `Path`, the inputs.
        out: `Path`. With a suffix, and for one input, a file; else a folder.
        suffix: str. Of results in a folder; that of a Zarr input is `.zarr`.
        known: suffixes that a result may have.

    Returns:
        List of `Path`.

    Raises:
        ValueError: for an unknown suffix, or names that do not go together.
    """
    ending = out.name[len(file_stem(out)) :].lower() or out.suffix.lower()
    one = len(paths) == 1 and out.suffix and not out.is_dir()
    if one or ending in writers.WRITERS:
        check_choice("suffix of the output", ending, known)
        if len(paths) > 1:
            raise ValueError(
                f"{out} is one file, and there are {len(paths)} inputs: name a folder instead."
            )
        return [out]
    found = [out / (file_stem(p) + (".zarr" if p.suffix == ".zarr" else suffix)) for p in paths]
    twice = sorted({p.name for p in found if found.count(p) > 1})
    if twice:
        raise ValueError(
            f"Several inputs have one name, so their results would replace each other: "
            f"{', '.join(twice)}. Predict them into folders of their own."
        )
    return found


def beside(place, ending):
    """A file beside a result: its name with something after the stem."""
    name = file_stem(place)
    return place.with_name(name + ending + place.name[len(name) :])


def todo(paths, results, dtype, *, resume=False, force=False):
    """List the inputs whose results are missing; refuse what could not be written.

    Args:
        paths: list of `Path`, the inputs.
        results: list of lists of `Path`. What each input becomes, the result first.
        dtype: str or `None`. Type of the results.
        resume: bool. Pass over the inputs whose results are there.
        force: bool. Whether existing files may be replaced.

    Returns:
        List of `(path, outputs)`.

    Raises:
        FileExistsError, PermissionError, ValueError: naming the output.
    """
    found = []
    for path, outputs in zip(paths, results):
        if resume and all(output.exists() for output in outputs):
            remove(partial_results.place(outputs[0]))
            continue
        for output in outputs:
            check_writable(output, force or resume)
        writers.check_dtype(outputs[0], dtype or "float32")
        partial_results.check_none(outputs[0], resume=resume, force=force)
        found.append((path, outputs))
    return found


def check_gif(gif, paths):
    """Where a movie goes: nowhere, or a list of one file.

    Raises:
        ValueError: for another suffix, or for more than one input.
    """
    if gif is None:
        return []
    gif = Path(gif)
    check_choice("suffix of --gif", gif.suffix.lower(), [".gif"])
    if len(paths) > 1:
        raise ValueError(
            f"{gif} shows one series, and there are {len(paths)} inputs: predict one of them with "
            f"--gif (`gif`)."
        )
    return [gif]


def check_result(image, card, out, movie=(), plane=None, labels=None):
    """Refuse what could not be written or shown, as far as it is known before predicting.

    Args:
        image: `Image`, the input.
        card: `Card` of the network.
        out: `Path` of the result.
        movie: what `check_gif` gave.
        plane: int or `None`. The plane that the movie shows.
        labels: the channels of the result that were asked for.

    Raises:
        ValueError: as `writers.check_planes` and `display.check_movie`.
    """
    gone = set(card.axes) - set(card.output_axes)
    sizes = {letter: n for letter, n in image.sizes.items() if letter not in gone | {"C"}}
    known = labels or card.trained_channels or card.output_channels
    writers.check_planes(out, sizes | {"C": len(known) or 1})
    if movie:
        display.check_movie(sizes, plane, image.name)


def _steps(voxel_size, letters, path):
    if not isinstance(voxel_size, Mapping):
        values = list(voxel_size)
        if len(values) != len(letters):
            raise ValueError(
                f"--voxel-size (`voxel_size`) has one number for each of the axes {letters} of "
                f"{path}. Received: {values}."
            )
        voxel_size = dict(zip(letters, values))
    for letter, size in voxel_size.items():
        if letter not in "TZYX" or not 0 < size < math.inf:
            raise ValueError(
                f"--voxel-size (`voxel_size`) is in micrometers, above zero, along Z, Y or X. "
                f"Received: {letter} {size}, for {path}."
            )
    return voxel_size
