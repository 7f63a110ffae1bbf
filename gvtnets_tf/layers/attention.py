"""The attention operator: the query decides the size of the result."""

import functools

import keras
from keras import ops

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.layers.base import PACKAGE, SavedLayer

NORMALIZATIONS = ("none", "softmax", "linear_softmax")


def check_normalization(normalization, dropout, chunk, name="normalization"):
    """Return a known kind of normalization; dropout and chunk have no effect without softmax."""
    check_choice(name, normalization, NORMALIZATIONS)
    if normalization != "softmax" and (dropout or chunk is not None):
        raise ValueError(
            f"`dropout` and `chunk` act on softmax weights: pass {name}='softmax' too, or leave "
            f"them out, as otherwise there are none. "
            f"Received: {name}={normalization!r}, dropout={dropout}, chunk={chunk}."
        )
    return normalization


def merge_summaries(*summaries):
    """Merge the summaries of the parts of a map into that of the map.

    Args:
        summaries: results of `GlobalAttention.summarize`, or of `GVTO.summarize`.

    Examples:
        >>> attention = GlobalAttention(key_dim=2, value_dim=2, normalization="linear_softmax")
        >>> image = keras.random.normal((1, 8, 6, 3))
        >>> whole = attention(image[..., :2], image)
        >>> summary = merge_summaries(
        ...     *(attention.summarize(image[:, i : i + 2]) for i in (0, 2, 4, 6))
        ... )
        >>> bool(
        ...     keras.ops.max(keras.ops.abs(attention.attend(image[..., :2], summary) - whole))
        ...     < 1e-5
        ... )
        True
    """
    return functools.reduce(_merge, summaries)


def _merge(one, other):
    if len(one) == 2:  # without softmax
        return tuple(a + b for a, b in zip(one, other))
    largest = ops.maximum(one[2], other[2])
    a, b = (ops.exp(summary[2] - largest) for summary in (one, other))
    kv = one[0] * a[..., None] + other[0] * b[..., None]
    return kv, one[1] + other[1], largest, one[3] * a + other[3] * b


