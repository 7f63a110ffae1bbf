"""The networks on another backend of Keras: same weights, same answer, and they learn."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.gvtnet import GVTNet

pytestmark = pytest.mark.slow
GRIDS = {2: (8, 16), 3: (4, 8, 12)}
CONFIGS = {
    "linear": {"down": "gvto_v1", "up": "gvto_v2", "num_heads": 2, "scale_head": True},
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
if model.softmax:
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
