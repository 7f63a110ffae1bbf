"""Work for a process of another backend, in which no TensorFlow can be imported.

    KERAS_BACKEND=torch python backend_worker.py TASK JSON

A task is a function below; its arguments come as JSON, and its result goes there on the last line.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")
if BACKEND != "tensorflow":
    sys.modules["tensorflow"] = None  # an import of it is an error, as where it is not installed


def call(*commands):
    """Run commands of the program; return exit status and output of each."""
    import keras

    from gvtnets_tf.cli.main import main

    said = []
    for command in commands:
        status, out, err = 0, io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main(command)
        except SystemExit as error:
            status = error.code
        said.append([status, out.getvalue(), err.getvalue()])
    assert keras.backend.backend() == BACKEND
    return said


def hash_batches(first_epoch):
    """Return digests of what three epochs of `fit` show, with a network to build and without."""
    from fitted import watch_fit

    from gvtnets_tf.data.pipeline import to_py_dataset

    training, held = make_batches(first_epoch)
    found = {}
    for shape in (None, (None, 8, 8, 1)):
        seen = watch_fit(to_py_dataset(training), 3, shape, to_py_dataset(held))
        found[str(shape)] = [hash_arrays([x]) for x in seen]
    held = [held.read(0, step) for step in range(len(held))]
    return {**found, "held": hash_arrays([a for xy in held for a in xy])}


def make_batches(first_epoch=0):
    """Make batches with every augmentation there is, and those of validation."""
    import numpy as np

    from gvtnets_tf import Image, TrainingPair
    from gvtnets_tf.data import Elastic, Intensity, TrainingBatches, ValidationBatches

    rng = np.random.default_rng(0)
    images = [Image(rng.random((24, 28)).astype(np.float32), "YX") for _ in range(4)]
    pairs = [TrainingPair(*pair).measure() for pair in zip(images[::2], images[1::2])]
    changes = {
        "flip": True, "rotate": True, "elastic": Elastic(3, 4),
        "intensity": Intensity(gain=0.2, offset=0.1, noise=(0, 0.3), drop=0.1, blur=1.5),
    }  # fmt: skip
    training = TrainingBatches(
        pairs, (8, 8), 3, steps=4, seed=5, axes="YX", first_epoch=first_epoch, **changes
    )
    return training, ValidationBatches(pairs, (8, 8), 4, axes="YX")


def hash_arrays(arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()


def break_a_file(values, out):
    """Train; a chunk of a Zarr is damaged as the first epoch begins. Return what is said."""
    from gvtnets_tf.training import callbacks, fitting

    class Breaking(callbacks.Backup):
        def on_train_begin(self, logs=None):
            for chunk in (Path(values["data"]["root"]) / "in/0.zarr/0/c").rglob("*"):
                if chunk.is_file():
                    chunk.write_bytes(b"broken")

    fitting.callbacks.Backup = Breaking
    try:
        fitting.train(values, out, progress=False)
    except ValueError as error:
        return str(error)


def train_twice(values, out):
    """Train twice with deterministic operations; return the digests of both files of weights."""
    from gvtnets_tf import train

    found = []
    for _ in range(2):
        train(values, out, progress=False, deterministic=True, force=True)
        found.append(hashlib.sha256((Path(out) / "weights.h5").read_bytes()).hexdigest())
    shutil.rmtree(out)
    return found


def run_out_of_memory(values, out):
    """Ask for more memory than there is, in a prediction and in a training; return what is said."""
    import keras
    import numpy as np

    from gvtnets_tf.prediction.engines.keras import compile_model
    from gvtnets_tf.training import fitting

    def ask(x):
        return 2 * keras.ops.broadcast_to(keras.ops.mean(x), (10**7, 10**7))

    class Greedy(keras.Model):
        def call(self, x, training=False):
            return ask(x)

    said, model = [], Greedy()
    compiled = fitting._compile

    def compile_greedy(model, recipe):
        compiled(model, recipe)
        model.train_step = lambda *args: ask(np.ones(1, np.float32))
        model.run_eagerly = True

    fitting._compile = compile_greedy
    for step in (
        lambda: compile_model(model)(np.zeros((1, 4, 4, 1), np.float32)),
        lambda: fitting.train(values, out, progress=False),
    ):
        try:
            step()
        except MemoryError as error:
            said.append(str(error))
    return said


if __name__ == "__main__":
    result = globals()[sys.argv[1]](*json.loads(sys.argv[2]))
    print("\n" + json.dumps(result))
