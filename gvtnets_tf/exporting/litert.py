"""LiteRT (TFLite) files: one network without its normalization, for phones and small machines."""

import numpy as np
import tensorflow as tf

from gvtnets_tf.checks import import_optional

INT8_DIFFERENCE = 0.05  # largest that is accepted, relative to the range of the answer


def convert(saved, quantize=None):
    """Turn a SavedModel with one signature into a LiteRT file.

    Args:
        saved: folder of the SavedModel.
        quantize: `None`; `"float16"`: weights are stored so, and computed in float32; or
            `"int8"`: weights are stored so, one scale per channel, and activations are
            quantized as they come. (With activations quantized beforehand, by example images,
            networks were faster, and four to sixteen times as far from the answer.)

    Returns:
        bytes.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def check_int8(made, whole, x, expected):
    """Refuse a quantization that does not shrink the file, or changes the answer too much.

    Args:
        made: bytes of the int8 file.
        whole: bytes of the float32 file.
        x: what goes into the network.
        expected: mapping from name to what the network answers.

    Raises:
        ModuleNotFoundError: if the interpreter is not installed.
        ValueError: with the two sizes, or the difference.
    """
    if 2 * len(made) > len(whole):
        raise ValueError(
            f"`quantize='int8'` makes a file of {len(made)} bytes out of {len(whole)}, as kernels "
            f"of less than 1024 numbers are not quantized: use 'float16'."
        )
    interpreter = import_optional("ai_edge_litert.interpreter", "litert").Interpreter(
        model_content=made
    )
    found = interpreter.get_signature_runner()(image=x)
    # Not greater is not less: an answer that is NaN is refused as well.
    worst = max(np.abs(found[name] - y).max() / np.ptp(y) for name, y in expected.items())
    if not worst <= INT8_DIFFERENCE:
        raise ValueError(
            f"`quantize='int8'` changes the answer to a simulated image by up to {worst:.0%} of "
            f"its range: use 'float16'."
        )
