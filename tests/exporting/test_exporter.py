"""What is exported is run in its own runtime, and answers as the network does here."""

import json
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from common_checks import set_weights

from gvtnets_tf import export
from gvtnets_tf.atomic_files import is_own
from gvtnets_tf.cli import main as cli
from gvtnets_tf.exporting.tf_graph import remove_chunks
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.gpt import GlobalPixelTransformerNet
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.projection import ProjectionGVTNet
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

SMALL = {
    "filters": 2, "depth": 3, "encoder_blocks": 0, "decoder_blocks": 0, "num_heads": 2,
    "up": ("gvto_v2", "convolution"),
}  # fmt: skip
# Half of the parts, where one of each kind is enough.
SMALLER = {**SMALL, "depth": 2, "up": "gvto_v2"}
GATED = {"attention_normalization": "linear_softmax", "gate": True, "filters": 4}
STORED = {
    "target_normalizer": Normalizer("fixed", offset=(100.0,), gain=(7.0,)),
    "denormalize": "stored",
}
FIXED = Normalizer("fixed", offset=(10.0, 20.0), gain=(5.0, 3.0))
# Each kind of normalization, of units and of network once, and what comes in besides.
CASES = {
    "image": ("YX", 1, {}, {}),
    "image_of_two_channels": (
        "YX",
        2,
        {**SMALLER, "attention_normalization": "softmax"},
        {"input_normalizer": FIXED, **STORED},
    ),
    "stack": (
        "ZYX",
        1,
        {},
        {"input_normalizer": Normalizer("percentile", low=1, high=99.5), **STORED},
    ),
    "probabilistic": (
        "ZYX",
        1,
        {**SMALLER, **GATED, "norm": "layer", "scale_head": True},
        {"input_normalizer": Normalizer("zscore")},
    ),
    "projection": ("ZYX", 1, None, {"input_normalizer": Normalizer("unit")}),
    "without_units": (
        "YX",
        2,
        {**SMALLER, **GATED},
        {"input_normalizer": Normalizer("none"), "denormalize": "none"},
    ),
}
NAMES = ("prediction", "uncertainty")
SIZES = {"YX": ((9, 14), (3, 21)), "ZYX": ((5, 7, 10), (2, 17, 6))}


def predictor(case, **changes):
    """A small network with arbitrary weights, and a card."""
    axes, channels, config, card = CASES[case]
    if config is None:
        restoration = {**SMALLER, "norm": None}
        model = ProjectionGVTNet(projection={"filters": 2}, restoration=restoration)
    else:
        model = GVTNet(rank=len(axes), **{**SMALL, **config, **changes})
    model.build((None,) * (1 + len(axes)) + (channels,))
    set_weights(model)
    output_axes = "YX" if config is None else axes
    probabilistic = bool(config and config.get("scale_head"))
    return Predictor(
        model, Card(axes=axes, output_axes=output_axes, probabilistic=probabilistic, **card)
    )


def counts(shape, seed=0):
    """Camera counts as a client sends them: float32, with a channel-last axis."""
    return np.random.default_rng(seed).poisson(80, shape).astype(np.float32)


def check(found, expected, tolerance):
    """Compare shapes and values, relative to the range of what is expected."""
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected)


@pytest.fixture(scope="module", params=CASES)
def saved(request, tmp_path_factory):
    """A predictor, the SavedModel made of it, and this one loaded."""
    made = predictor(request.param)
    path = export(made, tmp_path_factory.mktemp("export") / "model")
    return made, path, tf.saved_model.load(str(path / "1"))


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.filterwarnings("ignore:.*fewer than")
def test_a_saved_model_answers_camera_counts_of_any_size_as_the_predictor(saved, size):
    made, path, loaded = saved
    axes, channels = made.card.axes, json.loads((path / "metadata.json").read_text())["input"]
    images = counts((2, *SIZES[axes][size], channels["channels"]), seed=size)
    images[1] *= 3  # Each image is measured by itself.
    found = loaded.signatures["serving_default"](image=tf.constant(images))
    for i, image in enumerate(images):
        expected = made(image, axes + "C", whole=True, uncertainty=made.card.probabilistic)
        expected = expected if made.card.probabilistic else (expected,)
        assert set(found) == set(NAMES[: len(expected)])
        for name, y in zip(NAMES, expected):
            check(found[name][i].numpy(), y, 1e-5)


