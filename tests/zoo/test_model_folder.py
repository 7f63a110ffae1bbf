"""A model folder keeps a network and its card, and says what is wrong with a bad one.

`data_folder_v1/` was written by the first version that had this format. It is never
written again: what it holds must load for ever, and answer what `expected.npz` holds.
"""

import errno
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import h5py
import numpy as np
import pytest
from common_checks import set_weights

from gvtnets_tf import load
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.layers.base import arguments
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gpt import GlobalPixelTransformerNet
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
        "bottom": ("residual", "gvto"), "skip": "concatenate", "norm": None,
        "head_kernel": 1, "head_bias": False, "scale_head": True, "num_heads": 2,
        "key_ratio": 0.5, "value_ratio": 2.0, "attention_normalization": "softmax", "chunk": 7,
    }  # fmt: skip
    model = GVTNet(**{**config, **changes})
    model.build((None,) * (1 + model.rank) + (channels,))
    set_weights(model, seed)
    return model


def small(filters=2):
    model = GVTNet(filters=filters, depth=2, encoder_blocks=0, decoder_blocks=0)
    model.build((None, None, None, None, 1))
    return model


@pytest.fixture
def written(tmp_path):
    """A small model folder, to be spoiled."""
    return model_folder.write_model(tmp_path / "model", small(), Card())


@pytest.fixture
def unsealed(written):
    """One that says nothing of the digest of its weights, as those written before."""
    change(written, sha256=[])
    return written


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
        restoration={"filters": 2, "depth": 2, "norm": None},
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


def test_a_folder_of_the_first_version_is_rewritten_in_the_present_one(tmp_path):
    assert json.loads((FIRST / "model.json").read_text())["format"] == 1
    model, card = model_folder.read_model(FIRST)
    assert (model.norm, model.attention_normalization) == (None, "none")
    second = model_folder.write_model(tmp_path / "model", model, card)
    description = json.loads((second / "model.json").read_text())
    assert description["format"] == 3
    assert not description.keys() & {"input", "target", "undo", "licence"}
    assert model_folder.read_model(second)[1] == card
    with np.load(FIRST / "expected.npz") as expected:
        x = expected["x"]
    np.testing.assert_array_equal(load(second)(x), load(FIRST)(x))


# Names of arguments that only formats 1 and 2 have; and arguments of both, with those of format 3.
SECOND = {"batch_norm", "softmax", "scaled", "attention_dropout", "project"}
RENAMED = [
    (
        GVTNet,
        {"rank": 2, "filters": 2, "depth": 2, "batch_norm": True, "softmax": True, "chunk": 7},
        {"norm": "batch", "attention_normalization": "softmax", "chunk": 7},
    ),
    (
        ProjectionGVTNet,
        {
            "projection": {"filters": 2},
            "restoration": {"filters": 2, "depth": 2, "batch_norm": False, "softmax": False},
        },
        {
            "restoration": {
                "filters": 2, "depth": 2, "norm": None, "attention_normalization": "none",
            },
        },
    ),
    (
        GlobalPixelTransformerNet,
        {
            "filters": 4, "growth": 2, "encoder_depths": [1], "decoder_depths": [1],
            "bottom_depth": 1, "batch_norm": False, "scaled": True, "attention_dropout": 0.5,
            "project": True,
        },
        {"norm": None, "transformer": {"scaled": True, "dropout": 0.5, "project": True}},
    ),
    (
        GlobalPixelTransformerNet,
        {
            "filters": 4, "growth": 2, "encoder_depths": [1], "decoder_depths": [1],
            "bottom_depth": 1, "batch_norm": True, "scaled": False, "attention_dropout": 0.0,
            "project": False,
        },
        {"norm": "batch", "transformer": "paper"},
    ),
]  # fmt: skip


@pytest.mark.parametrize("model_class, old, new", RENAMED)
def test_a_folder_of_the_second_format_loads_with_the_arguments_of_the_third(
    tmp_path, model_class, old, new
):
    kept = {k: v for k, v in old.items() if k not in SECOND}
    model = model_class(**{**kept, **new})
    model.build((None, *(None,) * model.rank, 1))
    path = model_folder.write_model(tmp_path / "model", model, CARD)
    description = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**description, "format": 2, "arguments": old}))
    loaded, _ = model_folder.read_model(path)
    assert {name: getattr(loaded, name) for name in new} == new


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


def test_weights_of_half_precision_are_read(unsealed):
    model, _ = model_folder.read_model(unsealed)
    named = named_weights(model)
    with h5py.File(unsealed / "weights.h5", "w") as store:
        for name, variable in named.items():
            store[name] = np.asarray(variable, np.float16)
    again, _ = model_folder.read_model(unsealed)
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


