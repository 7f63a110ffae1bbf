import keras
import numpy as np
import pytest
import tensorflow as tf

from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import (
    CLASSES,
    LOSSES,
    MASKED,
    PROBABILISTIC,
    Gaussian,
    Laplace,
    MaskedCrossentropy,
    MaskedMSE,
)

# Two voxels: locations 1 and 5, scales 2 and 0.5; the truth is 4 and 4.
TRUE = np.array([[[4.0], [4.0]]], "float32")
PREDICTED = np.array([[[1.0, 2.0], [5.0, 0.5]]], "float32")


def test_laplace_of_two_voxels_by_hand():
    # 3 / 2 + ln 2 and 1 / 0.5 - ln 2: the logarithms cancel.
    assert float(Laplace()(TRUE, PREDICTED)) == pytest.approx((1.5 + 2.0) / 2)


def test_gaussian_of_two_voxels_by_hand():
    # 9 / 8 + ln 2 and 1 / 0.5 - ln 2.
    assert float(Gaussian()(TRUE, PREDICTED)) == pytest.approx((1.125 + 2.0) / 2)


def test_mae_and_mse_of_two_voxels_by_hand():
    assert float(LOSSES["mae"]()(TRUE, PREDICTED[..., :1])) == pytest.approx(2.0)
    assert float(LOSSES["mse"]()(TRUE, PREDICTED[..., :1])) == pytest.approx(5.0)


@pytest.mark.parametrize("loss", [Laplace(), Gaussian()])
def test_locations_come_before_scales(loss):
    true = np.array([[[1.0, 10.0]]], "float32")
    right = np.array([[[1.0, 10.0, 1.0, 1.0]]], "float32")
    assert float(loss(true, right)) == 0
    assert float(loss(true, right[..., [0, 2, 1, 3]])) > 1


@pytest.mark.parametrize("loss", [Laplace(), Gaussian()])
def test_the_best_scale_is_the_spread_of_the_error(loss):
    rng = np.random.default_rng(0)
    draw = rng.laplace if isinstance(loss, Laplace) else rng.normal
    true = draw(0, 2.0, (1, 20_000, 1)).astype("float32")
    scales = np.arange(1.0, 3.01, 0.25, "float32")
    scores = [
        float(loss(true, np.concatenate([0 * true, np.full_like(true, scale)], -1)))
        for scale in scales
    ]
    assert scales[int(np.argmin(scores))] == 2.0


@pytest.mark.parametrize("loss", PROBABILISTIC)
def test_a_model_without_scales_is_refused_by_name(loss):
    text = r"use a model with `scale_head=True`.*Received: 1 channels for a target with 1"
    with pytest.raises(ValueError, match=text):
        LOSSES[loss]()(TRUE, PREDICTED[..., :1])

    x = np.zeros((1, 4, 4, 1), "float32")
    model = GVTNet(rank=2, filters=2, depth=2)
    model.compile("sgd", LOSSES[loss]())
    with pytest.raises(ValueError, match=text):
        model.fit(x, x, verbose=0)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_has_weights(name):
    loss = LOSSES[name]()
    true, predicted = TRUE, PREDICTED if name in PROBABILISTIC else PREDICTED[..., :1]
    loss(true, predicted if name not in CLASSES else np.zeros((*TRUE.shape, 5), "float32"))
    assert not any(isinstance(value, keras.Variable) for value in vars(loss).values())
    assert not hasattr(loss, "weights")


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_losses_are_saved_by_name(name):
    loss = LOSSES[name](reduction="sum", name="mine")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is LOSSES[name]
    assert twin.get_config() == loss.get_config()
    assert float(twin(TRUE, PREDICTED)) == pytest.approx(2 * float(LOSSES[name]()(TRUE, PREDICTED)))


