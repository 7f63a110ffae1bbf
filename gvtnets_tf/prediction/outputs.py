"""Output paths of a prediction run, and which of them are still missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.atomic_files import check_writable, remove
from gvtnets_tf.checks import check_choice
from gvtnets_tf.data.sources import Source
from gvtnets_tf.images import display, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import stem
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.partial_results import check_no_parts, parts_folder
from gvtnets_tf.zoo.card import Card

# Files that hold a channel per structure, with names and colors.
SEVERAL = (".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr")


@dataclass(frozen=True)
class Outputs:
    """Files that one input becomes.

    Attributes:
        result: `Path` of the prediction.
        uncertainty: `Path` of its scale, or `None`.
        figure: `Path` of a picture of all structures, or `None`.
        movie: `Path` of a GIF, or `None`.
    """

    result: Path
    uncertainty: Path | None = None
    figure: Path | None = None
    movie: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """Files in the order of the attributes."""
        every = (self.result, self.uncertainty, self.figure, self.movie)
        return [path for path in every if path]


def plan_outputs(
    sources: Sequence[Source],
    out: Path,
    *,
    several: bool = False,
    uncertainty: bool = False,
    gif: str | Path | None = None,
) -> list[Outputs]:
    """Choose the paths of the results.

    Args:
        sources: list of `Source`.
        out: `Path`. With a suffix, and for one input, a file; else a folder, in which a result
            has the stem of its input.
        several: bool. Whether a result holds several structures.
        uncertainty: bool. Whether the scale is written, to a stem that ends in `_uncertainty`.
        gif: path of a movie, or `None`.

    Returns:
        List of `Outputs`, one per input.

    Raises:
        ValueError: for an unknown suffix, several inputs for one file, or two of one name.
    """
    movie = _check_gif(gif, len(sources))
    results = _plan_results(sources, out, several)
    return [
        Outputs(
            path,
            _insert(path, "_uncertainty") if uncertainty else None,
            path.with_name(stem(path) + ".png") if several else None,
            movie,
        )
        for path in results
    ]


def list_missing(
    sources: Sequence[Source],
    outputs: Sequence[Outputs],
    dtype: str | None = None,
    *,
    resume: bool = False,
    force: bool = False,
) -> list[tuple]:
    """List the inputs whose results are missing; refuse those that could not be written.

    Args:
        sources: list of `Source`.
        outputs: list of `Outputs`, one per input.
        dtype: str or `None`. Type of the results.
        resume: bool. Pass over the inputs whose results are there.
        force: bool. Whether existing files may be replaced.

    Returns:
        List of `(source, outputs)`.

    Raises:
        FileExistsError, PermissionError, ValueError: naming the output.
    """
    missing = []
    for source, one in zip(sources, outputs):
        if resume and all(path.exists() for path in one.paths):
            remove(parts_folder(one.result))
            continue
        for path in one.paths:
            check_writable(path, force or resume)
        writers.check_dtype(one.result, dtype or "float32")
        check_no_parts(one.result, resume=resume, force=force)
        missing.append((source, one))
    return missing


def check_result(
    image: Image,
    card: Card,
    outputs: Outputs,
    options: PredictionOptions,
    gif_plane: int | None = None,
) -> None:
    """Refuse a result that could not be written or shown, as far as is known beforehand.

    Args:
        image: `Image`, the input.
        card: `Card` of the network.
        outputs: `Outputs` of the input.
        options: `PredictionOptions`.
        gif_plane: int or `None`. The plane along Z that the movie shows.

    Raises:
        ValueError: as `writers.check_planes` and `display.check_movie`.
    """
    gone = {"C", *card.axes} - set(card.output_axes)
    sizes = {letter: n for letter, n in image.sizes.items() if letter not in gone}
    channels = options.output_channels or card.trained_channels or card.output_channels
    writers.check_planes(outputs.result, sizes | {"C": len(channels) or 1})
    if outputs.movie:
        display.check_movie(sizes, gif_plane, image.name)


def _plan_results(sources, out, several):
    ending = out.name[len(stem(out)) :].lower() or out.suffix.lower()
    one = len(sources) == 1 and out.suffix and not out.is_dir()
    if one or ending in writers.WRITERS:
        check_choice("suffix of the output", ending, SEVERAL if several else writers.WRITERS)
        if len(sources) > 1:
            raise ValueError(
                f"{out} is one file, and there are {len(sources)} inputs: name a folder instead."
            )
        return [out]
    suffix = ".ome.tif" if several else ".tif"
    paths = [out / (s.name + (".zarr" if s.path.suffix == ".zarr" else suffix)) for s in sources]
    twice = sorted({path.name for path in paths if paths.count(path) > 1})
    if twice:
        raise ValueError(
            f"Several inputs have one name, so their results would replace each other: "
            f"{', '.join(twice)}. Predict them into folders of their own."
        )
    return paths


def _insert(path, ending):
    """Return a path with an ending after its stem."""
    name = stem(path)
    return path.with_name(name + ending + path.name[len(name) :])


def _check_gif(gif, inputs):
    if gif is None:
        return None
    gif = Path(gif)
    check_choice("suffix of --gif", gif.suffix.lower(), [".gif"])
    if inputs > 1:
        raise ValueError(
            f"{gif} shows one series, and there are {inputs} inputs: predict one of them with "
            f"--gif (`gif`)."
        )
    return gif
