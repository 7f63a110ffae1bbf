"""Files through a predictor, into files."""

from pathlib import Path

from gvtnets_tf.checks import check_choice
from gvtnets_tf.data import readers, writers
from gvtnets_tf.data.metadata import stem
from gvtnets_tf.data.pairs import expand
from gvtnets_tf.files import check_free


def predict(
    inputs, model, out, *, axes=None, input_channels=None, dtype=None, uncertainty=False,
    precision="float32", resume=False, force=False, progress=True, **options,
):  # fmt: skip
    """Predict files and write the results.

    Args:
        inputs: a file, a quoted glob, a folder, a `.zarr`, or a list of these.
        model: zoo name, model folder, or `Predictor`.
        out: for one input and with a suffix, the file to write; else a folder, in which
            each result has the stem of its input and `.tif` (`.zarr` for a Zarr input).
        axes: str. Axes of the inputs, in place of what the files say.
        input_channels: list of int or str. The channels the network wants, in its order.
        dtype: type of the results; float32 where `None`. Values are rounded and
            clipped, and the clipped share is said on standard error.
        uncertainty: bool. Also write the scale of a probabilistic network, to a file
            whose stem ends in `_uncertainty`.
        precision: `"float32"` or `"bfloat16"`, which is faster and less exact.
        resume: bool. Leave the inputs whose results are there, and write the missing ones.
        force: bool. Whether existing files are replaced.
        progress: bool. Show progress on standard error.
        **options: `tile`, `whole`, `overlap`, `blend`, `max_memory`, `batch`: see
            `Predictor.predict`.

    Returns:
        List of the `Path` of every result, in the order of the inputs; with `uncertainty`
        each is followed by that of its scale.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: naming the file and the reason.
    """
    paths = expand(inputs)
    if dtype is not None:
        check_choice("dtype", str(dtype), writers.DTYPES)
    places = _places(paths, Path(out))
    endings = ("", "_uncertainty") if uncertainty else ("",)
    results = [[p.with_name(_renamed(p, ending)) for ending in endings] for p in places]
    todo = []
    for path, outputs in zip(paths, results):
        if resume and all(output.exists() for output in outputs):
            continue
        for output in outputs:
            check_free(output, force or resume)
            writers.check_dtype(output, dtype or "float32")
        todo.append((path, outputs))
    # Only now, so that a wrong file name does not wait for TensorFlow.
    from tqdm import tqdm

    from gvtnets_tf.prediction.predictor import Predictor
    from gvtnets_tf.zoo import load

    predictor = model if isinstance(model, Predictor) else load(model, precision=precision)
    about = {
        "model": str(model) if not isinstance(model, Predictor) else "",
        "precision": precision,
    }
    many = progress and len(todo) > 1
    for path, outputs in tqdm(todo, desc="predict", unit="file", disable=not many):
        image = readers.read(path, axes).select_channels(input_channels)
        writers.check_planes(outputs[0], _sizes(image, predictor.card))
        result, info = predictor.predict(
            image, uncertainty=uncertainty, progress=progress and not many, **options
        )
        for output, part in zip(outputs, result if uncertainty else (result,)):
            writers.write(
                output, part, dtype=dtype, metadata={**about, **info}, force=force or resume
            )
    return [output for outputs in results for output in outputs]


def _sizes(image, card):
    """Sizes of the result, as far as they are known before it is there."""
    gone = set(card.axes) - set(card.output_axes)
    known = {letter: n for letter, n in image.sizes.items() if letter not in gone | {"C"}}
    return known | {"C": len(card.output_channels) or 1}


def _places(paths, out):
    """Where each result goes; two inputs of one name would overwrite each other."""
    one = len(paths) == 1 and out.suffix and not out.is_dir()
    if one or out.suffix.lower() in writers.WRITERS:
        check_choice("suffix of the output", out.suffix.lower(), writers.WRITERS)
        if len(paths) > 1:
            raise ValueError(
                f"{out} is one file, and there are {len(paths)} inputs: name a folder instead."
            )
        return [out]
    places = [out / (stem(p) + (".zarr" if p.suffix == ".zarr" else ".tif")) for p in paths]
    twice = sorted({p.name for p in places if places.count(p) > 1})
    if twice:
        raise ValueError(
            f"Several inputs have one name, so their results would replace each other: "
            f"{', '.join(twice)}. Predict them into folders of their own."
        )
    return places


def _renamed(place, ending):
    name = stem(place)
    return name + ending + place.name[len(name) :]
