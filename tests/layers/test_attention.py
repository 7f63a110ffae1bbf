import itertools
import threading
import time

import keras
import naive
import numpy as np
import psutil
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_layer, set_weights
from forks import FORKS
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.layers import GlobalAttention
from gvtnets_tf.layers.attention import NORMALIZATIONS, merge_summaries

LINEAR = {"key_dim": 8, "value_dim": 4, "filters": 3, "num_heads": 2, "scaled": False}
EFFICIENT = {**LINEAR, "normalization": "linear_softmax", "activation": "relu"}
SOFTMAX = {
    "key_dim": 8, "value_dim": 4, "num_heads": 4, "normalization": "softmax", "dropout": 0.5,
}  # fmt: skip
CHUNKED = {**SOFTMAX, "filters": 5, "chunk": 3}
CONFIGS = [(LINEAR, 6), (EFFICIENT, 6), (SOFTMAX, 4), (CHUNKED, 6)]
QUERIES = 4096


@pytest.mark.parametrize("grid", [(5,), (4, 6), (2, 4, 6)], ids=["1d", "2d", "3d"])
@pytest.mark.parametrize("config, weights", CONFIGS)
def test_attention_common_checks(noise, config, weights, grid):
    make = lambda **kwargs: GlobalAttention(**config, **kwargs)
    check_layer(make, noise(2, 7, 8), noise(2, *grid, 5), weights=weights)


def test_attention_keeps_every_argument():
    check_arguments(GlobalAttention, *(config for config, _ in CONFIGS))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("filters", [None, 2], ids=["bare", "projected"])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_a_sum_over_all_voxels(noise, normalization, scaled, filters, heads):
    layer = GlobalAttention(4, 6, filters, heads, normalization, scaled)
    query, source = noise(2, 2, 3, 4), noise(2, 3, 5, 1, 3)
    layer.build(query.shape, source.shape)
    set_weights(layer)
    expected = naive.attention(layer, query, source)
    np.testing.assert_allclose(layer(query, source), expected, rtol=1e-4, atol=1e-5)


@given(
    # Keras warns of a softmax over one voxel.
    grid=st.lists(st.integers(1, 5), min_size=1, max_size=3).filter(lambda grid: max(grid) > 1),
    onto=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    normalization=st.sampled_from(NORMALIZATIONS),
)
@settings(deadline=None, max_examples=15)
def test_the_result_has_the_grid_of_the_query(grid, onto, normalization):
    layer = GlobalAttention(4, 2, 3, 2, normalization)
    y = layer(np.ones((2, *onto, 4), "float32"), np.ones((2, *grid, 5), "float32"))
    assert y.shape == layer.compute_output_shape((2, *onto, 4), (2, *grid, 5)) == (2, *onto, 3)


def chunked(chunk, like, **kwargs):
    """An operator with the weights of another, that works in chunks."""
    config = {**like.get_config(), "name": None, "chunk": chunk, **kwargs}
    layer = GlobalAttention.from_config(config)
    layer.build((None, None, 4), (None, None, 5))
    layer.set_weights(like.get_weights())
    return layer


def gradients(call, layer, query, source):
    """Result of `call`, and gradients by the inputs and by the weights of `layer`."""
    query, source = tf.constant(query), tf.constant(source)
    with tf.GradientTape() as tape:
        tape.watch([query, source])
        y = call(query, source)
        loss = tf.reduce_sum(tf.sin(y))
    wanted = [query, source, *(w.value for w in layer.trainable_weights)]
    return [y.numpy(), *(g.numpy() for g in tape.gradient(loss, wanted))]


