"""A trained network as a folder that runs without this package.

A SavedModel for TensorFlow Serving takes camera counts of any size: normalization, padding
and units are in its graph, unless the network reads windows. LiteRT, ONNX and bioimage.io hold
the network alone; `metadata.json` or `bioimageio.yaml` beside it describes its input and output.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from gvtnets_tf import __version__
from gvtnets_tf.atomic_files import MARK, atomic_write, check_writable
from gvtnets_tf.checks import check_choice, import_optional
from gvtnets_tf.exporting import bioimageio, litert, onnx, saved_model, tf_graph
from gvtnets_tf.exporting.backends import check_backend
from gvtnets_tf.exporting.saved_model import INPUT, NORMALIZED, RAW
from gvtnets_tf.prediction.loading import load
from gvtnets_tf.prediction.predictor import Predictor

METADATA = "metadata.json"


def export(
    model: str | Path | Predictor, out: str | Path, format: str = "savedmodel",
    quantize: str | None = None, force: bool = False, *,
    warm_up: Sequence[Sequence[int]] = (), authors: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a network in a format that other programs run.

    Args:
        model: zoo name, model folder or `Predictor`.
        out: folder to make; with the suffix `.zip`, a zip of it. `"savedmodel"`: `1/`, the
            version folder that TensorFlow Serving looks for; `"litert"`: `model.tflite`;
            `"onnx"`: `model.onnx`; and `metadata.json` in each. `"bioimageio"`: a package,
            with a SavedModel and ONNX inside.
        format: `"savedmodel"`, `"litert"` (or `"tflite"`, its former name), `"onnx"` or
            `"bioimageio"`. Batch and spatial sizes stay free in all of them.
        quantize: of `"litert"`: `None`, `"float16"` for weights of half the size, or
            `"int8"` for about a quarter (networks of planes only).
        force: bool. Whether an existing `out` of this package is replaced.
        warm_up: of `"savedmodel"`: sequence of spatial shapes in voxels. The server answers
            a request of each before it says that it is ready.
        authors: of `"bioimageio"`: sequence of str. Names of the authors.

    Returns:
        `Path` of the folder, or of the zip.

    Raises:
        FileExistsError: if `out` exists and `force` is `False`.
        ModuleNotFoundError: if a package that the format needs is not installed.
        ValueError: for a format or an option that does not fit, a network that cannot be
            written in it, or one whose card does not fit it.

    Examples:
        >>> export("simulated_denoiser", "denoiser", "litert")  # doctest: +SKIP
        PosixPath('denoiser')
        >>> export("simulated_denoiser", "denoiser", "litert", quantize="int4")
        Traceback (most recent call last):
            ...
        ValueError: `quantize` cannot be 'int4'. Did you mean 'int8'?
    """
    format = _check_format(format, quantize, warm_up, authors)
    out = _check_out(out, force, model)
    predictor = model if isinstance(model, Predictor) else load(model)
    _check_network(predictor, format, quantize)
    saved_model.check_shapes(warm_up, predictor.card.axes)
    if format != "savedmodel":
        predictor = Predictor(tf_graph.remove_chunks(predictor.model), predictor.card)
    name = "" if isinstance(model, Predictor) else Path(model).name
    options = {"quantize": quantize, "warm_up": warm_up, "authors": authors, "name": name}
    with atomic_write(out, force) as beside, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, out.stem) if out.suffix == ".zip" else beside
        folder.mkdir()
        channels = _count_channels(predictor)
        WRITERS[format](folder, predictor, channels, options)
        if format != "bioimageio":
            about = _describe(predictor, channels, format, quantize)
            text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
            (folder / METADATA).write_text(text, encoding="utf-8")
        if folder != beside:
            _zip(folder, beside)
    return out


def _check_out(out, force, model):
    is_folder = not isinstance(model, Predictor) and Path(model, "model.json").is_file()
    return check_writable(out, force, [model] if is_folder else [])  # not a name of the zoo


