"""What a network is shown by `fit`, on any backend."""

import keras
import numpy as np


def watch_fit(dataset, epochs, shape=None, validation=None):
    """Fit a network to a data set; return the inputs of its steps. With a `shape` it is built."""
    seen = []

    class Watch(keras.layers.Layer):
        def call(self, x, training=False):
            if training:
                seen.append(np.array(keras.ops.convert_to_numpy(x)))
            return x

    model = keras.Sequential([Watch(), keras.layers.Conv2D(1, 1)])
    if shape:
        model.build(shape)
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(dataset, epochs=epochs, validation_data=validation, shuffle=False, verbose=0)
    return seen
