"""A card as a page that people read."""

import pytest

from gvtnets_tf.exporting import readme
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo.card import Card

FIXED = Normalizer("fixed", offset=(100.0,), gain=(7.0,))


def page(name="", **card):
    return readme.format_page(Predictor(lambda x: x, Card(**card)), name)


@pytest.mark.parametrize(
    "card, normalized, units",
    [
        (
            {"input_normalizer": Normalizer(low=1, high=99.5)},
            "percentiles 1 and 99.5 of each image and channel become 0 and 1",
            "none; for those of the input, multiply by the difference of the percentiles 99.5 and "
            "1 of the input, and add the lower one",
        ),
        (
            {"input_normalizer": Normalizer("zscore"), "denormalize": "none"},
            "each image and channel gets mean 0 and standard deviation 1",
            "none, as the network was trained",
        ),
        (
            {
                "input_normalizer": Normalizer("zscore"),
                "denormalize": "none",
                "target_statistics": {"offset": [5.0], "gain": [2.0]},
            },
            "each image and channel gets mean 0 and standard deviation 1",
            "none, as the network was trained; for those of the training targets, multiply by "
            "[2.0], and add [5.0]",
        ),
        (
            {
                "input_normalizer": Normalizer("unit"),
                "target_normalizer": FIXED,
                "denormalize": "stored",
            },
            "the smallest and the largest value of each image and channel become -1 and 1",
            "those of the training targets, by stored values",
        ),
        (
            {"input_normalizer": FIXED},
            "stored values: offset [100.0], gain [7.0]",
            "those of the input",
        ),
        ({"input_normalizer": Normalizer("none")}, "none", "those of the input"),
    ],
)
def test_a_page_says_how_an_image_is_normalized_and_what_units_come_out(card, normalized, units):
    lines = page(**card).splitlines()
    assert f"| normalization (in the preprocessing) | {normalized} |" in lines
    assert f"| units of results | {units} |" in lines


def test_a_page_says_what_the_card_knows_and_nothing_of_the_rest():
    text = page(
        "dna", input_channels=("light",), output_channels=("DNA",), voxel_size={"Z": 0.29},
        training={"steps": 5}, provenance="a checkpoint", license="GPL-3.0",
    )  # fmt: skip
    for line in (
        "# dna (function)", "DNA out of light, axes ZYX, by function of gvtnets_tf.",
        "| voxel size | Z 0.29 µm |", "| training | steps: 5 |", "| comes from | a checkpoint |",
        "| license | GPL-3.0 |", "| input | light, axes ZYX, then channels |",
    ):  # fmt: skip
        assert line in text.splitlines()
    rest = page()
    assert "# function of gvtnets_tf" in rest
    assert not any(word in rest for word in ("voxel size", "| training", "license", "cite"))
