"""Names, shapes and order of every preset's weights, as model folders hold them.

A model folder written today must load tomorrow, so `weight_names.json` is never changed;
a new preset is added to it by `python tests/models/test_weight_names.py`.
"""

import json
from pathlib import Path

import pytest

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import PRESETS, preset

FROZEN = Path(__file__).with_name("weight_names.json")
COUNTS = {
    "label_free": (95, 6_172_225),
    "denoising": (39, 1_347_360),
    "projection": (70, 538_873),
    "unet": (18, 2_140_032),
    "fnet": (158, 23_280_769),
    "gpt_virtual_staining": (232, 5_247_190),
    "gpt_dense_unet": (226, 2_116_726),
    "gpt_unet": (124, 7_198_660),
}
PLANES = 3 * 13  # of the published data, at three scales


def described(name):
    """Shape of each weight of a preset, by name."""
    model = preset(name)
    channels = PLANES if "scales" in PRESETS[name].training else 1
    model.build((None,) * (1 + model.rank) + (channels,))
    return model, {name: list(w.shape) for name, w in named_weights(model).items()}


@pytest.mark.parametrize("name", PRESETS)
def test_names_and_shapes_are_the_frozen_ones(name):
    frozen = json.loads(FROZEN.read_text())
    model, found = described(name)
    assert found == frozen[name]
    assert len(model.weights) == len(found) == COUNTS[name][0]
    parameters = sum(w.numpy().size for w in model.trainable_weights)
    assert parameters == COUNTS[name][1]


def test_no_preset_was_forgotten():
    assert PRESETS.keys() == COUNTS.keys() == json.loads(FROZEN.read_text()).keys()


if __name__ == "__main__":
    frozen = json.loads(FROZEN.read_text()) if FROZEN.exists() else {}
    frozen |= {name: described(name)[1] for name in PRESETS.keys() - frozen.keys()}
    rows = {
        name: ",\n".join(f'  "{w}": {shape}' for w, shape in frozen[name].items())
        for name in PRESETS
    }
    body = ",\n".join(f'"{name}": {{\n{weights}\n}}' for name, weights in rows.items())
    FROZEN.write_text(f"{{\n{body}\n}}\n")
