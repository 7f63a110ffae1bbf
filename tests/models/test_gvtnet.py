import keras
import naive
import numpy as np
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_model, set_weights

from gvtnets_tf.layers import GVTO, ResidualBlock
from gvtnets_tf.models.base import ImageModel, named_weights
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import Laplace

GRIDS = {2: (8, 4), 3: (4, 8, 4)}
MIXED = {
    "filters": 4,
    "depth": 3,
    "encoder_blocks": (1, 0, 2),
    "decoder_blocks": [0, 1],
    "down": ("gvto_v1", "convolution"),
    "up": ["gvto_v2", "gvto_v1"],
    "bottom": ("gvto", "residual"),
    "skip": "concatenate",
    "norm": None,
    "head_kernel": 1,
    "head_bias": False,
    "input_residual": True,
    "scale_head": True,
    "num_heads": 2,
    "value_ratio": 0.5,
}
NARROW = {
    "rank": 2,
    "filters": 4,
    "depth": 2,
    "down": "gvto_v1",
    "up": "gvto_v1",
    "key_ratio": 0.5,
    "out_channels": 2,
    "input_residual": True,
}
SOFTMAX = {
    "filters": 2,
    "depth": 2,
    "down": "gvto_v2",
    "up": "gvto_v2",
    "bottom": "residual",
    "attention_normalization": "softmax",
    "dropout": 0.5,
    "chunk": 5,
}
EFFICIENT = {
    "filters": 4, "depth": 2, "up": "gvto_v2", "bottom": ["residual", "gvto"], "norm": "group",
    "attention_normalization": "linear_softmax", "scaled": False, "gate": True,
    "activation": "relu",
}  # fmt: skip
PLAIN = {"filters": 2, "depth": 3, "encoder_blocks": (1, 0, 0), "bottom": []}
CONFIGS = [(MIXED, 49), (NARROW, 75), (SOFTMAX, 71), (EFFICIENT, 58), (PLAIN, 61)]


@pytest.mark.parametrize(
    "rank, config, weights",
    [
        # Each configuration at once in one rank; the other rank, of the same code, is slow.
        pytest.param(
            rank, *config, marks=[pytest.mark.slow] if (rank + i) % 2 else [], id=f"{i}-{rank}"
        )
        for i, config in enumerate(CONFIGS)
        for rank in (2, 3)
    ],
)
def test_gvtnet_common_checks(noise, tmp_path, rank, config, weights):
    make = lambda **kwargs: GVTNet(**{**config, "rank": rank}, **kwargs)
    check_model(make, noise(2, *GRIDS[rank], 1), tmp_path, weights=weights)


def test_gvtnet_keeps_every_argument():
    check_arguments(GVTNet, *(config for config, _ in CONFIGS))


def test_parts_stand_where_the_arguments_say():
    net = GVTNet(**MIXED)
    assert [[type(b) for b in level] for level in net.encoder] == [
        [ResidualBlock],
        [],
        [ResidualBlock] * 2,
    ]
    assert [len(level) for level in net.decoder] == [0, 1]
    assert [getattr(part, "version", None) for part in net.downs] == [1, None]
    assert [(part.scale, part.version) for part in net.ups] == [("up", 2), ("up", 1)]
    assert [type(part) for part in net.bottoms] == [GVTO, ResidualBlock]
    assert [part.filters for part in net.downs] == [8, 16]
    assert [part.filters for part in net.ups] == [4, 8]
    assert net.divisor == (4, 4, 4)
    # In the order that they are met.
    assert list(net.operators) == ["downs.0", "bottoms.0", "ups.1", "ups.0"]


@pytest.mark.parametrize("bottom", ["gvto", ["gvto"], ("gvto",)])
def test_one_name_at_the_bottom_is_one_operator(bottom):
    assert list(GVTNet(filters=2, bottom=bottom).operators) == ["bottoms.0"]