def _zip(folder, path):
    shutil.make_archive(str(path.with_suffix("")), "zip", folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = MARK.encode()


def _check_format(format, quantize, warm_up, authors):
    format = "litert" if format == "tflite" else format
    check_choice("format", format, WRITERS)
    check_choice("quantize", quantize, (None, "float16", "int8"))
    given = {
        "litert": ("quantize", quantize),
        "savedmodel": ("warm_up", warm_up),
        "bioimageio": ("authors", authors),
    }
    for owner, (option, value) in given.items():
        if value and format != owner:
            raise ValueError(
                f"`{option}` is of format {owner!r}: leave it out, or use that format. "
                f"Received: {option}={value!r}, format={format!r}."
            )
    return format


def _check_network(predictor, format, quantize):
    model = predictor.model
    check_backend()
    if not isinstance(model, keras.Model):
        raise ValueError(f"Only a Keras model can be exported. Received: {type(model).__name__}.")
    if model.compute_dtype != "float32":
        raise ValueError(
            f"A network is exported in float32: load it with precision='float32'. "
            f"Received: one that computes in {model.compute_dtype}."
        )
    if format == "bioimageio" and _reads_windows(predictor.card):
        raise ValueError(
            f"A network that reads windows, or answers with distributions, cannot be written as "
            f"{format!r}, whose readers would have to cut and join them: use 'savedmodel', 'onnx' "
            f"or 'litert', which then hold the network alone. Received: "
            f"tile={predictor.card.tile}, scales={predictor.card.scales}, "
            f"classes={predictor.card.classes}."
        )
    if quantize == "int8" and predictor.card.axes != "YX":
        raise ValueError(
            f"`quantize='int8'` is for networks of planes, as LiteRT keeps the weights of 3-D "
            f"convolutions in float32: use 'float16', which halves the file. "
            f"Received: a network of {predictor.card.axes}."
        )


def _reads_windows(card):
    return bool(card.tile or card.classes or len(card.scales) > 1)


def _count_channels(predictor):
    """Count input and output channels; a network that the predictor refuses is not exported."""
    card, model = predictor.card, predictor.model
    count = model.get_build_config()["input_shape"][-1]
    grid = card.tile or [2 * d for d in predictor.divisor]
    noise = np.random.default_rng(0).random((*grid, count), np.float32)
    if not _reads_windows(card):
        predictor(noise, card.axes + "C", whole=True)
    outputs = model(noise[None]).shape[-2 if card.classes else -1]
    return count, outputs // (1 + card.probabilistic)


def _write_saved_model(folder, predictor, channels, options):
    whole = alone = tf_graph.build_network_graph(predictor, channels[0])
    # Windows are cut and joined outside: what is served is the network alone.
    if not _reads_windows(predictor.card):
        whole = tf_graph.build_prediction_graph(predictor, channels[0])
    saved_model.save(folder / "1", predictor.model, {RAW: whole, NORMALIZED: alone})
    if options["warm_up"]:
        saved_model.write_requests(folder / "1", options["warm_up"], channels[0])


def _write_litert(folder, predictor, channels, options):
    quantize, graph = options["quantize"], tf_graph.build_network_graph(predictor, channels[0])
    with tempfile.TemporaryDirectory() as scratch:
        # By way of a SavedModel, so that the file has a signature with names.
        saved_model.save(scratch, predictor.model, {RAW: graph})
        content = litert.convert(scratch, quantize)
        if quantize == "int8":
            image = bioimageio.simulate_image(predictor, channels[0])
            x = predictor.card.input_normalizer.measure(image).apply(image)[None]
            expected = {name: y.numpy() for name, y in graph(x).items()}
            litert.check_int8(content, litert.convert(scratch), x, expected)
    (folder / "model.tflite").write_bytes(content)


def _write_onnx(folder, predictor, channels, options):
    onnx.save(folder / "model.onnx", predictor, channels[0])


def _write_bioimageio(folder, predictor, channels, options):
    import_optional("bioimageio.spec", "bioimageio")  # before the minutes that weights may take
    # One result: location and scale stay in one tensor.
    alone = Predictor(predictor.model, predictor.card.changed(probabilistic=False))
    onnx.save(folder / bioimageio.ONNX, alone, channels[0])
    graph = tf_graph.build_network_graph(alone, channels[0])
    with tempfile.TemporaryDirectory() as scratch:
        saved_model.save(scratch, alone.model, {RAW: graph})
        base = folder / Path(bioimageio.SAVED_MODEL).stem
        shutil.make_archive(str(base), "zip", scratch)
    bioimageio.describe(
        folder, predictor, channels, onnx.OPSET, options["name"], options["authors"]
    )


WRITERS = {
    "savedmodel": _write_saved_model,
    "litert": _write_litert,
    "onnx": _write_onnx,
    "bioimageio": _write_bioimageio,
}


def _describe(predictor, channels, format, quantize):
    card = predictor.card
    served = format == "savedmodel"
    outputs = tf_graph.OUTPUTS[: 1 + card.probabilistic]
    # The last axis of a distribution is its classes.
    axes = f"N{card.output_axes}C" + ("K" if card.classes else "")
    return {
        "made_by": f"gvtnets_tf {__version__}",
        "network": type(predictor.model).__name__,
        "format": format,
        "quantize": quantize,
        "signatures": [RAW, NORMALIZED] if served else [RAW] if format == "litert" else [],
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "axes": f"N{card.axes}C",
            "channels": channels[0],
            "channel_names": list(card.input_channels),
            "voxel_size_um": dict(card.voxel_size),
            "divisor": dict(zip(card.axes, predictor.divisor)),
        },
        "outputs": {
            name: {"dtype": "float32", "axes": axes, "channels": channels[1]} for name in outputs
        },
        "output_channel_names": list(card.output_channels),
        "trained_channel_names": list(card.trained_channels or card.output_channels),
        "windows": {"tile": list(card.tile), "scales": list(card.scales), "classes": card.classes},
        "normalization_in_graph": served and not _reads_windows(card),
        "normalize": {
            "input": card.input_normalizer.to_dict(),
            "target": card.target_normalizer.to_dict(),
        },
        "denormalize": card.denormalize,
        "units": card.units,
        "target_statistics": dict(card.target_statistics),
        "training": dict(card.training),
        "provenance": card.provenance,
        "license": card.license,
    }
