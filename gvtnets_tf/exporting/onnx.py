"""ONNX files: one network without its normalization."""

from pathlib import Path

import numpy as np

from gvtnets_tf.checks import import_optional
from gvtnets_tf.exporting.tf_graph import build_network_graph
from gvtnets_tf.prediction.predictor import Predictor

OPSET = 18
TRIES = 8


def save(path: Path, predictor: Predictor, channels: int) -> None:
    """Write a network of so many input channels as ONNX that answers as the network.

    The optimizer of tf2onnx 1.17 walks through sets of names: of the same network, about one file
    in five has an axis too many. So a file is run, and converted again where it differs.
    """
    import_optional("onnx", "onnx")
    convert = import_optional("tf2onnx", "onnx").convert
    graph = build_network_graph(predictor, channels)
    image = _make_image(predictor, channels)
    expected = {name: np.asarray(y) for name, y in graph(image).items()}
    for _ in range(TRIES):
        convert.from_function(graph, graph.input_signature, opset=OPSET, output_path=str(path))
        found = _run(path, image, list(expected))
        if all(map(_are_equal, found, expected.values())):
            return
    raise ValueError(
        f"The network cannot be written as ONNX: none of {TRIES} files answers as it does. "
        f"Use another format. Received: the last file answers with shape {found[0].shape}, the "
        f"network with {expected['prediction'].shape}; where shapes are equal, values differ."
    )


def _make_image(predictor, channels):
    """Make two images: of the tile of the network, else with axes of different lengths."""
    grid = predictor.card.tile or [d * (i + 1) for i, d in enumerate(predictor.divisor)]
    return np.random.default_rng(0).normal(size=(2, *grid, channels)).astype(np.float32)


def _run(path, image, names):
    runtime = import_optional("onnxruntime", "onnx")
    try:
        return runtime.InferenceSession(str(path)).run(names, {"image": image})
    except Exception as error:  # its errors have no other class in common
        # The converter only prints what it cannot convert, such as loops.
        raise ValueError(
            f"The network cannot be written as ONNX, as onnxruntime does not read what the "
            f"converter makes of it: use another format. Received: {error}"
        ) from error


def _are_equal(found, expected):
    """Tell whether shapes are equal, and values differ by at most 1e-3 of their range."""
    if found.shape != expected.shape:
        return False
    return np.abs(found - expected).max() <= 1e-3 * max(np.ptp(expected), 1e-6)
