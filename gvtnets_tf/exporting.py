"""A trained network as a folder that runs without this package.

A SavedModel for TensorFlow Serving takes camera counts of any size: normalisation, padding
and units are in its graph. LiteRT and ONNX hold the network alone. `metadata.json` beside
each says what goes in and what comes out.
"""

import json
import tempfile

import keras
import numpy as np
import tensorflow as tf

from gvtnets_tf import __version__
from gvtnets_tf.checks import check_choice, optional
from gvtnets_tf.files import check_free, staged
from gvtnets_tf.graphs import OUTPUTS, network, raw
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import load

METADATA = "metadata.json"
OPSET = 18  # of ONNX
RAW, NORMALIZED = "serving_default", "normalized"  # signatures of the SavedModel


def export(model, out, format="savedmodel", quantize=None, force=False):
    """Write a network in a format that other programs run.

    Args:
        model: zoo name, model folder or `Predictor`.
        out: folder to make. `"savedmodel"`: `1/`, the version folder that TensorFlow
            Serving looks for; `"litert"`: `model.tflite`; `"onnx"`: `model.onnx`; and
            `metadata.json` in each.
        format: `"savedmodel"`, `"litert"` (or `"tflite"`, its former name) or `"onnx"`.
            Batch and spatial sizes stay free in all of them.
        quantize: `None`, or `"float16"` for weights of half the size (`"litert"` only).
        force: bool. Whether an existing `out` is replaced.

    Returns:
        `Path` of the folder.

    Raises:
        FileExistsError: if `out` exists and `force` is `False`.
        ModuleNotFoundError: if `"onnx"` lacks its packages.
        ValueError: for a format or a quantisation that is not there, a network that
            cannot be written in it, or one whose card does not fit it.
    """
    format = _check_format(format, quantize)
    out = check_free(out, force)
    predictor = model if isinstance(model, Predictor) else load(model)
    _check_network(predictor, format)
    channels = _channels(predictor)
    with staged(out, force) as folder:
        folder.mkdir()
        WRITERS[format](folder, predictor, channels[0], quantize)
        about = _metadata(predictor, channels, format, quantize)
        (folder / METADATA).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return out


def _check_format(format, quantize):
    format = "litert" if format == "tflite" else format
    if format == "bioimageio":
        raise ValueError(
            "`format` cannot be 'bioimageio' yet: use 'onnx' or 'savedmodel', whose metadata.json "
            "tells axes and normalisation."
        )
    check_choice("format", format, WRITERS)
    if quantize == "int8":
        raise ValueError(
            "`quantize` cannot be 'int8': it saves nothing in 3-D, and is slower in 2-D. Use "
            "'float16' with format 'litert', which halves the file."
        )
    check_choice("quantize", quantize, (None, "float16"))
    if quantize and format != "litert":
        raise ValueError(
            f"`quantize` is of format 'litert': leave it out, or use that format. "
            f"Received: quantize={quantize!r}, format={format!r}."
        )
    return format


def _check_network(predictor, format):
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
    # Their converters fail on its loop, and tf2onnx then writes a file that nothing reads.
    chunks = {getattr(layer, "chunk", None) for layer in getattr(model, "operators", {}).values()}
    if format != "savedmodel" and chunks - {None}:
        raise ValueError(
            f"Attention in chunks cannot be written as {format!r}: use 'savedmodel', or take "
            f"`chunk` out of the network, which changes its memory and not its result. "
            f"Received: chunk={max(chunks - {None})}."
        )


def _channels(predictor):
    """Channels that go in and come out: what the predictor refuses is not exported."""
    names, built = predictor.card.input_channels, predictor.model.get_build_config()
    channels = len(names) or built["input_shape"][-1]
    grid = [2 * d for d in predictor.divisor]
    noise = np.random.default_rng(0).random((*grid, channels), np.float32)
    return channels, predictor(noise, predictor.card.axes + "C", whole=True).shape[-1]


def _write_saved_model(folder, predictor, channels, quantize):
    signatures = {
        RAW: raw(predictor, channels),
        NORMALIZED: network(predictor, channels),
    }
    _save(folder / "1", predictor.model, signatures)


def _save(path, model, signatures):
    # Only the variables: a Keras model would be saved with functions that need its classes.
    held = tf.Module()
    held.held = [variable.value for variable in model.variables]
    tf.saved_model.save(held, str(path), signatures=signatures)


def _write_litert(folder, predictor, channels, quantize):
    with tempfile.TemporaryDirectory() as scratch:
        # By way of a SavedModel, so that the file has a signature with names.
        _save(scratch, predictor.model, {RAW: network(predictor, channels)})
        converter = tf.lite.TFLiteConverter.from_saved_model(scratch)
        if quantize == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        (folder / "model.tflite").write_bytes(converter.convert())


def _write_onnx(folder, predictor, channels, quantize):
    optional("onnx", "onnx")
    convert = optional("tf2onnx", "onnx").convert
    graph = network(predictor, channels)
    convert.from_function(
        graph, graph.input_signature, opset=OPSET, output_path=str(folder / "model.onnx")
    )


WRITERS = {"savedmodel": _write_saved_model, "litert": _write_litert, "onnx": _write_onnx}


def _metadata(predictor, channels, format, quantize):
    card = predictor.card
    inside = format == "savedmodel"
    outputs = OUTPUTS[: 1 + card.probabilistic]
    return {
        "made_by": f"gvtnets_tf {__version__}",
        "network": type(predictor.model).__name__,
        "format": format,
        "quantize": quantize,
        "signatures": [RAW, NORMALIZED] if inside else [RAW] if format == "litert" else [],
        "input": {
            "name": "image",
            "dtype": "float32",
            "axes": f"N{card.axes}C",
            "channels": channels[0],
            "channel_names": list(card.input_channels),
            "voxel_size_um": dict(card.voxel_size),
            "divisor": dict(zip(card.axes, predictor.divisor)),
        },
        "outputs": {
            name: {"dtype": "float32", "axes": f"N{card.output_axes}C", "channels": channels[1]}
            for name in outputs
        },
        "output_channel_names": list(card.output_channels),
        "normalization_in_graph": inside,
        "normalize": {"input": card.input.to_dict(), "target": card.target.to_dict()},
        "undo": card.undo,
        "training": dict(card.training),
        "provenance": card.provenance,
        "licence": card.licence,
    }
