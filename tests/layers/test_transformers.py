import math

import keras
import naive
import numpy as np
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_layer, set_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.layers import (
    GVTO,
    GlobalDownTransformer,
    GlobalSameTransformer,
    GlobalUpTransformer,
    merge_summaries,
)
from gvtnets_tf.layers.attention import NORMALIZATIONS
from gvtnets_tf.layers.base import make_norm
from gvtnets_tf.layers.transformers import FORMS

GRIDS = {2: (4, 6), 3: (2, 4, 6)}
SOFTMAX = {"normalization": "softmax", "dropout": 0.5, "chunk": 5}
GVTOS = [
    # Query, key, value and result have two weights each, batch norm four, a shortcut one.
    ({"num_heads": 2}, 12),
    ({"key_ratio": 0.5, "value_ratio": 2.0, "norm": None}, 8),
    ({"scale": "down", "version": 1, "filters": 6, "num_heads": 3}, 13),
    ({"scale": "down", "norm": None}, 8),
    ({"scale": "up", "version": 1, "key_ratio": 0.5}, 13),
    ({"scale": "up", "filters": 6, "norm": None}, 8),
    ({"scale": "up4", "num_heads": 2}, 10),
    ({"scale": "up", "version": 1, **SOFTMAX}, 13),
    ({"scale": "up4", "norm": None, **SOFTMAX}, 6),
    ({"scale": "up", "normalization": "linear_softmax", "scaled": False, "gate": True}, 13),
    ({"norm": "group", "activation": "relu"}, 10),
    ({"norm": "layer", "gate": True}, 11),
]
PAPER = {"filters": 6, "key_dim": 2, "chunk": 5}
EFFICIENT = {**FORMS["residual"], "normalization": "linear_softmax", "filters": 6, "num_heads": 2}
GPTS = [({}, 6), (PAPER, 6), (FORMS["release"], 8), (FORMS["residual"], 11), (EFFICIENT, 11)]
TRANSFORMERS = [GlobalSameTransformer, GlobalDownTransformer, GlobalUpTransformer]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", GVTOS)
def test_gvto_common_checks(noise, rank, config, weights):
    make = lambda **kwargs: GVTO(rank, **config, **kwargs)
    check_layer(make, noise(2, *GRIDS[rank], 4), weights=weights)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", GPTS)
@pytest.mark.parametrize("cls", TRANSFORMERS)
def test_global_transformer_common_checks(noise, cls, rank, config, weights):
    make = lambda **kwargs: cls(rank, **config, **kwargs)
    check_layer(make, noise(2, *GRIDS[rank], 4), weights=weights)


def test_operators_keep_every_argument():
    check_arguments(GVTO, *(config for config, _ in GVTOS))
    for cls in TRANSFORMERS:
        check_arguments(cls, {"rank": 3}, PAPER, FORMS["release"], EFFICIENT)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("norm, gate", [(None, True), ("batch", False)])
