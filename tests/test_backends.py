"""The program on each backend of Keras, without TensorFlow where that is not the backend.

The same weights give the same answers; the same recipe the same patches, losses and scores.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from backend_worker import hash_arrays, make_batches
from small import MODEL, recipe, stacks
from wells import DAPI, MAP2, NFH, well

from gvtnets_tf.images.readers import read
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.training.preparation import build_network, prepare
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder

pytestmark = pytest.mark.slow
WORKER = Path(__file__).with_name("backend_worker.py")
DROPOUT = {"attention_normalization": "softmax", "dropout": 0.2}
GRIDS = {2: (8, 16), 3: (4, 8, 12)}
CONFIGS = {
    "linear": {"down": "gvto_v1", "up": "gvto_v2", "num_heads": 2, "scale_head": True},
    "gated linear softmax": {
        "bottom": ["residual", "gvto"],
        "attention_normalization": "linear_softmax",
        "norm": "group",
        "gate": True,
    },
    "softmax": {
        "down": "gvto_v2",
        "up": "gvto_v1",
        "attention_normalization": "softmax",
        "dropout": 0.5,
        "chunk": 7,
    },
}

# Runs where TensorFlow is not the backend: predicts, then learns, and writes both down.
SCRIPT = """
import json, sys
import keras, numpy as np
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gvtnet import GVTNet

backend, config, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
assert keras.backend.backend() == backend
given = np.load(f"{folder}/given.npz", allow_pickle=False)
model = GVTNet(**config)
model.build(given["x"].shape)
for name, weight in named_weights(model).items():
    weight.assign(given[name])
answer = np.asarray(keras.ops.convert_to_numpy(model(given["x"])))
if model.attention_normalization == "softmax":
    summed = answer
else:
    summaries = {}
    for name, operator in model.operators.items():
        entering = model(given["x"], stop_at=name, summaries=summaries)
        summaries[name] = operator.summarize(entering)
    summed = keras.ops.convert_to_numpy(model(given["x"], summaries=summaries))
model.compile(keras.optimizers.Adam(1e-2), "mse")
target = np.zeros_like(answer)
history = model.fit(given["x"], target, batch_size=2, epochs=3, shuffle=False, verbose=0)
np.savez(f"{folder}/found.npz", answer=answer, summed=summed, loss=history.history["loss"])
"""


@pytest.fixture(params=["jax", "torch", "tensorflow"])
def backend(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install {request.param}")
    return request.param


def work(backend, task, *arguments):
    """Run a task of `backend_worker` in a process of that backend; return its result."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, WORKER, task, json.dumps(arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("kind", CONFIGS)
def test_another_backend_predicts_the_same_and_learns(noise, tmp_path, backend, kind, rank):
    config = {"rank": rank, "filters": 2, "depth": 2, **CONFIGS[kind]}
    model, x = GVTNet(**config), noise(2, *GRIDS[rank], 1)
    expected = np.asarray(model(x))
    weights = {name: w.numpy() for name, w in named_weights(model).items()}
    np.savez(tmp_path / "given.npz", x=x, **weights)

    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", SCRIPT, backend, json.dumps(config), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    with np.load(tmp_path / "found.npz", allow_pickle=False) as found:
        tolerance = 1e-5 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found["answer"], expected, rtol=0, atol=tolerance)
        np.testing.assert_allclose(found["summed"], expected, rtol=0, atol=tolerance)
        assert found["loss"][-1] < found["loss"][0]


# The program, from a recipe to scores.


@pytest.mark.parametrize("first_epoch", [0, 2])
def test_fit_shows_the_same_batches_on_every_backend(backend, first_epoch):
    found = work(backend, "hash_batches", first_epoch)
    training, held = make_batches()
    places = [(epoch, step) for epoch in range(first_epoch, first_epoch + 3) for step in range(4)]
    expected = [hash_arrays([training.read(*place)[0]]) for place in places]
    assert found["None"] == found["(None, 8, 8, 1)"] == expected
    assert found["held"] == hash_arrays([a for s in range(len(held)) for a in held.read(0, s)])


def restoration(folder):
    """A probabilistic 3-D recipe, and the flags of its commands."""
    stacks(folder, shape=(8, 32, 96))
    augment = {
        "flip": True, "rotate": True, "elastic": {"alpha": 2, "sigma": 4},
        "intensity": {"gain": 0.1, "noise": [0, 0.1], "blur": 1},
    }  # fmt: skip
    values = recipe(folder, loss="laplace", augment=augment)
    files = {"inputs": f"{folder}/in/*", "targets": f"{folder}/gt/*"}
    return (
        values,
        files,
        {"whole": ["--whole", "--flip-average"], "tile": ["--tile", "8", "32", "32"]},
    )


def staining(folder):
    """A 2-D recipe of several labels, some of which are missing; and the flags of its commands."""
    place = folder / "train" / "Finkbeiner" / "kevan_0_8"
    well(place, "A4", [DAPI, MAP2], seed=0)
    well(place, "A5", [DAPI], seed=1)
    model = {
        "filters": 4, "growth": 4, "encoder_depths": [1], "bottom_depth": 1,
        "decoder_depths": [1], "dropout": 0.0, "classes": 16,
    }  # fmt: skip
    values = {
        "preset": "gpt_virtual_staining", "model": model, "patch_size": [16, 16],
        "data": {"root": str(folder), "wells": ".", "labels": [DAPI, MAP2, NFH]},
        "batch_size": 2, "learning_rate": 1e-3, "augment": {"flip": True},
    }  # fmt: skip
    files = {"inputs": str(folder), "targets": str(folder)}
    mean = ["--estimate", "mean"]  # a median would jump from class to class
    return values, files, {"whole": [*mean, "--flip-average"], "tile": [*mean, "--overlap", "4"]}


