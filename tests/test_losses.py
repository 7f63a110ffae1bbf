import keras
import numpy as np
import pytest

from gvtnets_tf.losses import LOSSES, MAE, MSE, PROBABILISTIC, Gaussian, Laplace
from gvtnets_tf.models.gvtnets import GVTNet

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
    assert float(MAE()(TRUE, PREDICTED[..., :1])) == pytest.approx(2.0)
    assert float(MSE()(TRUE, PREDICTED[..., :1])) == pytest.approx(5.0)


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
    loss(true, predicted)
    assert not any(isinstance(value, keras.Variable) for value in vars(loss).values())
    assert not hasattr(loss, "weights")


@pytest.mark.parametrize("name", PROBABILISTIC)
def test_losses_are_saved_by_name(name):
    loss = LOSSES[name](reduction="sum", name="mine")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is LOSSES[name]
    assert twin.get_config() == loss.get_config()
    assert float(twin(TRUE, PREDICTED)) == pytest.approx(2 * float(LOSSES[name]()(TRUE, PREDICTED)))
