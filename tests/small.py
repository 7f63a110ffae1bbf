"""Small simulated data, and the smallest networks, for the tests of whole runs."""

from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.images import writers
from gvtnets_tf.training import fitting

MODEL = {
    "class": "GVTNet",
    "filters": 2,
    "depth": 2,
    "encoder_blocks": 0,
    "decoder_blocks": 0,
    "norm": None,
    "input_residual": True,
}
SHAPE = (8, 32, 80)


def stacks(folder, count=2, shape=SHAPE, task="denoising", suffix=".tif"):
    """Write simulated pairs to `in/` and `gt/`; return the folder."""
    for seed in range(count):
        for name, image in zip(("in", "gt"), cells.simulate_pair(task, shape, seed)):
            writers.write(folder / name / f"{seed}{suffix}", image)
    return folder


def fast_training(monkeypatch, bytes_per_voxel):
    """Save what takes seconds: a measurement with tests of its own, and tracing of graphs."""
    original = fitting._compile

    def compile_eager(model, recipe):
        original(model, recipe)
        model.run_eagerly = True

    monkeypatch.setattr(fitting, "_compile", compile_eager)
    monkeypatch.setattr(fitting, "measure_bytes_per_voxel", lambda *args: bytes_per_voxel)


def recipe(folder, **changes):
    """The keys of a recipe of three epochs of two steps."""
    return {
        "model": MODEL,
        "data": {"root": str(folder), "inputs": "in/*", "targets": "gt/*"},
        "patch_size": [8, 16, 16],
        "batch_size": 2,
        "steps": 6,
        "steps_per_epoch": 2,
        **changes,
    }
