"""A trained network as a folder that runs without this package.

A SavedModel for TensorFlow Serving takes camera counts of any size: normalization, padding
and units are in its graph, unless the network reads windows. LiteRT, ONNX and bioimage.io hold
the network alone; what is beside it, `metadata.json` or `bioimageio.yaml`, says what goes in
and what comes out.
"""

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from gvtnets_tf import __version__
from gvtnets_tf.atomic_files import atomic_write, check_writable
from gvtnets_tf.checks import check_choice, import_optional
from gvtnets_tf.exporting import bioimageio, litert, saved_model
from gvtnets_tf.exporting.saved_model import INPUT, NORMALIZED, RAW
from gvtnets_tf.exporting.tf_graph import OUTPUTS, network, raw, without_chunks
from gvtnets_tf.prediction.loading import load
from gvtnets_tf.prediction.predictor import Predictor

METADATA = "metadata.json"
OPSET = 18  # of ONNX


def export(model, out, format="savedmodel", quantize=None, force=False, *, warm_up=(), authors=()):
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
        force: bool. Whether an existing `out` is replaced.
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
    """
    format = _check_format(format, quantize, warm_up, authors)
    out = check_writable(out, force)
    predictor = model if isinstance(model, Predictor) else load(model)
    _check_network(predictor, format, quantize)
    saved_model.check_shapes(warm_up, predictor.card.axes)
    if format != "savedmodel":
        predictor = Predictor(without_chunks(predictor.model), predictor.card)
    name = "" if isinstance(model, Predictor) else Path(model).name
    options = {"quantize": quantize, "warm_up": warm_up, "authors": authors, "name": name}
    with atomic_write(out, force) as beside, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, out.stem) if out.suffix == ".zip" else beside
        folder.mkdir()
        WRITERS[format](folder, predictor, _channels(predictor), options)
        if folder != beside:
            shutil.make_archive(str(beside.with_suffix("")), "zip", folder)
    return out


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
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Networks are exported from the TensorFlow backend: set KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()!r}."
        )
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


def _channels(predictor):
    """Channels that go in and come out: what the predictor refuses is not exported."""
    card, model = predictor.card, predictor.model
    count = model.get_build_config()["input_shape"][-1]
    grid = card.tile or [2 * d for d in predictor.divisor]
    noise = np.random.default_rng(0).random((*grid, count), np.float32)
    if not _reads_windows(card):
        predictor(noise, card.axes + "C", whole=True)
    found = model(noise[None]).shape[-2 if card.classes else -1]
    return count, found // (1 + card.probabilistic)


def _write_saved_model(folder, predictor, channels, options):
    alone = network(predictor, channels[0])
    # Windows are cut and joined outside: what is served is the network alone.
    whole = alone if _reads_windows(predictor.card) else raw(predictor, channels[0])
    signatures = {RAW: whole, NORMALIZED: alone}
    saved_model.save(folder / "1", predictor.model, signatures)
    if options["warm_up"]:
        saved_model.warm_up(folder / "1", options["warm_up"], channels[0])
    _write_metadata(folder, predictor, channels, "savedmodel")


def _write_litert(folder, predictor, channels, options):
    quantize, graph = options["quantize"], network(predictor, channels[0])
    with tempfile.TemporaryDirectory() as scratch:
        # By way of a SavedModel, so that the file has a signature with names.
        saved_model.save(scratch, predictor.model, {RAW: graph})
        made = litert.convert(scratch, quantize)
        if quantize == "int8":
            image = bioimageio.example(predictor, channels[0])
            x = predictor.card.input_normalizer.measure(image).apply(image)[None]
            expected = {name: y.numpy() for name, y in graph(x).items()}
            litert.check_int8(made, litert.convert(scratch), x, expected)
    (folder / "model.tflite").write_bytes(made)
    _write_metadata(folder, predictor, channels, "litert", quantize)


def _write_onnx(folder, predictor, channels, options):
    _save_onnx(folder / "model.onnx", predictor, channels[0])
    _write_metadata(folder, predictor, channels, "onnx")


def _save_onnx(path, predictor, channels):
    import_optional("onnx", "onnx")
    convert = import_optional("tf2onnx", "onnx").convert
    graph = network(predictor, channels)
    convert.from_function(graph, graph.input_signature, opset=OPSET, output_path=str(path))
    runtime = import_optional("onnxruntime", "onnx")
    try:
        runtime.InferenceSession(str(path))
    except Exception as error:  # its errors have no other class in common
        # The converter only prints what it cannot convert, such as loops.
        raise ValueError(
            f"The network cannot be written as ONNX, as onnxruntime does not read what the "
            f"converter makes of it: use another format. Received: {error}"
        ) from error


def _write_bioimageio(folder, predictor, channels, options):
    import_optional("bioimageio.spec", "bioimageio")  # before the minutes that weights may take
    # One result: location and scale stay in one tensor.
    alone = Predictor(predictor.model, predictor.card.changed(probabilistic=False))
    _save_onnx(folder / bioimageio.ONNX, alone, channels[0])
    with tempfile.TemporaryDirectory() as scratch:
        saved_model.save(scratch, alone.model, {RAW: network(alone, channels[0])})
        base = folder / Path(bioimageio.SAVED_MODEL).stem
        shutil.make_archive(str(base), "zip", scratch)
    about = {"name": options["name"], "authors": options["authors"]}
    bioimageio.describe(folder, predictor, channels, OPSET, **about)


WRITERS = {
    "savedmodel": _write_saved_model,
    "litert": _write_litert,
    "onnx": _write_onnx,
    "bioimageio": _write_bioimageio,
}


def _write_metadata(folder, predictor, channels, format, quantize=None):
    about = _metadata(predictor, channels, format, quantize)
    text = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    (folder / METADATA).write_text(text, encoding="utf-8")


def _metadata(predictor, channels, format, quantize):
    card = predictor.card
    served = format == "savedmodel"
    outputs = OUTPUTS[: 1 + card.probabilistic]
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
        "training": dict(card.training),
        "provenance": card.provenance,
        "license": card.license,
    }
