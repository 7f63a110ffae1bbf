"""Global pixel transformers: virtual staining of several labels at once.

Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of microscopy
images, IEEE Trans. Med. Imaging 39(6), 2256-2266. https://doi.org/10.1109/TMI.2020.2968504
"""

import keras
from keras import ops

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.layers.base import PACKAGE, arguments, check_rank
from gvtnets_tf.layers.blocks import ConvBlock, DenseBlock
from gvtnets_tf.layers.transformers import (
    GlobalDownTransformer,
    GlobalSameTransformer,
    GlobalUpTransformer,
)
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.heads import LabelHead
from gvtnets_tf.models.unet import UNet

BLOCKS, RESAMPLERS = ("dense", "convolution"), ("transformer", "convolution")


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalPixelTransformerNet(UNet):
    """U-Net of dense blocks and global pixel transformers, a distribution per label and pixel.

    It reads what `data.multiscale` makes of a window: the window itself and what lies
    around and inside it, at one size, as channels.

    Widths follow Table II. A dense block adds `growth` channels per layer. In the encoder a
    1x1 convolution that keeps their number follows, then the down transformer keeps it too;
    the up transformer halves it; what it is joined with is halved by a 1x1 convolution, and
    a dense block is the end of a level. The paper prints 165 in the second row of the decoder;
    its own rule gives 168, and only that leads to the 90 of the third row.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Number of labels.
        classes: int or `None`. Intensities that a distribution is over; `None` is a
            plain regression, one number per label.
        filters: int. Channels after the first 1x1 convolution.
        growth: int. Channels that each layer of a dense block adds.
        encoder_depths: sequence of int. Layers of the dense block per level, finest first.
        bottom_depth: int. Layers of the dense block at the coarsest level.
        decoder_depths: sequence of int. As `encoder_depths`, finest first.
        block: `"dense"`, or `"convolution"` for two layers of [3x3 convolution, batch norm,
            ReLU] of the same width, with dropout: a step of the ablation.
        resample: `"transformer"`, or `"convolution"` for 2x2 convolutions of stride 2 and no
            operator at the coarsest level: a step of the ablation.
        dropout: float. Rate within the blocks while training.
        batch_norm: bool. Whether dense blocks have it; the release's do not.
        scaled, attention_dropout, project: the release's form of the transformers, see
            `GlobalSameTransformer`; the paper's form is the default.
        chunk: int or `None`. Queries handled at a time, see `GlobalAttention`.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized; each spatial axis a
            multiple of `2 ** len(encoder_depths)`.

    Returns:
        Float32 tensor of logits `(batch, *grid, out_channels, classes)`; of a regression
        `(batch, *grid, out_channels)`.

    Raises:
        ValueError: naming the argument that does not fit.

    Reference:
        Liu et al. (2020), Fig. 2, Tables II and IV.
    """

    def __init__(
        self,
        rank=2,
        out_channels=8,
        classes=256,
        filters=32,
        growth=16,
        encoder_depths=(2, 4, 8),
        bottom_depth=8,
        decoder_depths=(1, 2, 4),
        block="dense",
        resample="transformer",
        dropout=0.5,
        batch_norm=True,
        scaled=False,
        attention_dropout=0.0,
        project=False,
        chunk=2048,
        **kwargs,
    ):
        check_rank(rank)
        check_choice("block", block, BLOCKS)
        check_choice("resample", resample, RESAMPLERS)
        check_at_least("out_channels", out_channels, 1)
        if classes is not None:
            check_at_least("classes", classes, 2)
        if len(encoder_depths) != len(decoder_depths) or not encoder_depths:
            raise ValueError(
                f"`encoder_depths` and `decoder_depths` need one entry per level each. Received: "
                f"{encoder_depths} and {decoder_depths}."
            )
        dense, transformer = block == "dense", resample == "transformer"
        if not transformer and (scaled or attention_dropout or project):
            raise ValueError(
                f"`scaled`, `attention_dropout` and `project` are of the transformers: leave them "
                f"out, or use `resample='transformer'`. Received: resample={resample!r}, "
                f"scaled={scaled}, attention_dropout={attention_dropout}, project={project}."
            )
        if not dense and not batch_norm:
            raise ValueError(
                f"`batch_norm` is of dense blocks: leave it out, or use `block='dense'`. "
                f"Received: block={block!r}, batch_norm={batch_norm}."
            )
        policy = {
            "dtype": keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        }
        attention = {
            "rank": rank, "scaled": scaled, "dropout": attention_dropout, "project": project,
            "chunk": chunk, **policy,
        }  # fmt: skip

        def features(width, depth):
            if dense:
                return [DenseBlock(rank, depth, growth, dropout, batch_norm, **policy)]
            pair = [ConvBlock(rank, width, **policy) for _ in range(2)]
            return [*pair, keras.layers.Dropout(dropout, **policy)]

        def pointwise(width):
            return [keras.layers.Dense(width, **policy)] if dense else []

        def down(width):
            if transformer:
                return GlobalDownTransformer(filters=width, **attention)
            return ConvBlock(rank, width, "down", **policy)

        def up(width):
            if transformer:
                return GlobalUpTransformer(filters=width, **attention)
            return ConvBlock(rank, width, "up", **policy)

        coming, joined, going = widths(
            filters, growth, encoder_depths, bottom_depth, decoder_depths
        )
        bottom, coming = coming[-1], coming[:-1]
        super().__init__(
            rank=rank,
            stem=keras.layers.Dense(filters, **policy),
            encoder=[
                *(features(w, d) + pointwise(w) for w, d in zip(coming, encoder_depths)),
                features(bottom, bottom_depth),
            ],
            downs=[down(w) for w in coming],
            bottoms=[GlobalSameTransformer(filters=bottom, **attention)] if transformer else [],
            ups=[up(w // 2) for w in (*going[1:], bottom)],
            merges=[keras.layers.Concatenate(**policy) for _ in coming],
            decoder=[
                pointwise(j) + features(w, d) for j, w, d in zip(joined, going, decoder_depths)
            ],
            head=LabelHead(out_channels, classes, dtype="float32"),
            **kwargs,
        )
        self.out_channels, self.classes = out_channels, classes
        self.filters, self.growth = filters, growth
        self.encoder_depths, self.decoder_depths = tuple(encoder_depths), tuple(decoder_depths)
        self.bottom_depth, self.block, self.resample = bottom_depth, block, resample
        self.dropout, self.batch_norm, self.scaled = dropout, batch_norm, scaled
        self.attention_dropout, self.project, self.chunk = attention_dropout, project, chunk

    def select_outputs(self, labels):
        """The network of some of its labels, which costs less to predict with.

        Args:
            labels: sequence of int. Which labels, in the order wanted.

        Returns:
            `GlobalPixelTransformerNet` with a copy of the weights.

        Raises:
            ValueError: for a label that is not there, or before the network is built.
        """
        if not self.built:
            raise ValueError(
                "The network has no weights yet: build it, or call it, before `select_outputs`."
            )
        for label in labels:
            check_choice("label", label, range(self.out_channels))
        config = {**arguments(self), "out_channels": len(labels)}
        part = type(self)(**config, dtype=self.dtype_policy)
        part.build(self.get_build_config()["input_shape"])
        ours = named_weights(self)
        for name, weight in named_weights(part).items():
            value = ops.convert_to_numpy(ours[name])
            weight.assign(self.head.part(value, labels) if name.startswith("head.") else value)
        return part


def widths(filters, growth, encoder_depths, bottom_depth, decoder_depths):
    """Channels of each level by the rule of Table II.

    Returns:
        Three lists: after each block of the encoder and the bottom, finest first; after
        the 1x1 convolution behind each skip, and after each block of the decoder, both
        finest first.
    """
    coming = [filters]
    for depth in (*encoder_depths, bottom_depth):
        coming.append(coming[-1] + depth * growth)
    coming = coming[1:]
    joined, going = [], [coming[-1]]
    for skip, depth in zip(coming[-2::-1], reversed(decoder_depths)):
        joined.append((going[-1] // 2 + skip) // 2)
        going.append(joined[-1] + depth * growth)
    return coming, joined[::-1], going[:0:-1]
