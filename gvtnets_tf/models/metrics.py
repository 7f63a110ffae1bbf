"""A score of whole data sets, kept batch by batch while a network is trained."""

import keras
from keras import ops

from gvtnets_tf.layers.base import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class PearsonR(keras.metrics.Metric):
    """Pearson correlation per channel over all voxels so far; the result is their mean.

    A label that is missing is left out (NaN, or a class of -1), and so is a channel without any
    label. A channel that is constant, in truth or prediction, counts as 0.

    Call arguments:
        y_true: float tensor `(batch, *grid, channels)`, or classes, -1 where a label is missing.
        y_pred: tensor of the shape of `y_true`; or `(batch, *grid, 2 * channels)`, locations
            before scales, of which the locations count; or logits `(batch, *grid, channels,
            classes)`, of which the mean of the distribution counts.

    Reference:
        Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance: how means and
        sums of squared deviations of two parts make those of the whole.

    Examples:
        >>> import numpy as np
        >>> r = PearsonR()
        >>> r.update_state(np.array([[1.0], [2.0]]), np.array([[1.0], [3.0]]))
        >>> r.update_state(np.array([[3.0], [4.0]]), np.array([[2.0], [4.0]]))
        >>> round(float(r.result()), 3)
        0.8
    """

    def __init__(self, name="r", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.moments = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError("A correlation takes no `sample_weight`: give it as a plain metric.")
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        mask = y_true >= 0 if len(y_pred.shape) > len(y_true.shape) else ~ops.isnan(y_true)
        y_true = ops.cast(y_true, self.dtype)
        y_pred = _locate(y_true, ops.cast(y_pred, self.dtype))
        if self.moments is None:
            shape = (6, y_true.shape[-1])
            self.moments = self.add_weight(shape=shape, initializer="zeros", name="moments")
        before = ops.convert_to_tensor(self.moments)
        self.moments.assign(_merge(before, _measure(y_true, y_pred, mask)))

    def result(self):
        if self.moments is None:
            return ops.zeros((), self.dtype)
        count, _, _, true, predicted, both = ops.unstack(ops.convert_to_tensor(self.moments))
        spread = ops.sqrt(true) * ops.sqrt(predicted)
        r = ops.clip(both / ops.where(spread > 0, spread, 1.0), -1.0, 1.0)
        return ops.sum(r) / ops.maximum(ops.sum(ops.cast(count > 0, r.dtype)), 1.0)


def _locate(y_true, y_pred):
    """Return the one number per label that a network predicts."""
    channels, extra = y_true.shape[-1], len(y_pred.shape) - len(y_true.shape)
    if extra == 1 and y_pred.shape[-2] == channels:
        classes = ops.arange(y_pred.shape[-1], dtype=y_pred.dtype)
        return ops.sum(ops.softmax(y_pred) * classes, axis=-1)
    if extra == 0 and y_pred.shape[-1] in (channels, 2 * channels):
        return y_pred[..., :channels]
    raise ValueError(
        f"A correlation needs one number per channel of the target, or locations and scales, or "
        f"logits. Received: shapes {tuple(y_pred.shape)} and {tuple(y_true.shape)}."
    )


def _measure(y_true, y_pred, mask):
    """Return count, two means and three sums of products of deviations, each per channel."""
    axes = tuple(range(len(y_true.shape) - 1))
    weight = ops.cast(mask, y_true.dtype)
    count = ops.sum(weight, axes)
    some = ops.maximum(count, 1.0)
    means, deviations = [], []
    for y in (y_true, y_pred):
        known = ops.where(mask, y, 0.0)
        means.append(ops.sum(known, axes) / some)
        deviations.append((known - means[-1]) * weight)
    true, predicted = deviations
    sums = [ops.sum(a * b, axes) for a, b in ((true, true), (predicted, predicted), deviations)]
    return ops.stack([count, *means, *sums])


def _merge(a, b):
    """Return the moments of two parts together; one without any label changes nothing."""
    count = a[0] + b[0]
    share = b[0] / ops.maximum(count, 1.0)
    true, predicted = b[1] - a[1], b[2] - a[2]
    between = ops.stack([true * true, predicted * predicted, true * predicted])
    means = a[1:3] + share * (b[1:3] - a[1:3])
    return ops.concatenate([count[None], means, a[3:] + b[3:] + a[0] * share * between])
