"""A recipe, fitted: `model.fit` does the work, this puts the parts together."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Mapping
from math import nan
from pathlib import Path

import keras
import yaml

from gvtnets_tf.atomic_files import atomic_rewrite, atomic_write, check_writable, lock
from gvtnets_tf.checks import check_same_settings, import_optional
from gvtnets_tf.data.batches import TrainingBatches, ValidationBatches
from gvtnets_tf.data.pipeline import to_py_dataset, to_tf_dataset
from gvtnets_tf.evaluation import plots
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.losses import CLASSES, LOSSES
from gvtnets_tf.models.metrics import PearsonR
from gvtnets_tf.prediction.engines.keras import is_out_of_memory
from gvtnets_tf.prediction.memory import measure_bytes_per_voxel
from gvtnets_tf.training import callbacks, event_files
from gvtnets_tf.training.averaging import Evaluated, find_batch_norms
from gvtnets_tf.training.cost import TellCost
from gvtnets_tf.training.optimizers import make_optimizer
from gvtnets_tf.training.preparation import build_network, prepare
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder

# What a reader raised, in the text of TensorFlow's own error.
RAISED = re.compile(r": (?:ValueError|\w+Error(?=: \[Errno)): (.*?)\nTraceback", re.DOTALL)
logger = logging.getLogger("gvtnets_tf")


def train(
    recipe: Recipe | Mapping | str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    initial_weights: keras.Model | str | Path | None = None,
    progress: bool = True,
    force: bool = False,
    tensorboard: bool = False,
    deterministic: bool = False,
) -> Path:
    """Train a network by a recipe; write a model folder, and return its path.

    After every epoch it holds the weights with the best `recipe.monitor` so far (without
    validation data, the last ones), at the end also the learning curve, `training.png`. A run
    that fails in its first step, or before it, leaves nothing, and replaces nothing.

    Args:
        recipe: `Recipe`, a mapping of its keys, or the path of a YAML file.
        out: folder to make.
        resume: bool. Continue the run that `out` holds; at most one epoch is lost by a kill. Of
            the recipe only `steps` may differ, to make the run longer.
        initial_weights: model folder, or network, to fine-tune.
        tensorboard: bool. Write logs and images into `out/tensorboard`.
        deterministic: bool. Use deterministic operations (of JAX on the CPU, they are so anyway):
            on the CPU two runs are bit-equal, also when one was stopped and resumed.
        progress: bool. Show a progress bar on standard error.
        force: bool. Replace an `out` of this package; without it and `resume`, an error.

    Raises:
        FileNotFoundError, ValueError: naming what the recipe or the images lack, or if the loss
            is not finite.
        BlockingIOError: if another run trains into `out`.
        MemoryError: if a step does not fit the memory.

    Examples:
        >>> data = {"inputs": "noisy/*.tif", "targets": "clean/*.tif"}
        >>> train({"preset": "denoising", "data": data}, "model")  # doctest: +SKIP
        PosixPath('model')
    """
    recipe = Recipe.load(recipe) if isinstance(recipe, str | Path) else Recipe.parse(recipe)
    options = {"tensorboard": tensorboard, "progress": progress}
    _check_same_recipe(recipe, Path(out)) if resume else _check_new(recipe, out, force)
    with lock(out):
        _train(recipe, Path(out), resume, force, initial_weights, deterministic, options)
    return Path(out)


def _train(recipe, out, resume, force, initial_weights, deterministic, options):
    # Seeds Python, NumPy and Keras: the initial weights depend on `recipe.seed` alone.
    keras.utils.set_random_seed(recipe.seed)
    if deterministic:
        _use_deterministic_operations()
    training, validation, card = prepare(recipe)
    model = build_network(recipe, training[0].kind[:2])
    _check_bfloat16(recipe, model)
    _copy_weights(initial_weights, model)
    _compile(model, recipe)
    beginning = {"epoch": 0, "steps": 0, "best": None, "history": []}
    run = callbacks.restore(out, model) if resume else beginning
    epochs, run["steps"] = _plan_epochs(recipe, run["epoch"], run["epoch"] * run["steps"])
    classes = model.classes if recipe.loss in CLASSES else None
    batches = _make_batches(recipe, training, validation, run["steps"], run["epoch"], classes)
    memory = _measure_memory(recipe, model, training[0].kind[:2], card.tile)
    card = card.changed(classes=classes, bytes_per_voxel=memory)
    begin = callbacks.Begin(lambda: _write_recipe(recipe, out, resume, force))
    inputs = _read_inputs(recipe, model, batches[0])
    cost = TellCost((epochs - run["epoch"]) * run["steps"])
    called = _make_callbacks(recipe, card, out, run, begin, cost, batches[1], inputs)
    _fit(model, *map(_hand, batches), out, run, epochs, *called, **options)
    model_folder.read_model(out)  # Fails loudly if what was promised is not there.


def _check_bfloat16(recipe, model):
    """Refuse patches whose gradients TensorFlow gets wrong on a CPU.

    In the gradient of a 3-D convolution by its kernel, in bfloat16 and over two planes, TensorFlow
    2.21 (oneDNN) leaves memory as it was; other numbers of planes were tried and are right.
    """
    if recipe.precision != "bfloat16" or keras.backend.backend() != "tensorflow" or model.rank == 2:
        return
    import tensorflow as tf

    planes, halved = recipe.patch_size[0], model.divisor[0].bit_length()
    if not tf.config.list_physical_devices("GPU") and 2 in (planes >> i for i in range(halved)):
        raise ValueError(
            f"TensorFlow gets gradients over two planes wrong in bfloat16 on a CPU, and the "
            f"network halves patches of {planes} planes to 2: take a `patch_size` of more planes, "
            f"or `precision: float32`. Received: {list(recipe.patch_size)}."
        )


def _measure_memory(recipe, model, kind, tile):
    """Measure the memory of a prediction, which is in float32 whatever the training is in."""
    if recipe.precision != "float32":
        model = build_network(recipe.changed(precision="float32"), kind)
    channels = kind[0] * len(recipe.scales)
    return measure_bytes_per_voxel(model, model.divisor, channels, model.rank, tile)


def _check_new(recipe, out, force):
    data = recipe.data
    named = (data.csv, data.npz, data.wells, data.inputs, data.targets)
    check_writable(out, force, [Path(data.root, path) for path in named if path])


def _write_recipe(recipe, out, resume, force):
    """Write the recipe into the folder of a run, which is made if the run is new."""
    if resume:
        with atomic_rewrite(out / "recipe.yaml") as beside:
            beside.write_text(recipe.dump(out), encoding="utf-8")
        return
    with atomic_write(out, force) as beside:
        beside.mkdir()
        (beside / "recipe.yaml").write_text(recipe.dump(out), encoding="utf-8")


def _plan_epochs(recipe, epoch, done):
    """Return the number of epochs and of steps in each, after `done` steps in `epoch` epochs.

    A run that is made longer keeps the length of its epochs.
    """
    steps = done // epoch if epoch else -(-recipe.steps // recipe.epochs)
    if recipe.steps <= done - steps:
        raise ValueError(
            f"The run has {done} steps behind it, and `steps` can only make it longer. Received: "
            f"{recipe.steps}."
        )
    return -(-recipe.steps // steps), steps


def _copy_weights(source, model):
    if source is None:
        return
    other = source if isinstance(source, keras.Model) else model_folder.read_model(source)[0]
    ours, theirs = (
        {(name, tuple(w.shape)) for name, w in named_weights(m).items()} for m in (model, other)
    )
    if wrong := sorted({name for name, _ in ours ^ theirs}):
        raise ValueError(
            f"The initial weights are of another network: {len(wrong)} differ, such as "
            f"{wrong[0]}. Take a model with the same preset, channels and filters."
        )
    model.set_weights(other.get_weights())


def _compile(model, recipe):
    model.compile(make_optimizer(recipe), LOSSES[recipe.loss](), metrics=[PearsonR()])
    # Else Keras does so within the first step, and TensorFlow traces that step twice.
    model.optimizer.build(model.trainable_variables)


def _check_same_recipe(recipe, out):
    """Raise `ValueError` if the run in `out` began with another recipe."""
    if not (out / "recipe.yaml").is_file():
        raise FileNotFoundError(f"{out} holds no run to continue: there is no recipe.yaml.")
    ours, theirs = (
        dict(_flatten(yaml.safe_load(values.dump(out))))
        for values in (recipe, Recipe.load(out / "recipe.yaml"))
    )
    advice = (
        "Continue with the recipe it began with, of which only `steps` may change, or take its "
        "weights with `--initial-weights` in a new folder."
    )
    if recipe.learning_rate.kind == "cosine" and ours["steps"] != theirs["steps"]:
        raise ValueError(
            f"The run in {out} has a learning rate that ends as a cosine at its last step, so "
            f"that its `steps` cannot change: leave them at {theirs['steps']}, or begin a new run "
            f"from its weights with `--initial-weights`. Received: {ours['steps']}."
        )
    check_same_settings(ours, theirs | {"steps": ours["steps"]}, f"The run in {out}", advice)


def _flatten(values, path=""):
    """Yield every value with the path of its key."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _make_batches(recipe, training, validation, steps, first_epoch, classes):
    """Make the batches to train on and those to validate with, or `None`."""
    sizes = (recipe.patch_size, recipe.batch_size)
    common = {"axes": recipe.axes, "scales": recipe.scales, "classes": classes}
    source = TrainingBatches(
        training, *sizes, steps, seed=recipe.seed,
        sampling=recipe.sampling, first_epoch=first_epoch, **vars(recipe.augment), **common,
    )  # fmt: skip
    if not validation:
        logger.warning("there is no validation data; the last weights count")
        return source, None
    most = recipe.validation_patches
    return source, ValidationBatches(validation, *sizes, validation_patches=most, **common)


