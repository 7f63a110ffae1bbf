"""Operators that see the whole image: GVTOs, and the GPT paper's transformers."""

import math

import keras
from keras import ops

from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.attention import GlobalAttention
from gvtnets_tf.layers.base import CONV, PACKAGE, SavedLayer, check_rank, normalization, rescale

SCALES = ("same", "down", "up", "up4")
UP4 = 4  # times as many voxels along y and along x
FACTORS = {"same": 1.0, "down": 0.5, "up": 2.0}


def _resize(grid, factors):
    return [None if n is None else math.ceil(n * f) for n, f in zip(grid, factors)]


@keras.saving.register_keras_serializable(package=PACKAGE)
class GVTO(SavedLayer):
    """Global voxel transformer operator: pre-activation, attention, shortcut.

    Args:
        rank: int. 2 for images, 3 for stacks.
        scale: `"same"` keeps the grid, `"down"` halves it, `"up"` doubles it,
            `"up4"` makes y and x four times as long, with the repeated input itself
            as the query (the operator of the projection network).
        filters: int or `None`. Channels of the result. By default those of the
            input, twice as many for `"down"`, half as many for `"up"`.
        version: 1 or 2. Shortcut of `down` and `up`: a strided 3x3(x3) convolution of
            the input (1), or the query (2).
        num_heads: int. Attention heads.
        key_ratio, value_ratio: float. Channels of keys and values over `filters`.
        batch_norm: bool. If `True`, the pre-activation starts with batch normalization.
        softmax, dropout, chunk: see `GlobalAttention`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`; for `down`, an even grid.
        summary: optional; result of `summarize` for the whole volume of which `x` is
            a part.

    Returns:
        Float tensor `(batch, *new grid, filters)`.

    Raises:
        ValueError: for an unknown rank, scale or version, or a shortcut whose
            channels do not fit.

    Reference:
        Wang, Xie & Ji (2021), section 4.2; versions in Supplementary Fig. 13.

    Examples:
        >>> image = keras.ops.ones((1, 4, 6, 8))
        >>> for scale in ("same", "down", "up", "up4"):
        ...     print(tuple(GVTO(2, scale)(image).shape))
        (1, 4, 6, 8)
        (1, 2, 3, 16)
        (1, 8, 12, 4)
        (1, 16, 24, 8)
    """

    def __init__(
        self, rank: int, scale: str = "same", filters: int | None = None, version: int = 2,
        num_heads: int = 1, key_ratio: float = 1.0, value_ratio: float = 1.0,
        batch_norm: bool = True, softmax: bool = False, dropout: float = 0.0,
        chunk: int | None = None, **kwargs,
    ):  # fmt: skip
        super().__init__(autocast=False, **kwargs)
        check_choice("version", version, (1, 2))
        self.rank, self.scale = check_rank(rank), check_choice("scale", scale, SCALES)
        self.filters, self.version, self.num_heads = filters, version, num_heads
        self.key_ratio, self.value_ratio = key_ratio, value_ratio
        self.batch_norm, self.softmax = batch_norm, softmax
        self.dropout, self.chunk = dropout, chunk

    def build(self, shape):
        channels, dtype = shape[-1], self.dtype_policy
        filters = self._output_channels(channels)
        keys = channels if self.scale == "up4" else round(filters * self.key_ratio)
        self._check_shortcut(channels, filters, keys)
        self.normalize = normalization(dtype=dtype) if self.batch_norm else None
        self.query = None
        if self.scale != "up4":
            self.query = rescale(self.rank, keys, self.scale, dtype=dtype)
        self.attention = GlobalAttention(
            keys, round(filters * self.value_ratio), filters, self.num_heads, self.softmax,
            dropout=self.dropout, chunk=self.chunk, dtype=dtype,
        )  # fmt: skip
        self.shortcut = None
        if self.scale in ("down", "up") and self.version == 1:
            self.shortcut = rescale(self.rank, filters, self.scale, use_bias=False, dtype=dtype)
        for layer in filter(None, (self.normalize, self.query, self.shortcut)):
            layer.build(shape)
        self.attention.build((*self.compute_output_shape(shape)[:-1], keys), shape)

    def compute_output_shape(self, shape):
        grid = _resize(shape[1:-1], self._factors())
        return (shape[0], *grid, self._output_channels(shape[-1]))

    def call(self, x, summary=None, training=False):
        x = ops.cast(x, self.compute_dtype)
        source = self._activate(x, training)
        query = self._compute_query(source)
        if summary is None:
            y = self.attention(query, source, training=training)
        else:
            # The number of voxels of the whole query.
            queries = summary[1] * math.prod(self._factors())
            y = self.attention.attend(query, summary, queries=queries)
        if self.scale == "same":
            return y + x
        return y + (self.shortcut(source) if self.shortcut else query)

    def summarize(self, x):
        """Compute the sum over the input, or a part of it, that queries read from.

        Batch normalization uses its moving statistics, as in prediction.

        Args:
            x: float tensor `(batch, *grid, channels)`.

        Returns:
            Result of `GlobalAttention.summarize`.
        """
        return self.attention.summarize(self._activate(ops.cast(x, self.compute_dtype), False))

    def _activate(self, x, training):
        return ops.relu6(self.normalize(x, training=training) if self.normalize else x)

    def _compute_query(self, source):
        if self.query:
            return self.query(source)
        return ops.repeat(ops.repeat(source, UP4, axis=-3), UP4, axis=-2)

    def _factors(self):
        """Return the voxels of the query per voxel of the source, along each axis."""
        if self.scale == "up4":
            return (1.0,) * (self.rank - 2) + (UP4, UP4)
        return (FACTORS[self.scale],) * self.rank

    def _output_channels(self, channels):
        return self.filters or {"down": channels * 2, "up": channels // 2}.get(self.scale, channels)

    def _check_shortcut(self, channels, filters, keys):
        """Raise `ValueError` if the shortcut has other channels than the result."""
        name, width = "input", channels
        if self.scale in ("down", "up"):
            name, width = "query", keys if self.version == 2 else filters
        if width != filters:
            raise ValueError(
                f"A GVTO with scale={self.scale!r}, version={self.version} adds its {name} to its "
                f"result, so both need as many channels. Received: {width} and {filters}."
            )


class _GlobalTransformer(SavedLayer):
    """Base of the transformers: softmax attention whose query is a convolution of the input."""

    def __init__(
        self, rank: int = 2, filters: int | None = None, key_dim: int | None = None,
        scaled: bool = False, dropout: float = 0.0, project: bool = False,
        chunk: int | None = None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.rank, self.filters, self.key_dim = check_rank(rank), filters, key_dim
        self.scaled, self.dropout, self.project, self.chunk = scaled, dropout, project, chunk

    def build(self, shape):
        filters = self._output_channels(shape[-1])
        keys = self.key_dim or filters
        self.query = self._make_query(keys)
        self.attention = GlobalAttention(
            keys, filters, filters if self.project else None, softmax=True, scaled=self.scaled,
            dropout=self.dropout, chunk=self.chunk, dtype=self.dtype_policy,
        )  # fmt: skip
        self.query.build(shape)
        self.attention.build(self.query.compute_output_shape(shape), shape)

    def compute_output_shape(self, shape):
        grid = _resize(shape[1:-1], (FACTORS[self.scale],) * self.rank)
        return (shape[0], *grid, self._output_channels(shape[-1]))

    def call(self, x, training=False):
        return self.attention(self.query(x), x, training=training)

    def _make_query(self, filters):
        return rescale(self.rank, filters, self.scale, dtype=self.dtype_policy)

    def _output_channels(self, channels):
        return self.filters or channels


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalSameTransformer(_GlobalTransformer):
    """Global same transformer (GST): the grid is kept.

    The paper's form is the default: softmax over the source, no scaling, no output
    convolution, no residual. The release's form is `scaled=True, dropout=0.5,
    project=True`.

    Args:
        rank: int. 2 for images, 3 for stacks.
        filters: int or `None`. Channels of values and result; by default those of the input.
        key_dim: int or `None`. Channels of query and keys; by default `filters`.
        scaled: bool. If `True`, the query is divided by the root of `key_dim`.
        dropout: float. Rate of dropout on the attention weights while training.
        project: bool. If `True`, a 1x1 convolution follows.
        chunk: int or `None`. Queries handled at a time, see `GlobalAttention`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid, filters)`.

    Reference:
        Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of
        microscopy images, IEEE Trans. Med. Imaging 39(6), 2256-2266.
        https://doi.org/10.1109/TMI.2020.2968504

    Examples:
        >>> tuple(GlobalSameTransformer()(keras.ops.ones((1, 4, 6, 8))).shape)
        (1, 4, 6, 8)
    """

    scale = "same"

    def _make_query(self, filters):
        return CONV[self.rank](filters, 3, padding="same", dtype=self.dtype_policy)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalDownTransformer(_GlobalTransformer):
    """Global down transformer (GDT): the grid is halved.

    Arguments and reference are those of `GlobalSameTransformer`.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid / 2, filters)`; odd sizes are rounded up.

    Examples:
        >>> tuple(GlobalDownTransformer()(keras.ops.ones((1, 4, 6, 8))).shape)
        (1, 2, 3, 8)
    """

    scale = "down"


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalUpTransformer(_GlobalTransformer):
    """Global up transformer (GUT): the grid is doubled.

    Arguments and reference are those of `GlobalSameTransformer`, but `filters` is by default
    half the channels of the input.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid * 2, filters)`.

    Examples:
        >>> tuple(GlobalUpTransformer()(keras.ops.ones((1, 4, 6, 8))).shape)
        (1, 8, 12, 4)
    """

    scale = "up"

    def _output_channels(self, channels):
        return self.filters or channels // 2
