"""Every preset in every format of `gvtnets export`: how far off, how large, how fast.

    python benchmarks/exports.py [--json FILE] [--rounds N] [--quick]

The networks have their published size and arbitrary weights, one channel in and one out. Each
artefact is run by its own runtime at two grids; the difference is the largest one, relative to
the range of what the network answers here. Bytes are those of the whole folder. Times are of
the network alone on 16 x 64 x 64 voxels, relative to the network in graph mode as `Predictor`
calls it, the best of several rounds that take turns; every runtime may use all cores.
"""

import os
import tempfile
from pathlib import Path

import timing

FORMATS = {
    "savedmodel": ("savedmodel", None),
    "litert": ("litert", None),
    "litert_float16": ("litert", "float16"),
    "onnx": ("onnx", None),
}
REPEATS = (1, 2)  # grids, in multiples of the divisor
TIMED, QUICK = (16, 64, 64), (16, 16, 16)


def predictor(name, quick):
    """A preset with weights that keep features of order one, and its card."""
    import keras

    from gvtnets_tf.card import Card
    from gvtnets_tf.models.presets import PRESETS
    from gvtnets_tf.prediction.predictor import Predictor

    keras.utils.set_random_seed(0)
    about = PRESETS[name]
    small = {"filters": 2} if quick and "filters" in about.config else {}
    model = about.build(**small)
    model.build((None,) * (1 + len(about.axes)) + (1,))
    card = Card(about.axes, about.output_axes, probabilistic=bool(about.config.get("scale_head")))
    return Predictor(model, card)


def runner(path, form):
    """An exported network as a function from an array to a dict of arrays."""
    if form == "savedmodel":
        import tensorflow as tf

        loaded = tf.saved_model.load(str(path / "1"))

        def run(x):
            found = loaded.signatures["normalized"](image=tf.constant(x))
            return {name: y.numpy() for name, y in found.items()}

        return run
    if form == "litert":
        from ai_edge_litert.interpreter import Interpreter

        threads = len(os.sched_getaffinity(0))
        signature = Interpreter(
            str(path / "model.tflite"), num_threads=threads
        ).get_signature_runner()
        return lambda x: signature(image=x)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"image": x})))


def difference(made, run):
    """Largest difference at all grids, relative to the range of what is expected."""
    import numpy as np

    worst, rng = 0.0, np.random.default_rng(0)
    for repeat in REPEATS:
        # A projection has a divisor of one along Z: some planes more.
        grid = [max(d, 4) * repeat for d in made.divisor]
        x = rng.standard_normal((repeat, *grid, 1), np.float32)
        expected, found = made.model(x).numpy(), run(x)
        parts = [found[name] for name in ("prediction", "uncertainty") if name in found]
        y = np.concatenate(parts, axis=-1)
        if y.shape != expected.shape:
            raise RuntimeError(f"shape {y.shape} instead of {expected.shape}")
        worst = max(worst, float(np.abs(y - expected).max() / np.ptp(expected)))
    return worst


def measure(quick, rounds):
    import numpy as np

    from gvtnets_tf import export
    from gvtnets_tf.models.presets import PRESETS
    from gvtnets_tf.prediction import memory

    found = {}
    x = np.random.default_rng(0).standard_normal((1, *(QUICK if quick else TIMED), 1), np.float32)
    for name in PRESETS:
        made = predictor(name, quick)
        numbers, ways = {}, {"keras": memory.runner(made.model)}
        with tempfile.TemporaryDirectory() as folder:
            for label, (form, quantize) in FORMATS.items():
                path = export(made, Path(folder) / label, form, quantize)
                ways[label] = runner(path, form)
                size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                numbers[label] = {"difference": difference(made, ways[label]), "bytes": size}
            seconds = timing.best({k: lambda w=w: w(x) for k, w in ways.items()}, rounds)
        for label in FORMATS:
            numbers[label]["time_to_keras"] = seconds[label] / seconds["keras"]
        found[name] = {"weights": made.model.count_params(), **numbers}
    return found


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=3)
