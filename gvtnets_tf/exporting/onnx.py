"""ONNX files: one network without its normalization."""

from pathlib import Path

from gvtnets_tf.checks import import_optional
from gvtnets_tf.exporting.tf_graph import build_network_graph
from gvtnets_tf.prediction.predictor import Predictor

OPSET = 18


def save(path: Path, predictor: Predictor, channels: int) -> None:
    """Write a network of so many input channels as ONNX, and check that onnxruntime reads it."""
    import_optional("onnx", "onnx")
    convert = import_optional("tf2onnx", "onnx").convert
    graph = build_network_graph(predictor, channels)
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
