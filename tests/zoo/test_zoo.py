"""Names lead to predictors, from wherever the package lies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gvtnets_tf import folder, zoo
from gvtnets_tf.models.presets import PRESETS

FIRST = Path(__file__).parents[1] / "data_folder_v1"
SHIPPED = [name for name, about in zoo.registry().items() if about["where"] == "shipped"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_name_leads_to_a_network_as_described(name, monkeypatch, tmp_path, noise):
    monkeypatch.chdir(tmp_path)
    about, predictor = zoo.registry()[name], zoo.load(name)
    assert about["preset"] in PRESETS
    assert type(predictor.model) is PRESETS[about["preset"]].model
    assert predictor.card.axes == about["axes"]
    assert len(predictor.card.output_channels) == len(about["output"])
    assert predictor.card.licence == about["licence"]
    assert predictor.card.provenance
    image = noise(*(9,) * len(about["axes"]))
    assert predictor(image).shape == image.shape
    assert np.isfinite(predictor(image)).all()


def test_a_folder_is_loaded_and_wins_over_a_name(monkeypatch, tmp_path):
    name = SHIPPED[0]
    shutil.copytree(FIRST, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert zoo.load(name).card == zoo.load(FIRST).card == folder.read(FIRST)[1]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no model folder at .*none\."):
        zoo.load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"There is no model folder at runs/none\."):
        zoo.load("runs/none")
    name = SHIPPED[0]
    with pytest.raises(ValueError, match=f"'{name}s' is neither .* Did you mean '{name}'"):
        zoo.load(f"{name}s")
    with pytest.raises(FileNotFoundError, match=r"is not a model folder: it has no model\.json"):
        zoo.load(tmp_path)


def test_the_registry_is_plain_data():
    text = json.dumps(zoo.registry())
    assert json.loads(text) == zoo.registry()