@pytest.mark.parametrize("mode", ["eager", "graph", "unknown sizes"])
@pytest.mark.parametrize("chunk", [1, 3, 5, 10, 16])
def test_softmax_and_its_gradients_do_not_depend_on_the_chunk(noise, chunk, mode):
    query, source = noise(2, 10, 4), noise(2, 7, 5)
    whole = GlobalAttention(4, 4, 3, num_heads=2, normalization="softmax")
    whole.build(query.shape, source.shape)
    set_weights(whole)
    layer = chunked(chunk, whole)
    unknown = [tf.TensorSpec((None, None, n)) for n in (4, 5)]
    call = {
        "eager": layer,
        "graph": tf.function(layer.__call__, autograph=False),
        "unknown sizes": tf.function(layer.__call__, input_signature=unknown, autograph=False),
    }[mode]
    expected = gradients(whole, whole, query, source)
    for a, b in zip(gradients(call, layer, query, source), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("chunk", [3, None])
def test_a_chunk_computed_again_drops_the_same_weights(noise, chunk, graph):
    layer = GlobalAttention(
        4, 4, 3, normalization="softmax", dropout=0.5, chunk=chunk, dtype="float64", num_heads=2
    )
    query, source, step = (noise(1, n, c).astype(float) for n, c in ((8, 4), (7, 5), (8, 4)))
    layer.build(query.shape, source.shape)
    set_weights(layer)

    def value(query):
        layer.seed_generator.state.assign([7, 11])
        return tf.reduce_sum(tf.sin(layer(query, source, training=True)))

    def slope(query):
        with tf.GradientTape() as tape:
            tape.watch(query)
            y = value(query)
        return tape.gradient(y, query)

    slope = tf.function(slope, autograph=False) if graph else slope
    analytic = float(tf.reduce_sum(slope(tf.constant(query)) * step))
    numeric = float(value(query + 1e-5 * step) - value(query - 1e-5 * step)) / 2e-5
    assert analytic == pytest.approx(numeric, rel=1e-6)


def test_dropout_acts_while_training_only_and_anew_on_each_chunk_and_call(noise):
    layer = GlobalAttention(4, 4, normalization="softmax", dropout=0.5, chunk=2)
    query, source = np.repeat(noise(1, 1, 4), 8, axis=1), noise(1, 9, 5)
    still = np.asarray(layer(query, source))
    np.testing.assert_allclose(still, np.repeat(still[:, :1], 8, axis=1), rtol=1e-6)
    first, second = (np.asarray(layer(query, source, training=True)) for _ in range(2))
    for a, b in ((first[:, 0], first[:, 2]), (first[:, 0], first[:, 1]), (first, second)):
        assert np.abs(a - b).max() > 1e-3


def test_dropout_keeps_the_answer_on_average(noise):
    layer = GlobalAttention(4, 4, normalization="softmax", dropout=0.5, chunk=100)
    query, source = np.repeat(noise(1, 1, 4), 4000, axis=1), noise(1, 9, 5)
    mean = np.asarray(layer(query, source, training=True)).mean(1)
    np.testing.assert_allclose(mean, layer(query[:, :1], source)[:, 0], atol=0.05)


def peak_megabytes(call):
    """Memory of this process at its most while `call` runs, over what it had."""
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch():
        while not done.is_set():
            seen.append(process.memory_info().rss)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return (max(seen) - seen[0]) / 2**20


def tell_softmax_megabytes(sending):
    """Send peaks of one attention with gradients: in chunks of 128 queries, and all at once."""
    # 8,192 queries by 8,192 sources are 256 MiB of scores, 512 MiB with their gradient.
    rng = np.random.default_rng(0)
    query, source = (rng.normal(size=(1, 8192, n)).astype("float32") for n in (4, 5))
    whole = GlobalAttention(4, 4, normalization="softmax")
    whole.build(query.shape, source.shape)
    layer = chunked(128, whole)

    def run(layer):
        graph = tf.function(layer.__call__, autograph=False)
        gradients(graph, layer, query[:, :256], source[:, :256])  # what is made once
        return peak_megabytes(lambda: gradients(graph, layer, query, source))

    sending.send((run(layer), run(whole)))


def test_memory_of_softmax_is_bounded_by_the_chunk():
    # In a process of its own: memory that earlier tests freed, and that the process still has,
    # would hide a peak.
    found, sending = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=tell_softmax_megabytes, args=(sending,))
    process.start()
    sending.close()
    in_chunks, at_once = found.recv()
    process.join()
    assert in_chunks < 128
    assert at_once > 400  # the meter would have seen it


def largest_tensor(function):
    """Entries of the largest tensor in a traced function."""
    tensors = [t for operation in function.graph.get_operations() for t in operation.outputs]
    return max(t.shape.num_elements() or 0 for t in tensors if t.shape.rank is not None)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_linear_attention_makes_no_tensor_of_all_pairs(normalization):
    layer = GlobalAttention(4, 4, 4, 2, normalization)
    layer.build((1, QUERIES, 4), (1, QUERIES, 4))

    @tf.function(autograph=False)
    def step(query, source):
        with tf.GradientTape() as tape:
            tape.watch([query, source])
            y = layer(query, source)
        return tape.gradient(y, [query, source, *(w.value for w in layer.trainable_weights)])

    spec = tf.TensorSpec((1, QUERIES, 4))
    largest = largest_tensor(step.get_concrete_function(spec, spec))
    assert largest == 2 * QUERIES**2 if normalization == "softmax" else largest <= 4 * QUERIES


@pytest.mark.parametrize("normalization", ["none", "linear_softmax"])
@pytest.mark.parametrize("dtype, error", [("mixed_float16", 0.005), ("mixed_bfloat16", 0.05)])
def test_a_stack_of_more_voxels_than_float16_can_count_keeps_its_attention(
    noise, dtype, error, normalization
):
    shape = (1, 32, 64, 64, 4)  # 131,072 voxels; the largest float16 is 65,504
    layer = GlobalAttention(4, 4, normalization=normalization)
    query, source = noise(*shape), noise(*shape) + 1
    expected = np.asarray(layer(query, source))
    half = GlobalAttention(4, 4, normalization=normalization, dtype=dtype)
    half.build(shape, shape)
    half.set_weights(layer.get_weights())
    answer = np.asarray(keras.ops.cast(half(query, source), "float32"))
    assert np.abs(expected).max() > 0.5
    assert np.abs(answer - expected).max() < error * np.abs(expected).max()


