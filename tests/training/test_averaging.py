"""What is evaluated and saved is averaged and measured; what is trained does not notice."""

import keras
import numpy as np
import pytest
from keras import ops

from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.training.averaging import Evaluated, Measured, find_averages, find_batch_norms


def compiled(ema=None, dropout=0.3, **changes):
    """A small network that draws random numbers and has moving averages."""
    keras.utils.set_random_seed(0)
    model = GVTNet(
        rank=2, filters=2, depth=2, encoder_blocks=0, decoder_blocks=0,
        attention_normalization="softmax", dropout=dropout, **changes,
    )  # fmt: skip
    model.build((None, None, None, 1))
    average = {} if ema is None else {"use_ema": True, "ema_momentum": ema}
    model.compile(keras.optimizers.Adam(1e-2, **average), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def numbers(variables):
    return [np.array(ops.convert_to_numpy(v)) for v in variables]


def check_equal(found, expected):
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def pairs(noise):
    x = noise(8, 8, 8, 1)
    return x, 2 * x + 1


class Look(keras.callbacks.Callback):
    """Note the trained weights after each step, and what is there when an epoch is over."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(numbers(self.model.trainable_variables))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(numbers(self.model.weights))


def fit(model, pairs, evaluated=None, held=True, epochs=3):
    look, after = Look(), Look()
    called = [look]
    if evaluated:
        go_on = keras.callbacks.LambdaCallback(on_epoch_end=evaluated.go_on)
        called = [evaluated, look, go_on, after]
    history = model.fit(
        *pairs, batch_size=4, epochs=epochs, shuffle=False, verbose=0, callbacks=called,
        validation_data=pairs if held else None,
    )  # fmt: skip
    return history.history, look, after


# Averaged weights.


def test_the_average_is_evaluated_and_the_trained_weights_go_on(pairs):
    plain_history, plain, _ = fit(compiled(), pairs)
    model = compiled(ema=0.5)
    history, look, after = fit(model, pairs, Evaluated())
    # Training is that of a run without the average.
    assert history["loss"] == plain_history["loss"]
    check_equal([w for s in look.steps for w in s], [w for s in plain.steps for w in s])
    # What stands in the network at the end of an epoch is the average of its steps by hand.
    average = look.steps[0]
    for step in look.steps[1:4]:
        average = [0.5 * a + 0.5 * w for a, w in zip(average, step)]
    twin = compiled()
    twin.set_weights(look.epochs[1])
    for a, w in zip(average, numbers(twin.trainable_variables)):
        np.testing.assert_allclose(w, a, atol=1e-6)
    # It is what the validation was of, and gone when training goes on.
    score = twin.evaluate(*pairs, batch_size=4, verbose=0)
    assert history["val_loss"][1] == pytest.approx(score, rel=1e-5)
    assert abs(plain_history["val_loss"][1] / score - 1) > 1e-3
    check_equal(after.epochs[1], plain.epochs[1])


def test_without_validation_the_average_is_there_at_the_end_of_an_epoch(pairs):
    _, with_data, _ = fit(compiled(ema=0.5), pairs, Evaluated())
    _, without, after = fit(compiled(ema=0.5), pairs, Evaluated(), held=False)
    check_equal(without.epochs[2], with_data.epochs[2])
    check_equal(without.steps[5], with_data.steps[5])
    assert any((a != b).any() for a, b in zip(without.epochs[2], after.epochs[2]))


def test_averages_are_found_also_where_the_loss_is_scaled():
    model = compiled(ema=0.5, dtype="mixed_float16")
    assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    assert [v for v, _ in find_averages(model)] == model.trainable_variables
    assert find_averages(compiled()) == []


# Measured statistics.


def batch_loss(model, x, y):
    """The loss with the statistics of this batch."""
    kept = numbers(model.weights)
    score = np.mean((ops.convert_to_numpy(model(x, training=True)) - y) ** 2)
    model.set_weights(kept)
    return score


def test_after_a_few_steps_the_statistics_are_those_of_the_batches(noise):
    keras.utils.set_random_seed(0)
    model = GVTNet(rank=2, filters=4, depth=2)
    model.build((None, None, None, 1))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    assert {layer.momentum for layer in find_batch_norms(model)} == {0.997}
    x = 30 + 10 * noise(80, 8, 8, 1)
    y = x / 10
    plain = model.fit(
        x, y, batch_size=4, epochs=1, shuffle=False, verbose=0, validation_data=(x, y)
    )
    without = plain.history["val_loss"][0]
    expected = np.mean([batch_loss(model, x[i : i + 4], y[i : i + 4]) for i in range(0, 80, 4)])
    Measured(model).update(x[i : i + 4] for i in range(0, 80, 4))
    measured = model.evaluate(x, y, batch_size=4, verbose=0)
    assert measured == pytest.approx(expected, rel=0.1)
    assert not 0.5 < without / expected < 2


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_mean_and_variance_are_those_of_all_voxels(noise, rank, dtype):
    model = GVTNet(rank=rank, filters=2, depth=2, encoder_blocks=0, decoder_blocks=0, dtype=dtype)
    model.build((None, *(None,) * rank, 1))
    model.compile("sgd", "mse")
    seen, layer = [], find_batch_norms(model)[0]
    call = layer.call

    def look(inputs, **options):
        seen.append(np.array(ops.convert_to_numpy(ops.cast(inputs, "float32")), float))
        return call(inputs, **options)

    model.run_eagerly, layer.call = True, look
    batches = [i + noise(2, *(8,) * rank, 1) for i in range(3)]
    Measured(model).update(batches)
    seen = seen[-len(batches) :]  # JAX may call once more, to see a shape
    values = np.concatenate(seen).reshape(-1, seen[0].shape[-1])
    np.testing.assert_allclose(numbers([layer.moving_mean])[0], values.mean(0), rtol=1e-4)
    np.testing.assert_allclose(numbers([layer.moving_variance])[0], values.var(0), rtol=1e-4)


def test_measuring_does_not_change_what_is_trained(pairs):
    asked = []

    def read(epoch):
        asked.append(epoch)
        return (pairs[0][i : i + 4] for i in (0, 4))

    plain_history, plain, _ = fit(compiled(), pairs)
    history, look, after = fit(compiled(), pairs, Evaluated(read))
    assert asked == [0, 1, 2]
    assert history["loss"] == plain_history["loss"]
    check_equal([w for s in look.steps for w in s], [w for s in plain.steps for w in s])
    check_equal(after.epochs[2], plain.epochs[2])
    assert history["val_loss"] != plain_history["val_loss"]


def test_the_statistics_are_those_of_the_averaged_weights(pairs):
    def read(epoch):
        return [pairs[0]]

    _, look, _ = fit(compiled(ema=0.5, dropout=0.0), pairs, Evaluated(read))
    twin = compiled(dropout=0.0)
    twin.set_weights(look.epochs[2])
    Measured(twin).update(read(0))
    for a, b in zip(numbers(twin.weights), look.epochs[2]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
