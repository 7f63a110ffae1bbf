"""LiteRT (TFLite) files: one network without its normalization, for phones and small machines."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from gvtnets_tf.checks import import_optional

INT8_DIFFERENCE = 0.05  # largest that is accepted, relative to the range of the answer


def convert(folder: str | Path, quantize: str | None = None) -> bytes:
    """Turn a SavedModel with one signature into a LiteRT file.

    Weights are stored as `quantize` says: as `"float16"`, and computed in float32; or as
    `"int8"`, one scale per channel, and activations are quantized as they come. (With
    activations quantized beforehand, by example images, networks were faster, and four to
    sixteen times as far from the answer.)
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder))
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def check_int8(
    quantized: bytes, whole: bytes, x: np.ndarray, expected: Mapping[str, np.ndarray]
) -> None:
    """Refuse an int8 file above half the size of the float32 file `whole`, or too inexact.

    `expected` are the results, by name, of the network in float32 for the normalized `x`.
    """
    if 2 * len(quantized) > len(whole):
        raise ValueError(
            f"`quantize='int8'` makes a file of {len(quantized)} bytes out of {len(whole)}, as "
            f"kernels of less than 1024 numbers are not quantized: use 'float16'."
        )
    litert = import_optional("ai_edge_litert.interpreter", "litert")
    interpreter = litert.Interpreter(model_content=quantized)
    results = interpreter.get_signature_runner()(image=x)
    # Not greater is not less: an answer that is NaN is refused as well.
    worst = max(np.abs(results[name] - y).max() / np.ptp(y) for name, y in expected.items())
    if not worst <= INT8_DIFFERENCE:
        raise ValueError(
            f"`quantize='int8'` changes the answer to a simulated image by up to {worst:.0%} of "
            f"its range: use 'float16'."
        )
