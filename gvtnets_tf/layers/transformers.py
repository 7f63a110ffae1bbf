"""Operators that see the whole image: GVTOs, and the GPT paper's transformers."""

import math

import keras
from keras import ops

from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.attention import GlobalAttention, check_normalization
from gvtnets_tf.layers.base import CONV, PACKAGE, SavedLayer, check_rank, make_norm, rescale

SCALES = ("same", "down", "up", "up4")
UP4 = 4  # times as many voxels along y and along x
FACTORS = {"same": 1.0, "down": 0.5, "up": 2.0}
# Settings of the GPT paper's transformers: as printed; as in the released code, which multiplies
# by ReLUs; and with what makes the printed one trainable, see docs/networks.md.
FORMS = {
    "paper": {},
    "release": {"scaled": True, "dropout": 0.5, "project": True, "activation": "relu"},
    "residual": {
        "scaled": True,
        "preactivation": True,
        "norm": "batch",
        "residual": True,
        "gate": True,
    },
}


def _resize(grid, factors):
    return [None if n is None else math.ceil(n * f) for n, f in zip(grid, factors)]


@keras.saving.register_keras_serializable(package=PACKAGE)
class Gate(SavedLayer):
    """Multiply by one weight, which is 0 at first."""

    def build(self, shape):
        self.gain = self.add_weight(name="gain", shape=(), initializer="zeros")

    def call(self, x):
        return x * ops.cast(self.gain, x.dtype)


class GlobalTransformer(SavedLayer):
    """Base of the operators: pre-activation, attention, gate, shortcut.

    The query is a convolution of the pre-activated input that keeps, halves or doubles the grid,
    and reads from the pre-activated input; of these parts only query and attention are a must.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.
        summary: optional; result of `summarize` for the whole volume of which `x` is
            a part.
    """

    def __init__(
        self, rank, scale, filters, num_heads, normalization, scaled, dropout, chunk, norm,
        gate, activation, shortcut, preactivates, projects, **kwargs,
    ):  # fmt: skip
        super().__init__(autocast=False, **kwargs)
        self.rank, self.filters = check_rank(rank), filters
        self.scale = check_choice("scale", scale, SCALES)
        self.num_heads, self.scaled, self.dropout, self.chunk = num_heads, scaled, dropout, chunk
        self.normalization = check_normalization(normalization, dropout, chunk)
        self.norm, self.gate, self.activation = norm, gate, activation
        self._adds, self._preactivates, self._projects = shortcut, preactivates, projects

    def build(self, shape):
        channels, dtype = shape[-1], self.dtype_policy
        filters = self._output_channels(channels)
        keys, values = self._attention_channels(channels, filters)
        self._check_shortcut(channels, filters, keys)
        self.normalize = make_norm(self.norm, dtype=dtype)
        self.query = self._make_query(keys)
        self.attention = GlobalAttention(
            keys, values, filters if self._projects else None, self.num_heads, self.normalization,
            self.scaled, self.dropout, self.chunk, self.activation, dtype=dtype,
        )  # fmt: skip
        self.shortcut = None
        if self._adds == "convolution":
            self.shortcut = rescale(self.rank, filters, self.scale, use_bias=False, dtype=dtype)
        self.gating = Gate(dtype=dtype) if self.gate else None
        for layer in filter(None, (self.normalize, self.query, self.shortcut, self.gating)):
            layer.build(shape)
        self.attention.build((*self.compute_output_shape(shape)[:-1], keys), shape)

    def compute_output_shape(self, shape):
        grid = _resize(shape[1:-1], self._factors())
        return (shape[0], *grid, self._output_channels(shape[-1]))

    def call(self, x, summary=None, training=False):
        x = ops.cast(x, self.compute_dtype)
        source = self._preactivate(x, training)
        query = self._compute_query(source)
        if summary is None:
            y = self.attention(query, source, training=training)
        else:
            # The number of voxels of the whole query.
            queries = summary[1] * math.prod(self._factors())
            y = self.attention.attend(query, summary, queries=queries)
        if self.gating:
            y = self.gating(y)
        if self.shortcut:
            return y + self.shortcut(source)
        return y + {"input": x, "query": query}[self._adds] if self._adds else y

    def summarize(self, x):
        """Compute the sum over the input, or a part of it, that queries read from.

        Batch normalization uses its moving statistics, as in prediction.

        Args:
            x: float tensor `(batch, *grid, channels)`.

        Returns:
            Result of `GlobalAttention.summarize`.
        """
        return self.attention.summarize(self._preactivate(ops.cast(x, self.compute_dtype), False))

    def _preactivate(self, x, training):
        if not self._preactivates:
            return x
        return ops.relu6(self.normalize(x, training=training) if self.normalize else x)

    def _make_query(self, keys):
        options = {"activation": self.activation, "dtype": self.dtype_policy}
        return rescale(self.rank, keys, self.scale, **options)

    def _compute_query(self, source):
        return self.query(source)

    def _factors(self):
        """Return the voxels of the query per voxel of the source, along each axis."""
        return (FACTORS[self.scale],) * self.rank

    def _check_shortcut(self, channels, filters, keys):
        """Raise `ValueError` if what is added to the result has other channels."""
        width = {"input": channels, "query": keys}.get(self._adds, filters)
        if width != filters:
            raise ValueError(
                f"A {type(self).__name__} of scale {self.scale!r} adds its {self._adds} to its "
                f"result, so both need as many channels. Received: {width} and {filters}."
            )


