import json

import numpy as np
import pytest

from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.zoo.card import Card

FULL = Card(
    axes="YX",
    output_axes="YX",
    input_normalizer=Normalizer("percentile", 1.0, 99.0, scope="dataset"),
    target_normalizer=Normalizer("zscore").from_affine(
        Affine(np.array([3.0, 4.0]), np.array([2.0, 5.0]))
    ),
    denormalize="stored",
    voxel_size={"Y": 0.1, "X": 0.2},
    input_channels=("bright-field",),
    output_channels=("DNA", "ER"),
    probabilistic=True,
    bytes_per_voxel=1234.5,
    training={"steps": 100},
    provenance="a test",
    license="BSD-3-Clause",
)


@pytest.mark.parametrize("card", [Card(), FULL])
def test_a_card_survives_json(card):
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card


def test_what_a_file_does_not_say_is_the_default():
    assert Card.from_dict({}) == Card()
    assert Card.from_dict({"axes": "YX"}) == Card(axes="YX")


def test_a_changed_card_keeps_the_rest():
    changed = FULL.changed(license="CC0")
    assert (changed.license, changed.axes) == ("CC0", "YX")
    assert changed.target_normalizer == FULL.target_normalizer


def test_an_unknown_key_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"cannot be 'voxelsize'. Did you mean 'voxel_size'"):
        Card.from_dict({"voxelsize": {}})


def test_an_unknown_denormalize_is_named():
    with pytest.raises(ValueError, match=r"`denormalize` cannot be 'inputs'. Did you mean 'input'"):
        Card(denormalize="inputs")


def test_stored_units_need_stored_numbers():
    with pytest.raises(
        ValueError, match=r"`denormalize='stored'` needs .*kind 'fixed'.*'percentile'"
    ):
        Card(denormalize="stored")