@pytest.mark.parametrize("share", [0, 0.3, 0.95, 1.1])
def test_weights_that_are_not_those_of_the_folder_are_refused(written, share):
    data = (written / "weights.h5").read_bytes()
    (written / "weights.h5").write_bytes((data + bytes(1000))[: int(share * len(data))])
    with pytest.raises(ValueError) as error:
        model_folder.read_model(written)
    assert str(error.value) == (
        f"{written / 'weights.h5'} is not the file that model.json was written for: its SHA-256 is "
        f"not among `sha256` there. It was damaged or replaced: copy or fetch the folder again. If "
        f"you changed the weights yourself, remove `sha256`."
    )


def test_a_changed_byte_of_the_weights_is_noticed_wherever_it_is(written):
    data = (written / "weights.h5").read_bytes()
    assert json.loads((written / "model.json").read_text())["sha256"] == [sha256(data).hexdigest()]
    for place in (0, len(data) // 2, len(data) - 1):
        spoiled = bytearray(data)
        spoiled[place] ^= 1
        (written / "weights.h5").write_bytes(spoiled)
        with pytest.raises(ValueError, match=r"is not the file that model\.json was written for"):
            model_folder.read_model(written)


def test_a_kill_between_the_two_files_leaves_a_folder_that_loads(written, monkeypatch):
    before, replace = (written / "weights.h5").read_bytes(), os.replace

    def die(source, target):
        if Path(target).name == "weights.h5":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", die)
    model = small()
    set_weights(model, 3)
    with pytest.raises(KeyboardInterrupt):
        model_folder.save_model(written, model, Card(provenance="second"))
    monkeypatch.undo()
    assert (written / "weights.h5").read_bytes() == before
    assert model_folder.read_model(written)[1].provenance == "second"
    model_folder.save_model(written, model, Card())
    again, _ = model_folder.read_model(written)
    for name, variable in named_weights(again).items():
        np.testing.assert_array_equal(variable, named_weights(model)[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_neither_written_nor_read(unsealed, value):
    model, before = small(), (unsealed / "weights.h5").read_bytes()
    name, variable = next(iter(named_weights(model).items()))
    spoiled = np.array(variable)
    spoiled.flat[0] = value
    variable.assign(spoiled)
    said = f"{name} holds 1 values that are NaN or infinite, out of {spoiled.size}"
    with pytest.raises(ValueError, match=f"not written: {said}. Lower `learning_rate`"):
        model_folder.save_model(unsealed, model, Card())
    assert (unsealed / "weights.h5").read_bytes() == before
    with h5py.File(unsealed / "weights.h5", "a") as store:
        store[name][...] = spoiled
    with pytest.raises(ValueError, match=rf"weights\.h5: {said}\."):
        model_folder.read_model(unsealed)


@pytest.mark.parametrize("kind", ["group", "superblock", "heap"])
def test_damaged_weights_are_one_line(unsealed, kind):
    file = unsealed / "weights.h5"
    if kind == "group":  # 1000 of them once took six seconds, 4000 two minutes
        with h5py.File(file, "a") as store:
            store.create_group("/".join(["g"] * 300))
    else:
        data = bytearray(file.read_bytes())
        start = {"superblock": 8, "heap": data.index(b"HEAP")}[kind]
        data[start : start + 40] = bytes(40)
        file.write_bytes(data)
    message = (
        "1 have no place \\(g\\)" if kind == "group" else "cannot be read as HDF5: it is trunc"
    )
    with pytest.raises(ValueError, match=message) as error:
        model_folder.read_model(unsealed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0, 0.3, 0.95])
def test_truncated_weights_are_said_to_be_so(unsealed, share):
    data = (unsealed / "weights.h5").read_bytes()
    (unsealed / "weights.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"weights\.h5 cannot be read as HDF5: it is truncated"):
        model_folder.read_model(unsealed)


def test_weights_of_another_network_are_refused(unsealed):
    model_folder.write_weights(unsealed / "weights.h5", named_weights(network()))
    with pytest.raises(
        ValueError, match=r"weights\.h5 does not belong to this network: \d+ weights are missing"
    ):
        model_folder.read_model(unsealed)


def test_weights_of_another_width_are_refused(unsealed):
    model_folder.write_weights(unsealed / "weights.h5", named_weights(small(filters=4)))
    with pytest.raises(
        ValueError,
        match=r"weights\.h5: .* has shape \(.*\) and type float32, but the network needs",
    ):
        model_folder.read_model(unsealed)


def test_weights_that_are_no_numbers_are_refused(unsealed):
    name, variable = next(iter(named_weights(model_folder.read_model(unsealed)[0]).items()))
    with h5py.File(unsealed / "weights.h5", "a") as store:
        del store[name]
        store[name] = np.full(variable.shape, b"run me")
    with pytest.raises(ValueError, match=f"{name} has shape .* and type .S6, but the network"):
        model_folder.read_model(unsealed)


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_weights_that_point_elsewhere_are_refused(unsealed, kind):
    name, variable = next(iter(named_weights(model_folder.read_model(unsealed)[0]).items()))
    shape, outside = tuple(variable.shape), unsealed.parent / "outside"
    np.zeros(shape, np.float32).tofile(outside)
    with h5py.File(unsealed.parent / "other.h5", "w") as other:
        other["w"] = np.zeros(shape, np.float32)
    with h5py.File(unsealed / "weights.h5", "a") as store:
        del store[name]
        if kind == "external":
            store.create_dataset(name, shape, np.float32, external=[(str(outside), 0, 4000)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[...] = h5py.VirtualSource(str(unsealed.parent / "other.h5"), "w", shape)
            store.create_virtual_dataset(name, layout)
        else:
            store[name] = h5py.ExternalLink(str(unsealed.parent / "other.h5"), "w")
    message = "1 weights are missing" if kind == "link" else f"{name} points into another file"
    with pytest.raises(ValueError, match=message):
        model_folder.read_model(unsealed)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"format": 1, "cla', r"model\.json is not JSON: it is truncated or damaged"),
        ("\xff", r"model\.json is not JSON"),
        ("[]", r"model\.json must hold a JSON object\. Received: list"),
        (f'"{" " * 2**20}"', r"model\.json is larger than 1048576 bytes"),
        ("[" * 200_000, r"model\.json is not JSON: .* inside each other, more than 32 deep"),
        ('{"a":' * 20_000, r"model\.json is not JSON: .* inside each other, more than 32 deep"),
        ('{"a":' * 33 + "1" + "}" * 33, r"model\.json is not JSON: .* more than 32 deep"),
    ],
)
def test_a_description_that_is_none_is_refused(written, text, message):
    (written / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        model_folder.read_model(written)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"format": 4}, r"model\.json is not of format 1 to 3, .*update gvtnets_tf"),
        ({"format": None}, "is not of format 1"),
        ({"class": "GTVNet"}, r"model\.json does not describe .*Did you mean 'GVTNet'\?"),
        ({"class": "os.system"}, "`class` cannot be 'os.system'"),
        ({"arguments": {"depth": 1}}, "does not describe a network: `depth` must be at least 2"),
        (
            {"arguments": {"depth": 3000}},
            "a network: `arguments` asks for 9001 levels and blocks of layers: at most 128 are",
        ),
        ({"arguments": {"bottom": ["gvto"] * 300}}, "`arguments` asks for 312 levels and blocks"),
        ({"arguments": {"filters": "8"}}, "`arguments.filters` must be a whole number. Received"),
        ({"arguments": {"bottom": {}}}, "`arguments.bottom` must be text or a list of texts. Rec"),
        ({"arguments": {"chunk": "x"}}, "`arguments.chunk` must be a whole number or null. Rece"),
        ({"arguments": 3}, "`arguments` must be a mapping. Received: 3."),
        ({"class": [1]}, r"`class` cannot be \[1\]"),
        ({"channels": True}, "`channels` must be a whole number. Received: True."),
        ({"channels": 0}, "`channels` must be at least 1. Received: channels=0."),
        ({"sha256": "0"}, "`sha256` must be a list of texts. Received: '0'."),
        ({"axes": 3}, "`axes` must be text. Received: 3."),
        ({"input_channels": [1]}, r"`input_channels` must be a list of texts. Received: \[1\]."),
        ({"voxel_size": [1]}, r"`voxel_size` must be a mapping. Received: \[1\]."),
        (
            {"target_normalizer": {"kind": "fixed", "offset": [float("nan")], "gain": [1]}},
            r"`target_normalizer.offset` must be a list of numbers or a number. Received: \[nan\].",
        ),
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
    with pytest.raises(ValueError, match=message) as error:
        model_folder.read_model(written)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_description_that_lacks_something_says_what(written):
    about = json.loads((written / "model.json").read_text())
    del about["class"]
    (written / "model.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"does not describe a network: 'class'"):
        model_folder.read_model(written)


def test_a_folder_may_be_moved(written, tmp_path):
    shutil.move(written, tmp_path / "elsewhere")
    model_folder.read_model(tmp_path / "elsewhere")
