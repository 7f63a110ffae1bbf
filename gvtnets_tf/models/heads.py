"""Heads: the last layers of a network, from features to output channels."""

import keras
from keras import ops

from gvtnets_tf.checks import check_at_least
from gvtnets_tf.layers.base import CONV, PACKAGE, SavedLayer, check_rank, make_norm

SMALLEST_SCALE = 1e-3  # of the scale head, as released


@keras.saving.register_keras_serializable(package=PACKAGE)
class Head(SavedLayer):
    """Output convolution; optionally ReLU6 before it, a scale, and the input added.

    With `norm` the pre-activation starts with a normalization, see `ResidualBlock`. With `scale`
    a 1x1 convolution of the same features predicts a scale, softplus + 1e-3, and the result is
    `[location..., scale...]`. Initial kernels are Glorot uniform, or N(0, `initial_stddev`).
    """

    def __init__(
        self, rank: int, out_channels: int, kernel: int = 3, bias: bool = True,
        preactivation: bool = True, norm: str | None = None, input_residual: bool = False,
        scale: bool = False, scale_bias: bool = False, initial_stddev: float | None = None,
        **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.rank, self.out_channels, self.kernel = check_rank(rank), out_channels, kernel
        self.bias, self.preactivation, self.norm = bias, preactivation, norm
        self.input_residual, self.scale, self.scale_bias = input_residual, scale, scale_bias
        self.initial_stddev = initial_stddev
        self.normalize = make_norm(norm, dtype=self.dtype_policy)
        self.location_conv = self._make_conv(kernel, bias)
        self.scale_conv = self._make_conv(1, scale_bias) if scale else None

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
        x = self.normalize(x, training=training) if self.normalize else x
        x = ops.relu6(x) if self.preactivation else x
        location = self.location_conv(x)
        if self.input_residual:
            location = location + images
        if not self.scale:
            return location
        scale = ops.softplus(self.scale_conv(x)) + SMALLEST_SCALE
        return ops.concatenate([location, scale], axis=-1)

    def _make_conv(self, kernel, bias):
        stddev = self.initial_stddev
        initializer = keras.initializers.RandomNormal(0, stddev) if stddev else "glorot_uniform"
        return CONV[self.rank](
            self.out_channels, kernel, padding="same", use_bias=bias,
            kernel_initializer=initializer, dtype=self.dtype_policy,
        )  # fmt: skip


@keras.saving.register_keras_serializable(package=PACKAGE)
class LabelHead(SavedLayer):
    """1x1 convolution to a distribution over `classes`, or a number, per label.

    The result is `(batch, *grid, out_channels, classes)`, or has no last axis without `classes`.
    """

    def __init__(self, out_channels: int, classes: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.out_channels = check_at_least("out_channels", out_channels, 1)
        self.classes = None if classes is None else check_at_least("classes", classes, 2)
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

    def select_labels(self, weight, labels):
        """Return the part of a kernel or bias `(..., out_channels * classes)` of some labels."""
        shape = (*weight.shape[:-1], self.out_channels, self.classes or 1)
        return weight.reshape(shape)[..., list(labels), :].reshape(*weight.shape[:-1], -1)
