"""Where the shared material lies, and numbers that are the same on every run."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores: one thread each is faster than all threads in all of them.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")

# Graphs of TensorFlow are many small objects: looking for garbage less often saves a tenth.
gc.set_threshold(100_000, 20, 20)

# Their assertions say what differed, as those of a test do.
pytest.register_assert_rewrite("common_checks", "naive", "small")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def noise():
    """Standard normal float32 arrays from a fixed seed, one after the other."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.normal(size=shape).astype("float32")


@pytest.fixture(scope="session")
def parity():
    """The folder with the published answers."""
    return Path(__file__).with_name("parity")


@pytest.fixture(scope="session")
def microscopy():
    """The folder with real microscopy images."""
    folder = Path(os.environ.get("GVTNETS_DATA", SHARED / "data"))
    if not folder.exists():
        pytest.skip(f"no microscopy at {folder}: set GVTNETS_DATA to the folder that holds it")
    return folder
