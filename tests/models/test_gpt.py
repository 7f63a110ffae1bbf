import keras
import naive
import numpy as np
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_model, set_weights

from gvtnets_tf.layers.transformers import FORMS
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gpt import GlobalPixelTransformerNet, compute_widths
from gvtnets_tf.models.losses import MaskedCrossentropy
from gvtnets_tf.models.presets import preset

LEVELS = {"encoder_depths": (1, 2), "bottom_depth": 2, "decoder_depths": (2, 1)}
LEVEL = {"encoder_depths": (2,), "bottom_depth": 1, "decoder_depths": (1,)}
PAPER = {"out_channels": 2, "classes": 5, "filters": 4, "growth": 2, "dropout": 0.25, **LEVELS}
RELEASE = {
    **PAPER, **LEVEL, "classes": None, "norm": None, "transformer": "release", "chunk": 3,
}  # fmt: skip
RESIDUAL = {**PAPER, **LEVEL, "norm": "group", "transformer": "residual"}
EFFICIENT = {**FORMS["residual"], "normalization": "linear_softmax"}
BOTTOM = {**PAPER, **LEVEL, "resample": "convolution", "bottom_transformer": True}
BOTTOM["transformer"] = EFFICIENT
DENSE_UNET = {**PAPER, **LEVEL, "rank": 3, "resample": "convolution"}
UNET = {**DENSE_UNET, "rank": 2, "block": "convolution", "chunk": None}
# Per dense layer 6 weights (2 without batch norm), per 1x1 2, per transformer 6 (8 with a
# projection), per convolution with batch norm 6; levels, bottom, then stem and head.
WEIGHTS = [
    ({**PAPER, **LEVEL, "chunk": 5}, 4 * 6 + 2 * 2 + 3 * 6 + 4),
    (RELEASE, 4 * 2 + 2 * 2 + 3 * 8 + 4),
    (RESIDUAL, 4 * 4 + 2 * 2 + 3 * 11 + 4),
    (BOTTOM, 4 * 6 + 2 * 2 + 2 * 6 + 11 + 4),
    (DENSE_UNET, 4 * 6 + 2 * 2 + 2 * 6 + 4),
    (UNET, 6 * 6 + 2 * 6 + 4),
]
NAMES = ["paper", "release", "residual", "bottom", "dense U-Net in 3-D", "U-Net"]
GRIDS = {2: (8, 4), 3: (4, 8, 4)}


def make_network(config, x, **changes):
    """A network with weights away from where they begin."""
    net = GlobalPixelTransformerNet(**{**config, **changes})
    net.build(x.shape)
    set_weights(net)
    return net


@pytest.mark.parametrize(
    "config, weights",
    [
        pytest.param(*case, marks=[pytest.mark.slow] * (name == "bottom"), id=name)
        for name, case in zip(NAMES, WEIGHTS)
    ],
)
def test_gpt_common_checks(noise, tmp_path, config, weights):
    make = lambda **kwargs: GlobalPixelTransformerNet(**config, **kwargs)
    check_model(make, noise(2, *GRIDS[config.get("rank", 2)], 6), tmp_path, weights=weights)


def test_gpt_keeps_every_argument():
    check_arguments(GlobalPixelTransformerNet, PAPER, RELEASE, BOTTOM, DENSE_UNET, UNET)


# Table II.

LEFT = [  # rows of the encoder and the bottom: what leaves the row, and the dense block's layers
    (2, (64, 64, 64)),
    (4, (32, 32, 128)),
    (8, (16, 16, 256)),
    (8, (16, 16, 384)),
]
# The paper prints 165 for the second row of the decoder. Its rule gives 168: half of 288 beside
# the 128 of the skip are 272, halved 136, and two layers of 16 more are 168. From 165 the third
# row would be 89, where 90 is printed.
RIGHT = [(4, (32, 32, 288)), (2, (64, 64, 168)), (1, (128, 128, 90))]


