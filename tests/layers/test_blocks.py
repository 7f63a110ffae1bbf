import keras
import numpy as np
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_layer, set_weights

from gvtnets_tf.layers import DenseBlock, ResidualBlock
from gvtnets_tf.layers.blocks import PlanePooling

GRIDS = {2: (4, 6), 3: (2, 4, 6)}
RESIDUAL = [
    # A shortcut convolution where channels or grid change: the third weight.
    ({"filters": 5, "norm": None}, 2),
    ({"filters": 3, "norm": None}, 3),
    ({"filters": 5, "scale": "down"}, 11),
    ({"filters": 4, "scale": "down", "norm": None}, 3),
]
DENSE = [
    ({"depth": 2, "growth": 3, "dropout": 0.25}, 12),
    ({"depth": 3, "growth": 2, "norm": None}, 6),
]


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", RESIDUAL)
def test_residual_block_common_checks(noise, rank, config, weights):
    make = lambda **kwargs: ResidualBlock(rank, **config, **kwargs)
    check_layer(make, noise(2, *GRIDS[rank], 5), weights=weights)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", DENSE)
def test_dense_block_common_checks(noise, rank, config, weights):
    make = lambda **kwargs: DenseBlock(rank, **config, **kwargs)
    check_layer(make, noise(2, *GRIDS[rank], 5), weights=weights)


def test_plane_pooling_common_checks(noise):
    check_layer(lambda **kwargs: PlanePooling(3, **kwargs), noise(2, 2, 7, 6, 3), weights=0)


def test_blocks_keep_every_argument():
    check_arguments(ResidualBlock, *(config for config, _ in RESIDUAL))
    check_arguments(DenseBlock, *(config for config, _ in DENSE))


@pytest.mark.parametrize("filters", [3, 4], ids=["input", "convolution"])
@pytest.mark.parametrize("scale", ["same", "down"])
@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
def test_residual_block_as_the_paper_draws_it(noise, filters, scale, training):
    block, x = ResidualBlock(2, filters, scale), noise(2, 4, 6, 3)
    block.build(x.shape)
    set_weights(block)
    statistics = [w.numpy() for w in block.non_trainable_weights]
    answer = np.asarray(block(x, training=training))

    def activate(layer, x, statistics):
        mean, variance = statistics
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return np.clip(layer.gamma * (x - mean) / np.sqrt(variance + 1e-5) + layer.beta, 0, 6)

    def convolve(layer, x, strides=1):
        return tf.nn.conv2d(x, layer.kernel.value, strides, "SAME").numpy()

    strides = 2 if scale == "down" else 1
    active = activate(block.normalize_1, x, statistics[:2]).astype("float32")
    y = convolve(block.conv_1, active, strides)
    y = convolve(block.conv_2, activate(block.normalize_2, y, statistics[2:]).astype("float32"))
    if scale == "down" or filters != 3:
        y += active[:, ::strides, ::strides] @ block.shortcut.get_weights()[0]
    else:
        y += x
    np.testing.assert_allclose(answer, y, rtol=1e-4, atol=1e-5)


def test_batch_statistics_move_at_the_paper_s_pace(noise):
    block, x = ResidualBlock(2, 3), noise(2, 4, 6, 3) + 5
    block(x, training=True)
    moved = block.normalize_1.moving_mean
    np.testing.assert_allclose(moved, 0.003 * x.mean((0, 1, 2)), rtol=1e-4)


def test_every_layer_of_a_dense_block_reads_all_before(noise):
    block, x = DenseBlock(2, depth=2, growth=3, norm=None), noise(1, 4, 6, 5)
    y = np.asarray(block(x))
    np.testing.assert_array_equal(y[..., :5], x)
    first = np.maximum(block.convs[0](x), 0)
    np.testing.assert_allclose(y[..., 5:8], first, rtol=1e-5)
    second = np.maximum(block.convs[1](np.concatenate([x, first], -1)), 0)
    np.testing.assert_allclose(y[..., 8:], second, rtol=1e-5, atol=1e-6)


def test_dense_block_drops_features_while_training_only(noise):
    block, x = DenseBlock(2, depth=1, growth=8, dropout=0.5), noise(2, 8, 8, 3)
    shares = [float(np.mean(np.asarray(block(x, training=t))[..., 3:] == 0)) for t in (0, 1)]
    assert shares[0] < 0.6
    assert shares[1] > 0.7


def test_plane_pooling_is_a_3d_pool_of_height_one(noise):
    x = noise(2, 3, 8, 12, 2)
    expected = keras.ops.max_pool(x, (1, 4, 4), (1, 4, 4))
    np.testing.assert_array_equal(PlanePooling(4)(x), expected)


@pytest.mark.parametrize("make", [ResidualBlock, DenseBlock])
def test_a_rank_without_convolutions_is_refused(make):
    with pytest.raises(ValueError, match=r"`rank` must be 2 .* or 3 .*Received: rank=4"):
        make(4, 8)


def test_an_unknown_scale_is_refused_by_the_nearest_name():
    with pytest.raises(ValueError, match=r"`scale` cannot be 'donw'. Did you mean 'down'"):
        ResidualBlock(2, 8, "donw")