def test_a_network_with_operators_is_the_naive_one(noise):
    net, x = GVTNet(rank=2, filters=4, depth=2, up="gvto_v2", num_heads=2), noise(2, 4, 6, 1)
    net.build(x.shape)
    set_weights(net)
    features = net.stem(x)
    skip = net.encoder[0][0](features)
    y = net.encoder[1][0](net.downs[0](skip))
    y = naive.gvto(net.bottoms[0], np.asarray(y))
    y = naive.gvto(net.ups[0], y).astype("float32") + skip
    y = net.head(net.decoder[0][0](y), x)
    np.testing.assert_allclose(net(x), y, rtol=1e-3, atol=1e-3 * np.abs(y).max())


def test_the_input_is_added_and_the_scale_is_positive(noise):
    config = {"rank": 2, "filters": 2, "depth": 2, "out_channels": 3}
    net, x = GVTNet(**config, input_residual=True, scale_head=True), noise(1, 4, 4, 1)
    plain = GVTNet(**config, scale_head=True)
    for model in (net, plain):
        model.build(x.shape)
    plain.set_weights(net.get_weights())
    y, change = np.asarray(net(x)), np.asarray(plain(x))
    assert y.shape == (1, 4, 4, 6)
    np.testing.assert_allclose(y[..., :3], change[..., :3] + x, atol=1e-6)
    np.testing.assert_array_equal(y[..., 3:], change[..., 3:])
    # With no weights left in the scale's convolution: softplus(0) + 0.001.
    net.head.scale_conv.kernel.assign(np.zeros(net.head.scale_conv.kernel.shape))
    np.testing.assert_allclose(net(x)[..., 3:], np.log(2) + 1e-3, rtol=1e-6)


def summaries_of(net, x):
    """Sums of every operator, each from what enters it in the whole image."""
    found = {}
    for name, operator in net.operators.items():
        found[name] = operator.summarize(net(x, stop_at=name, summaries=found))
    return found


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("rank", [2, 3])
def test_a_network_given_the_sums_of_the_whole_answers_the_same(noise, rank, dtype):
    config = {**MIXED, "rank": rank, "norm": "batch", "dtype": dtype}
    net, x = GVTNet(**config), noise(2, *GRIDS[rank], 1)
    net.build(x.shape)
    set_weights(net)
    expected = np.asarray(net(x))
    summaries = summaries_of(net, x)
    assert {t.dtype for summary in summaries.values() for t in summary} == {tf.float32}
    tolerance = (1e-5 if dtype == "float32" else 0.05) * np.abs(expected).max()
    np.testing.assert_allclose(net(x, summaries=summaries), expected, rtol=0, atol=tolerance)

    # Each is used: with another one, the answer is another.
    for name, (kv, count) in summaries.items():
        other = np.asarray(net(x, summaries={**summaries, name: (3 * kv, count)}))
        assert np.abs(other - expected).max() > 0, name


def test_sums_may_come_first_in_a_network_not_yet_built(noise):
    net, x = GVTNet(**NARROW), noise(1, 4, 4, 1)
    summaries = summaries_of(net, x)
    fresh = GVTNet(**NARROW)
    fresh(x, summaries=summaries)
    fresh.set_weights(net.get_weights())
    np.testing.assert_allclose(fresh(x, summaries=summaries), net(x), rtol=1e-5, atol=1e-6)