def test_every_row_of_table_2():
    net = preset("gpt_virtual_staining")
    x = net.stem(keras.KerasTensor((1, 128, 128, 3 * 13)))
    assert x.shape == (1, 128, 128, 32)
    skips = []
    for blocks, after, (depth, shape) in zip(net.encoder, [*net.downs, *net.bottoms], LEFT):
        assert (blocks[0].depth, blocks[0].growth, blocks[0].dropout) == (depth, 16, 0.5)
        for block in blocks:
            x = block(x)
        skips.append(x.shape)
        x = after(x)
        assert x.shape == (1, *shape)
    assert [type(layer).__name__ for layer in net.downs] == ["GlobalDownTransformer"] * 3
    assert [type(layer).__name__ for layer in net.bottoms] == ["GlobalSameTransformer"]
    for level, (depth, shape) in zip((2, 1, 0), RIGHT):
        before, up = x.shape[-1], net.ups[level]
        assert type(up).__name__ == "GlobalUpTransformer"
        x = up(x)
        assert x.shape[-1] == before // 2
        joined = net.merges[level]([x, keras.KerasTensor(skips[level])])
        halve, block = net.decoder[level]
        x = halve(joined)
        assert x.shape[-1] == joined.shape[-1] // 2
        assert (block.depth, block.growth) == (depth, 16)
        x = block(x)
        assert x.shape == (1, *shape)
    assert net.head.conv(x).shape == (1, 128, 128, 8 * 256)
    assert net.head.compute_output_shape(x.shape, None) == (1, 128, 128, 8, 256)


