"""Output paths of a prediction run, and which of them are still missing."""

from dataclasses import dataclass
from pathlib import Path

from gvtnets_tf.atomic_files import check_inputs_kept, check_writable, remove
from gvtnets_tf.checks import check_choice
from gvtnets_tf.data.sources import Source
from gvtnets_tf.images import display, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import file_stem
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.partial_results import check_no_parts, parts_folder
from gvtnets_tf.zoo.card import Card

# Files that hold a channel per structure, with names and colors.
SEVERAL = (".ome.tif", ".ome.tiff", ".zarr", ".ome.zarr")
UNCERTAINTY = "uncertainty"  # folder, beside the result, of the scale


@dataclass(frozen=True)
class Outputs:
    """Files that one input becomes, with `None` for those that a run does not write."""

    result: Path
    uncertainty: Path | None  # the scale of the result
    figure: Path | None  # a picture of all structures
    movie: Path | None

    @property
    def paths(self) -> list[Path]:
        """Files that are written, in the order of the attributes."""
        return [path for path in (self.result, self.uncertainty, self.figure, self.movie) if path]


def plan_outputs(
    sources: list[Source], out: Path, several: bool, uncertainty: bool, gif: str | Path | None
) -> list[Outputs]:
    """Choose the paths of the results, one `Outputs` per input; see `files.predict`."""
    if gif is not None:
        gif = Path(gif)
        check_choice("suffix of --gif", gif.suffix.lower(), [".gif"])
        if len(sources) > 1:
            raise ValueError(
                f"{gif} shows one series, and there are {len(sources)} inputs: predict one of them "
                f"with --gif (`gif`)."
            )
    outputs = []
    for path in _plan_results(sources, out, several):
        stem = file_stem(path)
        # Not beside the result, where a glob or a folder would take it for another one.
        scale = path.parent / UNCERTAINTY / path.name if uncertainty else None
        figure = path.with_name(f"{stem}.png") if several else None
        outputs.append(Outputs(path, scale, figure, gif))
    return outputs


def list_missing(
    sources: list[Source], outputs: list[Outputs], dtype: str | None, *, resume: bool, force: bool
) -> list[tuple[Source, Outputs]]:
    """List the inputs to predict, with `resume` those with missing results; check their outputs."""
    missing = []
    check_inputs_kept((p for one in outputs for p in one.paths), [s.path for s in sources])
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


def check_dtype(card: Card, options: PredictionOptions, name: str) -> None:
    """Refuse units that a model `name` lacks, and whole numbers for normalized values."""
    card = options.choose_units(card)
    if options.dtype in writers.INTEGERS and card.units == "normalized":
        units = "input" if card.target_affine is None else "stored"
        raise ValueError(
            f"{name or 'The model'} predicts normalized values, of which {options.dtype} would "
            f"keep a few whole numbers: leave out --dtype (`dtype`), or give the result units "
            f"with --denormalize {units} (`denormalize={units!r}`)."
        )


def check_result(
    image: Image, card: Card, outputs: Outputs, options: PredictionOptions, gif_plane: int | None
) -> None:
    """Refuse a result of an input that could not be written or shown, before it is computed."""
    gone = {"C", *card.axes} - set(card.output_axes)
    sizes = {letter: n for letter, n in image.sizes.items() if letter not in gone}
    channels = options.output_channels or card.trained_channels or card.output_channels
    writers.check_planes(outputs.result, sizes | {"C": len(channels) or 1})
    if outputs.movie:
        display.check_movie(sizes, gif_plane, image.name)


def _plan_results(sources, out, several):
    ending = out.name[len(file_stem(out)) :].lower() or out.suffix.lower()
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
