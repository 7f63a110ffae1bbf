"""Losses. None has weights of its own."""

import keras
from keras import ops

from gvtnets_tf.layers.base import PACKAGE

MSE, MAE = keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError


@keras.saving.register_keras_serializable(package=PACKAGE)
class Laplace(keras.losses.Loss):
    """Negative log-likelihood of a Laplace distribution, `mean(|y - o| / s + ln s)`.

    Call arguments:
        y_true: float tensor `(batch, *grid, channels)`.
        y_pred: float tensor `(batch, *grid, 2 * channels)`: locations o, then scales s > 0.

    Reference:
        Wang, Xie & Ji (2021), Supplementary Note 1; Kendall & Gal (2017). ln 2 is left out,
        as in the released graph.
    """

    def call(self, y_true, y_pred):
        location, scale = _split(y_true, y_pred)
        return ops.mean(ops.abs(y_true - location) / scale + ops.log(scale), axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Gaussian(keras.losses.Loss):
    """Negative log-likelihood of a normal distribution, `mean((y - o)^2 / (2 s^2) + ln s)`.

    Call arguments: see `Laplace`.
    """

    def call(self, y_true, y_pred):
        location, scale = _split(y_true, y_pred)
        return ops.mean(ops.square((y_true - location) / scale) / 2 + ops.log(scale), axis=-1)


def _split(y_true, y_pred):
    channels = y_true.shape[-1]
    if y_pred.shape[-1] != 2 * channels:
        raise ValueError(
            "A probabilistic loss needs one location and one scale per target channel: use a "
            f"model with `scale_head=True`. Received: {y_pred.shape[-1]} channels for a target "
            f"with {channels}."
        )
    return y_pred[..., :channels], y_pred[..., channels:]


LOSSES = {"mse": MSE, "mae": MAE, "laplace": Laplace, "gaussian": Gaussian}
PROBABILISTIC = ("laplace", "gaussian")