def test_the_printed_165_is_not_what_the_rule_of_the_table_gives():
    encoder, merges, decoder = compute_widths(32, 16, (2, 4, 8), 8, (1, 2, 4))
    assert (encoder, merges, decoder) == ([64, 128, 256, 384], [74, 136, 224], [90, 168, 288])
    assert (165 // 2 + 64) // 2 + 16 == 89  # printed is 90


def test_the_parameters_of_table_2_are_those_counted_by_hand():
    def dense(channels, depth):  # 3x3 convolutions with bias; gamma and beta
        return sum((channels + 16 * i) * 9 * 16 + 16 + 2 * 16 for i in range(depth))

    def pointwise(channels, filters):
        return channels * filters + filters

    def transformer(channels, filters):  # the query's 3x3 convolution, keys and values
        return 9 * channels * filters + filters + 2 * pointwise(channels, filters)

    count = pointwise(39, 32)
    for channels, depth in ((32, 2), (64, 4), (128, 8)):
        width = channels + 16 * depth
        count += dense(channels, depth) + pointwise(width, width) + transformer(width, width)
    count += dense(256, 8) + transformer(384, 384)
    for channels, skip, depth in ((384, 256, 4), (288, 128, 2), (168, 64, 1)):
        joined = channels // 2 + skip
        count += transformer(channels, channels // 2) + pointwise(joined, joined // 2)
        count += dense(joined // 2, depth)
    count += pointwise(90, 2048)

    net = preset("gpt_virtual_staining")
    net.build((None, None, None, 39))
    assert sum(w.numpy().size for w in net.trainable_weights) == count == 5_247_190
    # Beside them two moving statistics per channel of the 29 dense layers.
    assert net.count_params() == count + 29 * 2 * 16


# What it computes.


def test_the_network_is_the_one_put_together_by_hand(noise):
    x = noise(2, 8, 4, 6)
    net = make_network(PAPER, x)

    fine = net.stem(x)
    fine = net.encoder[0][1](net.encoder[0][0](fine))  # dense block, 1x1
    half = net.downs[0](fine)
    half = net.encoder[1][1](net.encoder[1][0](half))
    coarse = net.bottoms[0](net.encoder[2][0](net.downs[1](half)))  # no 1x1 at the bottom
    y = np.concatenate([net.ups[1](coarse), half], axis=-1)
    y = net.decoder[1][1](net.decoder[1][0](y))  # 1x1, dense block, and nothing after it
    y = np.concatenate([net.ups[0](y), fine], axis=-1)
    y = net.decoder[0][1](net.decoder[0][0](y))
    kernel, bias = net.head.conv.get_weights()
    expected = (np.asarray(y) @ kernel + bias).reshape(2, 8, 4, 2, 5)
    np.testing.assert_allclose(net(x), expected, rtol=1e-4, atol=1e-4)


def test_the_steps_of_the_ablation_differ_in_their_parts(noise):
    x = noise(1, 8, 4, 6)
    nets = [
        make_network(config, x) for config in (UNET, {**DENSE_UNET, "rank": 2}, {**PAPER, **LEVEL})
    ]
    kinds = [
        [type(layer).__name__ for layer in (net.encoder[0][0], net.downs[0], net.ups[0])]
        for net in nets
    ]
    assert kinds == [
        ["ConvBlock", "ConvBlock", "ConvBlock"],
        ["DenseBlock", "ConvBlock", "ConvBlock"],
        ["DenseBlock", "GlobalDownTransformer", "GlobalUpTransformer"],
    ]
    assert [len(net.bottoms) for net in nets] == [0, 0, 1]
    shapes = [[tuple(b.shape) for b in levels(net, x)] for net in nets]
    assert shapes[0] == shapes[1] == shapes[2]


def levels(net, x):
    """Features of each level of the encoder and the bottom."""
    x = net.stem(x)
    for level, blocks in enumerate(net.encoder):
        x = net.downs[level - 1](x) if level else x
        for block in blocks:
            x = block(x)
        yield x


@pytest.mark.parametrize("config", [PAPER, RELEASE], ids=["paper", "release"])
def test_its_operators_are_softmax_attention_as_defined(noise, config):
    net = make_network(config, noise(1, 8, 4, 6))
    for layer in (net.downs[0], net.bottoms[0], net.ups[0]):
        channels = layer.attention.key.kernel.shape[0]
        x = noise(2, 4, 2, channels)
        expected = naive.attention(layer.attention, np.asarray(layer.query(x)), x)
        np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)
        paper = config is PAPER
        attention = layer.attention
        assert (attention.normalization, attention.num_heads) == ("softmax", 1)
        assert (attention.scaled, attention.result is None) == (not paper, paper)
        assert attention.dropout == (0 if paper else 0.5)
        # C_K = C_Q = C_V; the up transformer halves them.
        width = channels // 2 if layer is net.ups[0] else channels
        assert attention.key_dim == attention.value_dim == width


@pytest.mark.parametrize("chunk", [5, 8])
def test_the_chunk_changes_nothing(noise, chunk):
    x = noise(2, 8, 4, 6)

    def answer(chunk):
        net = make_network({**PAPER, **LEVEL}, x, chunk=chunk)
        with tf.GradientTape() as tape:
            y = net(x)
            loss = tf.reduce_mean(tf.sin(y))
        return [y, *tape.gradient(loss, [w.value for w in net.trainable_weights])]

    for a, b in zip(answer(chunk), answer(None), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [{**PAPER, **LEVEL}, RELEASE], ids=["paper", "release"])
def test_dropout_acts_while_training_only(noise, config):
    x = noise(1, 8, 4, 6)
    net = make_network(config, x)
    np.testing.assert_array_equal(net(x), net(x))
    assert np.abs(np.asarray(net(x, training=True)) - np.asarray(net(x, training=True))).max() > 0
    form = {**FORMS[config.get("transformer", "paper")], "dropout": 0.0}
    still = make_network(config, x, dropout=0.0, transformer=form)
    np.testing.assert_array_equal(still(x, training=True), still(x, training=True))


def test_it_keeps_no_sum_over_the_whole_image():
    # Softmax attention cannot be taken apart: nothing may ask it to be streamed.
    net = GlobalPixelTransformerNet(**PAPER)
    assert net.operators == {}
    assert net.divisor == (4, 4)


# Some labels only.


@pytest.mark.parametrize("config", [PAPER, RELEASE, UNET], ids=["paper", "release", "U-Net"])
@pytest.mark.parametrize("labels", [[2], [1, 0, 1]])
def test_a_network_of_some_labels_answers_as_the_whole_for_these(noise, config, labels):
    x = noise(2, 8, 4, 6)
    net = make_network({**config, **LEVEL}, x, out_channels=3)
    before = net.get_weights()
    part = net.select_outputs(labels)
    assert part.out_channels == len(labels)
    whole = np.asarray(net(x))
    kept = whole[..., labels, :] if config["classes"] else whole[..., labels]
    np.testing.assert_allclose(part(x), kept, rtol=1e-4, atol=1e-5)
    # It is a copy: training it leaves the whole as it was.
    for w in part.weights:
        w.assign(w * 0)
    for a, b in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_network_of_some_labels_keeps_its_precision(noise):
    net = GlobalPixelTransformerNet(**PAPER, dtype="mixed_bfloat16")
    net.build((None, None, None, 6))
    assert net.select_outputs([1]).compute_dtype == "bfloat16"


@pytest.mark.parametrize("label", [2, -1, "DAPI_CONFOCAL"])
def test_a_label_that_is_not_there_is_refused(noise, label):
    net = make_network(PAPER, noise(1, 8, 4, 6))
    with pytest.raises(ValueError, match=f"`label` cannot be {label!r}"):
        net.select_outputs([0, label])


def test_a_network_of_no_label_is_refused(noise):
    with pytest.raises(ValueError, match="`out_channels` must be at least 1"):
        make_network(PAPER, noise(1, 8, 4, 6)).select_outputs([])


def test_a_network_without_weights_has_none_to_copy():
    with pytest.raises(
        ValueError, match="has no weights yet: build it, or call it, before `select_outputs`"
    ):
        GlobalPixelTransformerNet(**PAPER).select_outputs([0])


# Training.


def test_it_learns_a_distribution_per_label_and_leaves_missing_labels_alone(noise):
    keras.utils.set_random_seed(0)
    net = GlobalPixelTransformerNet(
        out_channels=3, classes=4, filters=4, growth=4, encoder_depths=(1,), bottom_depth=1,
        decoder_depths=(1,), dropout=0.0,
    )  # fmt: skip
    x = noise(16, 8, 8, 3)
    first = np.clip(np.round(x[..., 0] + 1.5), 0, 3)
    y = np.stack([first, 3 - first, np.full_like(first, -1)], axis=-1)
    y[::2, ..., 1] = -1  # half of the images lack the second label, and all the third
    net.build(x.shape)
    kernel, bias = (w.copy() for w in net.head.conv.get_weights())
    net.compile(keras.optimizers.Adam(2e-2), MaskedCrossentropy(), jit_compile=False)
    # Variables made on the way would have the step traced a second time.
    net.optimizer.build(net.trainable_variables)
    history = net.fit(x, y.astype("int32"), epochs=20, batch_size=8, verbose=0).history["loss"]
    assert history[0] > 1 and history[-1] < 0.5 * history[0]
    found = np.asarray(net(x)).argmax(-1)
    assert (found[..., 0] == first).mean() > 0.8
    # Also where the second label was missing.
    assert (found[::2, ..., 1] == 3 - first[::2]).mean() > 0.7
    after_kernel, after_bias = net.head.conv.get_weights()
    np.testing.assert_array_equal(after_kernel[:, 8:], kernel[:, 8:])
    np.testing.assert_array_equal(after_bias[8:], bias[8:])
    assert (after_kernel[:, :8] != kernel[:, :8]).all()


# What is refused.


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rank": 4}, "`rank` must be 2 .images. or 3 .stacks.. Received: rank=4"),
        ({"block": "dence"}, "`block` cannot be 'dence'. Did you mean 'dense'"),
        ({"resample": "transformers"}, "`resample` cannot be .* Did you mean 'transformer'"),
        ({"out_channels": 0}, "`out_channels` must be at least 1. Received: out_channels=0"),
        ({"classes": 1}, "`classes` must be at least 2. Received: classes=1"),
        ({"encoder_depths": (1,)}, r"one entry per level each. Received: \(1,\) and \(2, 1\)"),
        ({"encoder_depths": (), "decoder_depths": ()}, r"one entry per level each. Received: \(\)"),
        ({"chunk": 0}, "`chunk` must be at least 1. Received: chunk=0"),
        (
            {"resample": "convolution", "transformer": "release"},
            "`transformer` is of networks with transformers.*`resample='transformer'`.*'release'",
        ),
        ({"transformer": "papers"}, "`transformer` cannot be 'papers'. Did you mean 'paper'"),
        (
            {"transformer": {"scale": True}},
            "`key of transformer` cannot be 'scale'. Did you mean 'scaled'",
        ),
        (
            {"block": "convolution", "norm": None},
            "`norm` is of dense blocks.*`block='dense'`.*norm=None",
        ),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        GlobalPixelTransformerNet(**{**PAPER, **changes}).build((None, None, None, 6))


def test_a_grid_that_cannot_be_halved_is_named(noise):
    with pytest.raises(ValueError, match="6 voxels along Y, which is not a multiple of 4"):
        GlobalPixelTransformerNet(**PAPER)(noise(1, 6, 8, 6))


def test_every_weight_has_a_name_that_says_its_role(noise):
    names = set(named_weights(make_network(PAPER, noise(1, 8, 4, 6))))
    assert {
        "stem/kernel", "encoder.0.0.convs.0/kernel", "encoder.0.0.normalizes.0/gamma",
        "encoder.0.1/kernel", "downs.0.query/kernel", "downs.0.attention.key/kernel",
        "bottoms.0.attention.value/bias", "ups.1.query/bias", "decoder.1.0/kernel",
        "head.conv/kernel",
    } <= names  # fmt: skip
