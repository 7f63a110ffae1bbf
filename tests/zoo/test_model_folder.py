"""A model folder keeps a network and its card, and says what is wrong with a bad one.

`data_folder_v1/` was written by the first version that had this format. It is never
written again: what it holds must load for ever, and answer what `expected.npz` holds.
"""

import errno
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from common_checks import set_weights

from gvtnets_tf import load
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.layers.base import arguments
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.projection import ProjectionGVTNet
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

FIRST = Path(__file__).parents[1] / "data_folder_v1"
CARD = Card(
    axes="YX",
    output_axes="YX",
    input_normalizer=Normalizer("percentile", low=1, high=99, scope="dataset"),
    target_normalizer=Normalizer("fixed", offset=(1, 2), gain=(3, 4)),
    denormalize="stored",
    voxel_size={"Y": 0.1, "X": 0.2},
    input_channels=("a", "b", "c"),
    output_channels=("d", "e"),
    probabilistic=True,
    bytes_per_voxel=12.5,
    training={"steps": 3},
    provenance="a test",
    license="BSD-3-Clause",
)


def network(seed=0, channels=3, **changes):
    """A network none of whose arguments is the default one."""
    config = {
        "rank": 2, "out_channels": 2, "filters": 4, "depth": 3, "encoder_blocks": (1, 0, 1),
        "decoder_blocks": 0, "down": ("gvto_v1", "convolution"), "up": "gvto_v1",
        "bottom": ("residual", "gvto"), "skip": "concatenate", "batch_norm": False,
        "head_kernel": 1, "head_bias": False, "scale_head": True, "num_heads": 2,
        "key_ratio": 0.5, "value_ratio": 2.0, "softmax": True, "chunk": 7,
    }  # fmt: skip
    model = GVTNet(**{**config, **changes})
    model.build((None,) * (1 + model.rank) + (channels,))
    set_weights(model, seed)
    return model


@pytest.fixture
def written(tmp_path):
    """A small model folder, to be spoiled."""
    model = GVTNet(filters=2, depth=2, encoder_blocks=0, decoder_blocks=0)
    model.build((None, None, None, None, 1))
    return model_folder.write_model(tmp_path / "model", model, Card())


def change(path, **changes):
    """Change some entries of a `model.json`."""
    about = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps(about | changes))


def test_what_is_written_is_read_back(tmp_path, noise):
    model = network()
    path = model_folder.write_model(tmp_path / "deep" / "model", model, CARD)
    again, card = model_folder.read_model(path)
    assert card == CARD
    assert arguments(again) == json.loads(json.dumps(arguments(model)))
    images = noise(2, 8, 12, 3)
    np.testing.assert_array_equal(again(images), model(images))
    assert sorted(p.name for p in path.iterdir()) == [".gvtnets", "model.json", "weights.h5"]


def test_a_projection_is_read_back(tmp_path, noise):
    model = ProjectionGVTNet(
        projection={"filters": 4, "collapse": "softmax"},
        restoration={"filters": 2, "depth": 2, "batch_norm": False},
    )
    model.build((None, None, None, None, 1))
    set_weights(model)
    again, _ = model_folder.read_model(
        model_folder.write_model(tmp_path / "model", model, Card(output_axes="YX"))
    )
    images = noise(1, 3, 16, 32, 1)
    np.testing.assert_array_equal(again(images), model(images))


def test_a_folder_of_the_first_version_answers_as_it_did():
    with np.load(FIRST / "expected.npz") as expected:
        location, scale = load(FIRST)(expected["x"], uncertainty=True)
        np.testing.assert_allclose(location, expected["location"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scale, expected["scale"], rtol=1e-4, atol=1e-6)


def test_the_shipped_folder_of_the_second_format_answers_as_it_did():
    folder = Path(__file__).parents[2] / "pretrained" / "simulated_denoiser"
    assert json.loads((folder / "model.json").read_text())["format"] == 2
    with np.load(folder / "expected.npz") as stored:
        expected = stored["output"]
        answer = load(folder)(stored["input"])
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))


