"""The correlation of a training run is that of all its voxels at once."""

import re

import keras
import numpy as np
import pytest

from gvtnets_tf.evaluation.metrics import pearson
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.models.losses import LOSSES, PROBABILISTIC
from gvtnets_tf.models.metrics import PearsonR


def feed(batches, metric=None):
    metric = metric or PearsonR()
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def noisy_batches(noise, offset=0.0, sizes=(3, 1, 4)):
    """Batches of two channels whose correlations differ; the mean moves from batch to batch."""
    batches = []
    for i, size in enumerate(sizes):
        true = offset + i + noise(size, 5, 6, 2)
        batches.append((true, true * [1, -0.5] + noise(size, 5, 6, 2) * [0.5, 2]))
    return batches


def expected(batches):
    true, predicted = (np.concatenate(part).reshape(-1, 2) for part in zip(*batches))
    return np.mean([pearson(true[:, c], predicted[:, c]) for c in range(2)])


@pytest.mark.parametrize("offset", [0, 1e3, -1e4])
def test_batches_are_pooled_also_far_from_zero(noise, offset):
    batches = [
        tuple(part.astype("float32") for part in batch) for batch in noisy_batches(noise, offset)
    ]
    # The batches have other means: the mean of their correlations is far from this.
    assert feed(batches) == pytest.approx(expected(batches), abs=1e-4)
    assert abs(np.mean([feed([batch]) for batch in batches]) - expected(batches)) > 0.01


def test_many_voxels_are_counted(noise):
    rng = np.random.default_rng(1)
    batches = []
    for _ in range(8):
        true = rng.normal(1e3, 1, (2, 64, 64, 32, 1)).astype("float32")
        batches.append((true, (true + rng.normal(0, 1, true.shape)).astype("float32")))
    true, predicted = (np.concatenate(part).astype(float) for part in zip(*batches))
    assert feed(batches) == pytest.approx(pearson(true, predicted), abs=1e-4)


def test_missing_labels_are_left_out(noise):
    true, predicted = noise(2, 6, 6, 3), noise(2, 6, 6, 3)
    true[..., 1] = predicted[..., 1] + 0.5 * true[..., 1]
    true[0, ..., 0] = np.nan  # one image lacks it
    true[..., 2] = np.nan  # no image has it
    known = [
        pearson(true[1, ..., 0], predicted[1, ..., 0]),
        pearson(true[..., 1], predicted[..., 1]),
    ]
    assert feed([(true[:1], predicted[:1]), (true[1:], predicted[1:])]) == pytest.approx(
        np.mean(known), abs=1e-5
    )
    nothing = np.full_like(true, np.nan)
    assert feed([(nothing, predicted)]) == 0
    assert feed([(nothing, predicted), (true, predicted)]) == pytest.approx(
        np.mean(known), abs=1e-5
    )


def test_a_constant_counts_as_zero(noise):
    true = noise(1, 6, 6, 2)
    predicted = true * [1, 0] + [0, 0.1]
    assert feed([(true, predicted)]) == pytest.approx(0.5, abs=1e-5)
    assert feed([(0 * true, true)]) == 0
    assert PearsonR().result() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(noise, dtype):
    true = noise(4, 32, 32, 1)
    predicted = keras.ops.cast(true + noise(4, 32, 32, 1), dtype)
    known = pearson(true, keras.ops.convert_to_numpy(keras.ops.cast(predicted, "float32")))
    assert feed([(true, predicted)]) == pytest.approx(known, abs=1e-5)


def test_of_locations_and_scales_the_locations_count(noise):
    (batch,) = noisy_batches(noise, sizes=(2,))
    true, predicted = batch
    both = np.concatenate([predicted, np.exp(noise(*predicted.shape))], -1)
    assert feed([(true, both)]) == pytest.approx(expected([batch]), abs=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_of_a_distribution_its_mean_counts(noise, dtype):
    rng = np.random.default_rng(0)
    classes, logits = rng.integers(0, 5, (2, 6, 6, 2)), noise(2, 6, 6, 2, 5)
    logits += 2 * np.eye(5)[classes]
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = chances @ np.arange(5)
    classes[0, :3, :, 1] = -1
    there = classes[..., 1] >= 0
    known = [
        pearson(classes[..., 0], mean[..., 0]),
        pearson(classes[..., 1][there], mean[..., 1][there]),
    ]
    assert feed([(classes.astype(dtype), logits)]) == pytest.approx(np.mean(known), abs=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 4, 4, 6), (2, 4, 4), (2, 4, 4, 5, 5)])
def test_channels_that_do_not_fit_are_refused(noise, shape):
    text = f"one number per channel of the target.*Received: shapes {shape} and (2, 4, 4, 2)."
    text = re.escape(text).replace(r"\.\*", ".*")
    with pytest.raises(ValueError, match=text):
        PearsonR().update_state(noise(2, 4, 4, 2), noise(*shape))


def test_weights_of_samples_are_refused(noise):
    with pytest.raises(ValueError, match="takes no `sample_weight`: give it as a plain metric"):
        PearsonR().update_state(noise(2, 4), noise(2, 4), np.ones(2))


def test_it_begins_again_with_every_epoch(noise):
    metric, batches = PearsonR(), noisy_batches(noise)
    feed(batches, metric)
    metric.reset_state()
    assert feed(batches[1:], metric) == pytest.approx(expected(batches[1:]), abs=1e-5)


def test_it_is_saved_with_its_arguments():
    metric = PearsonR(name="correlation", dtype="float64")
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(twin) is PearsonR
    assert twin.get_config() == metric.get_config()
    assert (twin.name, twin.dtype) == ("correlation", "float64")


# One loss at once; the others differ in the channels of the prediction only.
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name", [pytest.param("mse", marks=SLOW), "laplace", pytest.param("gaussian", marks=SLOW)]
)
def test_fit_and_evaluate_report_it_and_a_saved_network_too(noise, tmp_path, name):
    keras.utils.set_random_seed(0)
    model = FNet(rank=2, filters=8, depth=2, scale_head=name in PROBABILISTIC)
    model.build((None, 8, 8, 1))
    model.compile(keras.optimizers.Adam(1e-4), LOSSES[name](), metrics=[PearsonR()])
    x, y = noise(6, 8, 8, 1), noise(6, 8, 8, 1)
    history = model.fit(x, y, batch_size=4, validation_data=(x, y), epochs=2, verbose=0).history
    assert history.keys() == {"loss", "r", "val_loss", "val_r"}
    known = pearson(y, model.predict(x, verbose=0)[..., :1])
    assert history["val_r"][-1] == pytest.approx(known, abs=1e-5)
    model.save(tmp_path / "m.keras")
    twin = keras.saving.load_model(tmp_path / "m.keras")
    scores = twin.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    assert scores["r"] == pytest.approx(known, abs=1e-5)