def test_sums_of_the_parts_of_each_feature_map_add_up(noise):
    net, x = GVTNet(**MIXED), noise(1, 4, 8, 8, 1)
    net.build(x.shape)
    set_weights(net)
    for name, operator in net.operators.items():
        features = net(x, stop_at=name)
        half = features.shape[3] // 2
        whole = operator.summarize(features)
        parts = zip(
            operator.summarize(features[:, :, :, :half]),
            operator.summarize(features[:, :, :, half:]),
        )
        for total, (a, b) in zip(whole, parts):
            np.testing.assert_allclose(a + b, total, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"norm": None},
        {},
        {"attention_normalization": "linear_softmax", "gate": True, "filters": 4, "norm": "layer"},
    ],
    ids=["plain", "batch norm", "linear softmax"],
)
def test_a_tile_that_knows_the_sums_of_the_whole_answers_as_the_whole(noise, rank, changes):
    config = {
        "filters": 2, "depth": 3, "encoder_blocks": (1, 1, 0), "down": "convolution",
        "up": "gvto_v2", "skip": "concatenate", "head_kernel": 1, "input_residual": True,
        "num_heads": 2,
    }  # fmt: skip
    net = GVTNet(rank=rank, **{**config, **changes})
    x = noise(1, *(4,) * (rank - 2), 4, 96, 1)
    net.build(x.shape)
    set_weights(net)
    whole, summaries = np.asarray(net(x)), summaries_of(net, x)
    tile = x[..., 24:80, :]  # answers for 48 to 56, 24 voxels from its ends
    inner = whole[..., 48:56, :]
    answer = np.asarray(net(tile, summaries=summaries))[..., 24:32, :]
    np.testing.assert_allclose(answer, inner, rtol=0, atol=1e-5 * np.abs(whole).max())

    # Without them it is wrong: that is what the sums are for.
    alone = np.asarray(net(tile))[..., 24:32, :]
    assert np.abs(alone - inner).max() > 1e-4 * np.abs(whole).max()


def test_until_gives_the_features_that_enter_an_operator(noise):
    net, x = GVTNet(**MIXED), noise(1, 4, 8, 4, 1)
    shapes = {name: net(x, stop_at=name).shape for name in net.operators}
    assert shapes == {
        "downs.0": (1, 4, 8, 4, 4),
        "bottoms.0": (1, 1, 2, 1, 16),
        "ups.1": (1, 1, 2, 1, 16),
        "ups.0": (1, 2, 4, 2, 8),
    }


@pytest.mark.parametrize("argument", [{"stop_at": "bottom.0"}, {"summaries": {"bottom.0": None}}])
def test_an_unknown_operator_is_named_with_the_nearest(noise, argument):
    with pytest.raises(ValueError, match=r"`operator` cannot be 'bottom\.0'.*'bottoms\.0'"):
        GVTNet(**PLAIN | {"bottom": "gvto"})(noise(1, 4, 4, 4, 1), **argument)


def test_an_operator_with_softmax_refuses_sums(noise):
    net, x = GVTNet(**SOFTMAX), noise(1, 2, 2, 4, 1)
    with pytest.raises(ValueError, match="Softmax attention has no summary"):
        summaries_of(net, x)
    with pytest.raises(ValueError, match="Softmax attention has no summary"):
        net(x, summaries={"ups.0": (np.zeros((1, 1, 2, 2), "float32"), np.float32(2))})


@pytest.mark.parametrize(
    "config, message",
    [
        ({"rank": 4}, r"`rank` must be 2 .*Received: rank=4"),
        ({"depth": 1}, "`depth` must be at least 2. Received: depth=1"),
        ({"down": "gvto_v3"}, r"`down` cannot be 'gvto_v3'. Did you mean 'gvto_v[12]'"),
        ({"up": "convolutoin"}, r"`up` cannot be 'convolutoin'. Did you mean 'convolution'"),
        ({"up": "residual"}, r"`up` cannot be 'residual'"),
        ({"bottom": ("gvto", "residuals")}, r"`bottom` cannot be 'residuals'.*'residual'"),
        ({"skip": "ad"}, r"`skip` cannot be 'ad'. Did you mean 'add'"),
        ({"encoder_blocks": (1, 1)}, r"`encoder_blocks` needs one.*per level \(3\).*=\(1, 1\)"),
        ({"decoder_blocks": (1, 1, 1)}, r"`decoder_blocks` needs one.*per level \(2\)"),
        ({"down": ("residual",)}, r"`down` needs one.*per level \(2\)"),
        ({"up": ("gvto_v1",) * 3}, r"`up` needs one.*per level \(2\)"),
        ({"out_channels": 3, "input_residual": True}, r"needs 1 or 3 channels. Received: 2"),
        ({"num_heads": 3}, r"`key_dim` must be a multiple of `num_heads`.*num_heads=3"),
        ({"up": "gvto_v2", "key_ratio": 0.5}, r"scale 'up' adds its query"),
        ({"chunk": 64}, r"`dropout` and `chunk` act on softmax weights.*chunk=64"),
    ],
)
def test_arguments_that_do_not_fit_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        GVTNet(**{"filters": 2, "depth": 3, **config}).build((None, 4, 4, 4, 2))


