"""GVTNets: U-Nets whose operators may see the whole image.

Wang, Xie & Ji (2021), Global voxel transformer networks for augmented microscopy,
Nat. Mach. Intell. 3, 161-171. https://doi.org/10.1038/s42256-020-00283-x
"""

import functools
from collections.abc import Sequence

import keras

from gvtnets_tf.checks import check_at_least, check_choice, quote
from gvtnets_tf.layers.attention import check_normalization
from gvtnets_tf.layers.base import CONV, PACKAGE, check_rank, rescale
from gvtnets_tf.layers.blocks import ResidualBlock
from gvtnets_tf.layers.transformers import GVTO
from gvtnets_tf.models.base import layer_dtype
from gvtnets_tf.models.heads import Head
from gvtnets_tf.models.unet import UNet

MERGES = {"add": keras.layers.Add, "concatenate": keras.layers.Concatenate}
KINDS = {
    "down": ("convolution", "residual", "gvto_v1", "gvto_v2"),
    "bottom": ("gvto", "residual"),
    "up": ("convolution", "gvto_v1", "gvto_v2"),
}


@keras.saving.register_keras_serializable(package=PACKAGE)
class GVTNet(UNet):
    """U-Net with global voxel transformer operators at the levels of your choice.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Channels of the result.
        filters: int. Channels of the finest level; each level doubles them.
        depth: int. Number of levels; each spatial axis must be a multiple of
            `2 ** (depth - 1)`.
        encoder_blocks: int, or sequence of int with one per level, finest first. Number of
            residual blocks.
        decoder_blocks: the same, for the `depth - 1` levels of the decoder.
        down: `"convolution"`, `"residual"`, `"gvto_v1"` or `"gvto_v2"`, for all
            levels, or a sequence with one per down-sampling, finest first.
        up: `"convolution"`, `"gvto_v1"` or `"gvto_v2"`, likewise, finest first.
        bottom: `"gvto"`, `"residual"` or a sequence of them. Layers at the coarsest level.
        skip: `"add"` or `"concatenate"`. How a skip is merged into the decoder.
        norm: `"batch"`, `"group"`, `"layer"` or `None`. Normalization at the start of each
            pre-activation.
        head_kernel: int. Kernel size of the output convolution.
        head_bias: bool. If `True`, the output convolution has a bias.
        input_residual: bool. If `True`, the network predicts a change of its input,
            which then needs `out_channels` channels, or one.
        scale_head: bool. If `True`, a second convolution predicts a scale per voxel; the
            result is then `[location..., scale...]`, scale = softplus + 1e-3.
        attention_normalization: `"none"`, `"softmax"` or `"linear_softmax"`, see
            `GlobalAttention`.
        num_heads, key_ratio, value_ratio, scaled, gate, activation, dropout, chunk: see `GVTO`.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized.

    Returns:
        Float32 tensor `(batch, *grid, out_channels)`, twice as many channels with `scale_head`.

    Raises:
        ValueError: naming the argument that does not fit the others.

    Reference:
        Wang, Xie & Ji (2021), sections 4.2 and 4.5.
        https://doi.org/10.1038/s42256-020-00283-x

    Examples:
        >>> model = GVTNet(rank=2, filters=4, depth=3, up="gvto_v2")
        >>> tuple(model(keras.ops.ones((1, 8, 12, 1))).shape)
        (1, 8, 12, 1)
        >>> list(model.operators)
        ['bottoms.0', 'ups.1', 'ups.0']
    """

    def __init__(
        self, rank: int = 3, out_channels: int = 1, filters: int = 32, depth: int = 4,
        encoder_blocks: int | Sequence[int] = 1, decoder_blocks: int | Sequence[int] = 1,
        down: str | Sequence[str] = "residual", up: str | Sequence[str] = "convolution",
        bottom: str | Sequence[str] = ("gvto",), skip: str = "add",
        norm: str | None = "batch",
        head_kernel: int = 3, head_bias: bool = True, input_residual: bool = False,
        scale_head: bool = False, num_heads: int = 1, key_ratio: float = 1.0,
        value_ratio: float = 1.0, attention_normalization: str = "none", scaled: bool = True,
        gate: bool = False, activation: str | None = None, dropout: float = 0.0,
        chunk: int | None = None, **kwargs,
    ):  # fmt: skip
        check_choice("skip", skip, MERGES)
        check_at_least("depth", depth, 2)
        # Here too, for a network without operators.
        check_normalization(attention_normalization, dropout, chunk, "attention_normalization")
        widths, policy = [filters * 2**level for level in range(depth)], layer_dtype(kwargs)
        block = {"norm": norm, **policy}
        operator = {
            "num_heads": num_heads, "key_ratio": key_ratio, "value_ratio": value_ratio,
            "normalization": attention_normalization, "scaled": scaled, "gate": gate,
            "activation": activation, "dropout": dropout, "chunk": chunk, **block,
        }  # fmt: skip
        make = functools.partial(_make_layers, check_rank(rank), policy, block, operator)
        bottom_kinds = [bottom] if isinstance(bottom, str) else bottom
        super().__init__(
            rank=rank,
            stem=CONV[rank](filters, 3, padding="same", use_bias=False, **policy),
            encoder=_make_blocks("encoder_blocks", encoder_blocks, rank, widths, block),
            downs=make("down", down, widths[1:]),
            bottoms=make("bottom", bottom_kinds, widths[-1:] * len(bottom_kinds)),
            ups=make("up", up, widths[:-1]),
            merges=[MERGES[skip](**policy) for _ in widths[1:]],
            decoder=_make_blocks("decoder_blocks", decoder_blocks, rank, widths[:-1], block),
            head=Head(
                rank, out_channels, head_kernel, head_bias, norm=norm,
                input_residual=input_residual, scale=scale_head, dtype="float32",
            ),
            **kwargs,
        )  # fmt: skip
        self.out_channels, self.filters, self.depth = out_channels, filters, depth
        self.encoder_blocks, self.decoder_blocks = encoder_blocks, decoder_blocks
        self.down, self.up, self.bottom = down, up, bottom
        self.skip, self.norm = skip, norm
        self.head_kernel, self.head_bias = head_kernel, head_bias
        self.input_residual, self.scale_head = input_residual, scale_head
        self.num_heads, self.key_ratio, self.value_ratio = num_heads, key_ratio, value_ratio
        self.attention_normalization, self.scaled, self.gate = attention_normalization, scaled, gate
        self.activation, self.dropout, self.chunk = activation, dropout, chunk


def _make_layers(rank, policy, block, operator, part, kinds, widths):
    """Make one layer per width: those of `down`, `up` or `bottom`, of the kinds in `KINDS`."""

    def make_layer(kind, width):
        scale = "same" if part == "bottom" else part
        if kind == "convolution":
            return rescale(rank, width, scale, use_bias=False, **policy)
        if kind == "residual":
            return ResidualBlock(rank, width, scale, **block)
        return GVTO(rank, scale, width, version=1 if kind == "gvto_v1" else 2, **operator)

    kinds = [check_choice(part, kind, KINDS[part]) for kind in _per_level(part, kinds, len(widths))]
    return [make_layer(kind, width) for kind, width in zip(kinds, widths)]


def _make_blocks(name, counts, rank, widths, block):
    """Make lists of residual blocks, one list per level."""
    counts = _per_level(name, counts, len(widths))
    return [[ResidualBlock(rank, w, **block) for _ in range(n)] for n, w in zip(counts, widths)]


def _per_level(name, value, levels):
    """Repeat one value for every level, or check that there is one for each."""
    if isinstance(value, (str, int)):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(
            f"`{name}` needs one entry, or one per level ({levels}). "
            f"Received: {name}={quote(value)}."
        )
    return list(value)
