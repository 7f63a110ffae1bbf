"""Call a Keras model, or any other callable, on arrays."""

import functools
import sys
from collections.abc import Callable

import numpy as np
import scipy.special


def compile_model(model: Callable, softmax: bool = False) -> Callable:
    """Return a Keras model, or any callable, as a function of float32 arrays, compiled if it pays.

    With `softmax`, the last axis of the result becomes a distribution.
    """
    finish = functools.partial(scipy.special.softmax, axis=-1) if softmax else np.asarray
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        return lambda x: finish(np.asarray(model(x), np.float32))
    if keras.backend.backend() != "tensorflow":
        return lambda x: finish(np.asarray(model.predict_on_batch(x), np.float32))
    import tensorflow as tf

    # Not `model.predict`: there Keras may choose XLA, whose 3-D convolutions are slow on CPUs.
    @tf.function(reduce_retracing=True)
    def graph(x):
        y = model(x, training=False)
        return tf.nn.softmax(y) if softmax else y

    def run(x):
        try:
            return np.asarray(graph(tf.convert_to_tensor(x)), np.float32)
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(
                f"a call of the network on {x.shape} needs more memory than there is: predict in "
                f"smaller tiles with --tile (`tile`), or fewer at a time (`batch_size`)."
            ) from error

    return run