@pytest.fixture(scope="module", params=[restoration, staining])
def task(request, tmp_path_factory):
    """A recipe of 25 steps, the weights to start from, and what TensorFlow makes of them."""
    folder = tmp_path_factory.mktemp(request.param.__name__)
    (folder / "data").mkdir()
    values, files, options = request.param(folder / "data")
    values |= {"steps": 25, "steps_per_epoch": 5}
    made = Recipe.parse(values)
    training, _, card = prepare(made)
    model = build_network(made, training[0].kind[:2])
    model_folder.write_model(folder / "start", model, card)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder, files, options, run_program("tensorflow", folder, files, options)


def run_program(backend, folder, files, options):
    """Train, resume, predict twice, evaluate; return history, paths of predictions, scores."""
    out, predicted = folder / backend, {name: folder / f"{backend}-{name}" for name in options}
    commands = [
        ["train", folder / "recipe.yaml", "--out", out, "--initial-weights", folder / "start"],
        ["train", "--out", out, "--resume", "--steps", "50"],
    ]
    for name, path in predicted.items():
        # All backends predict with the same weights.
        model = ["--model", folder / "tensorflow", "--max-memory", "2GiB"]
        commands += [["predict", files["inputs"], *model, "--out", path, *options[name]]]
    pairs = ["--predictions", predicted["whole"], "--targets", files["targets"]]
    commands += [["evaluate", *pairs, "--json"]]
    said = work(backend, "call", *([str(word) for word in command] for command in commands))
    for command, (status, _, errors) in zip(commands, said):
        assert status == 0, (command, errors[-2000:])
    columns = np.genfromtxt(out / "history.csv", delimiter=",", names=True)
    return columns, predicted, json.loads(said[-1][1])


def test_one_recipe_is_trained_resumed_predicted_and_scored_alike(task, backend):
    folder, files, options, (history, predicted, scores) = task
    if backend == "tensorflow":
        assert history["loss"][-1] < history["loss"][0]
        return
    columns, paths, found = run_program(backend, folder, files, options)
    assert columns.dtype.names == history.dtype.names
    assert len(columns) == 10
    for name in ("loss", "val_loss"):
        scale = np.abs(history[name]).max()  # a likelihood may pass through zero
        np.testing.assert_allclose(columns[name], history[name], rtol=1e-3, atol=1e-3 * scale)
    for name, path in predicted.items():
        images = sorted(path.rglob("*.tif"))
        assert len(images) == 2
        for file in images:
            expected, y = (read(f).numpy() for f in (file, paths[name] / file.relative_to(path)))
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-4 * np.ptp(expected))
    expected = dict(numbers(scores))
    assert len(expected) > 20
    assert dict(numbers(found)) == pytest.approx(expected, rel=1e-3, abs=1e-4)


def numbers(value, path=""):
    """Yield every number of nested mappings with its path."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}/{key}")
    elif value is not None:
        yield path, value


def test_a_file_that_breaks_during_training_is_named_on_every_backend(tmp_path, backend):
    pytest.importorskip("zarr", reason="needs [zarr]")
    values = recipe(stacks(tmp_path, suffix=".zarr"), steps=40, steps_per_epoch=40)
    values["data"]["regions"] = {"train": {}}
    said = work(backend, "break_a_file", values, str(tmp_path / "run"))
    assert re.match(r".*in.0\.zarr cannot be read as Zarr; is it whole", said)
    assert "\n" not in said


def test_two_deterministic_runs_are_equal_to_the_last_bit(tmp_path, backend):
    values = recipe(stacks(tmp_path), model={**MODEL, **DROPOUT})
    one, two = work(backend, "train_twice", values, str(tmp_path / "run"))
    assert one == two


def test_what_does_not_fit_the_memory_says_what_to_do(tmp_path, backend):
    values = recipe(stacks(tmp_path))
    predicted, trained = work(backend, "run_out_of_memory", values, str(tmp_path / "run"))
    assert predicted.startswith("a call of the network on (1, 4, 4, 1) needs more memory than")
    assert trained.startswith("a step of training needs more than there is. Lower `batch_size`")


def test_a_run_logs_for_tensorboard_on_every_backend(tmp_path, backend):
    pytest.importorskip("tensorboard", reason="needs [tensorboard]")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe(stacks(tmp_path / "data"))))
    out = tmp_path / "run"
    command = ["train", tmp_path / "recipe.yaml", "--out", out, "--tensorboard"]
    ((status, _, errors),) = work(backend, "call", [str(word) for word in command])
    assert status == 0, errors
    parts = {path.parent.name for path in (out / "tensorboard").rglob("*tfevents*")}
    assert parts == {"tensorboard", "train", "validation"}


def test_export_says_that_it_needs_tensorflow(tmp_path, backend):
    if backend == "tensorflow":
        pytest.skip("TensorFlow has itself")
    export = ["export", "simulated_denoiser", "--format", "onnx", "--out", tmp_path / "out"]
    ((status, _, said),) = work(backend, "call", [str(word) for word in export])
    assert status == 2
    assert "Networks are exported from the TensorFlow backend: set KERAS_BACKEND=tensorfl" in said
    assert not (tmp_path / "out").exists()
