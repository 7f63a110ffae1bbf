"""Losses for distributions, and for targets of which some labels are missing."""

import keras
from keras import ops

from gvtnets_tf.layers.base import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Laplace(keras.losses.Loss):
    """Negative log-likelihood of a Laplace distribution, `mean(|y - o| / s + ln s)`.

    Call arguments:
        y_true: float tensor `(batch, *grid, channels)`.
        y_pred: float tensor `(batch, *grid, 2 * channels)`: locations o, then scales s > 0.

    Reference:
        Wang, Xie & Ji (2021), Supplementary Note 1; Kendall & Gal (2017). ln 2 is left out,
        as in the released graph.

    Examples:
        >>> import numpy as np
        >>> truth, prediction = np.array([[5.0], [2.0]]), np.array([[3.0, 2.0], [2.0, 0.5]])
        >>> round(float(Laplace()(truth, prediction)), 3)
        0.5
    """

    def call(self, y_true, y_pred):
        location, scale = _split_scale(y_true, y_pred)
        return ops.mean(ops.abs(y_true - location) / scale + ops.log(scale), axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Gaussian(keras.losses.Loss):
    """Negative log-likelihood of a normal distribution, `mean((y - o)^2 / (2 s^2) + ln s)`.

    Its call arguments are those of `Laplace`.

    Examples:
        >>> import numpy as np
        >>> truth, prediction = np.array([[5.0], [2.0]]), np.array([[3.0, 2.0], [2.0, 0.5]])
        >>> round(float(Gaussian()(truth, prediction)), 3)
        0.25
    """

    def call(self, y_true, y_pred):
        location, scale = _split_scale(y_true, y_pred)
        return ops.mean(ops.square((y_true - location) / scale) / 2 + ops.log(scale), axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskedCrossentropy(keras.losses.Loss):
    """Cross-entropy of distributions over intensities, without the missing labels.

    The mean over all pixels of all labels that are not missing; a missing label
    contributes neither to the loss nor to any gradient. Without any label the loss is 0.

    Call arguments:
        y_true: int or float tensor `(batch, *grid, labels)`, classes; -1 where a label is missing.
        y_pred: float tensor of logits `(batch, *grid, labels, classes)`.

    Reference:
        Liu et al. (2020), Global pixel transformers, section IV-B.

    Examples:
        Two labels of one pixel over four intensities; the second label is missing.

        >>> import numpy as np
        >>> round(float(MaskedCrossentropy()(np.array([[2, -1]]), np.zeros((1, 2, 4)))), 4)
        1.3863
    """

    def call(self, y_true, y_pred):
        if len(y_pred.shape) != len(y_true.shape) + 1:
            raise ValueError(
                f"Cross-entropy needs logits with one axis more than the classes: use a network "
                f"with `classes`. Received: shapes {tuple(y_pred.shape)} and {tuple(y_true.shape)}."
            )
        mask = ops.cast(y_true >= 0, y_pred.dtype)
        # The class of a missing label is not used, but must be a class.
        classes = ops.cast(ops.maximum(y_true, 0), "int32")
        losses = ops.sparse_categorical_crossentropy(classes, y_pred, from_logits=True)
        return _masked_mean(losses, mask)


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaskedMSE(keras.losses.Loss):
    """Mean squared error without the missing labels, which are NaN in `y_true`.

    Call arguments:
        y_true, y_pred: float tensors `(batch, *grid, labels)`.

    Examples:
        >>> import numpy as np
        >>> float(MaskedMSE()(np.array([[1.0, np.nan]]), np.array([[3.0, 5.0]])))
        4.0
    """

    def call(self, y_true, y_pred):
        if len(y_pred.shape) != len(y_true.shape) or y_pred.shape[-1] != y_true.shape[-1]:
            raise ValueError(
                f"A squared error needs one number per label: use a network without `classes`, and "
                f"with as many channels as there are labels. Received: shapes "
                f"{tuple(y_pred.shape)} and {tuple(y_true.shape)}."
            )
        missing = ops.isnan(y_true)
        error = ops.square(ops.where(missing, y_pred, y_true) - y_pred)
        return _masked_mean(error, ops.cast(~missing, error.dtype))


def _masked_mean(values, mask):
    """Return the mean of the values where the mask is 1; 0 where it is 1 nowhere."""
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)


def _split_scale(y_true, y_pred):
    channels = y_true.shape[-1]
    if y_pred.shape[-1] != 2 * channels:
        raise ValueError(
            "A probabilistic loss needs one location and one scale per target channel: use a "
            f"model with `scale_head=True`. Received: {y_pred.shape[-1]} channels for a target "
            f"with {channels}."
        )
    return y_pred[..., :channels], y_pred[..., channels:]


LOSSES = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "laplace": Laplace,
    "gaussian": Gaussian,
    "masked_mse": MaskedMSE,
    "masked_crossentropy": MaskedCrossentropy,
}
PROBABILISTIC = ("laplace", "gaussian")
MASKED = ("masked_mse", "masked_crossentropy")  # for targets with missing labels
CLASSES = ("masked_crossentropy",)  # of distributions over intensities
