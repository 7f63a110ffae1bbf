"""Arguments of a network from a file are of its types, and ask for layers that can be built."""

import pytest

from gvtnets_tf.models.argument_checks import check_arguments
from gvtnets_tf.models.presets import MODELS, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_arguments_pass(name):
    check_arguments("model", PRESETS[name].model, PRESETS[name].config)


@pytest.mark.parametrize(
    "name, values, message",
    [
        ("GVTNet", {"filtres": 8}, "`key of model` cannot be 'filtres'. Did you mean 'filters'?"),
        ("GVTNet", {"filters": [8]}, "`model.filters` must be a whole number. Received: [8]."),
        ("GVTNet", {"depth": None}, "`model.depth` must be a whole number. Received: None."),
        (
            "GVTNet",
            {"encoder_blocks": ["1"]},
            "`model.encoder_blocks` must be a whole number or a ",
        ),
        ("GVTNet", {"gate": 1}, "`model.gate` must be true or false. Received: 1."),
        (
            "GVTNet",
            {"key_ratio": float("nan")},
            "`model.key_ratio` must be a number. Received: nan",
        ),
        (
            "GlobalPixelTransformerNet",
            {"encoder_depths": 3},
            "`model.encoder_depths` must be a list of whole numbers. Received: 3.",
        ),
        (
            "ProjectionGVTNet",
            {"projection": 3},
            "`model.projection` must be a mapping. Received: 3.",
        ),
        (
            "ProjectionGVTNet",
            {"restoration": {"up": 3}},
            "`model.restoration.up` must be text or a list of texts. Received: 3.",
        ),
        (
            "FNet",
            {"depth": 129},
            "`model` asks for 129 levels and blocks of layers: at most 128 are",
        ),
        ("GVTNet", {"encoder_blocks": 40}, "`model` asks for 169 levels and blocks of layers"),
        ("GVTNet", {"encoder_blocks": [99, 99, 0, 0]}, "`model` asks for 207 levels and blocks"),
        ("GVTNet", {"bottom": ["gvto"] * 300}, "`model` asks for 312 levels and blocks of layers"),
        (
            "GlobalPixelTransformerNet",
            {"bottom_depth": 10**9},
            "`model` asks for 1000000021 levels",
        ),
        (
            "ProjectionGVTNet",
            {"restoration": {"depth": 3000}},
            "`model.restoration` asks for 9001 levels and blocks of layers",
        ),
    ],
)
def test_arguments_that_no_network_has_are_named(name, values, message):
    with pytest.raises(ValueError) as error:
        check_arguments("model", MODELS[name], values)
    assert message in str(error.value)
