"""fnet: the U-Net of label-free prediction.

Ounkomol et al. (2017), Three dimensional cross-modal image inference: label-free methods
for subcellular structure prediction. https://doi.org/10.1101/216606
Later Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images
from transmitted-light microscopy, Nat. Methods 15, 917-920.
https://doi.org/10.1038/s41592-018-0111-2
"""

import keras

from gvtnets_tf.checks import check_at_least
from gvtnets_tf.layers.base import INITIAL_STDDEV, PACKAGE, check_rank
from gvtnets_tf.layers.blocks import ConvBlock
from gvtnets_tf.models.base import layer_dtype
from gvtnets_tf.models.heads import Head
from gvtnets_tf.models.unet import UNet


@keras.saving.register_keras_serializable(package=PACKAGE)
class FNet(UNet):
    """U-Net of convolutions, batch normalizations and ReLU.

    Each level has two blocks in the encoder and two in the decoder; 2x2(x2) convolutions
    change the grid, and a skip is concatenated in front of the features. Kernels start as
    N(0, 0.02), gamma as N(1, 0.02), as released; biases as 0. Moving statistics have
    momentum 0.9 (torch calls it 0.1). torch updates the moving variance with the unbiased
    estimate, Keras with the biased one: with few voxels per batch they differ a little.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Channels of the result.
        filters: int. Channels of the finest level; each level doubles them.
        depth: int. Number of levels, as in `GVTNet`; each spatial axis must be a multiple
            of `2 ** (depth - 1)`. pytorch_fnet counts down-samplings: its `depth=4` is 5 here.
        scale_head: bool. If `True`, a second convolution predicts a scale per voxel, for the
            probabilistic losses; the result is then `[location..., scale...]`. Not in the
            release.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized.

    Returns:
        Float32 tensor `(batch, *grid, out_channels)`, twice as many with `scale_head`.

    Raises:
        ValueError: for another rank, or fewer than two levels.

    Reference:
        Ounkomol et al. (2017), Fig. 2. https://doi.org/10.1101/216606

    Examples:
        >>> model = FNet(rank=2, filters=2, depth=2)
        >>> tuple(model(keras.ops.ones((1, 4, 6, 1))).shape)
        (1, 4, 6, 1)
    """

    def __init__(
        self, rank: int = 3, out_channels: int = 1, filters: int = 32, depth: int = 5,
        scale_head: bool = False, **kwargs,
    ):  # fmt: skip
        check_rank(rank)
        check_at_least("depth", depth, 2)
        policy = layer_dtype(kwargs)
        widths = [filters * 2**level for level in range(depth)]

        def make_blocks(widths):
            return [[ConvBlock(rank, w, **policy) for _ in range(2)] for w in widths]

        super().__init__(
            rank=rank,
            stem=keras.layers.Identity(**policy),
            encoder=make_blocks(widths),
            downs=[ConvBlock(rank, w, "down", **policy) for w in widths[:-1]],
            bottoms=[],
            ups=[ConvBlock(rank, w, "up", **policy) for w in widths[:-1]],
            merges=[SkipFirst(**policy) for _ in widths[1:]],
            decoder=make_blocks(widths[:-1]),
            head=Head(
                rank, out_channels, preactivation=False, scale=scale_head, scale_bias=True,
                initial_stddev=INITIAL_STDDEV, dtype="float32",
            ),
            **kwargs,
        )  # fmt: skip
        self.out_channels, self.filters = out_channels, filters
        self.depth, self.scale_head = depth, scale_head


@keras.saving.register_keras_serializable(package=PACKAGE)
class SkipFirst(keras.layers.Concatenate):
    """Concatenate `[features, skip]` as `[skip, features]`, the order of the release."""

    def call(self, inputs):
        return super().call(inputs[::-1])
