"""Call a Keras model, or any other callable, on arrays."""

import functools
import re
import sys
from collections.abc import Callable

import numpy as np
import scipy.special

# What TensorFlow, JAX and torch (on a GPU, and on the CPU) call it in the name of an error, or
# in its text; TensorFlow alone has a class that says so in any case.
OUT_OF_MEMORY = re.compile(
    "ResourceExhaustedError|RESOURCE_EXHAUSTED|OutOfMemoryError|"
    "DefaultCPUAllocator: (can't allocate|not enough) memory"
)


def compile_model(model: Callable, softmax: bool = False) -> Callable:
    """Return a Keras model, or any callable, as a function of float32 arrays, compiled if it pays.

    With `softmax`, the last axis of the result becomes a distribution.
    """
    finish = functools.partial(scipy.special.softmax, axis=-1) if softmax else np.asarray
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(model, keras.Model):
        return lambda x: finish(np.asarray(model(x), np.float32))
    if keras.backend.backend() == "tensorflow":
        call, finish = _compile_tensorflow(model, softmax), np.asarray
    else:
        call = model.predict_on_batch

    def run(x):
        try:
            return finish(np.asarray(call(x), np.float32))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryError(
                f"a call of the network on {x.shape} needs more memory than there is: predict in "
                f"smaller tiles with --tile (`tile`), or fewer at a time (`batch_size`)."
            ) from error

    return run


def _compile_tensorflow(model, softmax):
    import tensorflow as tf

    # Not `model.predict`: there Keras may choose XLA, whose 3-D convolutions are slow on CPUs.
    @tf.function(reduce_retracing=True)
    def graph(x):
        y = model(x, training=False)
        return tf.nn.softmax(y) if softmax else y

    return lambda x: graph(tf.convert_to_tensor(x))


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of a library of networks says that the memory does not suffice."""
    return bool(OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))
