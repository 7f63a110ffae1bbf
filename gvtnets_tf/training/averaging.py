"""The network as it is evaluated and saved: averaged weights, measured statistics."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
from keras import ops


class Evaluated(keras.callbacks.Callback):
    """Put a network into the state that is evaluated and saved, until `go_on`.

    From the start of a validation on, or the end of an epoch without one, the weights are the
    moving average that the optimizer keeps, if it keeps one, and then the statistics of batch
    normalization are measured again, if there are `batches`. Training goes on from the state that
    it left, also that of dropout, so that neither of both changes it.

    Args:
        batches: function from an epoch (from 0) to the inputs to measure on, or `None`.
    """

    def __init__(self, batches: Callable[[int], Iterable[np.ndarray]] | None = None):
        super().__init__()
        self.batches, self.kept, self.epoch, self.measure = batches, [], 0, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_test_begin(self, logs=None):
        if self.kept:
            return
        model = self.model
        passing = {id(v) for v in model.metrics_variables}
        trained = [v for v in model.variables if id(v) not in passing]
        self.kept = [(variable, _copy(variable)) for variable in trained]
        for variable, average in find_averages(model):
            variable.assign(_copy(average))
        if self.batches:
            self.measure = self.measure or Measured(model)
            self.measure.update(self.batches(self.epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.on_test_begin()

    def go_on(self, epoch=None, logs=None):
        """Put back what is trained."""
        for variable, value in self.kept:
            variable.assign(value)
        self.kept = []


def find_averages(model: keras.Model) -> list[tuple]:
    """List each trained variable with its moving average; empty where the optimizer keeps none."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # of float16
    averages = getattr(optimizer, "_model_variables_moving_average", [])
    return list(zip(model.trainable_variables, averages))


def find_batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """List all layers of batch normalization of a network."""
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


class Measured(keras.Model):
    """A network called as in training, with the statistics of its batch normalizations.

    Over the moving average of a layer, one call writes m * 0 + (1 - m) * (that of the batch).

    Reference:
        Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """

    def __init__(self, model):
        super().__init__(autocast=False)
        self.trained, self.layers_to_measure = model, find_batch_norms(model)
        self.compile(run_eagerly=model.run_eagerly)

    def call(self, images, training=False):
        y = self.trained(images, training=True)
        return ops.mean(y, axis=tuple(range(1, len(y.shape))))  # else all of it is fetched

    def update(self, batches):
        """Set the statistics to those over all batches, each of which counts the same."""
        found = []
        for images in batches:
            for variable in self._statistics():
                variable.assign(np.zeros(variable.shape))
            self.predict_on_batch(images)
            found.append([_copy(v).astype(float) for v in self._statistics()])
        for i, layer in enumerate(self.layers_to_measure):
            rest = np.float32(1 - layer.momentum)
            mean, variance = (np.stack([one[2 * i + k] for one in found]) / rest for k in (0, 1))
            layer.moving_mean.assign(mean.mean(0))
            layer.moving_variance.assign(variance.mean(0) + mean.var(0))

    def _statistics(self):
        pairs = ((layer.moving_mean, layer.moving_variance) for layer in self.layers_to_measure)
        return [variable for pair in pairs for variable in pair]


def _copy(variable):
    # Two variables must not share memory: JAX and torch write into that of the first.
    return np.array(ops.convert_to_numpy(variable))
