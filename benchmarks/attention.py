"""Time and peak memory of the attention operator, per voxel and against other orders.

    python benchmarks/attention.py [--json FILE] [--rounds N] [--quick]

Three things, on 32 channels and one head, in float32 and graph mode:

- linear: `GlobalAttention` with query and source on one cubic grid, from 32^3 to 128^3. If
  time and memory are linear in the number of voxels, both are constant per voxel.
- quadratic: the same layer and weights with its products in the other order, (q k^T) v, which
  is how attention with a softmax has to be computed. It takes all N^2 scores at once, 4 GiB
  at 32^3. How far the two answers differ is printed.
- softmax: `normalization="softmax"` on 20^3, by the number of queries handled at a time.

Times are the best of several rounds in one process, the sizes taking turns. Each peak is the
rise of the resident memory of a fresh process, beyond what the input takes, by one call after a
calls on 4^3 and 8^3 voxels, after which nothing is compiled any more.
"""

import functools

import timing

CHANNELS = 32
GRIDS, QUADRATIC, SOFTMAX = (32, 64, 96, 128), (16, 32), 20
CHUNKS = (64, 512, 2048, None)
WARM_UP = (4, 8)
QUICK = {"grids": (8, 16), "quadratic": (8,), "softmax": 8, "chunks": (64, None)}
FULL = {"grids": GRIDS, "quadratic": QUADRATIC, "softmax": SOFTMAX, "chunks": CHUNKS}


def layer(**changes):
    """The operator with weights that do not depend on the process."""
    import keras

    from gvtnets_tf import GlobalAttention

    keras.utils.set_random_seed(0)
    attention = GlobalAttention(CHANNELS, CHANNELS, CHANNELS, **changes)
    attention.build((1, None, None, None, CHANNELS), (1, None, None, None, CHANNELS))
    return attention


def features(grid):
    """A cube of `grid` voxels a side."""
    import numpy as np
    import tensorflow as tf

    # Drawn by NumPy: what TensorFlow needs to draw it would stay in its pool, and hide as much
    # of the peak.
    x = np.random.default_rng(0).standard_normal((1, grid, grid, grid, CHANNELS), np.float32)
    return tf.constant(x)


def linear():
    """The operator as a function of its input, compiled."""
    import tensorflow as tf

    attention = layer()
    return tf.function(lambda x: attention(x, x), reduce_retracing=True)


def quadratic():
    """The same answer with all scores written out."""
    import tensorflow as tf

    attention = layer()

    @tf.function(reduce_retracing=True)
    def call(x):
        q, k, v = (tf.reshape(t, (-1, CHANNELS)) for t in (x, attention.key(x), attention.value(x)))
        scores = tf.matmul(q * CHANNELS**-0.5, k, transpose_b=True)
        y = tf.matmul(scores, v) / tf.cast(tf.shape(q)[0], "float32")
        return attention.result(tf.reshape(y, tf.shape(x)))

    return call


def softmax(chunk, gradient):
    """Softmax attention in chunks of queries, or the gradient of its mean square."""
    import tensorflow as tf

    attention = layer(normalization="softmax", chunk=chunk)
    if not gradient:
        return tf.function(lambda x: attention(x, x), reduce_retracing=True)

    @tf.function(reduce_retracing=True)
    def call(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(tf.square(attention(x, x)))
        return tape.gradient(loss, [x, *(w.value for w in attention.weights)])

    return call


def peak(make, grid, *args):
    """Bytes that one call takes beyond its input, in this process."""
    call, x = make(*args), features(grid)
    for small in WARM_UP:
        call(features(small))
    return timing.measure_rise(lambda: call(x))


def of_linear(grids, quadratic_grids, rounds):
    """Both orders of the product; their times are taken in the same rounds."""
    calls = {"linear": linear(), "quadratic": quadratic()}
    cases = [("linear", g) for g in grids] + [("quadratic", g) for g in quadratic_grids]
    inputs = {grid: features(grid) for _, grid in cases}
    ways = {(n, g): functools.partial(calls[n], inputs[g]) for n, g in cases}
    seconds = timing.time_best(ways, rounds)
    make = {"linear": linear, "quadratic": quadratic}
    peaks = {case: timing.run_in_process(peak, make[case[0]], case[1]) for case in cases}
    result = {name: {} for name in calls}
    for name, grid in cases:
        result[name][f"{grid}^3"] = _per_voxel(seconds[name, grid], peaks[name, grid], grid)
    largest = max(quadratic_grids)
    y, z = (ways[name, largest]() for name in calls)
    return result | {
        "linear_largest_to_smallest": {
            key: _ratio(result["linear"], grids[-1], grids[0], key)
            for key in ("ns_per_voxel", "bytes_per_voxel")
        },
        f"quadratic_to_linear_at_{largest}^3": {
            "time": seconds["quadratic", largest] / seconds["linear", largest],
            "memory": peaks["quadratic", largest] / peaks["linear", largest],
            "largest_difference": float(abs(y - z).numpy().max()),
            "largest_value": float(abs(y).numpy().max()),
        },
    }


def _per_voxel(seconds, size, grid):
    return {
        "seconds": seconds,
        "ns_per_voxel": 1e9 * seconds / grid**3,
        "peak_mib": size / 2**20,
        "bytes_per_voxel": size / grid**3,
    }


def _ratio(table, a, b, key):
    return table[f"{a}^3"][key] / table[f"{b}^3"][key]


def of_softmax(grid, chunks, rounds):
    """By chunk: seconds and peak of the answer and of its gradient."""
    x = features(grid)
    kinds = {"answer": False, "gradient": True}
    ways = {
        (kind, chunk): functools.partial(softmax(chunk, gradient), x)
        for chunk in chunks
        for kind, gradient in kinds.items()
    }
    seconds = timing.time_best(ways, rounds)
    result = {"grid": f"{grid}^3", "all_scores_mib": grid**6 * 4 / 2**20}
    for chunk in chunks:
        result[f"chunk_{chunk}"] = {
            kind: {
                "seconds": seconds[kind, chunk],
                "peak_mib": timing.run_in_process(peak, softmax, grid, chunk, gradient) / 2**20,
            }
            for kind, gradient in kinds.items()
        }
    return result


def measure(quick, rounds):
    sizes = QUICK if quick else FULL
    return {
        "channels": CHANNELS,
        **of_linear(sizes["grids"], sizes["quadratic"], rounds),
        "softmax": of_softmax(sizes["softmax"], sizes["chunks"], max(rounds // 4, 1)),
    }


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=12)
