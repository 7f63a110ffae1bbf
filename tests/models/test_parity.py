"""The three published networks answer as the released graphs do (`tests/parity`)."""

import functools

import keras
import numpy as np
import pytest
from checkpoints import Parity
from parity.weights import probe

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.losses import LOSSES, PROBABILISTIC
from gvtnets_tf.models.presets import preset
from gvtnets_tf.zoo.weight_names import own_name

CASES = {"label_free": "mse", "denoising": "laplace", "projection": "mae"}


class Published:
    """One published network with the parity weights, and what it answered."""

    def __init__(self, folder, task):
        held = Parity(folder)
        self.variables, self.answers = held.variables(task), held.answers(task)
        self.task, self.model = task, preset(task)
        self.model.build(self.answers["x"].shape)
        self.weights = named_weights(self.model)
        self.load()

    def load(self):
        for name, value in self.variables.items():
            variable = self.weights[own_name(name, self.task)]
            variable.assign(value.reshape(variable.shape))

    @functools.cached_property
    def trained(self):
        """One step in training mode, which takes seconds.

        Its answer, the weights that it leaves by own name, its loss, and gradients by
        published name in published shape.
        """
        import tensorflow as tf

        self.load()
        loss = LOSSES[CASES[self.task]]()
        with tf.GradientTape() as tape:
            y = self.model(self.answers["x"], training=True)
            value = loss(self.answers["y"], y)
        left = {name: np.array(w) for name, w in self.weights.items()}
        names = [str(n) for n in self.answers["grad_names"]]
        variables = [self.weights[own_name(n, self.task)].value for n in names]
        found = tape.gradient(value, variables)
        gradients = {
            n: np.asarray(g).reshape(self.variables[n].shape) for n, g in zip(names, found)
        }
        return np.asarray(y), left, float(value), gradients


@pytest.fixture(scope="module", params=list(CASES))
def published(request, parity):
    return Published(parity, request.param)


def test_every_published_variable_is_used_once(published):
    own = [own_name(name, published.task) for name in published.variables]
    assert sorted(own) == sorted(published.weights)
    assert len(set(own)) == len(own)


def test_prediction_is_the_published_one(published):
    published.load()
    y = np.asarray(published.model(published.answers["x"]))
    answers = published.answers
    expected = answers.get("output_inference", answers.get("output"))
    np.testing.assert_allclose(y[..., :1], expected, rtol=0, atol=1e-5)
    if "scale" in answers:
        np.testing.assert_allclose(y[..., 1:], answers["scale"], rtol=0, atol=1e-5)


def test_training_mode_moves_statistics_as_published(published):
    y, left, *_ = published.trained
    if "moved_names" not in published.answers:
        np.testing.assert_allclose(y[..., :1], published.answers["output"], rtol=0, atol=1e-5)
        return
    np.testing.assert_allclose(y, published.answers["output_training"], rtol=0, atol=1e-5)
    for name, norm in zip(published.answers["moved_names"], published.answers["moved_norm"]):
        moved = left[own_name(str(name), published.task)]
        assert np.linalg.norm(moved) == pytest.approx(norm, rel=1e-5), name


def test_loss_and_every_gradient_are_the_published_ones(published):
    *_, loss, gradients = published.trained
    assert loss == pytest.approx(float(published.answers["loss"]), rel=1e-5)
    keys = ("grad_names", "grad_norm", "grad_probe")
    names, norms, probes = (published.answers[key] for key in keys)
    for name, norm, dot in zip(map(str, names), norms, probes):
        direction = probe(name, published.variables[name].shape)
        gradient = gradients[name].astype(np.float64)
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=2e-4), name
        # A dot product of many terms may cancel: its error is relative to the norm.
        error = abs(np.vdot(gradient, direction) - dot)
        assert error <= 2e-4 * max(abs(dot), norm), name


def test_the_denoiser_without_its_scale_reproduces_the_published_mae(parity):
    published = Published(parity, "denoising")
    location = published.model(published.answers["x"])[..., :1]
    mae = float(keras.ops.mean(keras.ops.abs(location - published.answers["y"])))
    assert mae == pytest.approx(float(published.answers["mae"]), rel=1e-5)
    assert CASES["denoising"] in PROBABILISTIC


def test_a_projection_of_the_parity_case_passes_through_the_published_plane(parity):
    published = Published(parity, "projection")
    plane = published.model.project(published.answers["x"])
    np.testing.assert_allclose(plane, published.answers["projected"], rtol=0, atol=1e-5)
