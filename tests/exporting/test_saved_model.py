"""A SavedModel is served by a process that has TensorFlow, and not this package."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from gvtnets_tf import export
from gvtnets_tf.cli import main as cli
from gvtnets_tf.exporting import saved_model
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "serving"
SHAPES = [(6, 10, 9), (4, 12, 12)]
WARM = "1/assets.extra/tf_serving_warmup_requests"


@pytest.fixture(scope="module")
def network():
    """A probabilistic network of stacks, so that there are two results."""
    model = GVTNet(
        filters=2, depth=2, encoder_blocks=0, decoder_blocks=0, norm=None, scale_head=True
    )
    model.build((None, None, None, None, 1))
    return Predictor(model, Card(probabilistic=True))


@pytest.fixture(scope="module")
def served(network, tmp_path_factory):
    pytest.importorskip("tensorflow_serving")
    place = tmp_path_factory.mktemp("serving")
    model = model_folder.write_model(place / "model", network.model, network.card)
    sizes = [word for shape in SHAPES for word in ("--warm-up", *map(str, shape))]
    out = place / "served"
    cli.main(["export", str(model), "--format", "savedmodel", *sizes, "--out", str(out)])
    return out


@pytest.fixture(scope="module")
def client():
    spec = importlib.util.spec_from_file_location("serving_client", EXAMPLES / "client.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(served):
    """The ports of the stand-in, which runs in a process of its own."""
    code = (
        "import runpy, sys; sys.modules['gvtnets_tf'] = None; "  # so that it cannot be imported
        f"sys.argv = ['stand_in', {str(served)!r}, '--grpc', '0', '--rest', '0']; "
        f"runpy.run_path({str(EXAMPLES / 'stand_in.py')!r}, run_name='__main__')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    with process:
        try:
            line = process.stdout.readline()
            assert line, "the stand-in ended before it was ready"
            yield json.loads(line)
        finally:
            process.terminate()


@pytest.fixture
def stack(noise):
    return noise(7, 9, 11) * 20 + 100


def check(found, network, stack):
    expected = network(stack, "ZYX", whole=True, uncertainty=True)
    assert set(found) == {"prediction", "uncertainty"}
    for name, y in zip(("prediction", "uncertainty"), expected):
        assert found[name].shape == y.shape
        assert np.abs(found[name] - y).max() <= 1e-5 * np.ptp(y)


def requests(served):
    """The warm-up requests of a served folder."""
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    records = tf.data.TFRecordDataset(str(served / WARM))
    return [PredictionLog.FromString(r.numpy()).predict_log.request for r in records]


def test_warm_up_requests_are_answered_by_the_signature_that_they_name(served, network):
    loaded, found = tf.saved_model.load(str(served / "1")), requests(served)
    images = [tf.make_ndarray(request.inputs["image"]) for request in found]
    assert [image.shape for image in images] == [(1, 6, 10, 9, 1), (1, 4, 12, 12, 1)]
    for request, image in zip(found, images):
        assert list(request.inputs) == ["image"]
        answer = loaded.signatures[request.model_spec.signature_name](image=tf.constant(image))
        check({name: y[0, ..., 0].numpy() for name, y in answer.items()}, network, image[0, ..., 0])


def test_without_sizes_there_are_no_warm_up_requests(tmp_path, network):
    assert not (export(network, tmp_path / "served") / WARM).exists()


@pytest.mark.parametrize("shape", [(8, 8), 8, (8, 0, 8), (1, 1, 1), (1, 8, 8, 8)])
def test_a_size_that_no_image_has_is_refused(tmp_path, network, shape):
    pytest.importorskip("tensorflow_serving")
    with pytest.raises(ValueError, match=r"one size in voxels per axis of ZYX, and more than one"):
        export(network, tmp_path / "served", warm_up=[(4, 8, 8), shape])
    assert not list(tmp_path.iterdir())


def test_the_missing_protos_name_their_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving", None)
    monkeypatch.delitem(sys.modules, "tensorflow_serving.apis", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gvtnets_tf\[serving\]'"):
        saved_model.check_shapes([(8, 8)], "YX")
    saved_model.check_shapes([], "YX")  # nothing is asked for


@pytest.mark.slow
def test_a_server_without_this_package_answers_over_grpc(server, client, network, stack):
    assert server["warmed_up"] == len(SHAPES)
    found = client.grpc(f"localhost:{server['grpc']}", "denoiser", stack[None, ..., None])
    check({name: y[0, ..., 0] for name, y in found.items()}, network, stack)
    with pytest.raises(ValueError, match=r"(?s)The server says: .*`image` is constant"):
        client.grpc(f"localhost:{server['grpc']}", "denoiser", np.ones_like(stack)[None, ..., None])
    with pytest.raises(ValueError, match="The server says: no model other"):
        client.grpc(f"localhost:{server['grpc']}", "other", stack[None, ..., None])


@pytest.mark.slow
def test_the_client_program_asks_over_rest(server, client, network, stack, tmp_path):
    url = f"http://localhost:{server['rest']}"
    np.save(tmp_path / "stack.npy", stack)
    command = [sys.executable, str(EXAMPLES / "client.py"), "stack.npy", "out.npy", "--rest", url]
    subprocess.run(command, check=True, cwd=tmp_path)
    files = {"prediction": "out.npy", "uncertainty": "out_uncertainty.npy"}
    check({name: np.load(tmp_path / file) for name, file in files.items()}, network, stack)
    with pytest.raises(ValueError, match=r"(?s)The server says: .*`image` is constant"):
        client.rest(url, "denoiser", np.ones_like(stack)[None, ..., None])
    done = subprocess.run(
        [*command, "--model", "other"], check=False, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1 and "The server says:" in done.stderr
