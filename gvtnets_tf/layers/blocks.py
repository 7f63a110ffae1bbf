"""Blocks of convolutions, batch normalizations and activations."""

import keras
from keras import ops

from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.base import (
    CONV,
    CONV_TRANSPOSE,
    PACKAGE,
    SavedLayer,
    check_rank,
    make_norm,
    normal_initializer,
    rescale,
)


@keras.saving.register_keras_serializable(package=PACKAGE)
class ResidualBlock(SavedLayer):
    """Twice [normalization, ReLU6, 3x3(x3) convolution], plus a shortcut.

    The shortcut is the input itself; where the channels or the grid change, a 1x1(x1)
    convolution of the pre-activated input. No convolution has a bias.

    Args:
        rank: int. 2 for images, 3 for stacks.
        filters: int. Channels of the result.
        scale: `"same"`, or `"down"`, which halves the grid.
        norm: `"batch"` as published, `"group"`, `"layer"`, or `None` for no normalization.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid or half of it, filters)`.

    Reference:
        Wang, Xie & Ji (2021), Supplementary Figs. 2 and 4; pre-activation after He et
        al. (2016), Identity mappings in deep residual networks.

    Examples:
        >>> block = ResidualBlock(rank=3, filters=8, scale="down")
        >>> tuple(block(keras.ops.ones((1, 2, 4, 6, 1))).shape)
        (1, 1, 2, 3, 8)
    """

    def __init__(
        self, rank: int, filters: int, scale: str = "same", norm: str | None = "batch", **kwargs
    ):
        super().__init__(**kwargs)
        self.rank, self.filters = check_rank(rank), filters
        self.scale = check_choice("scale", scale, ("same", "down"))
        self.norm, self.strides, self.shortcut = norm, 2 if scale == "down" else 1, None
        self.normalize_1 = make_norm(norm, dtype=self.dtype_policy)
        self.conv_1 = self._conv(self.strides)
        self.normalize_2 = make_norm(norm, dtype=self.dtype_policy)
        self.conv_2 = self._conv(1)

    def build(self, shape):
        inner = self.compute_output_shape(shape)
        if self.strides > 1 or shape[-1] != self.filters:
            # A strided 1x1 convolution reads every other voxel. TensorFlow 2.21's own
            # corrupts the heap in its gradient (2-D, on the CPU with oneDNN).
            self.shortcut = rescale(
                self.rank, self.filters, "same", use_bias=False, dtype=self.dtype_policy
            )
            self.shortcut.build(shape)
        self.conv_1.build(shape)
        self.conv_2.build(inner)
        if self.norm:
            self.normalize_1.build(shape)
            self.normalize_2.build(inner)

    def compute_output_shape(self, shape):
        return self.conv_1.compute_output_shape(shape)

    def call(self, x, training=False):
        active = self._activate(self.normalize_1, x, training)
        y = self.conv_1(active)
        y = self.conv_2(self._activate(self.normalize_2, y, training))
        if not self.shortcut:
            return y + x
        if self.strides > 1:
            active = active[(slice(None), *(slice(None, None, self.strides),) * self.rank)]
        return y + self.shortcut(active)

    def _activate(self, normalize, x, training):
        return ops.relu6(normalize(x, training=training) if normalize else x)

    def _conv(self, strides):
        options = {"padding": "same", "use_bias": False, "dtype": self.dtype_policy}
        return CONV[self.rank](self.filters, 3, strides=strides, **options)


@keras.saving.register_keras_serializable(package=PACKAGE)
class DenseBlock(SavedLayer):
    """Layers of [3x3(x3) convolution, normalization, ReLU, dropout], each fed with all before.

    Args:
        rank: int. 2 for images, 3 for stacks.
        depth: int. Number of layers.
        growth: int. Channels that each layer adds.
        dropout: float. Rate while training.
        norm: `"batch"` as in the paper, `"group"`, `"layer"`, or `None` as in the release.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid, channels + depth * growth)`.

    Reference:
        Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of
        microscopy images; Huang et al. (2017), Densely connected convolutional networks.

    Examples:
        >>> block = DenseBlock(rank=2, depth=2, growth=4)
        >>> tuple(block(keras.ops.ones((1, 6, 6, 3))).shape)
        (1, 6, 6, 11)
    """

    def __init__(
        self, rank: int, depth: int, growth: int = 16, dropout: float = 0.5,
        norm: str | None = "batch", **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.rank, self.depth, self.growth = check_rank(rank), depth, growth
        self.dropout, self.norm = dropout, norm
        policy = {"dtype": self.dtype_policy}
        self.convs = [CONV[rank](growth, 3, padding="same", **policy) for _ in range(depth)]
        # The paper does not print a momentum: this is the default of Keras.
        self.normalizes = [make_norm(norm, 0.99, **policy) for _ in range(depth * bool(norm))]
        self.drop = keras.layers.Dropout(dropout, **policy)

    def build(self, shape):
        for i, conv in enumerate(self.convs):
            conv.build((*shape[:-1], shape[-1] + i * self.growth))
        for normalize in self.normalizes:
            normalize.build((*shape[:-1], self.growth))

    def compute_output_shape(self, shape):
        return (*shape[:-1], shape[-1] + self.depth * self.growth)

    def call(self, x, training=False):
        for i, conv in enumerate(self.convs):
            y = conv(x)
            if self.norm:
                y = self.normalizes[i](y, training=training)
            y = self.drop(ops.relu(y), training=training)
            x = ops.concatenate([x, y], axis=-1)
        return x


@keras.saving.register_keras_serializable(package=PACKAGE)
class PlanePooling(SavedLayer):
    """Max-pool every z plane by itself.

    A 3-D pool of size `(1, n, n)` is the same operation, but the gradient of TensorFlow's
    3-D pool on the CPU is off by some 1e-3: with it the published gradients are met to
    4e-3, with 2-D pools to 1e-6. Size and stride are `size` voxels along y and x.
    """

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def compute_output_shape(self, shape):
        y, x = (None if n is None else n // self.size for n in shape[2:4])
        return (*shape[:2], y, x, shape[4])

    def call(self, x):
        planes = ops.reshape(x, (-1, *ops.shape(x)[2:]))
        planes = ops.max_pool(planes, self.size, self.size, data_format="channels_last")
        return ops.reshape(planes, (*ops.shape(x)[:2], *ops.shape(planes)[1:]))


@keras.saving.register_keras_serializable(package=PACKAGE)
class ConvBlock(SavedLayer):
    """Convolution with bias, batch normalization, ReLU.

    The `scale` is `"same"` (kernel 3), or `"down"` or `"up"` (kernel 2, stride 2); with
    `"down"` each axis of the grid is even.
    """

    def __init__(self, rank: int, filters: int, scale: str = "same", **kwargs):
        super().__init__(**kwargs)
        self.rank, self.filters = check_rank(rank), filters
        self.scale = check_choice("scale", scale, ("same", "down", "up"))
        layers = CONV_TRANSPOSE if scale == "up" else CONV
        kernel, strides, padding = (3, 1, "same") if scale == "same" else (2, 2, "valid")
        policy = {"dtype": self.dtype_policy}
        self.conv = layers[rank](
            filters, kernel, strides, padding, kernel_initializer=normal_initializer(0), **policy
        )
        self.normalize = make_norm("batch", 0.9, gamma_initializer=normal_initializer(1), **policy)

    def build(self, shape):
        self.conv.build(shape)
        self.normalize.build(self.compute_output_shape(shape))

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def call(self, x, training=False):
        return ops.relu(self.normalize(self.conv(x), training=training))