def test_a_saved_model_answers_normalized_arrays_as_the_network(saved, noise):
    made, _, loaded = saved
    for repeat in (2, 3):
        grid = [d * repeat for d in made.divisor]
        x = noise(2, *grid, made.model.get_build_config()["input_shape"][-1])
        found = loaded.signatures["normalized"](image=tf.constant(x))
        # TensorFlow hands them out in no particular order.
        y = np.concatenate([found[name] for name in NAMES if name in found], axis=-1)
        check(y, made.model(x).numpy(), 1e-5)


CLIENT = """
import sys
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
image = np.load(sys.argv[2]).tolist()  # what a REST client would send
found = loaded.signatures["serving_default"](image=tf.constant(image, tf.float32))
np.savez(sys.argv[3], **{name: y.numpy() for name, y in found.items()})
assert "gvtnets_tf" not in {name.split(".")[0] for name in sys.modules}
"""


def test_a_process_without_this_package_serves_a_saved_model(tmp_path):
    made = predictor("probabilistic")
    path = export(made, tmp_path / "model")
    image = counts((6, 9, 13, 1))
    np.save(tmp_path / "image.npy", image[None])
    command = [sys.executable, "-c", textwrap.dedent(CLIENT), path / "1"]
    files = [tmp_path / "image.npy", tmp_path / "found.npz"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = made(image, "ZYXC", whole=True, uncertainty=True)
    with np.load(files[1]) as found:
        for name, y in zip(NAMES, expected, strict=True):
            check(found[name][0], y, 1e-5)


@pytest.mark.filterwarnings("ignore:.*fewer than")
def test_percentiles_in_the_graph_are_those_of_numpy(tmp_path):
    made = predictor("image", **SMALLER)
    loaded = tf.saved_model.load(str(export(made, tmp_path / "model") / "1"))
    for size in ((1, 2), (5, 1), (31, 17)):
        image = counts((*size, 1), seed=7) + np.arange(size[1])[:, None]
        found = loaded.signatures["serving_default"](image=tf.constant(image[None], tf.float32))
        expected = made(image.astype(np.float32), "YXC", whole=True)
        check(found["prediction"][0].numpy(), expected, 1e-5)


def test_a_served_image_that_cannot_be_normalized_is_refused(tmp_path):
    loaded = tf.saved_model.load(str(export(predictor("image"), tmp_path / "model") / "1"))
    images = counts((2, 8, 8, 1))
    images[1] = 3
    with pytest.raises(tf.errors.InvalidArgumentError, match="`image` is constant: there is"):
        loaded.signatures["serving_default"](image=tf.constant(images))
    images[1, 2, 2] = np.nan
    with pytest.raises(tf.errors.InvalidArgumentError, match="`image` holds NaN or infinity"):
        loaded.signatures["serving_default"](image=tf.constant(images))


def lite(path):
    """A LiteRT file as a function, run by its own interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path / "model.tflite"))
    # Built-in operators only: the others are not in the runtime of a phone.
    assert not [d for d in interpreter._get_ops_details() if d["op_name"].startswith("Flex")]
    runner = interpreter.get_signature_runner("serving_default")
    return lambda x: runner(image=x)


def onnx(path):
    """An ONNX file as a function, run by onnxruntime."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"image": x})))


# Format, options, runtime, packages that it needs, largest difference.
FILES = {
    "litert": ("litert", {}, lite, ["ai_edge_litert"], 1e-4),
    "float16": ("tflite", {"quantize": "float16"}, lite, ["ai_edge_litert"], 2e-2),
    "onnx": ("onnx", {}, onnx, ["tf2onnx", "onnxruntime"], 1e-4),
}


@pytest.mark.parametrize(
    "case",
    ["image_of_two_channels", "probabilistic", pytest.param("projection", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("kind", FILES)
def test_a_file_answers_as_the_network_at_two_sizes(tmp_path, noise, kind, case):
    form, options, run, packages, tolerance = FILES[kind]
    for package in packages:
        pytest.importorskip(package)
    made = predictor(case)
    function = run(export(made, tmp_path / "model", form, **options))
    names = NAMES[: 1 + made.card.probabilistic]
    for batch in (1, 2):
        x = noise(batch, *(2 * d * batch for d in made.divisor), CASES[case][1])
        found = function(x)
        assert set(found) == set(names)
        for name, y in zip(names, np.split(made.model(x).numpy(), len(names), axis=-1)):
            check(found[name], y, tolerance)


def trained():
    """A network of planes with weights of the size that training leaves them in."""
    keras.utils.set_random_seed(0)
    model = GVTNet(**{**SMALL, "rank": 2, "filters": 32, "depth": 2, "up": "gvto_v2"})
    model.build((None, None, None, 1))
    return Predictor(model, Card(axes="YX", output_axes="YX"))


def test_float16_halves_a_file_and_int8_makes_it_a_third(tmp_path, noise):
    pytest.importorskip("ai_edge_litert")
    made = trained()
    paths = [export(made, tmp_path / str(k), "litert", k) for k in (None, "float16", "int8")]
    whole, half, third = ((path / "model.tflite").stat().st_size for path in paths)
    assert 0.4 < half / whole < 0.65
    assert third / whole < 0.4
    function = lite(paths[2])
    for batch in (1, 2):
        x = noise(batch, 16 * batch, 24, 1)
        check(function(x)["prediction"], made.model(x).numpy(), 0.05)


@pytest.mark.parametrize(
    "case, changes, message",
    [
        ("stack", {}, r"is for networks of planes.* use 'float16'.* Received: .* of ZYX"),
        (
            "image",
            SMALLER,
            r"makes a file of \d+ bytes out of \d+.* use 'float16'",
        ),
        # Weights that no training leaves: features grow from level to level.
        pytest.param(
            "image",
            {"filters": 16},
            r"changes the answer .* by up to \d\d% of its range: use 'float16'",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_int8_that_does_not_shrink_or_changes_the_answer_is_refused(
    tmp_path, case, changes, message
):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(ValueError, match=message):
        export(predictor(case, **changes), tmp_path / "out", "litert", "int8")
    assert not list(tmp_path.iterdir())


def projection_in_chunks():
    softmax = {**SMALLER, "norm": None, "attention_normalization": "softmax", "chunk": 5}
    model = ProjectionGVTNet(projection={"filters": 2}, restoration=softmax)
    model.build((None, None, None, None, 1))
    set_weights(model)
    return Predictor(model, Card(axes="ZYX", output_axes="YX"))


def staining():
    """Windows at two scales in, a distribution over three intensities for two labels out."""
    model = GlobalPixelTransformerNet(
        out_channels=2, classes=3, filters=4, growth=2, encoder_depths=(1,), bottom_depth=1,
        decoder_depths=(1,), chunk=7, transformer="residual",
    )  # fmt: skip
    model.build((None, None, None, 2))
    set_weights(model)
    fixed = Normalizer("fixed", offset=(0.0, 0.0), gain=(1.0, 1.0))
    card = Card(
        axes="YX", output_axes="YX", target_normalizer=fixed, denormalize="stored",
        scales=(1, 2), tile=(8, 8),
        classes=3, output_channels=("a", "b"), trained_channels=("b",),
    )  # fmt: skip
    return Predictor(model, card)


CHUNKED = {
    "image": lambda: predictor("image", **SMALLER, attention_normalization="softmax", chunk=3),
    "projection": projection_in_chunks,
    "staining": staining,
}


@pytest.mark.parametrize("case", CHUNKED)
def test_a_network_of_chunks_is_another_without_them(case, noise):
    made = CHUNKED[case]()
    plain = remove_chunks(made.model)
    assert plain is not made.model and remove_chunks(plain) is plain
    grid = [2 * d for d in made.divisor]
    x = noise(1, *grid, made.model.get_build_config()["input_shape"][-1])
    check(plain(x).numpy(), made.model(x).numpy(), 1e-5)


@pytest.mark.parametrize("kind", ["litert", "onnx"])
@pytest.mark.parametrize("case", ["image", "staining"])
def test_chunks_are_left_out_of_a_file(tmp_path, noise, kind, case):
    form, options, run, packages, tolerance = FILES[kind]
    for package in packages:
        pytest.importorskip(package)
    made = CHUNKED[case]()
    path = export(made, tmp_path / "model", form, **options)
    x = noise(2, 8, 8, made.model.get_build_config()["input_shape"][-1])
    check(run(path)(x)["prediction"], made.model(x).numpy(), tolerance)
    about = json.loads((path / "metadata.json").read_text())
    if case == "staining":
        assert about["outputs"]["prediction"] == {
            "dtype": "float32", "axes": "NYXCK", "channels": 2,
        }  # fmt: skip
        assert about["windows"] == {"tile": [8, 8], "scales": [1, 2], "classes": 3}
        assert about["trained_channel_names"] == ["b"]


def test_a_served_network_of_windows_is_the_network_alone(tmp_path, noise):
    made = staining()
    path = export(made, tmp_path / "served")
    served = tf.saved_model.load(str(path / "1"))
    assert set(served.signatures) == {"serving_default", "normalized"}
    for grid in ((8, 8), (6, 10)):
        x = noise(2, *grid, 2)
        for signature in served.signatures.values():
            check(signature(image=x)["prediction"].numpy(), made.model(x).numpy(), 1e-5)
    about = json.loads((path / "metadata.json").read_text())
    assert about["normalization_in_graph"] is False
    assert about["windows"]["scales"] == [1, 2]


def test_metadata_tells_what_goes_in_and_comes_out(tmp_path):
    made = predictor("probabilistic")
    made.card = made.card.changed(voxel_size={"Z": 0.5, "Y": 0.1, "X": 0.1}, license="CC0-1.0")
    path = export(made, tmp_path / "model")
    assert sorted(p.name for p in path.iterdir()) == [".gvtnets", "1", "metadata.json"]
    about = json.loads((path / "metadata.json").read_text())
    assert about["input"] == {
        "name": "image", "dtype": "float32", "axes": "NZYXC", "channels": 1, "channel_names": [],
        "voxel_size_um": {"Z": 0.5, "Y": 0.1, "X": 0.1}, "divisor": {"Z": 2, "Y": 2, "X": 2},
    }  # fmt: skip
    assert list(about["outputs"]) == ["prediction", "uncertainty"]
    assert about["normalization_in_graph"] is True
    assert Normalizer.parse(about["normalize"]["input"]) == made.card.input_normalizer
    assert (about["denormalize"], about["license"]) == ("input", "CC0-1.0")
    path = export(made, tmp_path / "lite", "litert", "float16")
    assert sorted(p.name for p in path.iterdir()) == [".gvtnets", "metadata.json", "model.tflite"]
    about = json.loads((path / "metadata.json").read_text())
    assert (about["normalization_in_graph"], about["quantize"]) == (False, "float16")


def test_the_command_exports_a_model_folder(tmp_path, capsys):
    made = predictor("image", **SMALLER)
    model = model_folder.write_model(tmp_path / "model", made.model, made.card)
    words = ["export", str(model), "--format", "savedmodel", "--out", str(tmp_path / "out")]
    cli.main(words)
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    loaded = tf.saved_model.load(str(tmp_path / "out" / "1"))
    image = counts((9, 6, 1))
    found = loaded.signatures["serving_default"](image=tf.constant(image[None]))
    check(found["prediction"][0].numpy(), made(image, "YXC", whole=True), 1e-5)
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "out exists and is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, message",
    [
        ({"format": "savedmodle"}, "`format` cannot be 'savedmodle'. Did you mean 'savedmodel'?"),
        ({"quantize": "int8"}, "`quantize` is of format 'litert': .* Received: quantize='int8'"),
        ({"quantize": "float61"}, "`quantize` cannot be 'float61'. Did you mean 'float16'?"),
        ({"format": "onnx", "quantize": "float16"}, "`quantize` is of format 'litert': leave it"),
        ({"format": "litert", "warm_up": [(8, 8)]}, "`warm_up` is of format 'savedmodel'"),
        ({"format": "onnx", "authors": ["A. Uthor"]}, "`authors` is of format 'bioimageio'"),
    ],
)
def test_what_cannot_be_made_says_what_to_use(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export("nowhere", tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_written_says_why(tmp_path, monkeypatch):
    out, card = tmp_path / "out", Card(axes="YX", output_axes="YX")
    with pytest.raises(ValueError, match=r"Only a Keras model can be exported. Received: function"):
        export(Predictor(lambda x: x, card), out)
    half = predictor("image", dtype="mixed_bfloat16")
    with pytest.raises(ValueError, match=r"precision='float32'.* Received: .* in bfloat16"):
        export(half, out)
    with pytest.raises(ValueError, match=r"windows.* use 'savedmodel', 'onnx' .* classes=3"):
        export(staining(), out, "bioimageio")
    named = predictor("image")
    named.card = named.card.changed(output_channels=("a", "b"))
    with pytest.raises(ValueError, match="The card names 2 output channels"):
        export(named, out)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"set KERAS_BACKEND=tensorflow. Received: 'torch'"):
        export(predictor("image"), out)
    assert not list(tmp_path.iterdir())


def test_onnx_that_its_runtime_does_not_read_is_refused(tmp_path):
    pytest.importorskip("tf2onnx")
    # The converter drops the bias of zero, and then a reshape too many.
    made = staining()
    made.model.head.conv.bias.assign([0.0] * 6)
    with pytest.raises(ValueError, match=r"(?s)cannot be written as ONNX.* use another format"):
        export(made, tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_that_answers_otherwise_is_converted_again_and_refused_in_the_end(
    tmp_path, monkeypatch
):
    pytest.importorskip("tf2onnx")
    from gvtnets_tf.exporting import onnx

    calls = []

    def run(path, image, names):
        calls.append(path)
        y = np.asarray(made.model(image))
        return [y if len(calls) == 2 else y[None]]

    monkeypatch.setattr(onnx, "_run", run)
    made = predictor("image")
    export(made, tmp_path / "second", "onnx")
    assert len(calls) == 2
    monkeypatch.setattr(onnx, "TRIES", 1)
    with pytest.raises(ValueError, match=r"answers with shape \(1, 2, .*network with \(2, "):
        export(made, tmp_path / "out", "onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["second"]


def test_a_missing_package_names_its_extra_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gvtnets_tf\[onnx\]'"):
        export(predictor("image"), tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())


def test_a_name_with_the_suffix_zip_makes_a_zip(tmp_path):
    made = predictor("image", **SMALLER)
    path = export(made, tmp_path / "model.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["model.zip"]
    shutil.unpack_archive(path, tmp_path / "model")
    loaded = tf.saved_model.load(str(tmp_path / "model" / "1"))
    image = counts((9, 6, 1))
    found = loaded.signatures["serving_default"](image=tf.constant(image[None]))
    check(found["prediction"][0].numpy(), made(image, "YXC", whole=True), 1e-5)
    with pytest.raises(FileExistsError, match=r"model.zip exists and is not overwritten"):
        export(made, path)
    assert is_own(path)
    shutil.make_archive(str(tmp_path / "other"), "zip", tmp_path / "model" / "1")
    with pytest.raises(FileExistsError, match=r"other.zip was not written by gvtnets_tf"):
        export(made, tmp_path / "other.zip", force=True)
    (tmp_path / "model" / "model.json").touch()
    with pytest.raises(
        ValueError, match=r"model is an input of this run, or holds one \(.*model\)"
    ):
        export(tmp_path / "model", tmp_path / "model", force=True)


def test_an_export_that_is_there_is_kept_unless_forced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match=r"out exists and is not overwritten.*--force"):
        export(predictor("image", **SMALLER), tmp_path / "out")
    assert (export(predictor("image", **SMALLER), tmp_path / "out", force=True) / "1").is_dir()
