"""fnet: the U-Net of label-free prediction.

Ounkomol et al. (2017), Three dimensional cross-modal image inference: label-free methods
for subcellular structure prediction. https://doi.org/10.1101/216606
Later Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images
from transmitted-light microscopy, Nat. Methods 15, 917-920.
https://doi.org/10.1038/s41592-018-0111-2
"""

import keras
from keras import ops

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.layers.base import CONV, CONV_TRANSPOSE, PACKAGE, SavedLayer, check_rank
from gvtnets_tf.models.gvtnets import SMALLEST_SCALE
from gvtnets_tf.models.unet import UNet

SPREAD = 0.02  # of the initial kernels around 0, and of gamma around 1


@keras.saving.register_keras_serializable(package=PACKAGE)
class FNet(UNet):
    """U-Net of convolutions, batch normalisations and ReLU; a skip goes in front of what it joins.

    Per level two blocks down and two up; the grid changes by 2x2(x2) convolutions. Kernels
    start as N(0, 0.02), gamma as N(1, 0.02), as released; biases as 0. Moving statistics
    follow with momentum 0.9 (torch calls it 0.1). torch moves the variance by the unbiased
    estimate, Keras by the biased one: with few voxels per batch they drift apart a little.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Channels of the result.
        filters: int. Channels of the finest level; each level doubles them.
        depth: int. Number of levels, as in `GVTNet`; each spatial axis must be a multiple
            of `2 ** (depth - 1)`. pytorch_fnet counts down-samplings: its `depth=4` is 5 here.
        scale_head: bool. Whether a second convolution predicts a scale per voxel, for the
            losses that need one; the result is then `[location..., scale...]`. Not in the
            release.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalised.

    Returns:
        Float32 tensor `(batch, *grid, out_channels)`, twice as many with `scale_head`.

    Raises:
        ValueError: for another rank, or fewer than two levels.

    Reference:
        Ounkomol et al. (2017), Fig. 2. https://doi.org/10.1101/216606
    """

    def __init__(self, rank=3, out_channels=1, filters=32, depth=5, scale_head=False, **kwargs):
        check_rank(rank)
        check_at_least("depth", depth, 2)
        policy = {
            "dtype": keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        }
        widths = [filters * 2**level for level in range(depth)]

        def pairs(widths):
            return [[ConvBlock(rank, w, **policy) for _ in range(2)] for w in widths]

        super().__init__(
            rank=rank,
            stem=keras.layers.Identity(**policy),
            encoder=pairs(widths),
            downs=[ConvBlock(rank, w, "down", **policy) for w in widths[:-1]],
            bottoms=[],
            ups=[ConvBlock(rank, w, "up", **policy) for w in widths[:-1]],
            merges=[SkipFirst(**policy) for _ in widths[1:]],
            decoder=pairs(widths[:-1]),
            head=Output(rank, out_channels, scale_head, dtype="float32"),
            **kwargs,
        )
        self.out_channels, self.filters = out_channels, filters
        self.depth, self.scale_head = depth, scale_head


@keras.saving.register_keras_serializable(package=PACKAGE)
class ConvBlock(SavedLayer):
    """Convolution with bias, batch normalisation, ReLU.

    Args:
        rank: int. 2 for images, 3 for stacks.
        filters: int. Channels of the result.
        scale: `"same"` (kernel 3), `"down"` or `"up"` (kernel 2, stride 2).

    Call arguments:
        x: float tensor `(batch, *grid, channels)`; with `"down"` each axis is even.

    Returns:
        Float tensor `(batch, *grid kept, halved or doubled, filters)`.
    """

    def __init__(self, rank, filters, scale="same", **kwargs):
        super().__init__(**kwargs)
        self.rank, self.filters = check_rank(rank), filters
        self.scale = check_choice("scale", scale, ("same", "down", "up"))
        maker = CONV_TRANSPOSE if scale == "up" else CONV
        kernel = {"kernel_size": 3} if scale == "same" else {"kernel_size": 2, "strides": 2}
        self.conv = maker[rank](
            filters,
            **kernel,
            padding="same" if scale == "same" else "valid",
            kernel_initializer=_normal(0),
            dtype=self.dtype_policy,
        )
        self.normalize = keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, gamma_initializer=_normal(1), dtype=self.dtype_policy
        )

    def build(self, shape):
        self.conv.build(shape)
        self.normalize.build(self.compute_output_shape(shape))

    def compute_output_shape(self, shape):
        return self.conv.compute_output_shape(shape)

    def call(self, x, training=False):
        return ops.relu(self.normalize(self.conv(x), training=training))


@keras.saving.register_keras_serializable(package=PACKAGE)
class SkipFirst(keras.layers.Concatenate):
    """Concatenate `[features, skip]` as `[skip, features]`, the order of the release."""

    def call(self, inputs):
        return super().call(inputs[::-1])


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
            kernel_initializer=_normal(0),
            dtype=self.dtype_policy,
        )


def _normal(mean):
    """A fresh initialiser: one that is shared would give layers of one shape equal kernels."""
    return keras.initializers.RandomNormal(mean, SPREAD)