@pytest.mark.parametrize("config", [{"dropout": 0.5}, {"chunk": 8}])
def test_what_acts_on_softmax_weights_is_refused_without_them_when_it_is_made(config):
    # At once, and also in a network that has no operator to complain.
    with pytest.raises(ValueError, match="pass attention_normalization='softmax' too"):
        GVTNet(filters=2, depth=3, bottom="residual", **config)
    GVTNet(filters=2, depth=3, attention_normalization="softmax", **config)


def test_a_stack_that_cannot_be_halved_is_refused_by_name(noise):
    text = r"`images` has 14 voxels along Z.*multiple of 4: crop to 12 or pad to 16"
    with pytest.raises(ValueError, match=text):
        GVTNet(depth=3, filters=2)(noise(1, 14, 16, 16, 1))


def test_a_model_must_define_its_forward_pass():
    class Silent(ImageModel):
        rank, divisor, operators = 2, (1, 1), {}

    with pytest.raises(TypeError, match="Silent must define `forward_steps`, its forward pass"):
        Silent()(np.zeros((1, 2, 2, 1), "float32"))


def test_half_precision_keeps_the_head_in_float32():
    net = GVTNet(**MIXED, dtype="mixed_float16")
    net.build((None, 4, 4, 4, 1))
    parts = {layer.compute_dtype for layer in net._flatten_layers() if layer is not net}
    head = {layer.compute_dtype for layer in net.head._flatten_layers()}
    assert parts == {"float16", "float32"}
    assert head == {"float32"}
    assert net.bottoms[0].attention.key.compute_dtype == "float16"


def blurred_pairs(noise):
    """A toy problem: noise in, its average with the neighbours in x out."""
    x = noise(16, 8, 8, 1)
    return x, (x + np.roll(x, 1, 2) + np.roll(x, -1, 2)) / 3


@pytest.mark.parametrize(
    "scale_head",
    [pytest.param(False, marks=pytest.mark.slow, id="mse"), pytest.param(True, id="laplace")],
)
def test_a_plain_script_trains_saves_and_loads(noise, tmp_path, scale_head):
    keras.utils.set_random_seed(0)
    x, y = blurred_pairs(noise)
    model = GVTNet(
        rank=2,
        filters=4,
        depth=2,
        encoder_blocks=(1, 0),
        decoder_blocks=0,
        up="gvto_v2",
        skip="concatenate",
        scale_head=scale_head,
    )
    model.compile(keras.optimizers.Adam(1e-2), Laplace() if scale_head else "mse")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    history = model.fit(dataset, epochs=16, verbose=0).history["loss"]
    # The best constant answer scores the variance of y, 0.33.
    assert history[-1] < (0.0 if scale_head else 0.15)
    assert history[-1] < history[0]
    # Every weight learns.
    before = {name: w.numpy() for name, w in named_weights(model).items() if w.trainable}
    model.fit(dataset, verbose=0)
    after = named_weights(model)
    assert [name for name, w in before.items() if np.array_equal(after[name], w)] == []

    expected = model(x)
    model.save(tmp_path / "trained.keras")
    back = keras.saving.load_model(tmp_path / "trained.keras")
    assert (back.up, back.skip, back.scale_head) == ("gvto_v2", "concatenate", scale_head)
    np.testing.assert_allclose(back.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_learns(noise, policy):
    keras.utils.set_random_seed(0)
    x, y = blurred_pairs(noise)
    model = GVTNet(rank=2, filters=4, depth=2, encoder_blocks=0, decoder_blocks=0, dtype=policy)
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    history = model.fit(x, y, batch_size=8, epochs=6, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.5 * history[0]
