"""GVTNets: U-Nets whose operators may see the whole image.

Wang, Xie & Ji (2021), Global voxel transformer networks for augmented microscopy,
Nat. Mach. Intell. 3, 161-171. https://doi.org/10.1038/s42256-020-00283-x
"""

import keras

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.layers.base import (
    CONV,
    CONV_TRANSPOSE,
    PACKAGE,
    check_rank,
)
from gvtnets_tf.layers.blocks import ResidualBlock
from gvtnets_tf.layers.transformers import GVTO
from gvtnets_tf.models.heads import Head
from gvtnets_tf.models.unet import UNet


@keras.saving.register_keras_serializable(package=PACKAGE)
class GVTNet(UNet):
    """U-Net with global voxel transformer operators where asked for.

    Args:
        rank: int. 2 for images, 3 for stacks.
        out_channels: int. Channels of the result.
        filters: int. Channels of the finest level; each level doubles them.
        depth: int. Number of levels; each spatial axis must be a multiple of
            `2 ** (depth - 1)`.
        encoder_blocks: residual blocks per level, finest first, or one int for all.
        decoder_blocks: the same, for the `depth - 1` levels of the decoder.
        down: `"convolution"`, `"residual"`, `"gvto_v1"` or `"gvto_v2"`, for all
            levels, or a sequence with one per down-sampling, finest first.
        up: `"convolution"`, `"gvto_v1"` or `"gvto_v2"`, likewise, finest first.
        bottom: `"gvto"`, `"residual"` or a sequence of them, what happens at the coarsest level.
        skip: `"add"` or `"concatenate"`: how a skip joins the decoder.
        batch_norm: bool. Whether each pre-activation starts with batch normalization.
        head_kernel: int. Kernel size of the output convolution.
        head_bias: bool. Whether it has a bias.
        input_residual: bool. Whether the network predicts a change of its input,
            which then needs `out_channels` channels, or one.
        scale_head: bool. Whether a second convolution predicts a scale per voxel; the
            result is then `[location..., scale...]`, scale = softplus + 1e-3.
        num_heads, key_ratio, value_ratio, softmax, dropout, chunk: see `GVTO`.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized.

    Returns:
        Float32 tensor `(batch, *grid, out_channels)`, twice as many with `scale_head`.

    Raises:
        ValueError: naming the argument that does not fit the others.
    """

    def __init__(
        self,
        rank=3,
        out_channels=1,
        filters=32,
        depth=4,
        encoder_blocks=1,
        decoder_blocks=1,
        down="residual",
        up="convolution",
        bottom=("gvto",),
        skip="add",
        batch_norm=True,
        head_kernel=3,
        head_bias=True,
        input_residual=False,
        scale_head=False,
        num_heads=1,
        key_ratio=1.0,
        value_ratio=1.0,
        softmax=False,
        dropout=0.0,
        chunk=None,
        **kwargs,
    ):
        check_rank(rank)
        check_at_least("depth", depth, 2)
        check_choice("skip", skip, ("add", "concatenate"))
        if not softmax and (dropout or chunk is not None):
            raise ValueError(
                f"`dropout` and `chunk` act on softmax weights: pass softmax=True too, or leave "
                f"them out. Received: dropout={dropout}, chunk={chunk}."
            )
        policy = {
            "dtype": keras.dtype_policies.get(kwargs.get("dtype") or keras.config.dtype_policy())
        }
        widths = [filters * 2**level for level in range(depth)]
        norm = {"batch_norm": batch_norm, **policy}
        plain = {"strides": 2, "padding": "same", "use_bias": False, **policy}
        attention = {
            "num_heads": num_heads, "key_ratio": key_ratio, "value_ratio": value_ratio,
            "softmax": softmax, "dropout": dropout, "chunk": chunk, **norm,
        }  # fmt: skip
        downs = {
            "convolution": lambda w: CONV[rank](w, 3, **plain),
            "residual": lambda w: ResidualBlock(rank, w, "down", **norm),
            "gvto_v1": lambda w: GVTO(rank, "down", w, version=1, **attention),
            "gvto_v2": lambda w: GVTO(rank, "down", w, version=2, **attention),
        }
        ups = {
            "convolution": lambda w: CONV_TRANSPOSE[rank](w, 3, **plain),
            "gvto_v1": lambda w: GVTO(rank, "up", w, version=1, **attention),
            "gvto_v2": lambda w: GVTO(rank, "up", w, version=2, **attention),
        }
        bottoms = {
            "gvto": lambda w: GVTO(rank, "same", w, **attention),
            "residual": lambda w: ResidualBlock(rank, w, **norm),
        }
        joins = {"add": keras.layers.Add, "concatenate": keras.layers.Concatenate}

        def blocks(name, counts, levels):
            counts = _per_level(name, counts, levels)
            return [
                [ResidualBlock(rank, w, **norm) for _ in range(n)] for n, w in zip(counts, widths)
            ]

        steps = 1 if isinstance(bottom, str) else len(bottom)

        def pick(name, makers, kinds, widths):
            kinds = _per_level(name, kinds, len(widths))
            return [makers[check_choice(name, kind, makers)](w) for kind, w in zip(kinds, widths)]

        super().__init__(
            rank=rank,
            stem=CONV[rank](filters, 3, padding="same", use_bias=False, **policy),
            encoder=blocks("encoder_blocks", encoder_blocks, depth),
            downs=pick("down", downs, down, widths[1:]),
            bottoms=pick("bottom", bottoms, bottom, widths[-1:] * steps),
            ups=pick("up", ups, up, widths[:-1]),
            merges=[joins[skip](**policy) for _ in widths[1:]],
            decoder=blocks("decoder_blocks", decoder_blocks, depth - 1),
            head=Head(
                rank,
                out_channels,
                head_kernel,
                head_bias,
                batch_norm,
                input_residual,
                scale_head,
                dtype="float32",
            ),
            **kwargs,
        )
        self.out_channels, self.filters, self.depth = out_channels, filters, depth
        self.encoder_blocks, self.decoder_blocks = encoder_blocks, decoder_blocks
        self.down, self.up, self.bottom = down, up, bottom
        self.skip, self.batch_norm = skip, batch_norm
        self.head_kernel, self.head_bias = head_kernel, head_bias
        self.input_residual, self.scale_head = input_residual, scale_head
        self.num_heads, self.key_ratio, self.value_ratio = num_heads, key_ratio, value_ratio
        self.softmax, self.dropout, self.chunk = softmax, dropout, chunk


def _per_level(name, value, levels):
    """Repeat one value for every level, or check that there is one for each."""
    if isinstance(value, (str, int)):
        return [value] * levels
    if len(value) != levels:
        raise ValueError(
            f"`{name}` needs one entry, or one per level ({levels}). Received: {name}={value!r}."
        )
    return list(value)
