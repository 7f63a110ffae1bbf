"""A recipe, fitted: `model.fit` does the work, this puts the parts together."""

import contextlib
import re
import sys
from dataclasses import replace
from pathlib import Path

import keras
import yaml

from gvtnets_tf.atomic_files import atomic_write, check_writable
from gvtnets_tf.checks import import_optional
from gvtnets_tf.data.pipeline import training_dataset, validation_dataset
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.losses import CLASSES, LOSSES, MASKED, PROBABILISTIC
from gvtnets_tf.prediction.memory import bytes_per_voxel
from gvtnets_tf.training import callbacks
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card

# What a reader raised, in the text of TensorFlow's own error.
RAISED = re.compile(r": (?:ValueError|\w+Error(?=: \[Errno)): (.*?)\nTraceback", re.DOTALL)


def train(
    recipe, out, *, resume=False, start=None, tensorboard=False, deterministic=False,
    progress=True, force=False,
):  # fmt: skip
    """Train a network by a recipe and leave a model folder.

    The folder holds the best weights on the select part after every epoch, so a kill
    costs at most one epoch; where nothing is kept for selection, the last weights.

    Args:
        recipe: `Recipe`, a mapping of its keys, or the path of a YAML file.
        out: folder to make.
        resume: bool. Go on with the run that `out` holds. On the CPU with
            `deterministic`, the result is bit-equal to a run that was never stopped.
        start: model folder, or network, whose weights to start from (fine-tuning).
        tensorboard: bool. Write logs and images into `out/tensorboard`.
        deterministic: bool. Make TensorFlow use deterministic operations.
        progress: bool. Show a progress bar on standard error.
        force: bool. Whether an existing `out` is replaced.

    Returns:
        `Path` of the model folder.

    Raises:
        FileExistsError: if `out` exists, and neither `resume` nor `force` is given.
        FileNotFoundError, ValueError: for what the recipe or the images lack; if the
            loss is not a number; if no best weights were written.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.load(recipe) if isinstance(recipe, (str, Path)) else Recipe.parse(recipe)
    out = Path(out)
    if resume:
        _check_same(recipe, out)
    else:
        check_writable(out, force)
    # Seeds Python, NumPy and Keras: the initial weights depend on `recipe.seed` alone.
    keras.utils.set_random_seed(recipe.seed)
    if deterministic:
        _make_deterministic()

    training, selection, card = _prepare(recipe)
    model = recipe.build(training[0].kind[:2])
    if start is not None:
        _start_from(model, start)
    _compile(model, recipe)
    run = {"epoch": 0, "best": float("inf"), "history": []}
    if resume:
        run = callbacks.restore(out, model)
    classes = model.classes if recipe.loss in CLASSES else None
    source, held = _patches(recipe, training, selection, run["epoch"], classes)
    channels = training[0].kind[0] * len(recipe.scales)
    each = bytes_per_voxel(model, model.divisor, channels, model.rank, card.tile)
    card = card.changed(bytes_per_voxel=each, classes=classes)
    if not resume:
        _begin(out, recipe, force)  # Only now: what is wrong was found, and leaves nothing.
    _fit(model, recipe, source, held, card, out, run, tensorboard, progress)
    model_folder.read(out)  # Fails loudly if what was promised is not there.
    return out


def _prepare(recipe):
    """Open the data: training and selection pairs, and a card without scores."""
    train, select = recipe.divided(recipe.samples())
    if not train:
        raise ValueError("No pair is left to train on: look at `regions`, `split` and `select`.")
    denormalize = recipe.normalize.get("denormalize", "input")
    alike = recipe.normalize.get("target") == "input"
    rules = {
        role: _fixed(
            Normalizer.parse(rule),
            [getattr(sample, role) for sample in train],
            always=denormalize == "stored" and role == "target",
            role=role,
        )
        for role, rule in recipe.rules.items()
    }
    pairs = [[p for s in part for p in _pairs(s, rules, alike, recipe)] for part in (train, select)]
    _check_units(denormalize, pairs[0][0])
    taken = _taken(recipe, train, select)
    card = Card(
        axes=recipe.axes,
        output_axes=recipe.axes.replace("Z", "") if pairs[0][0].projects else recipe.axes,
        input_normalizer=rules["input"],
        target_normalizer=rules["target"],
        denormalize=denormalize,
        voxel_size={
            a: s for a, s in pairs[0][0].input.voxel_size.items() if a in recipe.axes
        },
        input_channels=_names(train[0].input),
        output_channels=_names(train[0].target),
        trained_channels=taken,
        probabilistic=recipe.loss in PROBABILISTIC,
        scales=tuple(recipe.scales),
        tile=recipe.patch if len(recipe.scales) > 1 else (),
        training={
            "steps": recipe.steps, "batch": recipe.batch, "patch": list(recipe.patch),
            "loss": recipe.loss, "seed": recipe.seed, "pairs": len(train),
        },
        provenance="trained by the recipe beside this file",
    )  # fmt: skip
    return *pairs, card


def _pairs(sample, rules, alike, recipe):
    """Measure a sample; a network of planes then sees each plane, by the numbers of its stack."""
    if len(recipe.scales) == 1:
        sample = replace(sample, around=None, origin={})
    pair = sample.measure(rules["input"], rules["target"])
    if alike:
        pair = replace(pair, target_affine=pair.input_affine)
    pair = pair.resize_to_network()  # as published: measured first
    return [pair] if "Z" in recipe.axes else pair.split_along("Z")


def _taken(recipe, samples, held):
    """Names of the labels that the training images have, where some images lack one."""
    lacking = [s.target.name for s in (*samples, *held) if any(s.target.missing)]
    if not lacking:
        return ()
    if recipe.loss not in MASKED:
        raise ValueError(
            f"{lacking[0]} lacks labels (NaN throughout), which the loss {recipe.loss!r} cannot "
            f"pass over: use one of {', '.join(MASKED)}, or choose labels that all images have."
        )
    names, missing = _names(samples[0].target), [s.target.missing for s in samples]
    return tuple(name for i, name in enumerate(names) if not all(m[i] for m in missing))


def _check_units(denormalize, pair):
    inputs, targets, _ = pair.kind
    if denormalize == "input" and inputs not in (1, targets):
        raise ValueError(
            f"Results of {targets} channels cannot take the units of {inputs} input channels: set "
            f"`normalize.denormalize` to 'stored' (the units of the targets) or 'none'."
        )


def _fixed(rule, images, always, role):
    """Measure a rule over the whole data set, where it asks for that."""
    if rule.kind == "fixed" or not (always or rule.scope == "dataset"):
        return rule
    return rule.from_affine(rule.measure_images(images, f"the training {role}s"))


def _names(image):
    count = image.sizes.get("C", 1)
    return image.channel_names or tuple(f"channel {i}" for i in range(count))


def _start_from(model, start):
    other = start if isinstance(start, keras.Model) else model_folder.read(start)[0]
    ours, theirs = (
        {n: tuple(w.shape) for n, w in model_folder.named_weights(m).items()}
        for m in (model, other)
    )
    if ours != theirs:
        wrong = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        raise ValueError(
            f"The weights to start from are of another network: {len(wrong)} differ, such as "
            f"{wrong[0]}. "
            f"Start from a model with the same preset, channels and filters."
        )
    model.set_weights(other.get_weights())


def _compile(model, recipe):
    rate, every = recipe.schedule.get("rate", 4e-4), recipe.schedule.get("every")
    if every:
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, every, recipe.schedule.get("decay", 1.0), staircase=True
        )
    model.compile(
        optimizer=keras.optimizers.Adam(rate, **recipe.optimizer),
        loss=LOSSES[recipe.loss](),
    )


def _begin(out, recipe, force):
    with atomic_write(out, force) as beside:
        beside.mkdir()
        (beside / "recipe.yaml").write_text(recipe.dump(out))


def _check_same(recipe, out):
    """A run goes on only with the recipe that it began with."""
    if not (out / "recipe.yaml").is_file():
        raise FileNotFoundError(f"{out} holds no run to continue: there is no recipe.yaml.")
    ours, theirs = (yaml.safe_load(r.dump(out)) for r in (recipe, Recipe.load(out / "recipe.yaml")))
    differ = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    if differ:
        raise ValueError(
            f"The run in {out} has another recipe: {', '.join(differ)} differ. Continue with the "
            f"recipe it began with, or start from its weights with `--from` in a new folder."
        )


def _patches(recipe, training, selection, first_epoch, classes):
    """The data to fit, and those to choose by, or `None`."""
    source = training_dataset(
        training, recipe.patch, recipe.batch, -(-recipe.steps // recipe.epochs), seed=recipe.seed,
        flip=recipe.augment.get("flip", False), rotate=recipe.augment.get("rotate", False),
        sampling=recipe.weighting, first_epoch=first_epoch, axes=recipe.axes,
        scales=recipe.scales, classes=classes, intensity=recipe.intensity,
    )  # fmt: skip
    if not selection:
        print("gvtnets: nothing is kept for selection; the last weights count", file=sys.stderr)
        return source, None
    most = recipe.select_patches
    held = validation_dataset(
        selection, recipe.patch, recipe.batch, validation_patches=most, axes=recipe.axes,
        scales=recipe.scales, classes=classes,
    )  # fmt: skip
    return source, held


def _fit(model, recipe, source, held, card, out, run, tensorboard, progress):
    keep = callbacks.KeepBest(out, card, run["best"], "val_loss" if held else None)
    extra = _tensorboard(out / "tensorboard", held) if tensorboard else []
    with _told_plainly(), contextlib.redirect_stdout(sys.stderr):  # Keras shows progress there
        model.fit(
            source,
            shuffle=False,  # `training_dataset` draws at random
            validation_data=held,
            epochs=recipe.epochs,
            initial_epoch=run["epoch"],
            callbacks=[
                callbacks.StopOnNaN(),
                keep,
                callbacks.Backup(out, keep, run["history"], recipe.seed),
                *extra,
            ],
            verbose=1 if progress else 0,
        )


@contextlib.contextmanager
def _told_plainly():
    """Raise what a reader of patches raised, in place of the error TensorFlow makes of it."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        said = RAISED.search(str(error))
        if said is None:
            raise
        raise ValueError(said[1]) from error


def _tensorboard(log_dir, held):
    import_optional("tensorboard", "tensorboard")
    batch = None if held is None else next(iter(held.as_numpy_iterator()))
    images = [] if batch is None else [callbacks.Images(log_dir, batch)]
    return [keras.callbacks.TensorBoard(log_dir, write_graph=False), *images]


def _make_deterministic():
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