@keras.saving.register_keras_serializable(package=PACKAGE)
class GVTO(GlobalTransformer):
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
        norm: `"batch"`, `"group"`, `"layer"` or `None`. Normalization before the ReLU6 of the
            pre-activation.
        gate: bool. If `True`, the attended result is multiplied by a weight that is 0 at first.
        normalization, scaled, dropout, chunk, activation: see `GlobalAttention`; the activation
            is also that of the query. As published: `"none"`, scaled, no activation.

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
        norm: str | None = "batch", normalization: str = "none", scaled: bool = True,
        gate: bool = False, activation: str | None = None, dropout: float = 0.0,
        chunk: int | None = None, **kwargs,
    ):  # fmt: skip
        check_choice("version", version, (1, 2))
        resized = "convolution" if version == 1 else "query"
        shortcut = {"same": "input", "up4": "query"}.get(scale, resized)
        super().__init__(
            rank, scale, filters, num_heads, normalization, scaled, dropout, chunk, norm, gate,
            activation, shortcut, preactivates=True, projects=True, **kwargs,
        )  # fmt: skip
        self.version, self.key_ratio, self.value_ratio = version, key_ratio, value_ratio

    def _make_query(self, keys):
        return super()._make_query(keys) if self.scale != "up4" else None

    def _compute_query(self, source):
        if self.query:
            return self.query(source)
        return ops.repeat(ops.repeat(source, UP4, axis=-3), UP4, axis=-2)

    def _factors(self):
        if self.scale == "up4":
            return (1.0,) * (self.rank - 2) + (UP4, UP4)
        return super()._factors()

    def _output_channels(self, channels):
        return self.filters or {"down": channels * 2, "up": channels // 2}.get(self.scale, channels)

    def _attention_channels(self, channels, filters):
        keys = channels if self.scale == "up4" else round(filters * self.key_ratio)
        return keys, round(filters * self.value_ratio)


class _PixelTransformer(GlobalTransformer):
    """Base of the GPT paper's transformers, which differ in the scale of the query."""

    def __init__(
        self, rank: int = 2, filters: int | None = None, key_dim: int | None = None,
        num_heads: int = 1, normalization: str = "softmax", scaled: bool = False,
        dropout: float = 0.0, project: bool = False, preactivation: bool = False,
        norm: str | None = None, residual: bool = False, gate: bool = False,
        activation: str | None = None, chunk: int | None = None, **kwargs,
    ):  # fmt: skip
        if norm and not preactivation:
            raise ValueError(
                f"`norm` is the start of a pre-activation: pass preactivation=True too, or leave "
                f"it out. Received: norm={norm!r}, preactivation=False."
            )
        super().__init__(
            rank, self.scale, filters, num_heads, normalization, scaled, dropout, chunk, norm,
            gate, activation, "query" if residual else None, preactivation, project, **kwargs,
        )  # fmt: skip
        self.key_dim, self.project = key_dim, project
        self.preactivation, self.residual = preactivation, residual

    def _output_channels(self, channels):
        return self.filters or channels

    def _attention_channels(self, channels, filters):
        return self.key_dim or filters, filters


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalSameTransformer(_PixelTransformer):
    """Global same transformer (GST): the grid is kept.

    The paper's form is the default: softmax over the source, no scaling, no output
    convolution, nothing added. `FORMS` has the arguments of the release's form, and of one
    with pre-activation, shortcut and gate.

    Args:
        rank: int. 2 for images, 3 for stacks.
        filters: int or `None`. Channels of values and result; by default those of the input.
        key_dim: int or `None`. Channels of query and keys; by default `filters`.
        project: bool. If `True`, a 1x1 convolution follows.
        preactivation: bool. If `True`, the input goes through a ReLU6 first, after a
            normalization `norm` (`"batch"`, `"group"` or `"layer"`), if there is one.
        residual: bool. If `True`, the query is added to the result.
        gate: bool. If `True`, the attended result is multiplied by a weight that is 0 at first.
        num_heads, normalization, scaled, dropout, activation, chunk: see `GlobalAttention`; the
            activation is also that of the query.

    Call arguments:
        x: float tensor `(batch, *grid, channels)`.

    Returns:
        Float tensor `(batch, *grid, filters)`.

    Raises:
        ValueError: for a `norm` without pre-activation, or a query to add of other channels.

    Reference:
        Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of
        microscopy images, IEEE Trans. Med. Imaging 39(6), 2256-2266.
        https://doi.org/10.1109/TMI.2020.2968504

    Examples:
        >>> tuple(GlobalSameTransformer()(keras.ops.ones((1, 4, 6, 8))).shape)
        (1, 4, 6, 8)
    """

    scale = "same"

    def _make_query(self, keys):
        options = {"activation": self.activation, "dtype": self.dtype_policy}
        return CONV[self.rank](keys, 3, padding="same", **options)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalDownTransformer(_PixelTransformer):
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
class GlobalUpTransformer(_PixelTransformer):
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
