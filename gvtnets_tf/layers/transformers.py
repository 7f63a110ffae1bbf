"""Operators that see the whole image: GVTOs, and the GPT paper's transformers."""

import math

import keras
from keras import ops

from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.attention import GlobalAttention
from gvtnets_tf.layers.base import (
    CONV,
    PACKAGE,
    SavedLayer,
    check_rank,
    normalization,
    rescale,
)

SCALES = ("same", "down", "up", "up4")
UP4 = 4  # times as many voxels along y and along x


@keras.saving.register_keras_serializable(package=PACKAGE)
class GVTO(SavedLayer):
    """Global voxel transformer operator: pre-activation, attention, shortcut.

    Args:
        rank: int. 2 for images, 3 for stacks.
        scale: `"same"` keeps the grid, `"down"` halves it, `"up"` doubles it,
            `"up4"` makes y and x four times as long and asks with the repeated
            input itself (the projection network's operator).
        filters: int or `None`. Channels of the result. By default those of the
            input, twice as many for `down`, half as many for `up`.
        version: 1 or 2. Shortcut of `down` and `up`: a strided 3x3(x3) convolution of
            the input (1), or the query (2).
        num_heads: int. Attention heads.
        key_ratio, value_ratio: float. Channels of keys and values over `filters`.
        batch_norm: bool. Whether the pre-activation starts with batch normalization.
        softmax, dropout, chunk: see `GlobalAttention`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`; for `down`, an even grid.
        summary: optional; the sum over a whole volume of which `x` is a part, as
            `summarize` gives it.

    Returns:
        Float tensor `(batch, *new grid, filters)`.

    Raises:
        ValueError: for an unknown rank, scale or version, or a shortcut whose
            channels do not fit.

    Reference:
        Wang, Xie & Ji (2021), section 4.2; versions in Supplementary Fig. 13.
    """

    def __init__(
        self,
        rank,
        scale="same",
        filters=None,
        version=2,
        num_heads=1,
        key_ratio=1.0,
        value_ratio=1.0,
        batch_norm=True,
        softmax=False,
        dropout=0.0,
        chunk=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        check_choice("version", version, (1, 2))
        self.rank, self.scale = check_rank(rank), check_choice("scale", scale, SCALES)
        self.filters, self.version, self.num_heads = filters, version, num_heads
        self.key_ratio, self.value_ratio = key_ratio, value_ratio
        self.batch_norm, self.softmax, self.dropout = batch_norm, softmax, dropout
        self.chunk = chunk

    def build(self, shape):
        channels, dtype = shape[-1], self.dtype_policy
        filters = self._width(channels)
        keys = channels if self.scale == "up4" else round(filters * self.key_ratio)
        self._check_shortcut(channels, filters, keys)
        self.normalize = normalization(dtype=dtype) if self.batch_norm else None
        self.query = None
        if self.scale != "up4":
            self.query = rescale(self.rank, keys, self.scale, dtype=dtype)
        self.attention = GlobalAttention(
            key_dim=keys,
            value_dim=round(filters * self.value_ratio),
            filters=filters,
            num_heads=self.num_heads,
            softmax=self.softmax,
            dropout=self.dropout,
            chunk=self.chunk,
            dtype=dtype,
        )
        self.shortcut = None
        if self.scale in ("down", "up") and self.version == 1:
            self.shortcut = rescale(self.rank, filters, self.scale, use_bias=False, dtype=dtype)
        grid = (*self.compute_output_shape(shape)[:-1], keys)
        if self.normalize:
            self.normalize.build(shape)
        for layer in filter(None, (self.query, self.shortcut)):
            layer.build(shape)
        self.attention.build(grid, shape)

    def compute_output_shape(self, shape):
        factor = {"same": (1,) * self.rank, "up": (2,) * self.rank}.get(
            self.scale, (1,) * (self.rank - 2) + (UP4, UP4)
        )
        if self.scale == "down":
            grid = [None if n is None else -(-n // 2) for n in shape[1:-1]]
        else:
            grid = [None if n is None else n * f for n, f in zip(shape[1:-1], factor)]
        return (shape[0], *grid, self._width(shape[-1]))

    def call(self, x, summary=None, training=False):
        x = ops.cast(x, self.compute_dtype)
        source = self._activate(x, training)
        query = self._ask(source)
        if summary is None:
            y = self.attention(query, source, training=training)
        else:
            y = self.attention.attend(query, summary, queries=summary[1] * self._ratio())
        if self.scale == "same":
            return y + x
        return y + (self.shortcut(source) if self.shortcut else query)

    def summarize(self, x):
        """Sum over `x`, a part of what enters the operator, what queries need.

        See `GlobalAttention.summarize`. Batch normalization uses its moving
        statistics, as in prediction.
        """
        return self.attention.summarize(self._activate(ops.cast(x, self.compute_dtype), False))

    def _activate(self, x, training):
        return ops.relu6(self.normalize(x, training=training) if self.normalize else x)

    def _ask(self, source):
        if self.query:
            return self.query(source)
        return ops.repeat(ops.repeat(source, UP4, axis=-3), UP4, axis=-2)

    def _ratio(self):
        """Query voxels per source voxel."""
        return {"same": 1.0, "down": 2.0**-self.rank, "up": 2.0**self.rank, "up4": 16.0}[self.scale]

    def _width(self, channels):
        default = {"down": channels * 2, "up": channels // 2}.get(self.scale, channels)
        return self.filters or default

    def _check_shortcut(self, channels, filters, keys):
        """What is added to the result must have its channels."""
        name, width = {"same": ("input", channels), "up4": ("input", channels)}.get(
            self.scale, ("query", keys if self.version == 2 else filters)
        )
        if width != filters:
            raise ValueError(
                f"A GVTO with scale={self.scale!r}, version={self.version} adds its {name} to its "
                f"result, so both need as many channels. Received: {width} and {filters}."
            )


class _GlobalTransformer(SavedLayer):
    """Softmax attention whose query is a convolution of the input; see the subclasses."""

    def __init__(
        self, rank=2, filters=None, key_dim=None, scaled=False, dropout=0.0, project=False,
        chunk=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.rank, self.filters, self.key_dim = check_rank(rank), filters, key_dim
        self.scaled, self.dropout, self.project, self.chunk = scaled, dropout, project, chunk

    def build(self, shape):
        filters = self._width(shape[-1])
        self.query = self._make_query(self.key_dim or filters)
        self.attention = GlobalAttention(
            key_dim=self.key_dim or filters,
            value_dim=filters,
            filters=filters if self.project else None,
            softmax=True,
            scaled=self.scaled,
            dropout=self.dropout,
            chunk=self.chunk,
            dtype=self.dtype_policy,
        )
        self.query.build(shape)
        self.attention.build(self.query.compute_output_shape(shape), shape)

    def compute_output_shape(self, shape):
        halve = {"down": lambda n: math.ceil(n / 2), "up": lambda n: 2 * n, "same": lambda n: n}
        grid = (None if n is None else halve[self.scale](n) for n in shape[1:-1])
        return (shape[0], *grid, self._width(shape[-1]))

    def call(self, x, training=False):
        return self.attention(self.query(x), x, training=training)

    def _make_query(self, filters):
        return rescale(self.rank, filters, self.scale, dtype=self.dtype_policy)

    def _width(self, channels):
        return self.filters or channels


_ARGUMENTS = """
    The paper's form is the default: softmax over the source, no scaling, no output
    convolution, no residual. The release's form is `scaled=True, dropout=0.5,
    project=True`.

    Args:
        rank: int. 2 for images, 3 for stacks.
        filters: int or `None`. Channels of values and result; by default {default}.
        key_dim: int or `None`. Channels of query and keys; by default `filters`.
        scaled: bool. Whether the query is divided by the root of `key_dim`.
        dropout: float. Rate of dropout on the attention weights while training.
        project: bool. Whether a 1x1 convolution follows.
        chunk: int or `None`. Queries handled at a time, see `GlobalAttention`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, {grid}, filters)`.

    Reference:
        Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of
        microscopy images, IEEE Trans. Med. Imaging 39(6), 2256-2266.
        https://doi.org/10.1109/TMI.2020.2968504
    """


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalSameTransformer(_GlobalTransformer):
    __doc__ = "Global same transformer (GST): the grid is kept.\n" + _ARGUMENTS.format(
        default="those of the input", grid="*grid"
    )
    scale = "same"

    def _make_query(self, filters):
        return CONV[self.rank](filters, 3, padding="same", dtype=self.dtype_policy)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalDownTransformer(_GlobalTransformer):
    __doc__ = "Global down transformer (GDT): the grid is halved.\n" + _ARGUMENTS.format(
        default="those of the input", grid="*grid / 2"
    )
    scale = "down"


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalUpTransformer(_GlobalTransformer):
    __doc__ = "Global up transformer (GUT): the grid is doubled.\n" + _ARGUMENTS.format(
        default="half of the input's", grid="*grid * 2"
    )
    scale = "up"

    def _width(self, channels):
        return self.filters or channels // 2
