import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from gvtnets_tf.prediction import memory
from gvtnets_tf.prediction.engines.keras import compile_model


@pytest.mark.parametrize("arrays", [20, 60])
def test_memory_of_a_numpy_callable_is_what_it_holds(arrays):
    def model(x):
        held = [x + i for i in range(arrays)]
        time.sleep(0.05)
        return held[0]

    # float32: 4 bytes per voxel and array.
    assert memory.measure_bytes_per_voxel(model, 1, 1, 3) == pytest.approx(4 * arrays, rel=0.3)


def test_memory_of_a_keras_model_is_that_of_its_activations_each_time_it_is_measured():
    import keras

    image = keras.Input((None, None, None, 1))
    wide = keras.layers.Conv3D(64, 3, padding="same")(image)
    wide = keras.layers.Conv3D(64, 1)(wide)
    model = keras.Model(image, keras.layers.Conv3D(1, 1)(wide))
    start = time.perf_counter()
    measured = [memory.measure_bytes_per_voxel(model, 1, 1, 3) for _ in range(3)]
    assert time.perf_counter() - start < 15
    # Two of 64 float32 channels live at once: 512 bytes; blocks and scratch come on top.
    assert all(512 <= m <= 3 * 512 for m in measured), measured
    assert max(measured) <= 1.5 * min(measured), measured


def test_what_torch_takes_on_a_gpu_counts(monkeypatch):
    peaks = iter([0, 2**30])  # as it is reset, and after the call
    cuda = SimpleNamespace(
        is_available=lambda: True,
        reset_peak_memory_stats=lambda: None,
        max_memory_allocated=lambda: next(peaks),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    measured = memory.measure_bytes_per_voxel(lambda x: x, 1, 1, 3)
    assert measured == memory.POOL * 2**30 / 2**17


def test_memory_is_at_least_that_of_input_and_result():
    assert memory.measure_bytes_per_voxel(lambda x: x[..., :1], (8, 8), 3, 2) >= 16


def test_the_probe_has_the_divisor_the_rank_and_the_channels_asked_for():
    shapes = []

    def model(x):
        shapes.append(x.shape)
        return x

    memory.measure_bytes_per_voxel(model, (1, 48, 48), 2, 3)
    assert shapes[-1] == (1, 32, 96, 96, 2)
    assert all(n % 48 == 0 for shape in shapes for n in shape[2:4])


def test_on_another_backend_keras_runs_the_model_for_inference(monkeypatch):
    import keras

    image = keras.Input((None, None, 1))
    model = keras.Model(image, keras.layers.Dropout(0.5)(2 * image))
    calls, predict = [], model.predict_on_batch
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(model, "predict_on_batch", lambda x: calls.append(1) or predict(x))
    x = np.arange(24, dtype=np.float32).reshape(1, 4, 6, 1)
    result = compile_model(model)(x)
    np.testing.assert_array_equal(result, 2 * x)
    assert (calls, result.dtype) == ([1], np.float32)