@pytest.mark.parametrize(
    "config",
    [
        {"scale": "same", "num_heads": 2},
        {"scale": "same", "key_ratio": 0.5, "value_ratio": 1.5},
        {"scale": "down", "version": 1, "key_ratio": 0.5, "value_ratio": 0.25, "num_heads": 2},
        {"scale": "down", "version": 2, "value_ratio": 0.5},
        {"scale": "up", "version": 1, "filters": 4, "key_ratio": 1.5, "num_heads": 2},
        {"scale": "up", "version": 2, "num_heads": 2},
        {"scale": "up4", "value_ratio": 0.5, "num_heads": 2},
    ],
    ids=lambda config: "-".join(map(str, config.values())),
)
@pytest.mark.parametrize("rank", [2, 3])
def test_gvto_is_what_the_paper_says(noise, rank, config, norm, gate, normalization):
    layer = GVTO(rank, **config, norm=norm, gate=gate, normalization=normalization)
    x = noise(2, *{2: (4, 2), 3: (2, 4, 2)}[rank], 8)
    layer.build(x.shape)
    set_weights(layer)
    np.testing.assert_allclose(layer(x), naive.gvto(layer, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", [{}, {"scaled": True, "project": True, "key_dim": 2}])
@pytest.mark.parametrize("cls", TRANSFORMERS)
@pytest.mark.parametrize("rank", [2, 3])
def test_global_transformer_is_what_the_paper_says(noise, rank, cls, config):
    layer, x = cls(rank, **config), noise(2, *{2: (4, 2), 3: (2, 4, 2)}[rank], 4)
    layer.build(x.shape)
    set_weights(layer)
    expected = naive.attention(layer.attention, np.asarray(layer.query(x)), x)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", TRANSFORMERS)
def test_a_residual_transformer_is_attention_of_the_active_input_added_to_its_query(noise, cls):
    layer, x = cls(**EFFICIENT), noise(2, 4, 2, 4)
    layer.build(x.shape)
    set_weights(layer)
    gamma, beta, mean, variance = layer.normalize.get_weights()
    active = np.clip(gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta, 0, 6)
    query = np.asarray(layer.query(active))
    gain = float(np.asarray(layer.gating.gain))
    expected = query + gain * naive.attention(layer.attention, query, active)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("cls", TRANSFORMERS)
def test_with_a_new_gate_the_query_comes_alone_and_the_gate_learns(noise, cls, normalization):
    form = {**FORMS["residual"], "filters": 4, "normalization": normalization}
    layer, x = cls(**form), noise(2, 4, 6, 4)
    np.testing.assert_array_equal(layer(x), layer.query(layer._preactivate(x, False)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    assert abs(float(tape.gradient(loss, layer.gating.gain.value))) > 1e-3


@pytest.mark.parametrize(
    "scale, shortcut", [("same", "input"), ("down", "query"), ("up4", "query")]
)
def test_with_a_new_gate_a_gvto_is_its_shortcut(noise, scale, shortcut):
    layer, x = GVTO(2, scale, gate=True), noise(2, 4, 6, 4)
    answer = np.asarray(layer(x))
    active = layer._preactivate(x, False)
    np.testing.assert_array_equal(
        answer, x if shortcut == "input" else layer._compute_query(active)
    )


def test_the_release_puts_a_relu_on_query_keys_values_and_result():
    layer = GlobalSameTransformer(**FORMS["release"])
    layer.build((None, 4, 4, 4))
    parts = (layer.query, layer.attention.key, layer.attention.value, layer.attention.result)
    assert {part.activation.__name__ for part in parts} == {"relu"}


def test_group_norm_takes_eight_groups_or_fewer_that_divide_the_channels():
    for channels, groups in ((16, 8), (12, 4), (3, 1)):
        norm = make_norm("group")
        norm.build((None, 4, 4, channels))
        assert norm.groups == groups


@pytest.mark.parametrize(
    "cls, kind, strides, filters",
    [
        (GlobalSameTransformer, "Conv2D", 1, 4),
        (GlobalDownTransformer, "Conv2D", 2, 4),
        (GlobalUpTransformer, "Conv2DTranspose", 2, 2),
    ],
)
def test_the_query_of_a_global_transformer_is_a_3x3_convolution(cls, kind, strides, filters):
    layer = cls()
    layer.build((None, 4, 4, 4))
    assert type(layer.query).__name__ == kind
    assert layer.query.strides == (strides, strides)
    assert layer.query.kernel_size == (3, 3)
    assert layer.query.filters == layer.attention.value_dim == filters


@given(
    grid=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    scale=st.sampled_from(["same", "down", "up", "up4"]),
    version=st.sampled_from([1, 2]),
    channels=st.sampled_from([2, 4]),
)
@settings(deadline=None, max_examples=20)
def test_gvto_gives_the_grid_it_promises(grid, scale, version, channels):
    layer = GVTO(len(grid), scale, version=version)
    y = layer(np.ones((1, *grid, channels), "float32"))
    resize = {
        "same": lambda n: n,
        "down": lambda n: math.ceil(n / 2),
        "up": lambda n: 2 * n,
        "up4": lambda n: 4 * n,
    }[scale]
    kept = grid[:-2] if scale == "up4" else []
    expected = (1, *kept, *map(resize, grid[len(kept) :]))
    assert y.shape[:-1] == expected
    assert y.shape[-1] == {"down": 2 * channels, "up": channels // 2}.get(scale, channels)
    assert layer.compute_output_shape((1, *grid, channels)) == y.shape


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "norm, normalization", [(None, "none"), ("batch", "none"), ("batch", "linear_softmax")]
)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scale", ["same", "down", "up", "up4"])
def test_a_gvto_given_the_sums_of_two_halves_answers_for_the_whole(
    noise, scale, version, norm, normalization, dtype
):
    layer = GVTO(
        3, scale, version=version, num_heads=2, norm=norm, normalization=normalization, dtype=dtype
    )
    x = noise(2, 6, 4, 6, 8)
    layer.build(x.shape)
    set_weights(layer)
    parts = [layer.summarize(x[:, :, :, :2]), layer.summarize(x[:, :, :, 2:])]
    total = merge_summaries(*parts)
    assert {keras.backend.standardize_dtype(t.dtype) for t in total} == {"float32"}
    whole, given = (
        np.asarray(keras.ops.cast(y, "float32")) for y in (layer(x), layer(x, summary=total))
    )
    tolerance = (1e-5 if dtype == "float32" else 0.01) * np.abs(whole).max()
    np.testing.assert_allclose(given, whole, rtol=0, atol=tolerance)

    # A part that knows the sums of the whole answers as the whole does; not in the
    # plane at the cut where its query is a 3x3x3 convolution.
    part = np.asarray(keras.ops.cast(layer(x[:, :4], summary=total), "float32"))
    inner = part.shape[1] - (scale in ("up", "down"))
    np.testing.assert_allclose(part[:, :inner], whole[:, :inner], rtol=0, atol=tolerance)


def test_a_gvto_with_softmax_refuses_a_summary(noise):
    layer, x = GVTO(2, normalization="softmax"), noise(1, 4, 4, 4)
    layer(x)
    with pytest.raises(ValueError, match="Softmax attention has no summary"):
        layer.summarize(x)
    with pytest.raises(ValueError, match="Softmax attention has no summary"):
        layer(x, summary=(np.zeros((1, 1, 4, 4), "float32"), np.float32(16)))


@pytest.mark.parametrize(
    "config, message",
    [
        ({"scale": "upp"}, "`scale` cannot be 'upp'. Did you mean 'up'"),
        ({"version": 3}, "`version` cannot be 3"),
        ({"rank": 1}, "`rank` must be 2 .*Received: rank=1"),
        ({"filters": 6}, "GVTO of scale 'same' adds its input.*Received: 4 and 6"),
        ({"scale": "up4", "filters": 6}, "scale 'up4' adds its query.*Received: 4 and 6"),
        ({"scale": "down", "key_ratio": 0.5}, "scale 'down' adds its query.*Received: 4 and 8"),
        ({"num_heads": 3}, "`key_dim` must be a multiple of `num_heads`.*key_dim=4, num_heads=3"),
    ],
)
def test_arguments_that_do_not_fit_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        GVTO(**{"rank": 2, **config}).build((None, 4, 4, 4))


@pytest.mark.parametrize(
    "config, message",
    [
        ({"norm": "batch"}, "pass preactivation=True too.*norm='batch', preactivation=False"),
        ({"residual": True, "key_dim": 2}, "adds its query to its result.*Received: 2 and 4"),
        ({"preactivation": True, "norm": "bath"}, "`norm` cannot be 'bath'. Did you mean 'batch'"),
    ],
)
def test_arguments_of_a_global_transformer_that_do_not_fit_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        GlobalSameTransformer(**config).build((None, 4, 4, 4))
