"""Networks in every format of `gvtnets export`: how far off, how large, how fast.

    python benchmarks/exports.py [--json FILE] [--rounds N] [--quick]

The networks have their published size and arbitrary weights, one channel in and one out (that
of virtual staining: its 39 in, 8 labels of 256 classes out). Each artefact is run by its own
runtime at two grids; the difference is the largest one, relative to the range of what the
network answers here. Bytes are those of the whole folder. Times are of the network alone on
`TIMED` voxels, relative to the network in graph mode as `Predictor` calls it, the best of
several rounds that take turns; every runtime may use all cores. A format that a network cannot
be written in has the reason instead of numbers.
"""

import os
import tempfile
from pathlib import Path

import timing

FORMATS = {
    "savedmodel": ("savedmodel", None),
    "litert": ("litert", None),
    "litert_float16": ("litert", "float16"),
    "litert_int8": ("litert", "int8"),
    "onnx": ("onnx", None),
    "bioimageio": ("bioimageio", None),
}
# Preset, what is changed in it, and channels that go in.
NETWORKS = {
    "label_free": ("label_free", {}, 1),
    "denoising": ("denoising", {}, 1),
    "projection": ("projection", {}, 1),
    "unet": ("unet", {}, 1),
    "fnet": ("fnet", {}, 1),
    "label_free_2d": ("label_free", {"rank": 2}, 1),
    "denoising_2d": ("denoising", {"rank": 2}, 1),
    "gpt_virtual_staining": ("gpt_virtual_staining", {}, 39),
}
REPEATS = (1, 2)  # grids, in multiples of the divisor
TIMED = {"ZYX": (16, 64, 64), "YX": (128, 128)}
QUICK = {"ZYX": (16, 16, 16), "YX": (16, 16)}


def predictor(preset, changes, channels, quick):
    """A preset with weights that keep features of order one, and its card."""
    import keras
    import numpy as np

    from gvtnets_tf.images.normalization import Normalizer
    from gvtnets_tf.models.presets import PRESETS
    from gvtnets_tf.prediction.predictor import Predictor
    from gvtnets_tf.zoo.card import Card

    keras.utils.set_random_seed(0)
    about = PRESETS[preset]
    small = {"filters": 2} if quick and "filters" in about.config else {}
    model = about.build(**small, **changes)
    model.build((None,) * (1 + model.rank) + (channels,))
    axes = about.axes[-model.rank :]
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if not np.any(weight):  # a bias of zero would be left out of a graph
            weight.assign(rng.normal(0, 0.01, weight.shape))
    # Normalization is not measured here.
    card = Card(
        axes, axes if about.axes == about.output_axes else about.output_axes,
        input_normalizer=Normalizer("none"), denormalize="none",
        classes=about.config.get("classes"),
        probabilistic=bool(about.config.get("scale_head")),
    )  # fmt: skip
    return Predictor(model, card)


def runner(path, form):
    """An exported network as a function from an array to a dict of arrays."""
    return {
        "savedmodel": run_savedmodel,
        "litert": run_litert,
        "onnx": run_onnx,
        "bioimageio": run_bioimageio,
    }[form](path)


def run_savedmodel(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path / "1"))

    def run(x):
        outputs = loaded.signatures["normalized"](image=tf.constant(x))
        return {name: y.numpy() for name, y in outputs.items()}

    return run


def run_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    threads = len(os.sched_getaffinity(0))
    signature = Interpreter(str(path / "model.tflite"), num_threads=threads).get_signature_runner()
    return lambda x: signature(image=x)


def run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path / "model.onnx"))
    names = [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {"image": x})))


def run_bioimageio(path):
    """By `bioimageio.core`, which prefers the ONNX weights."""
    from bioimageio import core
    from bioimageio.core.digest_spec import create_sample_for_model

    model = core.load_model_description(path / "bioimageio.yaml")
    pipeline = core.create_prediction_pipeline(model, weight_format="onnx").__enter__()

    def run(x):
        sample = create_sample_for_model(model, inputs={"image": x})
        outputs = pipeline.predict_sample_without_blocking(sample)
        return {name: y.data.data for name, y in outputs.members.items()}

    return run


def difference(made, channels, run):
    """Largest difference at all grids, relative to the range of what is expected."""
    import numpy as np

    worst, rng = 0.0, np.random.default_rng(0)
    for repeat in REPEATS:
        # A projection has a divisor of one along Z: some planes more.
        grid = [max(d, 4) * repeat for d in made.divisor]
        x = rng.standard_normal((repeat, *grid, channels), np.float32)
        expected, outputs = made.model(x).numpy(), run(x)
        parts = [outputs[name] for name in ("prediction", "uncertainty") if name in outputs]
        y = np.concatenate(parts, axis=-1)
        if y.shape != expected.shape:
            raise RuntimeError(f"shape {y.shape} instead of {expected.shape}")
        worst = max(worst, float(np.abs(y - expected).max() / np.ptp(expected)))
    return worst


def measure(quick, rounds):
    return {name: measure_one(*about, quick, rounds) for name, about in NETWORKS.items()}


def measure_one(preset, changes, channels, quick, rounds):
    import numpy as np

    from gvtnets_tf import export
    from gvtnets_tf.prediction.engines.keras import compile_model

    made = predictor(preset, changes, channels, quick)
    grid = (QUICK if quick else TIMED)[made.card.axes]
    x = np.random.default_rng(0).standard_normal((1, *grid, channels), np.float32)
    numbers, ways = {}, {"keras": compile_model(made.model)}
    with tempfile.TemporaryDirectory() as folder:
        for label, (form, quantize) in FORMATS.items():
            try:
                path = export(made, Path(folder) / label, form, quantize)
            except ValueError as error:
                numbers[label] = {"cannot": str(error)}
                continue
            ways[label] = runner(path, form)
            size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            off = difference(made, channels, ways[label])
            numbers[label] = {"difference": off, "bytes": size}
        seconds = timing.time_best({k: lambda w=w: w(x) for k, w in ways.items()}, rounds)
    for label in ways.keys() - {"keras"}:
        numbers[label]["time_to_keras"] = seconds[label] / seconds["keras"]
    return {"weights": made.model.count_params(), "keras_seconds": seconds["keras"], **numbers}


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=3)
