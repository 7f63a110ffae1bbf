import math

import numpy as np
import pytest

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction import compatibility, tiling
from gvtnets_tf.prediction.options import PredictionOptions
from gvtnets_tf.zoo.card import Card

DEFAULT, SCALE = PredictionOptions(), PredictionOptions(uncertainty=True)
PLAIN = Card(input_normalizer=Normalizer("none"), denormalize="none")
FLAT = PLAIN.changed(axes="YX", output_axes="YX")


class Built:
    """A network that says what it was built for."""

    def __init__(self, *shape):
        self.shape = shape

    def get_build_config(self):
        return {"input_shape": self.shape} if self.shape else None


def image(*shape, axes="ZYX", **about):
    return Image(np.zeros(shape), axes, name="cells", **about)


def test_an_image_that_fits_is_let_through():
    compatibility.check_image(image(2, 4, 4), None, PLAIN, DEFAULT)
    compatibility.check_image(image(2, 4, 4), Built(None, None, None, None, 1), PLAIN, DEFAULT)
    compatibility.check_image(image(3, 4, 4, axes="CYX"), Built(None, None, None, 3), FLAT, DEFAULT)
    compatibility.check_image(
        image(3, 4, 4, axes="CYX"), Built(None, None, None, None), FLAT, DEFAULT
    )


def test_the_scales_of_a_window_are_no_channels_of_the_image():
    card, model = FLAT.changed(scales=(1, 2, 0.5)), Built(None, None, None, 6)
    compatibility.check_image(image(2, 4, 4, axes="CYX"), model, card, DEFAULT)
    with pytest.raises(ValueError, match=r"reads 2 channels, and cells has 6 \(channel 0,"):
        compatibility.check_image(image(6, 4, 4, axes="CYX"), model, card, DEFAULT)


@pytest.mark.parametrize("card", [PLAIN.changed(classes=5), PLAIN.changed(probabilistic=True)])
def test_uncertainty_is_of_scales_or_of_distributions(card):
    compatibility.check_image(image(2, 4, 4), None, card, SCALE)
    with pytest.raises(ValueError, match=r"scale head \(loss 'laplace' or 'gaussian'\) or with cl"):
        compatibility.check_image(image(2, 4, 4), None, PLAIN, SCALE)


@pytest.mark.parametrize(
    "given, card, message",
    [
        (image(4, 4, axes="YX"), PLAIN, "reads ZYX images, and cells lacks axis Z"),
        (image(4, axes="Z"), PLAIN, "cells lacks axis Y and X"),
        (image(0, 4, 4), PLAIN, r"cells is empty. Received: shape=\(0, 4, 4\)"),
        (
            image(4, 4, axes="YX"),
            FLAT.changed(input_channels=("z0", "z1")),
            r"reads 2 channels \(z0, z1\), and cells has 1 \(channel 0\): choose with --input-ch",
        ),
        (
            image(2, 4, 4, axes="CYX"),
            FLAT.changed(denormalize="input", output_channels=("a", "b", "c")),
            r"result has 3 channels and cannot take the units of 2 \(`denormalize` is 'input'\)",
        ),
    ],
)
def test_an_image_that_the_network_cannot_read_is_named(given, card, message):
    with pytest.raises(ValueError, match=message):
        compatibility.check_image(given, None, card, DEFAULT)


def test_statistics_are_for_all_channels_or_for_one():
    given = image(2, 4, 4, axes="CYX")
    for count in (1, 2):
        statistics = Affine(np.zeros(count), np.ones(count))
        options = PredictionOptions(statistics=statistics)
        compatibility.check_image(given, None, FLAT, options)
    options = PredictionOptions(statistics=Affine(np.zeros(3), np.ones(3)))
    with pytest.raises(ValueError, match="`statistics` are for 3 channels, and cells has 2"):
        compatibility.check_image(given, None, FLAT, options)


def test_one_unit_is_for_any_number_of_channels_and_none_for_all():
    compatibility.check_units("input", 1, 5)
    compatibility.check_units("stored", 5, 5)
    compatibility.check_units("none", 3, 5)
    with pytest.raises(ValueError, match=r"5 channels and cannot take the units of 3 .*'stored'"):
        compatibility.check_units("stored", 3, 5)


def planned(shape=(16, 64, 64), tile=None):
    sizes = dict(zip("ZYX", shape))
    return tiling.plan_tiles(sizes, "ZYX", "ZYX", (8, 8, 8), tile=tile)


def test_memory_is_that_of_a_batch_of_tiles_and_of_what_is_held_besides():
    plan = planned()
    need = 100 * math.prod(plan.tile)
    compatibility.check_memory("cells", plan, 1, 100.0, 0, need)
    compatibility.check_memory("cells", plan, 2, 100.0, 50, 2 * need + 50)
    for batch, held, limit in ((1, 0, need - 1), (2, 50, 2 * need + 49)):
        with pytest.raises(ValueError, match=rf"{batch} x \(16, 64, 64\) voxels need about"):
            compatibility.check_memory("cells", plan, batch, 100.0, held, limit)


def test_the_advice_is_one_that_helps():
    plan = planned()
    with pytest.raises(ValueError, match=r"Predict in tiles with --tile 16 32 32 \(`tile=") as told:
        compatibility.check_memory("cells", plan, 1, 100.0, 0, 100 * 16 * 32 * 32)
    assert str(told.value).startswith("cells does not fit the memory: 1 x (16, 64, 64)")
    smaller = planned(tile=(16, 32, 32))
    compatibility.check_memory("cells", smaller, 1, 100.0, 0, 100 * 16 * 32 * 32)
    with pytest.raises(ValueError, match=r"No tile is small enough: allow more with --max-memory"):
        compatibility.check_memory("cells", plan, 1, 100.0, 0, 100)
    # Distributions of a band: no tile helps, fewer channels do.
    for limit in (100, 10_000_000):
        with pytest.raises(
            ValueError, match=r"fewer channels with --output-channels .*fewer windows at a t"
        ):
            compatibility.check_memory("cells", plan, 4, 100.0, 10**9, limit)


def test_a_voxel_size_that_is_not_known_is_no_reason_to_warn(recwarn):
    card = PLAIN.changed(voxel_size={"Z": 0.3, "Y": 0.1, "X": 0.1})
    compatibility.check_image(image(2, 4, 4), None, card, DEFAULT)
    compatibility.check_image(image(2, 4, 4, voxel_size={"X": 0.11}), None, card, DEFAULT)
    compatibility.check_image(image(2, 4, 4, voxel_size={"X": 1.0}), None, PLAIN, DEFAULT)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"cells has voxels of X 0.2 µm, .* trained on X 0.1 µm"):
        compatibility.check_image(image(2, 4, 4, voxel_size={"X": 0.2}), None, card, DEFAULT)
