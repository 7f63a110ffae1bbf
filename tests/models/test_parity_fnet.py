"""fnet answers as the published class does (`tests/parity`, axes NCDHW)."""

import numpy as np
import pytest
from checkpoints import Parity
from parity.weights import probe

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import preset
from gvtnets_tf.zoo.weight_names import fnet_name, from_torch, torch_shape

NOISE = 1e-6  # gradients of biases in front of a batch normalization are rounding alone


def channel_last(x):
    return np.moveaxis(x, 1, -1)


class Published:
    """The published network with the parity weights, and what it answered."""

    def __init__(self, folder, dtype="float32"):
        held = Parity(folder)
        self.state = {n: v for n, v in held.state().items() if v.ndim}  # no counters
        self.answers = held.answers("fnet")
        self.x, self.y = (channel_last(self.answers[name]) for name in "xy")
        self.model = preset("fnet", dtype=dtype)
        self.model.build(self.x.shape)
        self.weights = named_weights(self.model)

    def load(self):
        for name, value in self.state.items():
            self.weights[fnet_name(name)].assign(from_torch(value))


@pytest.fixture(scope="module")
def published(parity):
    return Published(parity)


def test_every_published_entry_is_used_once(published):
    own = {fnet_name(name): value.shape for name, value in published.state.items()}
    assert len(own) == len(published.state) == 158
    assert {n: torch_shape(tuple(w.shape)) for n, w in published.weights.items()} == own


def test_prediction_is_the_published_one(published):
    published.load()
    expected = channel_last(published.answers["output_inference"])
    np.testing.assert_allclose(published.model(published.x), expected, rtol=0, atol=1e-5)


# The published answers were computed in float32, through normalizations over as few as eight
# voxels. Exact arithmetic lies 2.3e-5 from them, another order of float32 sums 5.2e-5; some
# features then fall on the other side of a ReLU, which moves every gradient before it by
# about 0.6 % of its norm. So float64 shows that the network is the published one, more
# closely than float32 can; what no ReLU lies behind agrees to 2e-4 in both.
TOLERANCES = [("float64", 3e-5, 2e-3, 2e-2), ("float32", 1e-4, 1e-2, 4e-2)]
BEHIND = ("conv_out.", "net_recurse.sub_2conv_less.bn2.")


@pytest.mark.parametrize("dtype, output, norms, probes", TOLERANCES)
def test_training_mode_loss_and_every_gradient_are_the_published_ones(
    parity, dtype, output, norms, probes
):
    import tensorflow as tf

    published = Published(parity, dtype)
    published.load()
    names = [str(name) for name in published.answers["grad_names"]]
    with tf.GradientTape() as tape:
        y = published.model(published.x, training=True)
        loss = tf.reduce_mean(tf.square(y - published.y))
    found = tape.gradient(loss, [published.weights[fnet_name(name)].value for name in names])
    found = [np.asarray(gradient, np.float64) for gradient in found]
    expected = channel_last(published.answers["output_training"])
    np.testing.assert_allclose(y, expected, rtol=0, atol=output)
    assert float(loss) == pytest.approx(float(published.answers["loss"]), rel=1e-5)

    rows = zip(names, found, published.answers["grad_norm"], published.answers["grad_probe"])
    for name, gradient, norm, dot in rows:
        direction = from_torch(probe(name, published.state[name].shape))
        near, along = (2e-4, 2e-4) if name.startswith(BEHIND) else (norms, probes)
        assert np.linalg.norm(gradient) == pytest.approx(norm, rel=near, abs=NOISE), name
        # A dot product of many terms may cancel: its error is relative to the norm.
        error = abs(np.vdot(gradient, direction) - dot)
        assert error <= max(along * max(abs(dot), norm), NOISE), name