@pytest.mark.parametrize("normalization", ["none", "linear_softmax"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_summaries_of_the_parts_are_those_of_the_whole(noise, dtype, normalization):
    layer = GlobalAttention(4, 6, 3, 2, normalization, dtype=dtype)
    query, source = noise(2, 7, 4), noise(2, 6, 5, 3)
    whole = np.asarray(keras.ops.cast(layer(query, source), "float32"))
    parts = [layer.summarize(source[:, rows]) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    total = merge_summaries(*parts)
    assert float(total[1]) == 30
    assert {x.dtype for x in total} == {tf.float32}
    assert total[0].shape == (2, 2, 2, 3)
    tolerance = 1e-5 if dtype == "float32" else 0.03
    answer = keras.ops.cast(layer.attend(query, total), "float32")
    np.testing.assert_allclose(answer, whole, rtol=0, atol=tolerance * np.abs(whole).max())

    # A part of the queries divides by the number of all of them.
    part = keras.ops.cast(layer.attend(query[:, 2:5], total, queries=7.0), "float32")
    np.testing.assert_allclose(part, whole[:, 2:5], rtol=0, atol=tolerance * np.abs(whole).max())


@given(
    cuts=st.lists(st.integers(1, 59), max_size=5, unique=True).map(sorted),
    shift=st.sampled_from([0.0, 300.0, -300.0]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=20)
def test_a_linear_softmax_is_the_same_in_any_parts_and_for_keys_of_any_size(cuts, shift, seed):
    rng = np.random.default_rng(seed)
    query, source = (rng.normal(size=(1, 60, n)).astype("float32") for n in (4, 5))
    layer = GlobalAttention(4, 4, normalization="linear_softmax")
    layer.build(query.shape, source.shape)
    set_weights(layer, seed)
    expected = naive.attention(layer, query, source)
    # A softmax does not depend on what is added to all keys: exp(300) is beyond float32.
    layer.key.bias.assign(layer.key.bias + shift)
    edges = [0, *cuts, 60]
    total = merge_summaries(
        *(layer.summarize(source[:, a:b]) for a, b in itertools.pairwise(edges))
    )
    np.testing.assert_allclose(layer.attend(query, total), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(layer(query, source), expected, rtol=1e-3, atol=1e-4)


def test_a_linear_softmax_worked_by_hand():
    layer = GlobalAttention(2, 1, normalization="linear_softmax", scaled=False)
    layer.build((1, 1, 2), (1, 2, 2))
    # Keys are the two channels, the value is the first: voxels with keys (ln 3, 0) and (0, 0).
    layer.set_weights([np.eye(2), np.zeros(2), np.array([[1.0], [0.0]]), np.zeros(1)])
    source = np.array([[[np.log(3), 0.0], [0.0, 0.0]]])
    # The first key has the weights 3/4 and 1/4, the second 1/2 each; the query 2/3 and 1/3.
    query = np.array([[[np.log(2), 0.0]]])
    expected = (2 / 3 * 3 / 4 + 1 / 3 * 1 / 2) * np.log(3)
    assert float(layer(query, source)[0, 0, 0]) == pytest.approx(expected, rel=1e-6)


def test_softmax_has_no_summary(noise):
    layer = GlobalAttention(4, 4, normalization="softmax", name="asking")
    layer(noise(1, 3, 4), noise(1, 3, 5))
    text = "no summary.*depends on each query.*Received: asking with 'softmax'"
    with pytest.raises(ValueError, match=text):
        layer.summarize(noise(1, 3, 5))
    with pytest.raises(ValueError, match=text):
        layer.attend(noise(1, 3, 4), (0.0, 3.0))


@pytest.mark.parametrize(
    "config, message",
    [
        ({"key_dim": 6}, "`key_dim` must be a multiple of `num_heads`.*key_dim=6, num_heads=4"),
        ({"value_dim": 6}, "`value_dim` must be a multiple of `num_heads`.*value_dim=6"),
        ({"num_heads": 0}, "`num_heads` must be at least 1. Received: num_heads=0"),
        ({"dropout": 0.1}, "otherwise there are none.*normalization='none', dropout=0.1"),
        ({"chunk": 8}, "otherwise there are none.*chunk=8"),
        (
            {"normalization": "linear_softmax", "chunk": 8},
            "pass normalization='softmax' too.*='linear_softmax', dropout=0.0, chunk=8",
        ),
        ({"normalization": "soft"}, "`normalization` cannot be 'soft'. Did you mean 'softmax'"),
        (
            {"normalization": "softmax", "dropout": 1.0},
            "`dropout` must be at least 0 and below 1.*=1.0",
        ),
        ({"normalization": "softmax", "chunk": 0}, "`chunk` must be at least 1. Received: chunk=0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        GlobalAttention(**{"key_dim": 8, "value_dim": 8, "num_heads": 4, **config})
