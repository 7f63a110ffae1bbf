"""Keras loads a saved network after `import gvtnets_tf`, in every order of imports."""

import os
import subprocess
import sys

import numpy as np
import pytest

LOAD = """
import sys
import numpy as np
assert "keras" in sys.modules
model = keras.saving.load_model(sys.argv[1])
assert type(model).__name__ == "FNet" and type(model.loss).__name__ == "Laplace"
np.save(sys.argv[2], model.predict(np.ones((1, 4, 4, 1), "float32"), verbose=0))
"""
ORDERS = [
    "import gvtnets_tf, keras",
    *(
        pytest.param(order, marks=pytest.mark.slow)
        for order in (
            "import keras, gvtnets_tf",
            "from gvtnets_tf import GlobalAttention; import keras",
            "from gvtnets_tf import GVTNet; import keras",
            "import keras; from gvtnets_tf import read",
            "import gvtnets_tf; from gvtnets_tf import *; import keras",
            "import gvtnets_tf.layers.attention, keras",
            "import gvtnets_tf.layers.base, keras",
            "import gvtnets_tf.models.base, keras",
            "import gvtnets_tf.models.losses, keras",
            "import gvtnets_tf.training.fitting, keras",
            "import tensorflow, gvtnets_tf, keras",
            "import gvtnets_tf, tensorflow; tensorflow.keras.Model; import keras",
        )
    ),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network compiled with a loss of the package, as Keras saves it, and its answer."""
    from gvtnets_tf import FNet
    from gvtnets_tf.models.losses import Laplace

    model = FNet(rank=2, filters=2, depth=2, scale_head=True)
    model.build((None, 4, 4, 1))
    model.compile("adam", Laplace())
    model.save(path := tmp_path_factory.mktemp("saved") / "m.keras")
    return path, model.predict(np.ones((1, 4, 4, 1), "float32"), verbose=0)


@pytest.mark.parametrize("order", ORDERS)
def test_keras_loads_a_network_in_any_order_of_imports(saved, tmp_path, order):
    path, expected = saved
    command = [sys.executable, "-c", order + LOAD, str(path), str(tmp_path / "answer.npy")]
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, rtol=1e-5, atol=1e-6)
