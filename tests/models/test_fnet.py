import keras
import numpy as np
import pytest
from common_checks import check_arguments, check_model, set_weights

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.training.preparation import build_network
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

SMALL = {"filters": 4, "depth": 3}
SCALED = {"rank": 2, "out_channels": 2, "filters": 4, "depth": 2, "scale_head": True}
GRIDS = {2: (8, 4), 3: (4, 8, 4)}


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", [(SMALL, 86), (SCALED, 52)], ids=["small", "scaled"])
def test_fnet_common_checks(noise, tmp_path, rank, config, weights):
    make = lambda **kwargs: FNet(**{**config, "rank": rank}, **kwargs)
    check_model(make, noise(2, *GRIDS[rank], 1), tmp_path, weights=weights)


def test_fnet_keeps_every_argument():
    check_arguments(FNet, SMALL, SCALED)


def test_depth_counts_levels_as_in_gvtnet():
    net = FNet(filters=2, depth=3)
    assert net.divisor == (4, 4, 4)
    assert [block.filters for level in net.encoder for block in level] == [2, 2, 4, 4, 8, 8]
    assert [len(part) for part in (net.downs, net.ups, net.merges, net.decoder)] == [2] * 4
    assert FNet().divisor == (16, 16, 16)


def test_the_network_is_the_one_put_together_by_hand(noise):
    net, x = FNet(rank=2, filters=3, depth=2), noise(2, 4, 6, 1)
    net.build(x.shape)
    set_weights(net)

    def pair(blocks, x):
        return blocks[1](blocks[0](x))

    skip = pair(net.encoder[0], x)
    up = net.ups[0](pair(net.encoder[1], net.downs[0](skip)))
    joined = np.concatenate([skip, up], axis=-1)  # the skip comes first
    expected = net.head.location_conv(pair(net.decoder[0], joined))
    np.testing.assert_allclose(net(x), expected, rtol=1e-5, atol=1e-5)


def test_a_block_is_convolution_batch_norm_relu(noise):
    net, x = FNet(rank=2, filters=3, depth=2), noise(2, 4, 6, 1)
    net.build(x.shape)
    set_weights(net)
    block = net.downs[0]
    features = noise(2, 4, 6, 3)
    kernel, bias = (np.asarray(w) for w in (block.conv.kernel, block.conv.bias))
    tiles = features.reshape(2, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    y = np.einsum("nyxabc,abcd->nyxd", tiles, kernel) + bias
    norm = block.normalize
    y = (y - norm.moving_mean) / np.sqrt(np.asarray(norm.moving_variance) + 1e-5)
    y = np.maximum(y * norm.gamma + norm.beta, 0)
    np.testing.assert_allclose(block(features), y, rtol=1e-4, atol=1e-5)
    assert norm.momentum == pytest.approx(0.9)


def test_kernels_start_as_in_the_release():
    net = FNet(filters=16, depth=3)
    net.build((None,) * 4 + (1,))
    named = {name: np.asarray(w) for name, w in named_weights(net).items()}
    for name, w in named.items():
        if name.endswith("kernel") and w.size > 5000:
            assert w.std() == pytest.approx(0.02, rel=0.1), name
            assert abs(w.mean()) < 0.001, name
    gammas = np.concatenate([w for name, w in named.items() if name.endswith("gamma")])
    assert gammas.mean() == pytest.approx(1, abs=0.005)
    assert gammas.std() == pytest.approx(0.02, rel=0.2)
    assert all(not w.any() for name, w in named.items() if name.endswith("bias"))
    # Layers of one shape do not start alike.
    assert not np.array_equal(named["encoder.0.1.conv/kernel"], named["decoder.0.1.conv/kernel"])


def test_the_scale_is_positive_and_comes_last(noise):
    net, x = FNet(**SCALED), 9 * noise(1, 4, 4, 1)
    net.build(x.shape)
    set_weights(net)
    y = np.asarray(net(x))
    assert y.shape == (1, 4, 4, 4)
    assert y[..., 2:].min() >= 1e-3 > y[..., :2].min()


def test_it_learns(noise):
    keras.utils.set_random_seed(0)
    x, net = noise(4, 8, 8, 1), FNet(rank=2, filters=4, depth=2)
    net.build(x.shape)
    net.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
    # Variables made on the way would have the step traced a second time.
    net.optimizer.build(net.trainable_variables)
    history = net.fit(x, x**2, epochs=20, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]


def test_a_recipe_builds_it_with_the_published_numbers():
    recipe = Recipe.parse({"preset": "fnet", "model": {"filters": 2, "depth": 2}})
    assert (recipe.patch_size, recipe.batch_size, recipe.steps) == ((32, 64, 64), 24, 50_000)
    adam = {"beta_1": 0.5, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": None}
    assert vars(recipe.optimizer) == {"name": "adam", "clipnorm": None, "ema": None, **adam}
    rules = recipe.normalize
    assert (rules.input.kind, rules.target.kind) == ("zscore", "zscore")
    assert rules.denormalize == "stored"  # not published: the units of the targets
    net = build_network(recipe, (3, 2))
    assert net(np.zeros((1, 2, 2, 2, 3), "float32")).shape == (1, 2, 2, 2, 2)
    assert build_network(recipe.changed(loss="laplace"), (1, 2)).scale_head


def test_a_model_folder_keeps_it(noise, tmp_path):
    net, x = FNet(**SCALED), noise(1, 4, 4, 3)
    net.build((None, None, None, 3))
    set_weights(net)
    card = Card(axes="YX", output_axes="YX", probabilistic=True)
    back, _ = model_folder.read_model(model_folder.write_model(tmp_path / "model", net, card))
    assert isinstance(back, FNet)
    np.testing.assert_allclose(back(x), net(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"rank": 4}, "`rank` must be 2 (images) or 3 (stacks). Received: rank=4."),
        ({"depth": 1}, "`depth` must be at least 2. Received: depth=1."),
    ],
)
def test_what_does_not_fit_is_named(config, message):
    with pytest.raises(ValueError) as error:
        FNet(**config)
    assert str(error.value) == message


def test_a_grid_that_cannot_be_halved_is_named(noise):
    net = FNet(filters=2, depth=3)
    with pytest.raises(ValueError, match="6 voxels along Z, which is not a multiple of 4"):
        net(noise(1, 6, 8, 8, 1))