@keras.saving.register_keras_serializable(package=PACKAGE)
class GlobalAttention(SavedLayer):
    """Let every voxel of a query map read from every voxel of a source map.

    The result has the grid of the query. A query at half resolution makes a
    down-sampling operator, one at double resolution an up-sampling operator;
    the layer itself does not know which. Grids may be 2-D, 3-D or any rank.

    How the scores of query and keys are normalized decides the cost:

    - `"none"`, as in the GVTNets paper: they are divided by the number of query voxels. `k^T v`
      can be computed first, so time and memory grow as N rather than N^2.
    - `"softmax"`, as in the GPT paper: a softmax over the source, for each query.
    - `"linear_softmax"`: a softmax of the keys over the source, and one of the query over its
      channels; still linear in N, and the result is a weighted mean of values.

    Where it is linear, the sum over the source can be computed in parts (`summarize`,
    `merge_summaries`) and used for any query (`attend`), so that volumes larger than memory
    are processed exactly.

    Args:
        key_dim: int. Channels of the keys, all heads together. The query must
            have as many.
        value_dim: int. Channels of the values, all heads together.
        filters: int or `None`. Channels of the result, made by a 1x1 convolution;
            `None` leaves that out, and the result has `value_dim` channels.
        num_heads: int. Must divide `key_dim` and `value_dim`.
        normalization: `"none"`, `"softmax"` or `"linear_softmax"`.
        scaled: bool. If `True`, the query is multiplied by `(key_dim / num_heads) ** -0.5`.
        activation: str or `None`. Activation of keys, values and result, such as `"relu"`.
        dropout: float. Rate of dropout on the softmax weights while training.
        chunk: int or `None`. Softmax only: queries handled at a time, also in the
            backward pass, which computes each chunk again; memory is then
            `chunk * N_source` scores per head, whatever the size of the query.

    Call arguments:
        query: float tensor `(batch, *grid_out, key_dim)`.
        source: float tensor `(batch, *grid_in, channels)`.

    Returns:
        Float tensor `(batch, *grid_out, filters)`.

    Raises:
        ValueError: if `num_heads` does not divide `key_dim` and `value_dim`, if `dropout` is
            not a rate, or if `dropout` or `chunk` is set without a softmax over the source.

    Reference:
        Wang, Xie & Ji (2021), Global voxel transformer networks for augmented
        microscopy, Nat. Mach. Intell. 3, 161-171, section 4.2.
        https://doi.org/10.1038/s42256-020-00283-x
        Linear softmax: Shen et al. (2021), Efficient attention: attention with linear
        complexities, section 3.2. https://arxiv.org/abs/1812.01243

    Examples:
        >>> attention = GlobalAttention(key_dim=4, value_dim=4, filters=3, num_heads=2)
        >>> image, half = keras.ops.ones((1, 8, 8, 5)), keras.ops.ones((1, 4, 4, 4))
        >>> tuple(attention(half, image).shape)
        (1, 4, 4, 3)
    """

    def __init__(
        self, key_dim: int, value_dim: int, filters: int | None = None, num_heads: int = 1,
        normalization: str = "none", scaled: bool = True, dropout: float = 0.0,
        chunk: int | None = None, activation: str | None = None, **kwargs,
    ):  # fmt: skip
        super().__init__(autocast=False, **kwargs)
        check_at_least("num_heads", num_heads, 1)
        if chunk is not None:
            check_at_least("chunk", chunk, 1)
        for name, dim in {"key_dim": key_dim, "value_dim": value_dim}.items():
            if dim % num_heads:
                raise ValueError(
                    f"`{name}` must be a multiple of `num_heads`. "
                    f"Received: {name}={dim}, num_heads={num_heads}."
                )
        if not 0 <= dropout < 1:
            raise ValueError(
                f"`dropout` must be at least 0 and below 1. Received: dropout={dropout!r}."
            )
        self.normalization = check_normalization(normalization, dropout, chunk)
        self.key_dim, self.value_dim, self.filters = key_dim, value_dim, filters
        self.num_heads, self.scaled, self.activation = num_heads, scaled, activation
        self.dropout, self.chunk = dropout, chunk
        options = {"activation": activation, "dtype": self.dtype_policy}
        self.key = keras.layers.Dense(key_dim, **options)
        self.value = keras.layers.Dense(value_dim, **options)
        self.result = filters and keras.layers.Dense(filters, **options)
        self.seed_generator = keras.random.SeedGenerator() if dropout else None

    def build(self, query_shape, source_shape):
        self.key.build(source_shape)
        self.value.build(source_shape)
        if self.result:
            self.result.build((*query_shape[:-1], self.value_dim))

    def compute_output_shape(self, query_shape, source_shape):
        return (*query_shape[:-1], self.filters or self.value_dim)

    def call(self, query, source, training=False):
        query, source = (ops.cast(x, self.compute_dtype) for x in (query, source))
        if self.normalization != "softmax":
            return self.attend(query, self.summarize(source))
        y = self._attend_softmax(self._scale_query(query), *self._read(source), training)
        return self._merge_heads(y, query)

    def summarize(self, source):
        """Compute the sum over a source map that queries read from.

        Args:
            source: float tensor `(batch, *grid_in, channels)`: a whole map, or a part.

        Returns:
            Tuple of float32 tensors: `k^T v`, `(batch, heads, key_dim / heads, value_dim /
            heads)`, and the number of source voxels. With `"linear_softmax"` the keys of the
            first are `exp(k - m)`, and their largest value m over the source and their sum
            follow, each `(batch, heads, key_dim / heads)`: a softmax in its streaming form.

        Raises:
            ValueError: with `normalization="softmax"`, where the sum depends on the query.
        """
        self._check_linear()
        k, v = self._read(ops.cast(source, self.compute_dtype))
        count = ops.cast(ops.shape(k)[2], "float32")
        if self.normalization == "linear_softmax":
            # In float32: a mean over many voxels has weights that half precision rounds to 0.
            k, v = (ops.cast(x, "float32") for x in (k, v))
            largest = ops.stop_gradient(ops.max(k, axis=2))
            k = ops.exp(k - largest[:, :, None])
            return ops.matmul(ops.swapaxes(k, -1, -2), v), count, largest, ops.sum(k, axis=2)
        # A stack has more voxels than float16 can count, so each factor takes the
        # root of their number, which is put back in float32.
        is_half = self.compute_dtype == "float16"
        if is_half:
            k, v = (x * ops.cast(count**-0.5, x.dtype) for x in (k, v))
        kv = ops.cast(ops.matmul(ops.swapaxes(k, -1, -2), v), "float32")
        return (kv * count if is_half else kv), count

    def attend(self, query, summary, queries=None):
        """Compute the result for a query map from a summary of the source.

        Args:
            query: float tensor `(batch, *grid_out, key_dim)`: a whole map, or a part.
            summary: result of `summarize`, or of `merge_summaries` for the parts of a source.
            queries: float. Voxels of the whole query map, by which the sum is divided; by
                default those of `query`. A linear softmax does not need it.

        Returns:
            Float tensor `(batch, *grid_out, filters)`.

        Raises:
            ValueError: with `normalization="softmax"`.
        """
        self._check_linear()
        query = ops.cast(query, self.compute_dtype)
        q = self._scale_query(query)
        kv = ops.cast(summary[0], "float32")
        if self.normalization == "linear_softmax":
            q, kv = ops.softmax(q), kv / summary[3][..., None]
        else:
            kv = kv / (ops.cast(ops.shape(q)[2], "float32") if queries is None else queries)
        kv = ops.cast(kv, self.compute_dtype)
        return self._merge_heads(ops.matmul(q, kv), query)

    def _check_linear(self):
        if self.normalization == "softmax":
            raise ValueError(
                f"Softmax attention has no summary: its sum depends on each query. Use a network "
                f"with normalization 'linear_softmax' or 'none'. Received: {self.name} with "
                f"'softmax'."
            )

    def _read(self, source):
        return self._split_heads(self.key(source)), self._split_heads(self.value(source))

    def _scale_query(self, query):
        q = self._split_heads(query)
        return q * (self.key_dim // self.num_heads) ** -0.5 if self.scaled else q

    def _split_heads(self, x):
        channels = x.shape[-1]
        x = ops.reshape(x, (ops.shape(x)[0], -1, self.num_heads, channels // self.num_heads))
        return ops.swapaxes(x, 1, 2)  # (batch, heads, N, channels per head)

    def _merge_heads(self, x, query):
        x = ops.swapaxes(x, 1, 2)
        x = ops.reshape(x, (*ops.shape(query)[:-1], self.value_dim))
        return self.result(x) if self.result else x

    def _attend_softmax(self, q, k, v, training):
        seed = self.seed_generator.next() if self.seed_generator and training else None
        queries = ops.shape(q)[2]
        if self.chunk is None or (isinstance(queries, int) and queries <= self.chunk):
            return ops.matmul(self._attention_weights(q, k, seed), v)

        padding = (-queries) % self.chunk
        q = ops.pad(q, [(0, 0), (0, 0), (0, padding), (0, 0)])
        batch, heads, _, channels = ops.shape(q)
        q = ops.reshape(q, (batch, heads, -1, self.chunk, channels))
        q = ops.moveaxis(q, 2, 0)

        def attend_chunk(state, q):
            i, zeros = state
            # Each chunk drops weights of its own.
            chunk_seed = seed
            if seed is not None:
                chunk_seed = seed + ops.cast(i, self.seed_generator.state.dtype)
            weighted_sum = keras.remat(
                lambda q, k, v: ops.matmul(self._attention_weights(q, k, chunk_seed), v)
            )
            return (i + 1, zeros), (i, weighted_sum(q, k, v))

        # TensorFlow's scan wants results of the shapes that its state has.
        zeros = ops.zeros((batch, heads, self.chunk, v.shape[-1]), q.dtype)
        _, (_, x) = ops.scan(attend_chunk, (ops.zeros((), "int32"), zeros), q)
        x = ops.reshape(ops.moveaxis(x, 0, 2), (batch, heads, -1, v.shape[-1]))
        return x[:, :, :queries]

    def _attention_weights(self, q, k, seed):
        """Softmax of the scores, some of them dropped if there is a seed."""
        weights = ops.softmax(ops.matmul(q, ops.swapaxes(k, -1, -2)))
        if seed is None:
            return weights
        noise = keras.random.uniform(ops.shape(weights), seed=_FixedSeed(seed), dtype="float32")
        mask = ops.cast(noise >= self.dropout, weights.dtype)
        return weights * mask / (1 - self.dropout)


class _FixedSeed(keras.random.SeedGenerator):
    """A seed drawn before, so that a chunk computed again drops the same weights."""

    def __init__(self, seed):  # the parent would make a variable
        self._seed = seed

    def next(self, ordered=True):
        return self._seed