def _hand(batches):
    """Return batches as `fit` takes them."""
    if batches is None:
        return None
    # Of a PyDataset Keras would make a generator for TensorFlow, which is slower.
    is_tensorflow = keras.backend.backend() == "tensorflow"
    return (to_tf_dataset if is_tensorflow else to_py_dataset)(batches)


def _use_deterministic_operations():
    """Ask the backend for operations that give the same bits on every run."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it on a GPU
        torch.use_deterministic_algorithms(True)


@contextlib.contextmanager
def _show_bar(shown):
    """Send the progress bar of Keras to standard error, and end its line if an error cuts it."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield
        except BaseException:
            print(end="\n" if shown else "")
            raise


def _read_inputs(recipe, model, batches):
    """Return the function that reads what batch normalization is measured on, or `None`."""
    if not recipe.precise_batch_norm:
        return None
    if not find_batch_norms(model):
        raise ValueError(
            f"`precise_batch_norm` measures the statistics of batch normalization, and this "
            f"network has none: leave it out. Received: {recipe.precise_batch_norm}."
        )

    return lambda epoch: (batches.read(epoch, step)[0] for step in range(recipe.precise_batch_norm))


def _make_callbacks(recipe, card, out, run, begin, cost, held, inputs):
    """Make what is called before, and what after, the images of TensorBoard."""
    keep = callbacks.KeepBest(out, card, run["best"], recipe.monitor if held else None)
    before, after = [callbacks.StopOnNaN(), begin, cost], []
    if recipe.optimizer.ema is not None or inputs:
        evaluated = Evaluated(inputs)
        before.append(evaluated)
        after.append(keras.callbacks.LambdaCallback(on_epoch_end=evaluated.go_on))
    after.append(callbacks.Backup(out, keep, run["steps"], run["history"], recipe.seed))
    if not recipe.patience:
        return [*before, keep], after
    if held is None:
        raise ValueError(
            f"`patience` counts the epochs without a better `{recipe.monitor}`, and there is no "
            f"validation data: set `validation_split`, or leave `patience` out."
        )
    early = callbacks.StopEarly(run["history"], recipe.monitor, recipe.patience)
    return [*before, keep], [*after, early]


def _fit(model, source, held, out, run, epochs, before, after, tensorboard, progress):
    if any(c.is_over() for c in after if isinstance(c, callbacks.StopEarly)):
        epochs = run["epoch"]
    extra = []
    if tensorboard:
        import_optional("tensorboard", "tensorboard")
        extra = [event_files.Logs(out / "tensorboard")]
        if held is not None:
            extra += [event_files.Images(out / "tensorboard", next(iter(held)))]
    try:
        with _show_bar(progress):
            model.fit(
                source,
                shuffle=False,  # the data set draws at random
                validation_data=held,
                epochs=epochs,
                initial_epoch=run["epoch"],
                callbacks=[*before, *extra, *after],
                verbose=1 if progress else 0,
            )
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(
                "a step of training needs more than there is. Lower `batch_size`, then "
                "`patch_size`."
            ) from error
        # TensorFlow hides what a reader has raised in an error of its own.
        if type(error).__module__.startswith("tensorflow") and (said := RAISED.search(str(error))):
            raise ValueError(said[1]) from error
        raise
    rows = run["history"]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name, nan) for row in rows] for name in names}
    plots.curves(out / "training.png", columns, force=True)
