"""Global pixel transformers: virtual staining of several labels at once.

Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of microscopy
images, IEEE Trans. Med. Imaging 39(6), 2256-2266. https://doi.org/10.1109/TMI.2020.2968504
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from gvtnets_tf.checks import check_choice, quote
from gvtnets_tf.layers.base import PACKAGE, arguments, check_rank
from gvtnets_tf.layers.blocks import ConvBlock, DenseBlock
from gvtnets_tf.layers.transformers import (
    FORMS,
    GlobalDownTransformer,
    GlobalSameTransformer,
    GlobalUpTransformer,
)
from gvtnets_tf.models.base import layer_dtype, named_weights
from gvtnets_tf.models.heads import LabelHead
from gvtnets_tf.models.unet import UNet

# Arguments of transformers that the network decides on itself.
NOT_IN_FORMS = {"rank", "filters", "chunk", "kwargs"}
BLOCKS, RESAMPLERS = ("dense", "convolution"), ("transformer", "convolution")


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalPixelTransformerNet(UNet):
    """U-Net of dense blocks and global pixel transformers, a distribution per label and pixel.

    Its input are the channels that `data.crop_multiscale` makes of a window: the window
    itself, its surroundings and its center, resized to one grid.

    Channels follow Table II. A dense block adds `growth` channels per layer. In the encoder
    a 1x1 convolution and the down transformer follow, which keep the number of channels. In
    the decoder the up transformer halves it, the skip is concatenated, a 1x1 convolution
    halves the sum, and a dense block ends the level. The paper prints 165 in the second row
    of the decoder; its own rule gives 168, and only 168 leads to the 90 of the third row.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Number of labels.
        classes: int or `None`. Number of intensities of the distributions; `None`: a
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
        norm: `"batch"` as in the paper, `"group"`, `"layer"`, or `None` as in the release.
            Normalization in dense blocks.
        transformer: form of the transformers: `"paper"`, `"release"`, `"residual"` (see
            `FORMS` of `layers.transformers`), or a mapping of arguments of
            `GlobalSameTransformer`. Its activation is also that of the 1x1 convolutions.
        bottom_transformer: bool or `None`. Whether there is a transformer at the coarsest
            level; by default where `resample` has them too.
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

    Examples:
        >>> depths = {"encoder_depths": (1,), "bottom_depth": 1, "decoder_depths": (1,)}
        >>> model = GlobalPixelTransformerNet(out_channels=3, filters=4, growth=2, **depths)
        >>> tuple(model(keras.ops.ones((1, 4, 4, 6))).shape)
        (1, 4, 4, 3, 256)
    """

    def __init__(
        self, rank: int = 2, out_channels: int = 8, classes: int | None = 256,
        filters: int = 32, growth: int = 16, encoder_depths: Sequence[int] = (2, 4, 8),
        bottom_depth: int = 8, decoder_depths: Sequence[int] = (1, 2, 4),
        block: str = "dense", resample: str = "transformer", dropout: float = 0.5,
        norm: str | None = "batch", transformer: str | Mapping[str, Any] = "paper",
        bottom_transformer: bool | None = None, chunk: int | None = 2048, **kwargs,
    ):  # fmt: skip
        is_dense, is_global = block == "dense", resample != "convolution"
        has_bottom = is_global if bottom_transformer is None else bottom_transformer
        form = _choose_form(block, resample, norm, transformer, is_global or has_bottom)
        encoder_widths, merge_widths, decoder_widths = compute_widths(
            filters, growth, encoder_depths, bottom_depth, decoder_depths
        )
        policy = layer_dtype(kwargs)
        is_softmax = form.get("normalization", "softmax") == "softmax"
        attention = {"rank": check_rank(rank), "chunk": chunk if is_softmax else None, **policy}

        def make_block(width, depth):
            if is_dense:
                return [DenseBlock(rank, depth, growth, dropout, norm, **policy)]
            convs = [ConvBlock(rank, width, **policy) for _ in range(2)]
            return [*convs, keras.layers.Dropout(dropout, **policy)]

        def make_pointwise(width):  # the 1x1 convolution beside a dense block
            options = {"activation": form.get("activation"), **policy}
            return [keras.layers.Dense(width, **options)] if is_dense else []

        def make_resampler(layer, scale, width):
            if is_global:
                return layer(filters=width, **{**attention, **form})
            return ConvBlock(rank, width, scale, **policy)

        *widths, bottom_width = encoder_widths
        up_widths = (*decoder_widths[1:], bottom_width)
        super().__init__(
            rank=rank,
            stem=keras.layers.Dense(filters, **policy),
            encoder=[make_block(w, d) + make_pointwise(w) for w, d in zip(widths, encoder_depths)]
            + [make_block(bottom_width, bottom_depth)],
            downs=[make_resampler(GlobalDownTransformer, "down", w) for w in widths],
            bottoms=[GlobalSameTransformer(filters=bottom_width, **{**attention, **form})]
            * has_bottom,
            ups=[make_resampler(GlobalUpTransformer, "up", w // 2) for w in up_widths],
            merges=[keras.layers.Concatenate(**policy) for _ in merge_widths],
            decoder=[
                make_pointwise(m) + make_block(w, d)
                for m, w, d in zip(merge_widths, decoder_widths, decoder_depths)
            ],
            head=LabelHead(out_channels, classes, dtype="float32"),
            **kwargs,
        )
        self.out_channels, self.classes, self.filters = out_channels, classes, filters
        self.growth, self.bottom_depth, self.block = growth, bottom_depth, block
        self.encoder_depths, self.decoder_depths = tuple(encoder_depths), tuple(decoder_depths)
        self.resample, self.dropout, self.norm = resample, dropout, norm
        self.transformer, self.bottom_transformer = transformer, bottom_transformer
        self.chunk = chunk

    def select_outputs(self, labels: Sequence[int]) -> "GlobalPixelTransformerNet":
        """Return a network of some of the labels, with which prediction costs less.

        Args:
            labels: sequence of int. Labels of the new network, in its order.

        Returns:
            `GlobalPixelTransformerNet` with a copy of the weights.

        Raises:
            ValueError: for an unknown label, or before the network is built.
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
        weights = named_weights(self)
        for name, weight in named_weights(part).items():
            value = ops.convert_to_numpy(weights[name])
            in_head = name.startswith("head.")
            weight.assign(self.head.select_labels(value, labels) if in_head else value)
        return part


