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
        ValueError,
        match=r"`denormalize='stored'` needs the statistics of the training targets.*use 'none', "
        r"for normalized values, or 'input'\. Received: target_statistics=\{\}, target_normalizer "
        r"of kind 'percentile'",
    ):
        Card(denormalize="stored")


STATISTICS = {"offset": [3.0, 4.0], "gain": [2.0, 5.0]}


def test_statistics_of_the_targets_go_before_the_rule_of_training():
    card = Card(target_statistics=STATISTICS, denormalize="stored")
    np.testing.assert_array_equal(card.target_affine.gain, [2, 5])
    assert Card.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    # A folder of before has them in its rule only.
    np.testing.assert_array_equal(FULL.target_affine.offset, [3, 4])
    assert Card().target_affine is None


@pytest.mark.parametrize(
    "statistics, message",
    [
        (
            {"offset": [1], "gain": [0]},
            r"target_statistics.gain` must be as many .* none of them 0",
        ),
        ({"offset": [1, 2], "gain": [1]}, r"`target_statistics.gain` must be as many numbers as"),
        ({"offset": [float("nan")], "gain": [1]}, r"`target_statistics.offset` must be a list of"),
        ({"offset": [1]}, r"`target_statistics.gain` must be a list of numbers. Received: None"),
        ({"mean": [1]}, r"`key of target_statistics` cannot be 'mean'"),
        ([1], r"`target_statistics` must be a mapping of offset, gain"),
    ],
)
def test_statistics_that_are_none_are_refused(statistics, message):
    with pytest.raises(ValueError, match=message):
        Card(target_statistics=statistics)


PLAIN, ZSCORE = Normalizer("none"), Normalizer("zscore")
RAW = {"offset": [0.0], "gain": [1.0]}


@pytest.mark.parametrize(
    "units, changes",
    [
        ("input", {"denormalize": "input"}),
        ("target", {"denormalize": "stored", "target_statistics": STATISTICS}),
        ("target", {"denormalize": "stored", "target_normalizer": FULL.target_normalizer}),
        ("normalized", {"denormalize": "none"}),
        ("normalized", {"denormalize": "none", "target_statistics": STATISTICS}),
        # Targets that were not normalized come out as they went in.
        ("target", {"denormalize": "none", "target_statistics": RAW}),
        # An input that is not normalized has no units to give.
        ("normalized", {"input_normalizer": PLAIN, "target_statistics": STATISTICS}),
        ("target", {"input_normalizer": PLAIN, "target_statistics": RAW}),
        ("input", {"input_normalizer": PLAIN}),
    ],
)
def test_a_card_says_what_predictions_count_in(units, changes):
    assert Card(**changes).units == units


@pytest.mark.parametrize(
    "values, message",
    [
        ({"axes": 3}, "`axes` must be text. Received: 3."),
        ({"axes": "TYX"}, "`axes` cannot be 'TYX'. Did you mean 'YX'?"),
        ({"output_axes": "QQ"}, "`output_axes` cannot be 'QQ'. Choose one of ['YX', 'ZYX']."),
        ({"voxel_size": {"Q": 1.0}}, "`key of voxel_size` cannot be 'Q'. Choose one of ['T', 'X'"),
        ({"voxel_size": {"Z": 0}}, "`voxel_size` must be above 0. Received: {'Z': 0.0}."),
        ({"scales": [1, -2]}, "`scales` must be above 0. Received: (1.0, -2.0)."),
        ({"scales": []}, "`scales` must be one number at least. Received: ()."),
        ({"tile": [0, 8]}, "`tile` must be above 0. Received: (0, 8)."),
        ({"tile": [8.5]}, "`tile` must be a list of whole numbers. Received: [8.5]."),
        ({"classes": 0}, "`classes` must be above 0. Received: 0."),
        ({"classes": "x"}, "`classes` must be a whole number or null. Received: 'x'."),
        ({"bytes_per_voxel": -1}, "`bytes_per_voxel` must be above 0. Received: -1.0."),
        ({"bytes_per_voxel": float("inf")}, "`bytes_per_voxel` must be a number or null. Received"),
        ({"probabilistic": "yes"}, "`probabilistic` must be true or false. Received: 'yes'."),
        ({"output_channels": "DNA"}, "`output_channels` must be a list of texts. Received: 'DNA'."),
        ({"training": 3}, "`training` must be a mapping. Received: 3."),
        ({"input_normalizer": 3}, "`input_normalizer` must be a mapping of kind, low, high, "),
        ({"input_normalizer": {"low": "1"}}, "`input_normalizer.low` must be a number. Received: "),
        (
            {"input_normalizer": {"kind": "unti"}},
            "`input_normalizer`: `normalize` cannot be 'unti'. Did you mean 'unit'?",
        ),
        ([], "`the model card` must be a mapping of axes, output_axes, "),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_does(values, message):
    with pytest.raises(ValueError) as error:
        Card.from_dict(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