def test_a_folder_of_the_first_version_is_rewritten_in_the_second(tmp_path):
    assert json.loads((FIRST / "model.json").read_text())["format"] == 1
    model, card = model_folder.read_model(FIRST)
    second = model_folder.write_model(tmp_path / "model", model, card)
    description = json.loads((second / "model.json").read_text())
    assert description["format"] == 2
    assert not description.keys() & {"input", "target", "undo", "licence"}
    assert model_folder.read_model(second)[1] == card
    with np.load(FIRST / "expected.npz") as expected:
        x = expected["x"]
    np.testing.assert_array_equal(load(second)(x), load(FIRST)(x))


def test_keys_of_the_first_format_are_refused_in_the_second(written):
    change(written, licence="BSD-3-Clause")
    with pytest.raises(ValueError, match=r"cannot be 'licence'\. Did you mean 'license'"):
        model_folder.read_model(written)


@pytest.mark.parametrize("channels", [1, 3])
def test_input_channels_are_those_that_the_network_was_built_for(tmp_path, channels):
    path = model_folder.write_model(tmp_path / "model", network(channels=channels), CARD)
    assert json.loads((path / "model.json").read_text())["channels"] == channels


def test_layers_compute_in_bfloat16_where_asked_and_weights_stay():
    with np.load(FIRST / "expected.npz") as expected:
        half = load(FIRST, precision="bfloat16")
        y = half(expected["x"])
        assert half.model.compute_dtype == "bfloat16"
        assert {w.dtype for w in half.model.weights} == {"float32"}
        assert 0 < np.abs(y - expected["location"]).max() < 0.1
    with pytest.raises(ValueError, match="`precision` cannot be 'float61'"):
        model_folder.read_model(FIRST, precision="float61")


def test_weights_of_half_precision_are_read(written):
    model, _ = model_folder.read_model(written)
    named = named_weights(model)
    with h5py.File(written / "weights.h5", "w") as store:
        for name, variable in named.items():
            store[name] = np.asarray(variable, np.float16)
    again, _ = model_folder.read_model(written)
    for name, variable in named_weights(again).items():
        np.testing.assert_allclose(variable, named[name], rtol=1e-3, atol=1e-7)
        assert variable.dtype == "float32"


def test_nothing_is_replaced_unless_forced(written):
    with pytest.raises(FileExistsError, match=r"model exists and is not overwritten.*--force"):
        model_folder.write_model(written, network(), CARD)
    model_folder.write_model(written, network(), CARD, force=True)
    assert model_folder.read_model(written)[1] == CARD


