"""The mean over four mirror images, and the tiled prediction of the fnet release."""

import itertools

import numpy as np
import pytest

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction.engines.keras import compile_model
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.prediction.tiled_network import average_flips
from gvtnets_tf.zoo.card import Card

PLAIN = Card(input_normalizer=Normalizer("none"), denormalize="none")
FLAT = PLAIN.changed(axes="YX", output_axes="YX")
TURNS = list(itertools.product((1, -1), repeat=2))


class Places:
    """A network whose answer depends on where in its tile a voxel lies."""

    divisor = (1, 2, 2)

    def __init__(self):
        self.seen, self.operators = [], {"bottom.0": None}

    def __call__(self, x):
        self.seen.append(x)
        z, y, right = (places[None, ..., None] for places in np.indices(x.shape[1:4]))
        return (x + 0.5 * z + 2 * y + 0.01 * right * y).astype(np.float32)

    def answer(self, tile):
        """What it answers one image `(z, y, x)`."""
        return self(tile[None, ..., None].astype(np.float32))[0, ..., 0]


def mean_of_turns(model, tile):
    """The definition: turn, answer, turn back, take the mean."""
    return np.mean([model.answer(tile[:, ::v, ::h])[:, ::v, ::h] for v, h in TURNS], axis=0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).poisson(100, shape).astype(np.float32)


def test_the_mean_of_four_turns_is_the_answer():
    model, x = Places(), noise(3, 6, 8)
    found = Predictor(model, PLAIN)(x, flip_average=True)
    assert len(model.seen) == 4
    for seen, (v, h) in zip(model.seen, TURNS):
        np.testing.assert_array_equal(seen[0, ..., 0], x[:, ::v, ::h])
    np.testing.assert_allclose(found, mean_of_turns(model, x), rtol=1e-6)
    assert np.abs(found - Predictor(model, PLAIN)(x)).max() > 1  # one turn says something else


def test_a_mirrored_image_gives_the_mirrored_answer():
    predictor, x = Predictor(Places(), PLAIN), noise(3, 6, 8)
    for v, h in TURNS:
        turned = predictor(x[:, ::v, ::h], flip_average=True)[:, ::v, ::h]
        np.testing.assert_allclose(turned, predictor(x, flip_average=True), rtol=1e-6)


def test_the_note_of_the_network_is_kept():
    predictor = Predictor(Places(), PLAIN)
    _, info = predictor.predict(Image(noise(4, 8, 8), "ZYX"), tile=4, flip_average=True)
    assert "bottom.0" in info["note"]


def test_scales_are_averaged_like_locations():
    def network(x):
        scale = np.broadcast_to(np.arange(x.shape[2])[:, None], x.shape[1:3])[None, ..., None]
        return np.concatenate([x, scale.astype(np.float32)], axis=-1)

    predictor = Predictor(network, FLAT.changed(probabilistic=True))
    x = noise(5, 5)
    location, scale = predictor(x, uncertainty=True, flip_average=True)
    np.testing.assert_array_equal(location, x)
    np.testing.assert_allclose(scale, 2.0)  # 0 to 4, and 4 to 0


def test_a_projection_is_turned_back_without_z():
    def project(x):
        return x.max(1) + np.arange(x.shape[3])[:, None]

    x = noise(4, 6, 8)
    found = Predictor(project, PLAIN.changed(output_axes="YX"))(x, flip_average=True)
    np.testing.assert_allclose(found, x.max(0) + 3.5)


def test_distributions_are_averaged_not_logits():
    logits = np.array([[4.0, 0.0, 0.0], [0.0, 0.0, 1.0]], np.float32)

    def network(x):  # the upper row has one distribution, the lower another
        rows = np.repeat(logits[:, None, None], x.shape[2], axis=1)
        return np.broadcast_to(rows[None], (len(x), *rows.shape)).copy()

    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    run = compile_model(network, softmax=True)
    found = average_flips(run, "YX", "YX")(noise(1, 2, 2, 1))
    np.testing.assert_allclose(found[0, :, 0, 0], np.repeat(p.mean(0)[None], 2, 0), rtol=1e-5)
    card = FLAT.changed(
        classes=3, tile=(2, 2), denormalize="none", output_channels=("dna",), bytes_per_voxel=1.0
    )
    mean = Predictor(network, card)(noise(2, 2), flip_average=True, estimate="mean")
    np.testing.assert_allclose(mean, np.full((2, 2), p.mean(0) @ [0, 0.5, 1]), rtol=1e-5)


def test_some_channels_of_a_network_are_turned_too():
    class Model:
        def select_outputs(self, channels):
            return lambda x: np.repeat(x, len(channels), -1) + np.arange(x.shape[2])[:, None]

        def __call__(self, x):
            pytest.fail("the network of the asked channels must run")

    x = noise(4, 5)
    card = FLAT.changed(output_channels=("a", "b", "c"))
    found = Predictor(Model(), card)(x, flip_average=True, output_channels=["c"])
    np.testing.assert_allclose(found, x + 2.0)


def test_a_keras_network_gives_what_four_calls_give():
    from gvtnets_tf import GVTNet

    model = GVTNet(rank=2, filters=2, depth=2, norm=None)
    model.build((None, None, None, 1))
    x = noise(8, 12)
    predictor = Predictor(model, FLAT.changed(input_normalizer=Normalizer("zscore")))
    found = predictor(x, flip_average=True)
    expected = np.mean([predictor(x[::v, ::h])[::v, ::h] for v, h in TURNS], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - predictor(x)).max() > 1e-4


def starts(length, size, overlap):
    """Where tiles begin: as far apart as the overlap allows, the last flush with the end."""
    if length <= size:
        return [0]
    return [*range(0, length - size, size - overlap), length - size]


def test_the_tiled_form_of_the_fnet_release_is_reached():
    """Tiles of 32 x 512 x 512, overlap 16, triangular weights, mean over the flips per tile."""
    model, x = Places(), noise(50, 20, 530)
    predictor = Predictor(model, PLAIN)
    image = Image(x, "ZYX")
    options = PredictionOptions(tile=(32, 512, 512), overlap=16, blend="ramp", flip_average=True)
    found, info = predictor.predict(image, options)
    assert (info["tile"], info["overlap"]) == ([32, 20, 512], [16, 0, 16])

    total, weights = np.zeros(x.shape), np.zeros(x.shape)
    count = 0
    for corner in itertools.product(*map(starts, x.shape, (32, 512, 512), (16, 16, 16))):
        place = tuple(slice(c, c + min(s, n)) for c, s, n in zip(corner, (32, 512, 512), x.shape))
        weight = np.ones(())
        for n in x[place].shape:
            i = np.arange(n)
            weight = np.multiply.outer(weight, np.minimum(i + 1, n - i))
        total[place] += weight * mean_of_turns(model, x[place])
        weights[place] += weight
        count += 1
    assert count == 6
    np.testing.assert_allclose(found.array, total / weights, rtol=1e-5)
    # The seams of this network show: the comparison could have failed.
    crop = predictor.predict(image, options, blend="crop")[0].array
    assert np.abs(crop - found.array).max() > 1
