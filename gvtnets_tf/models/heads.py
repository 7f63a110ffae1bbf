"""Heads: the last layers of a network, from features to output channels."""

import keras
from keras import ops

from gvtnets_tf.layers.base import (
    CONV,
    PACKAGE,
    SavedLayer,
    check_rank,
    normal_initializer,
    normalization,
)

SMALLEST_SCALE = 1e-3  # of the Laplace head, as released


@keras.saving.register_keras_serializable(package=PACKAGE)
class Head(SavedLayer):
    """Pre-activation and output convolution; optionally a scale, and the input added.

    Args:
        rank, out_channels, kernel, bias, batch_norm, input_residual, scale: as in `GVTNet`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`: the last features.
        images: float tensor `(batch, *grid, image channels)`: the input.

    Returns:
        Float tensor `(batch, *grid, out_channels)`, with `scale` twice as many.
    """

    def __init__(
        self, rank, out_channels, kernel, bias, batch_norm, input_residual, scale, **kwargs
    ):
        super().__init__(**kwargs)
        self.rank, self.out_channels, self.kernel, self.bias = rank, out_channels, kernel, bias
        self.batch_norm, self.input_residual, self.scale = batch_norm, input_residual, scale
        policy = {"dtype": self.dtype_policy}
        self.normalize = normalization(**policy) if batch_norm else None
        self.location_conv = CONV[rank](
            out_channels, kernel, padding="same", use_bias=bias, **policy
        )
        self.scale_conv = CONV[rank](out_channels, 1, use_bias=False, **policy) if scale else None

    def build(self, x_shape, images_shape):
        if self.input_residual and images_shape[-1] not in (1, self.out_channels):
            raise ValueError(
                f"With `input_residual` the input is added to the result, so it needs 1 or "
                f"{self.out_channels} channels. Received: {images_shape[-1]}."
            )
        for layer in filter(None, (self.normalize, self.location_conv, self.scale_conv)):
            layer.build(x_shape)

    def compute_output_shape(self, x_shape, images_shape):
        return (*x_shape[:-1], self.out_channels * (2 if self.scale else 1))

    def call(self, x, images, training=False):
        x = ops.relu6(self.normalize(x, training=training) if self.normalize else x)
        location = self.location_conv(x)
        if self.input_residual:
            location = location + images
        if not self.scale:
            return location
        scale = ops.softplus(self.scale_conv(x)) + SMALLEST_SCALE
        return ops.concatenate([location, scale], axis=-1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Output(SavedLayer):
    """Convolution without activation; optionally a second one for a scale, softplus + 1e-3.

    Args:
        rank, out_channels: as in `FNet`.
        scale: bool.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`: the last features.
        images: the input, which is not looked at.

    Returns:
        Float tensor `(batch, *grid, out_channels)`, with `scale` twice as many.
    """

    def __init__(self, rank, out_channels, scale=False, **kwargs):
        super().__init__(**kwargs)
        self.rank, self.out_channels, self.scale = check_rank(rank), out_channels, scale
        self.location_conv = self._conv(3)
        self.scale_conv = self._conv(1) if scale else None

    def build(self, x_shape, images_shape):
        for layer in filter(None, (self.location_conv, self.scale_conv)):
            layer.build(x_shape)

    def compute_output_shape(self, x_shape, images_shape):
        return (*x_shape[:-1], self.out_channels * (2 if self.scale else 1))

    def call(self, x, images):
        location = self.location_conv(x)
        if not self.scale:
            return location
        scale = ops.softplus(self.scale_conv(x)) + SMALLEST_SCALE
        return ops.concatenate([location, scale], axis=-1)

    def _conv(self, kernel):
        return CONV[self.rank](
            self.out_channels,
            kernel,
            padding="same",
            kernel_initializer=normal_initializer(0),
            dtype=self.dtype_policy,
        )


@keras.saving.register_keras_serializable(package=PACKAGE)
class LabelHead(SavedLayer):
    """1x1 convolution to a distribution, or a number, per label.

    Args:
        out_channels, classes: as in `GlobalPixelTransformerNet`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`: the last features.
        images: the input, which is not looked at.

    Returns:
        Float tensor `(batch, *grid, out_channels, classes)`, or without the last axis.
    """

    def __init__(self, out_channels, classes=None, **kwargs):
        super().__init__(**kwargs)
        self.out_channels, self.classes = out_channels, classes
        self.conv = keras.layers.Dense(out_channels * (classes or 1), dtype=self.dtype_policy)

    def build(self, x_shape, images_shape):
        self.conv.build(x_shape)

    def compute_output_shape(self, x_shape, images_shape):
        return (*x_shape[:-1], self.out_channels, *([self.classes] if self.classes else []))

    def call(self, x, images):
        y = self.conv(x)
        if not self.classes:
            return y
        return ops.reshape(y, (*ops.shape(y)[:-1], self.out_channels, self.classes))

    def part(self, weight, labels):
        """Of a kernel or a bias, what some labels need."""
        shape = (*weight.shape[:-1], self.out_channels, self.classes or 1)
        return weight.reshape(shape)[..., list(labels), :].reshape(*weight.shape[:-1], -1)