@pytest.mark.parametrize("target", [model_folder.WEIGHTS, model_folder.MODEL])
def test_a_full_disk_leaves_what_was_there(written, monkeypatch, target):
    before = {p.name: p.read_bytes() for p in written.iterdir()}

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if target == model_folder.WEIGHTS:
        monkeypatch.setattr(h5py.File, "__setitem__", full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    model = network(channels=1, rank=3)
    with pytest.raises(OSError, match=r"Could not write .*: No space left on device\. Nothing"):
        model_folder.write_model(written, model, CARD, force=True)
    assert {p.name: p.read_bytes() for p in written.iterdir()} == before
    assert [p.name for p in written.parent.iterdir()] == ["model"]


def test_only_known_networks_are_written(tmp_path):
    import keras

    with pytest.raises(ValueError, match="`class` cannot be 'Sequential'"):
        model_folder.write_model(tmp_path / "model", keras.Sequential(), Card())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.json", "weights.h5"])
def test_a_missing_file_is_named(written, name):
    (written / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"model is not a model folder: it has no {name}"):
        model_folder.read_model(written)
    with pytest.raises(FileNotFoundError, match="nowhere is not a model folder"):
        model_folder.read_model(written / "nowhere")


@pytest.mark.parametrize("share", [0, 0.3, 0.95])
def test_truncated_weights_are_said_to_be_so(written, share):
    data = (written / "weights.h5").read_bytes()
    (written / "weights.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"weights\.h5 cannot be read as HDF5: it is truncated"):
        model_folder.read_model(written)


def test_weights_of_another_network_are_refused(written):
    model_folder.write_weights(written / "weights.h5", named_weights(network()))
    with pytest.raises(
        ValueError, match=r"weights\.h5 does not belong to this network: \d+ weights are missing"
    ):
        model_folder.read_model(written)


def test_weights_of_another_width_are_refused(written):
    model = GVTNet(filters=4, depth=2, encoder_blocks=0, decoder_blocks=0)
    model.build((None, None, None, None, 1))
    model_folder.write_weights(written / "weights.h5", named_weights(model))
    with pytest.raises(
        ValueError,
        match=r"weights\.h5: .* has shape \(.*\) and type float32, but the network needs",
    ):
        model_folder.read_model(written)


def test_weights_that_are_no_numbers_are_refused(written):
    name, variable = next(iter(named_weights(model_folder.read_model(written)[0]).items()))
    with h5py.File(written / "weights.h5", "a") as store:
        del store[name]
        store[name] = np.full(variable.shape, b"run me")
    with pytest.raises(ValueError, match=f"{name} has shape .* and type .S6, but the network"):
        model_folder.read_model(written)


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_weights_that_point_elsewhere_are_refused(written, kind):
    name, variable = next(iter(named_weights(model_folder.read_model(written)[0]).items()))
    shape, outside = tuple(variable.shape), written.parent / "outside"
    np.zeros(shape, np.float32).tofile(outside)
    with h5py.File(written.parent / "other.h5", "w") as other:
        other["w"] = np.zeros(shape, np.float32)
    with h5py.File(written / "weights.h5", "a") as store:
        del store[name]
        if kind == "external":
            store.create_dataset(name, shape, np.float32, external=[(str(outside), 0, 4000)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[...] = h5py.VirtualSource(str(written.parent / "other.h5"), "w", shape)
            store.create_virtual_dataset(name, layout)
        else:
            store[name] = h5py.ExternalLink(str(written.parent / "other.h5"), "w")
    message = "1 weights are missing" if kind == "link" else f"{name} points into another file"
    with pytest.raises(ValueError, match=message):
        model_folder.read_model(written)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"format": 1, "cla', r"model\.json is not JSON: it is truncated or damaged"),
        ("\xff", r"model\.json is not JSON"),
        ("[]", r"model\.json must hold a JSON object\. Received: list"),
        (f'"{" " * 2**20}"', r"model\.json is larger than 1048576 bytes"),
    ],
)
def test_a_description_that_is_none_is_refused(written, text, message):
    (written / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        model_folder.read_model(written)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 3}, r"model\.json is not of format 1 or 2, .*update gvtnets_tf"),
        ({"format": None}, "is not of format 1"),
        ({"class": "GTVNet"}, r"model\.json does not describe .*Did you mean 'GVTNet'\?"),
        ({"class": "os.system"}, "`class` cannot be 'os.system'"),
        ({"arguments": {"depth": 1}}, "does not describe a network: `depth` must be at least 2"),
        ({"arguments": {"filtres": 4}}, "does not describe a network: .*filtres"),
        ({"arguments": []}, "does not describe a network"),
        ({"channels": "many"}, "does not describe a network"),
        (
            {"denormalise": "none"},
            "`key of the model card` cannot be 'denormalise'. Did you mean 'denormalize'",
        ),
        ({"input_normalizer": {"kind": "percent"}}, "Did you mean 'percentile'"),
    ],
)
def test_a_description_of_no_network_is_refused(written, changes, message):
    change(written, **changes)
    with pytest.raises(ValueError, match=message):
        model_folder.read_model(written)


def test_a_description_that_lacks_something_says_what(written):
    about = json.loads((written / "model.json").read_text())
    del about["class"]
    (written / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"does not describe a network: 'class'"):
        model_folder.read_model(written)


def test_a_folder_may_be_moved(written, tmp_path):
    shutil.move(written, tmp_path / "elsewhere")
    model_folder.read_model(tmp_path / "elsewhere")