def _choose_form(block, resample, norm, transformer, is_global):
    """Return the arguments of the transformers; refuse options of layers that are not there."""
    check_choice("block", block, BLOCKS)
    check_choice("resample", resample, RESAMPLERS)
    if isinstance(transformer, str):
        form = FORMS[check_choice("transformer", transformer, FORMS)]
    else:
        known = inspect.signature(GlobalSameTransformer).parameters.keys() - NOT_IN_FORMS
        form = {check_choice("key of transformer", k, known): v for k, v in transformer.items()}
    if form and not is_global:
        raise ValueError(
            f"`transformer` is of networks with transformers: leave it out, or use "
            f"`resample='transformer'`. Received: resample={resample!r}, "
            f"transformer={quote(transformer)}."
        )
    if block != "dense" and norm != "batch":
        raise ValueError(
            f"`norm` is of dense blocks: leave it out, or use `block='dense'`. "
            f"Received: block={block!r}, norm={norm!r}."
        )
    return form


def compute_widths(filters, growth, encoder_depths, bottom_depth, decoder_depths):
    """Compute the channels of each level, finest first, by the rule of Table II.

    Returns three lists: the channels after each block of encoder and bottom, after the 1x1
    convolution that follows each skip, and after each block of the decoder.
    """
    if len(encoder_depths) != len(decoder_depths) or not encoder_depths:
        raise ValueError(
            f"`encoder_depths` and `decoder_depths` need one entry per level each. Received: "
            f"{encoder_depths} and {decoder_depths}."
        )
    encoder_widths = []
    for depth in (*encoder_depths, bottom_depth):
        filters += depth * growth
        encoder_widths.append(filters)
    merge_widths, decoder_widths = [], []
    for skip, depth in zip(encoder_widths[-2::-1], reversed(decoder_depths)):
        merge_widths.append((filters // 2 + skip) // 2)
        filters = merge_widths[-1] + depth * growth
        decoder_widths.append(filters)
    return encoder_widths, merge_widths[::-1], decoder_widths[::-1]
