"""Prediction and training steps of the networks against csbdeep's CARE.

    python benchmarks/networks.py [--json FILE] [--rounds N] [--quick]

The presets `label_free`, `denoising`, `unet` and `fnet`, and CARE with csbdeep's defaults for
stacks, one channel in and one out. A prediction is one call, in graph mode as `Predictor` makes
it, on 32 x 128 x 128 voxels; a step is `train_on_batch` on 16 x 64 x 64, batch 1, with Adam and the
loss of the published recipe. All in float32, `label_free` and `denoising` also in bfloat16 (the
dtype policy "mixed_bfloat16").

Times are the best of several rounds in one process, all taking turns, and so is that of one
3x3x3 convolution of 64 to 64 channels, which the GFLOP/s refer to. Counted as
operations are the products of convolutions and matrices, two per multiplication. Each peak is
the rise of the resident memory of a fresh process by one prediction, or one step, after two on
small grids; weights, and for a step the moments of Adam, are there before.
"""

import functools
import math

import timing

PRESETS = {"label_free": "mse", "denoising": "laplace", "unet": "mae", "fnet": "mse"}
BFLOAT16 = "mixed_bfloat16"
NETWORKS = [
    ("care", "float32"),
    *((name, "float32") for name in PRESETS),
    ("label_free", BFLOAT16),
    ("denoising", BFLOAT16),
]
GRIDS = {"predict": (32, 128, 128), "step": (16, 64, 64)}
QUICK = {"predict": (16, 32, 32), "step": (16, 16, 16)}
WARM_UP = ((16, 16, 16), (16, 32, 16))  # two, so that the graph settles on one for all
CONVOLUTION, CHANNELS = (32, 64, 64), 64
PRODUCTS = ("Conv2D", "Conv3D", "Conv3DBackpropInputV2", "MatMul", "BatchMatMulV2")


def network(name, dtype):
    """CARE or a preset, built and compiled with its loss."""
    import keras

    from gvtnets_tf import preset
    from gvtnets_tf.models.losses import LOSSES

    keras.utils.set_random_seed(0)
    if name == "care":
        from csbdeep.models import CARE, Config

        model, loss = CARE(Config("ZYX", 1, 1), None, basedir=None).keras_model, "mae"
    else:
        model, loss = preset(name, dtype=dtype), PRESETS[name]
        model.build((None, None, None, None, 1))
    # What Keras picks by itself on a machine without a GPU; XLA's 3-D convolutions are slow there.
    model.compile(keras.optimizers.Adam(4e-4), LOSSES[loss](), jit_compile=False)
    return model


def stack(grid):
    import numpy as np

    return np.random.default_rng(0).standard_normal((1, *grid, 1), np.float32)


def call(model, kind):
    """A prediction or a step, as a function of a stack."""
    from gvtnets_tf.prediction.engines.keras import compile_model

    if kind == "predict":
        return compile_model(model)
    return lambda x: model.train_on_batch(x, x)


def peak(name, dtype, kind, grid):
    """Bytes that one call takes, in this process."""
    run, x = call(network(name, dtype), kind), stack(grid)
    for small in WARM_UP:
        run(stack(small))
    return timing.measure_rise(lambda: run(x))


def convolution():
    """One large convolution, as a function without arguments, and its operations."""
    import tensorflow as tf

    x = tf.random.stateless_normal((1, *CONVOLUTION, CHANNELS), (0, 0))
    kernel = tf.random.stateless_normal((3, 3, 3, CHANNELS, CHANNELS), (0, 1))
    graph = tf.function(lambda: tf.nn.conv3d(x, kernel, (1,) * 5, "SAME"))
    return graph, operations(graph.get_concrete_function())


def operations(concrete):
    """Operations of the products of a graph whose shapes are known."""
    return sum(map(_operations, concrete.graph.get_operations()))


def _operations(op):
    if op.type not in PRODUCTS:
        return 0
    a, b = (tuple(x.shape) for x in op.inputs[-2:])
    if op.type == "Conv3DBackpropInputV2":  # a transposed convolution: kernel, features
        return 2 * math.prod(b) * math.prod(a[:-1])
    if "Conv" in op.type:
        return 2 * math.prod(op.outputs[0].shape) * math.prod(b[:-1])
    turned = op.get_attr("adj_x" if "Batch" in op.type else "transpose_a")
    return 2 * math.prod(op.outputs[0].shape) * a[-2 if turned else -1]


def gflops_of(model, grid):
    """GFLOP of one prediction."""
    import tensorflow as tf

    graph = tf.function(functools.partial(model, training=False))
    return operations(graph.get_concrete_function(tf.TensorSpec((1, *grid, 1)))) / 1e9


def measure(quick, rounds):
    grids = QUICK if quick else GRIDS
    models = {case: network(*case) for case in NETWORKS}
    large, count = convolution()
    ways = {
        (*case, kind): functools.partial(call(model, kind), stack(grids[kind]))
        for case, model in models.items()
        for kind in grids
    }
    seconds = timing.time_best({"convolution": large, **ways}, rounds)
    peaks = {way: timing.run_in_process(peak, *way, grids[way[-1]]) for way in ways}
    speed = count / seconds["convolution"] / 1e9
    rows = {}
    for kind, grid in grids.items():
        rows[kind] = {"grid": " x ".join(map(str, grid))}
        for case in NETWORKS:
            rows[kind][" ".join(case)] = _row(case, kind, seconds, peaks)
    for case, model in models.items():
        gflop = gflops_of(model, grids["predict"])
        rows["predict"][" ".join(case)] |= {
            "gflop": gflop,
            "gflops_to_convolution": gflop / seconds[*case, "predict"] / speed,
        }
    weights = {name: model.count_params() for (name, _), model in models.items()}
    to_fnet = {
        f"{kind}_{what}": rows[kind]["label_free float32"][key] / rows[kind]["fnet float32"][key]
        for kind in grids
        for what, key in (("time", "seconds"), ("memory", "peak_mib"))
    }
    to_fnet["weights"] = weights["label_free"] / weights["fnet"]
    return {"weights": weights, "convolution_gflops": speed, "label_free_to_fnet": to_fnet, **rows}


def _row(case, kind, seconds, peaks):
    name, (way, care) = case[0], ((*case, kind), ("care", "float32", kind))
    row = {
        "seconds": seconds[way],
        "peak_mib": peaks[way] / 2**20,
        "time_to_care": seconds[way] / seconds[care],
        "memory_to_care": peaks[way] / peaks[care],
    }
    if case[1] != "float32":
        row["speedup_to_float32"] = seconds[name, "float32", kind] / seconds[way]
    return row


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=10)
