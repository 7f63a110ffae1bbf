"""Modules that wait for a library: in a made-up package, and ours for Keras."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gvtnets_tf.import_hooks import import_after


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library `fakelib`, and a module `waiting` that uses it."""
    (tmp_path / "fakelib.py").write_text("ready = True\n")
    (tmp_path / "waiting.py").write_text("from fakelib import ready\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    yield tmp_path
    for name in ("fakelib", "waiting"):
        sys.modules.pop(name, None)


def test_a_module_is_imported_after_its_library(library):
    before = list(sys.meta_path)
    import_after("fakelib", "waiting")
    assert "waiting" not in sys.modules
    import fakelib

    assert sys.modules["waiting"].ready is fakelib.ready is True
    assert sys.meta_path == before


def test_a_module_is_imported_at_once_where_the_library_is_there(library):
    import fakelib  # noqa: F401

    before = list(sys.meta_path)
    import_after("fakelib", "waiting")
    assert "waiting" in sys.modules
    assert sys.meta_path == before


def test_looking_for_the_library_does_not_use_the_hook_up(library):
    import importlib.util

    import_after("fakelib", "waiting")
    assert importlib.util.find_spec("fakelib").origin == str(library / "fakelib.py")
    assert "waiting" not in sys.modules
    import fakelib  # noqa: F401

    assert "waiting" in sys.modules


def test_a_library_that_is_absent_or_fails_says_so_itself(library):
    import_after("nolib", "waiting")
    with pytest.raises(ModuleNotFoundError, match="No module named 'nolib'"):
        import nolib  # noqa: F401
    (library / "fakelib.py").write_text("raise RuntimeError('no such device')\n")
    import_after("fakelib", "waiting")
    with pytest.raises(RuntimeError, match="no such device"):
        import fakelib  # noqa: F401
    assert "waiting" not in sys.modules


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
    "import keras, gvtnets_tf",
    "from gvtnets_tf import GlobalAttention; import keras",
    "from gvtnets_tf import GVTNet; import keras",
    *(
        pytest.param(order, marks=pytest.mark.slow)
        for order in (
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
