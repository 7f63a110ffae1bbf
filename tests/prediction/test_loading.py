"""Names lead to predictors, from wherever the package lies."""

import json
import resource
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from gvtnets_tf import load
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.zoo import cache, model_folder, registry

FIRST = Path(__file__).parents[1] / "data_folder_v1"
SHIPPED = [name for name, about in registry.read_registry().items() if about["where"] == "shipped"]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_name_leads_to_a_network_as_described(name, monkeypatch, tmp_path, noise):
    monkeypatch.chdir(tmp_path)
    about, predictor = registry.read_registry()[name], load(name)
    assert about["preset"] in PRESETS
    assert type(predictor.model) is PRESETS[about["preset"]].model
    assert predictor.card.axes == about["axes"]
    assert len(predictor.card.output_channels) == len(about["output"])
    assert predictor.card.license == about["license"]
    assert predictor.card.provenance
    image = noise(*(9,) * len(about["axes"]))
    assert predictor(image).shape == image.shape
    assert np.isfinite(predictor(image)).all()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_network_reproduces_its_stored_output(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with np.load(cache.shipped_folder() / name / "expected.npz", allow_pickle=False) as stored:
        image, expected = stored["input"], stored["output"]
    found = load(name)(image)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))


def test_a_folder_is_loaded_and_wins_over_a_name(monkeypatch, tmp_path):
    name = SHIPPED[0]
    shutil.copytree(FIRST, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert load(name).card == load(FIRST).card == model_folder.read_model(FIRST)[1]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no model folder at .*none\."):
        load(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"There is no model folder at runs/none\."):
        load("runs/none")
    name = SHIPPED[0]
    with pytest.raises(ValueError, match=f"'{name}s' is neither .* Did you mean '{name}'"):
        load(f"{name}s")
    with pytest.raises(FileNotFoundError, match=r"is not a model folder: it has no model\.json"):
        load(tmp_path)


def test_the_registry_is_plain_data():
    text = json.dumps(registry.read_registry())
    assert json.loads(text) == registry.read_registry()


# Sizes are bounded before anything of that size is made.


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(FIRST, tmp_path / "model")


def ask(path, **arguments):
    about = json.loads((path / "model.json").read_text())
    about["arguments"] |= arguments
    (path / "model.json").write_text(json.dumps(about))


@pytest.mark.parametrize("filters", [5_000, 10**6, 10**12])
def test_a_network_that_its_file_cannot_hold_is_refused_before_memory_is_asked_for(copied, filters):
    load(copied)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB
    ask(copied, filters=filters)
    size = (copied / "weights.h5").stat().st_size
    with pytest.raises(
        ValueError, match=rf"asks for \d+ weights, and weights\.h5 has {size} bytes"
    ):
        load(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_weights_are_counted_as_they_are_without_being_made(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "HARMLESS", 0)
    (empty := tmp_path / "weights.h5").touch()
    for preset in ("label_free", "projection"):
        made = PRESETS[preset]
        model = made.build()
        model.build((None,) * 4 + (1,))
        expected = sum(int(np.prod(w.shape)) for w in named_weights(model).values())
        with pytest.raises(
            ValueError, match=rf"it asks for {expected} weights, and .* has 0 bytes"
        ):
            model_folder._check_size(empty, made.model, made.config, 1)


def test_a_network_larger_than_its_file_is_refused_where_it_is_small_by_its_names(copied):
    ask(copied, filters=8)
    with pytest.raises(ValueError, match=r"has shape .* but the network needs|does not belong"):
        load(copied)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="no longer numbers here")
def test_numbers_of_more_than_eight_bytes_are_not_read(copied):
    with h5py.File(copied / "weights.h5", "a") as store:
        values = store["stem/kernel"][()]
        del store["stem/kernel"]
        store["stem/kernel"] = values.astype(np.longdouble)
    with pytest.raises(ValueError, match=r"stem/kernel has shape .* and type float128, but"):
        load(copied)
