"""Measure the memory that a prediction takes."""

import sys
import threading
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import psutil

from gvtnets_tf.prediction.engines.keras import compile_model
from gvtnets_tf.prediction.tiling import round_up

# Grid of the image that is predicted to see what a voxel costs. Powers of two: TensorFlow
# hands out blocks that are up to twice as large as an odd size asks for.
PROBES = {2: (256, 512), 3: (32, 64, 64)}
PROBE_VOXELS = 2**17
# What TensorFlow's pool takes from the system per byte it hands out. Measured as 1.4 to 1.6
# in fresh processes, with the published networks on 0.1 to 4 million voxels.
POOL = 1.6


def measure_bytes_per_voxel(
    model: Callable, divisor: int | Sequence, channels: int, rank: int, grid: Sequence = ()
) -> float:
    """Measure the bytes that a prediction takes at most, per voxel of its input.

    A small image warms the model up (compilation, thread pools), then one of `PROBES` is
    predicted, or the `grid` of a model that reads no other. Counted is the largest of the rise of
    the process's resident memory, of what Python and NumPy have allocated, and of `POOL` times
    what the allocator of TensorFlow has handed out (with a GPU, on the GPU; on a GPU also that of
    torch): a process keeps what was freed in it, so that a second prediction hardly shows in the
    resident memory.
    """
    divisor = (divisor,) * rank if isinstance(divisor, int) else tuple(divisor)
    run = compile_model(model)
    # Two sizes, so that a model that compiles per shape settles on one for all.
    for factor in (1, 2):
        run(_probe(grid or [d * factor for d in divisor], channels))
    images = _probe(grid or round_up(PROBES[rank], divisor), channels)
    peak, result = _peak(lambda: run(images))
    return max(peak, images.nbytes + result.nbytes) * channels / images.size


def _probe(grid, channels):
    # Not constant, so that a model that divides by a spread can do so.
    return np.random.default_rng(0).standard_normal((1, *grid, channels), np.float32)


def _peak(function):
    """Return `(bytes, result)`: by how much memory in use rises while `function` runs."""
    process, done = psutil.Process(), threading.Event()
    start, allocated = process.memory_info().rss, _allocator_peak(reset=True)
    resident = [start]

    def watch():
        while not done.wait(0.001):
            resident.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        traced, result = _trace(function)
    finally:
        done.set()
        watcher.join()
    resident.append(process.memory_info().rss)
    return max(max(resident) - start, traced, POOL * (_allocator_peak() - allocated)), result


def _trace(function):
    """Return `(bytes, result)`: by how much the allocations of Python and NumPy rise."""
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = function()
        return tracemalloc.get_traced_memory()[1] - start, result
    finally:
        if ours:
            tracemalloc.stop()


def _allocator_peak(reset=False):
    """Return the most bytes handed out since the reset, by TensorFlow and by torch on a GPU.

    On the CPU, torch and JAX take from the system, and give back.
    """
    tf, torch = sys.modules.get("tensorflow"), sys.modules.get("torch")
    peak = _tensorflow_peak(tf, reset) if tf else 0
    if torch and torch.cuda.is_available():
        if reset:
            torch.cuda.reset_peak_memory_stats()
        peak += torch.cuda.max_memory_allocated()
    return peak


def _tensorflow_peak(tf, reset):
    """Return the most bytes TensorFlow has handed out on its first device since the reset."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    device = devices[0].name.removeprefix("/device:")
    try:
        if reset:
            tf.config.experimental.reset_memory_stats(device)
        return tf.config.experimental.get_memory_info(device)["peak"]
    except (ValueError, tf.errors.OpError):
        return 0  # Not every build keeps count; the resident memory remains.