# Missing labels. Two pixels, two labels, three classes; the second pixel lacks the second label.
CLASS = np.array([[[0, 2], [1, -1]]])
LOGITS = np.log(
    np.array([[[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], [[0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]]])
).astype("float32")
BY_HAND = -(np.log(0.5) + np.log(0.6) + np.log(0.8)) / 3


def slope(loss, true, predicted):
    """A loss and its gradient by what was predicted."""
    predicted = tf.constant(predicted)
    with tf.GradientTape() as tape:
        tape.watch(predicted)
        y = loss(true, predicted)
    return float(y), tape.gradient(y, predicted).numpy()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_masked_crossentropy_of_two_pixels_by_hand(dtype):
    if dtype == "uint8":  # has no -1: without a missing label it is the plain mean of four
        whole = np.maximum(CLASS, 0).astype(dtype)
        expected = (3 * BY_HAND - np.log(0.3)) / 4
    else:
        whole, expected = CLASS.astype(dtype), BY_HAND
    assert float(MaskedCrossentropy()(whole, LOGITS)) == pytest.approx(expected, rel=1e-6)


def test_a_missing_label_has_no_gradient_and_the_others_theirs():
    _, found = slope(MaskedCrossentropy(), CLASS, LOGITS)
    expected = np.exp(LOGITS)
    for pixel, label in ((0, 0), (0, 1), (1, 0)):
        expected[0, pixel, label, CLASS[0, pixel, label]] -= 1
    expected[0, 1, 1] = 0
    np.testing.assert_allclose(found, expected / 3, atol=1e-6)
    assert (found[0, 1, 1] == 0).all()


def test_what_is_predicted_for_a_missing_label_does_not_matter():
    other = LOGITS.copy()
    other[0, 1, 1] = [1e4, -1e4, 7]
    for a, b in zip(*(slope(MaskedCrossentropy(), CLASS, logits) for logits in (LOGITS, other))):
        np.testing.assert_array_equal(a, b)


def test_an_image_with_fewer_labels_counts_by_its_pixels():
    # The mean is over what is there, not over images: the second gives four of six pixels.
    true = np.array([[[0, -1], [0, -1]], [[0, 0], [0, 0]]])
    logits = np.log(np.array([0.5, 0.5]) * np.ones((2, 2, 2, 1))).astype("float32")
    logits[0] = np.log([0.25, 0.75])
    expected = -(2 * np.log(0.25) + 4 * np.log(0.5)) / 6
    assert float(MaskedCrossentropy()(true, logits)) == pytest.approx(expected, rel=1e-6)


def test_masked_mse_of_two_pixels_by_hand():
    true = np.array([[[1.0, 5.0], [2.0, np.nan]]], "float32")
    predicted = np.array([[[2.0, 5.0], [5.0, 1e6]]], "float32")
    found, gradient = slope(MaskedMSE(), true, predicted)
    assert found == pytest.approx((1 + 0 + 9) / 3)
    np.testing.assert_allclose(gradient, [[[2 / 3, 0], [6 / 3, 0]]], rtol=1e-6)
    whole = np.nan_to_num(true, nan=0.0)
    assert float(MaskedMSE()(whole, predicted)) == pytest.approx(
        float(LOSSES["mse"]()(whole, predicted))
    )


@pytest.mark.parametrize(
    "name, true, predicted",
    [
        ("masked_crossentropy", np.full((1, 2, 2), -1), LOGITS),
        ("masked_mse", np.full((1, 2, 2), np.nan, "float32"), np.ones((1, 2, 2), "float32")),
    ],
)
def test_without_any_label_the_loss_and_its_gradient_are_zero(name, true, predicted):
    assert name in MASKED
    loss, gradient = slope(LOSSES[name](), true, predicted)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_masked_losses_are_the_same_in_a_graph_of_unknown_sizes(graph):
    call = MaskedCrossentropy()
    if graph:
        unknown = [tf.TensorSpec((None, None, 2), "int32"), tf.TensorSpec((None, None, 2, 3))]
        call = tf.function(call.__call__, input_signature=unknown, autograph=False)
    assert float(call(CLASS.astype("int32"), LOGITS)) == pytest.approx(BY_HAND, rel=1e-6)


def test_a_model_without_distributions_is_refused_by_name():
    text = (
        r"one axis more than the classes: use a network with `classes`.*\(1, 2, 2\) and \(1, 2, 2\)"
    )
    with pytest.raises(ValueError, match=text):
        MaskedCrossentropy()(CLASS, LOGITS[..., 0])


@pytest.mark.parametrize(
    "loss, true, predicted",
    [
        (MaskedCrossentropy, CLASS[..., :1], LOGITS),
        (MaskedCrossentropy, CLASS[:, :1], LOGITS),
        (MaskedMSE, TRUE, np.zeros((1, 2, 3), "float32")),
        (MaskedMSE, TRUE, np.zeros((1, 2, 1, 5), "float32")),
    ],
)
def test_targets_of_another_shape_are_refused(loss, true, predicted):
    with pytest.raises(ValueError, match=r"shape"):
        loss()(true, predicted)


@pytest.mark.parametrize("name", MASKED)
def test_masked_losses_are_saved_by_name(name):
    loss = LOSSES[name](reduction="sum", name="mine")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is LOSSES[name]
    assert twin.get_config() == loss.get_config()
