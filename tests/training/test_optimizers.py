"""The optimizer of a recipe, and how its learning rate goes."""

import keras
import numpy as np
import pytest
from small import recipe

from gvtnets_tf.training.optimizers import make_optimizer
from gvtnets_tf.training.recipe import Recipe


def make_changed(**changes):
    return make_optimizer(Recipe.parse(recipe(".", **changes)))


def rates(optimizer, steps):
    return [float(optimizer._learning_rate(step)) for step in steps]


def test_without_a_word_it_is_adam_of_keras():
    plain = keras.optimizers.Adam(4e-4)
    assert type(make_changed()) is type(plain)
    assert make_changed().get_config() | {"name": "adam"} == plain.get_config() | {"name": "adam"}
    assert float(make_changed().learning_rate) == pytest.approx(4e-4)


def test_the_arguments_are_those_of_the_recipe():
    optimizer = make_changed(
        optimizer={"beta_1": 0.5, "weight_decay": 0.1, "clipnorm": 2, "ema": 0.99}
    )
    assert isinstance(optimizer, keras.optimizers.Adam)
    config = optimizer.get_config()
    assert (config["beta_1"], config["weight_decay"], config["global_clipnorm"]) == (0.5, 0.1, 2)
    assert (config["use_ema"], config["ema_momentum"], config["clipnorm"]) == (True, 0.99, None)


def test_a_name_alone_is_enough():
    optimizer = make_changed(optimizer="adamw")
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert (optimizer.weight_decay, optimizer.use_ema) == (0.004, False)
    assert make_changed(optimizer={"name": "adamw", "weight_decay": 0.05}).weight_decay == 0.05
    assert make_changed(optimizer={"name": "adamw", "weight_decay": 0}).weight_decay == 0


def test_clipping_keeps_the_direction_of_all_gradients_together():
    optimizer = make_changed(optimizer={"clipnorm": 1.0})
    gradients = [keras.ops.array([3.0, 0.0]), keras.ops.array([4.0])]
    clipped = optimizer._clip_gradients(gradients)
    values = np.concatenate([keras.ops.convert_to_numpy(g) for g in clipped])
    np.testing.assert_allclose(values, [0.6, 0, 0.8], rtol=1e-6)


def test_the_learning_rate_goes_down_in_stairs():
    optimizer = make_changed(learning_rate={"initial": 0.1, "decay_rate": 0.5, "decay_steps": 10})
    found = rates(optimizer, (0, 9, 10, 19, 25))
    np.testing.assert_allclose(found, [0.1, 0.1, 0.05, 0.05, 0.025])
    assert optimizer.beta_1 == 0.9


def test_a_published_learning_rate_is_constant():
    optimizer = make_optimizer(Recipe.parse({"preset": "label_free"}))
    assert float(optimizer.learning_rate) == pytest.approx(1e-3)
    assert (optimizer.beta_1, optimizer.epsilon) == (0.5, 1e-8)


def test_a_cosine_rises_from_0_and_ends_at_0():
    rate = {"schedule": "cosine", "initial": 0.2, "warmup_steps": 10}
    optimizer = make_changed(learning_rate=rate, steps=50, steps_per_epoch=25)
    found = rates(optimizer, (0, 5, 10, 20, 30, 50, 60))
    quarter = 0.1 * (1 + np.cos(np.pi / 4))
    np.testing.assert_allclose(found, [0, 0.1, 0.2, quarter, 0.1, 0, 0], atol=1e-7)
    plain = make_changed(
        learning_rate={"schedule": "cosine", "initial": 0.2}, steps=50, steps_per_epoch=25
    )
    np.testing.assert_allclose(rates(plain, (0, 25, 50)), [0.2, 0.1, 0], atol=1e-7)


def test_a_cosine_ends_where_the_last_epoch_does():
    # 7 steps in epochs of at most 3 are three epochs of 3.
    rate = {"schedule": "cosine", "initial": 0.2}
    optimizer = make_changed(learning_rate=rate, steps=7, steps_per_epoch=3)
    assert rates(optimizer, (7, 9)) == pytest.approx([0.1 * (1 + np.cos(7 * np.pi / 9)), 0])
