import time

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


def group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


MB = 10**6


@pytest.mark.parametrize("path", ["box/job", "host/path/unknown/here"], ids=["seen", "container"])
def test_available_memory_respects_the_limit_of_a_group_of_version_2(tmp_path, path):
    group(
        tmp_path / "groups",
        memory__max=90 * MB,
        memory__current=60 * MB,
        memory__stat=f"anon 1\ninactive_file {10 * MB}\nactive_file 5",
    )
    group(tmp_path / "groups/box/job", memory__max="max", memory__current=50 * MB)
    (tmp_path / "own").write_text(f"0::/{path}\n")
    assert memory.measure_available(tmp_path / "groups", tmp_path / "own") == 40 * MB


def test_available_memory_respects_the_limit_of_a_group_of_version_1(tmp_path):
    job = tmp_path / "groups/memory/job"
    group(job, memory__limit_in_bytes=70 * MB, memory__usage_in_bytes=80 * MB)
    (tmp_path / "own").write_text("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n")
    assert memory.measure_available(tmp_path / "groups", tmp_path / "own") == 0


def test_available_memory_without_groups_is_that_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("M", (), {"available": 7}))
    assert memory.measure_available(tmp_path, tmp_path / "none") == 7
    group(tmp_path / "g", memory__max=9 * MB, memory__current=MB)
    (tmp_path / "own").write_text("0::/\n")
    assert memory.measure_available(tmp_path / "g", tmp_path / "own") == 7


@pytest.mark.parametrize(
    "text, size",
    [
        ("4GiB", 4 * 1024**3),
        (" 1.5 mib ", 1536 * 1024),
        ("500MB", 500 * MB),
        ("2kB", 2000),
        ("12", 12),
        (12.0, 12),
        (10**10, 10**10),
    ],
)
def test_sizes_are_read(text, size):
    assert memory.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4 GiBs", "GiB", "-1GB", "0", "1.2.3 kB", "many", None])
def test_what_is_no_size_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"such as 4GiB or 500MB. Received: ") as error:
        memory.parse_size(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3.25 * 1024**3, "3.2 GiB")]
)
def test_sizes_are_written_for_people(size, text):
    assert memory.format_size(size) == text


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
