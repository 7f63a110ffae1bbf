"""A recipe becomes a model folder, whatever stops it on the way."""

import contextlib
import csv
import json
import os
import re
import signal
import time

import filelock
import h5py
import numpy as np
import pytest
import tensorflow as tf
from forks import FORKS
from small import MODEL, fast_training, recipe, stacks

from gvtnets_tf import load
from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.data.pipeline import validation_dataset
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.models.metrics import PearsonR
from gvtnets_tf.training import callbacks, fitting
from gvtnets_tf.training.fitting import train
from gvtnets_tf.training.preparation import build_network, prepare
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Runs in processes of their own (below, and in test_cli.py) are traced."""
    fast_training(monkeypatch, bytes_per_voxel=123.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return stacks(tmp_path_factory.mktemp("data"))


def run(out, values, **options):
    return train(values, out, progress=False, **options)


def history(path):
    with (path / "history.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def weights(path):
    """All numbers of an HDF5 file, by name."""
    found = {}
    with h5py.File(path, "r") as store:
        store.visititems(lambda n, x: found.update({n: x[()]} if hasattr(x, "dtype") else {}))
    return found


def check_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def keep_scores(monkeypatch, *scores):
    """Let the validation losses be these, one after the other."""
    scores = iter(scores)

    class Said(callbacks.KeepBest):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs | {"val_loss": next(scores)})

    monkeypatch.setattr(fitting.callbacks, "KeepBest", Said)


# What a run leaves.


def test_a_run_leaves_a_model_folder_with_a_card_and_a_history(tmp_path, data, capfd):
    out = train(recipe(data, augment={"flip": True, "rotate": True}), tmp_path / "run")
    assert sorted(p.name for p in out.iterdir()) == [
        ".gvtnets", "history.csv", "model.json", "recipe.yaml", "resume", "training.png",
        "weights.h5",
    ]  # fmt: skip
    rows = history(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0].keys() == {"epoch", "loss", "r", "val_loss", "val_r"}

    model, card = model_folder.read_model(out)
    assert (card.axes, card.output_axes, card.denormalize) == ("ZYX", "ZYX", "input")
    assert card.voxel_size == {"Z": 0.58, "Y": 0.29, "X": 0.29}
    assert card.bytes_per_voxel == 123.5
    assert card.training["best"]["val_loss"] == min(row["val_loss"] for row in rows)
    # The weights are those of the best epoch: they predict the validation patches as it says.
    made = Recipe.load(out / "recipe.yaml")
    _, validation, _ = prepare(made)
    held = validation_dataset(validation, made.patch_size, made.batch_size)
    model.compile(loss="mae")
    score = model.evaluate(held, verbose=0)
    assert score == pytest.approx(card.training["best"]["val_loss"], rel=1e-4)

    shown = capfd.readouterr()
    assert (shown.out, "Epoch 3/3" in shown.err) == ("", True)


def test_the_learning_curve_is_drawn_of_all_epochs_of_the_run(tmp_path, data, monkeypatch):
    drawn = []
    real = fitting.plots.curves

    def watched(path, columns, **options):
        drawn.append(columns)
        real(path, columns, **options)

    monkeypatch.setattr(fitting.plots, "curves", watched)
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 1)
        run(tmp_path / "run", recipe(data))
    assert drawn == []
    out = run(tmp_path / "run", recipe(data), resume=True)
    rows = history(out)
    names = ("epoch", "loss", "r", "val_loss", "val_r")
    assert drawn == [{name: [row[name] for row in rows] for name in names}]
    assert (out / "training.png").read_bytes()[:4] == b"\x89PNG"


def test_the_weights_are_those_of_the_best_epoch(tmp_path, data, monkeypatch):
    seen = {}

    class Look(callbacks.Backup):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            seen[epoch + 1] = weights(self.path / "weights.h5")

    monkeypatch.setattr(fitting.callbacks, "Backup", Look)
    keep_scores(monkeypatch, 3.0, 1.0, 2.0)
    out = run(tmp_path / "run", recipe(data))
    assert model_folder.read_model(out)[1].training["best"] == {"epoch": 2, "val_loss": 1.0}
    assert any((seen[1][n] != seen[2][n]).any() for n in seen[1])
    check_equal(seen[2], seen[3])


def test_without_validation_data_the_last_weights_count(tmp_path, data, caplog):
    out = run(tmp_path / "run", recipe(data, validation_split=0, steps_per_epoch=3))
    assert [record.message for record in caplog.records if record.name == "gvtnets_tf"] == [
        "there is no validation data; the last weights count"
    ]
    assert model_folder.read_model(out)[1].training["best"] == {"epoch": 2}
    assert history(out)[0].keys() == {"epoch", "loss", "r"}


def test_the_weights_of_the_best_correlation_are_kept(tmp_path, data):
    out = run(tmp_path / "run", recipe(data, monitor="val_r", learning_rate=0.03))
    scores = [row["val_r"] for row in history(out)]
    best = {"epoch": 1 + int(np.argmax(scores)), "val_r": max(scores)}
    assert model_folder.read_model(out)[1].training["best"] == best
    assert json.loads((out / "resume" / "progress.json").read_text())["best"] == max(scores)


def score(out, metric):
    """A score of the network in a model folder on the validation patches of its recipe."""
    model, _ = model_folder.read_model(out)
    made = Recipe.load(out / "recipe.yaml")
    _, validation, _ = prepare(made)
    held = validation_dataset(validation, made.patch_size, made.batch_size)
    model.compile(loss="mae", metrics=[PearsonR()])
    return model.evaluate(held, verbose=0, return_dict=True)[metric]


def test_the_average_of_the_weights_is_what_is_validated_and_saved(tmp_path, data):
    model = {**MODEL, "norm": "batch"}
    values = recipe(data, model=model, learning_rate=0.03, monitor="val_r")
    values |= {"optimizer": {"ema": 0.5}, "precise_batch_norm": 2}
    out = run(tmp_path / "run", values)
    best = model_folder.read_model(out)[1].training["best"]
    assert score(out, "r") == pytest.approx(best["val_r"], abs=1e-5)
    plain = run(tmp_path / "plain", {**values, "optimizer": "adam", "precise_batch_norm": 0})
    # The same steps, of which other weights are validated.
    for ours, theirs in zip(history(out), history(plain)):
        assert (ours["loss"], ours["r"]) == (theirs["loss"], theirs["r"])
        assert ours["val_loss"] != theirs["val_loss"]


def say_scores(monkeypatch, scores):
    """Let the validation loss of each epoch be this one, in the history."""

    class Said(callbacks.Backup):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs | {"val_loss": scores[epoch]})

    monkeypatch.setattr(fitting.callbacks, "Backup", Said)


def test_a_run_stops_early_also_when_it_was_stopped_and_resumed(
    tmp_path, data, monkeypatch, caplog
):
    caplog.set_level("INFO", "gvtnets_tf")
    values = recipe(data, steps=20, patience=2)
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 2)
        run(tmp_path / "run", values)
    say_scores(monkeypatch, [1.0, 2.0, 3.0, 0.5])
    assert len(history(run(tmp_path / "whole", values))) == 3
    progress = tmp_path / "run" / "resume" / "progress.json"
    said = json.loads(progress.read_text())
    said["history"] = [row | {"val_loss": 1.0 + i} for i, row in enumerate(said["history"])]
    progress.write_text(json.dumps(said))
    out = run(tmp_path / "run", values, resume=True)
    rows = history(out)
    assert [row["val_loss"] for row in rows] == [1, 2, 3]
    # It is over, also for more steps.
    run(out, {**values, "steps": 40}, resume=True)
    assert history(out) == rows
    text = "the run ends early: val_loss was best in epoch 1 of 3"
    assert [r.message for r in caplog.records].count(text) == 3


def test_what_cannot_be_done_is_said_before_the_first_step(tmp_path, data):
    text = (
        r"`patience` counts the epochs without a better `val_r`, and there is no validation data: "
        r"set `validation_split`, or leave `patience` out\."
    )
    with pytest.raises(ValueError, match=text):
        run(tmp_path / "run", recipe(data, validation_split=0, patience=3, monitor="val_r"))
    text = (
        r"`precise_batch_norm` measures the statistics of batch normalization, and this network "
        r"has none: leave it out\. Received: 4\."
    )
    with pytest.raises(ValueError, match=text):
        run(tmp_path / "run", recipe(data, precise_batch_norm=4))
    assert not list(tmp_path.iterdir())


def test_patches_that_come_down_to_two_planes_are_refused_in_bfloat16(tmp_path, data):
    # TensorFlow leaves memory as it was in their gradient: it may be anything.
    values = recipe(data, patch_size=[4, 16, 16], precision="bfloat16")
    text = (
        r"gradients over two planes wrong in bfloat16 .* patches of 4 planes to 2: .*\[4, 16, 16\]"
    )
    with pytest.raises(ValueError, match=text):
        run(tmp_path / "run", values)
    assert not list(tmp_path.iterdir())
    run(tmp_path / "run", {**values, "precision": "float16", "steps": 1})


@pytest.mark.parametrize("precision, near", [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_trains_a_network_of_float32(tmp_path, data, monkeypatch, precision, near):
    seen = []

    class Look(callbacks.Backup):
        def on_train_begin(self, logs=None):
            inside = [x.compute_dtype for x in self.model._flatten_layers(include_self=False)]
            seen.append((set(inside), type(self.model.optimizer).__name__))
            assert {v.dtype for v in self.model.weights} == {"float32"}

    monkeypatch.setattr(fitting.callbacks, "Backup", Look)
    measured = []
    monkeypatch.setattr(
        fitting, "measure_bytes_per_voxel", lambda net, *_: measured.append(net.compute_dtype) or 1
    )
    values = recipe(data, model={**MODEL, "norm": "batch"}, precision=precision)
    out = run(tmp_path / "run", values)
    optimizer = "LossScaleOptimizer" if precision == "float16" else "Adam"
    # The head, which has a batch normalization and a convolution, stays in float32.
    assert seen == [({"float32", precision}, optimizer)]
    assert measured == ["float32"]
    model, card = model_folder.read_model(out)
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}
    assert score(out, "loss") == pytest.approx(card.training["best"]["val_loss"], rel=near)
    y = load(out)(readers.read(data / "in" / "0.tif").numpy())
    assert (y.dtype, bool(np.isfinite(y).all())) == (np.float32, True)


def test_steps_that_a_scaled_loss_skips_are_steps_of_a_run(tmp_path, data, monkeypatch):
    """Float16: a step whose gradient overflows is not counted by the optimizer."""

    class Skip(callbacks.Backup):
        def on_epoch_end(self, epoch, logs=None):
            self.model.optimizer.iterations.assign(1)
            super().on_epoch_end(epoch, logs)

    values = recipe(data, precision="float16")
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 2)
        run(tmp_path / "run", values)
    monkeypatch.setattr(fitting.callbacks, "Backup", Skip)
    out = run(tmp_path / "run", values, resume=True)
    assert [row["epoch"] for row in history(out)] == [1, 2, 3]
    run(out, {**values, "steps": 8}, resume=True)
    assert [row["epoch"] for row in history(out)] == [1, 2, 3, 4]


def test_a_run_says_what_it_costs(tmp_path, data, caplog, capfd):
    caplog.set_level("INFO", "gvtnets_tf")
    train(recipe(data, steps=12, steps_per_epoch=12), tmp_path / "run")
    (said,) = [record.message for record in caplog.records]
    assert re.fullmatch(r"[\d.]+ steps/s, \d+ s to the end, [\d.]+ GB", said)
    lines = [line.rpartition("\r")[2] for line in capfd.readouterr().err.splitlines()]
    assert any("12/12" in line and "val_r" in line for line in lines)


def test_a_run_without_any_best_weights_fails_loudly(tmp_path, data, monkeypatch):
    keep_scores(monkeypatch, *[np.nan] * 3)
    with pytest.raises(FileNotFoundError, match=r"run is not a model folder: it has no"):
        run(tmp_path / "run", recipe(data))


def test_a_folder_is_not_replaced_unless_forced(tmp_path, data):
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(FileExistsError, match="run exists and is not overwritten"):
        run(out, recipe(data))
    run(out, recipe(data, steps_per_epoch=6), force=True)
    run(out, recipe(data, steps_per_epoch=6, seed=1), force=True)
    assert Recipe.load(out / "recipe.yaml").seed == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis was not written by gvtnets_tf, and --force"):
        run(tmp_path / "thesis", recipe(data), force=True)
    with pytest.raises(ValueError, match=r"is an input of this run, or holds one \(.*gt.\*\)"):
        run(data, recipe(data), force=True)


def fail_in_a_step(monkeypatch, error):
    """Let the first step of a training raise an error."""
    real = fitting._compile

    def compile_broken(model, recipe):
        real(model, recipe)

        def fail(*args, **kwargs):
            raise error

        model.train_step = fail

    monkeypatch.setattr(fitting, "_compile", compile_broken)


@pytest.mark.parametrize(
    "error, told, message",
    [
        (MemoryError("too much"), MemoryError, "too much"),
        (
            tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
            MemoryError,
            r"^a step of training needs more than there is\. Lower `batch_size`, then `patch",
        ),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_a_run_that_fails_in_its_first_step_leaves_and_replaces_nothing(
    tmp_path, data, monkeypatch, error, told, message, old
):
    pytest.importorskip("tensorboard", reason="needs [tensorboard]")
    out = tmp_path / "new" / "run"
    if old:
        with atomic_write(out) as folder:
            folder.mkdir()
            (folder / "weights.h5").write_text("of days")
    fail_in_a_step(monkeypatch, error)
    with pytest.raises(told, match=message):
        run(out, recipe(data), force=old, tensorboard=True)
    if old:
        assert sorted(p.name for p in out.parent.iterdir()) == ["run"]
        assert (out / "weights.h5").read_text() == "of days"
    else:
        assert not list(tmp_path.iterdir())


def test_a_second_run_into_a_folder_is_refused_while_the_first_lives(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 1)
        run(tmp_path / "run", recipe(data))
    text = r"run is being written by another run: wait until it is over, or choose another output"
    with filelock.FileLock(tmp_path / ".lock.run"):
        for option in ("resume", "force"):
            with pytest.raises(BlockingIOError, match=text):
                run(tmp_path / "run", recipe(data), **{option: True})


def test_a_run_can_be_made_longer_and_keeps_the_length_of_its_epochs(tmp_path, data):
    whole = history(run(tmp_path / "whole", recipe(data, steps=10)))
    out = run(tmp_path / "run", recipe(data, steps=5))
    assert len(history(out)) == 3
    run(out, recipe(data, steps=10), resume=True)
    rows = history(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    for row, expected in zip(rows, whole):
        assert row == pytest.approx(expected, rel=1e-4)
    assert Recipe.load(out / "recipe.yaml").steps == 10
    # Not of its own epochs: 5 steps of 3 are two epochs, and here they stay three of 2.
    assert fitting._plan_epochs(Recipe.parse(recipe(data, steps=10)), 3, 6) == (5, 2)
    assert (
        fitting._plan_epochs(Recipe.parse(recipe(data, steps=5, steps_per_epoch=3)), 3, 6)[0] == 3
    )
    text = r"The run has 10 steps behind it, and `steps` can only make it longer\. Received: 8\."
    with pytest.raises(ValueError, match=text):
        run(out, recipe(data, steps=8), resume=True)
    with pytest.raises(
        ValueError, match=r"seed was 0, is 1\. Continue with the recipe it began with"
    ):
        run(out, recipe(data, steps=20, seed=1), resume=True)
    with pytest.raises(ValueError, match=r"of which only `steps` may change, or take its weights"):
        run(out, recipe(data, steps=20, batch_size=1), resume=True)


def test_a_cosine_ends_at_its_last_step_and_cannot_be_made_longer(tmp_path, data):
    rate = {"schedule": "cosine", "warmup_steps": 2}
    out = run(tmp_path / "run", recipe(data, learning_rate=rate))
    text = (
        r"run has a learning rate that ends as a cosine at its last step, so that its `steps` "
        r"cannot change: leave them at 6, or begin .* `--initial-weights`\. Received: 12\."
    )
    with pytest.raises(ValueError, match=text):
        run(out, recipe(data, learning_rate=rate, steps=12), resume=True)
    assert run(out, recipe(data, learning_rate=rate), resume=True) == out


def test_tensorboard_gets_scores_and_images(tmp_path, data):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs [tensorboard]"
    )
    out = run(tmp_path / "run", recipe(data, steps_per_epoch=3), tensorboard=True)

    def tags(path):
        found = event_accumulator.EventAccumulator(str(path)).Reload().Tags()
        return {tag for kind in ("images", "tensors", "scalars") for tag in found[kind]}

    assert tags(out / "tensorboard") >= {"input", "target", "prediction"}
    assert "epoch_loss" in tags(out / "tensorboard" / "validation")


# Kinds of task.


def test_stored_units_are_those_of_the_targets(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(2):
        x = rng.poisson(30, (8, 32, 80)).astype(np.float32)
        writers.write(tmp_path / "in" / f"{i}.tif", Image(x, "ZYX"))
        writers.write(tmp_path / "gt" / f"{i}.tif", Image(1000 + 50 * x, "ZYX"))
    target = {"kind": "zscore", "scope": "dataset"}
    rules = {"input": "zscore", "target": target, "denormalize": "stored"}
    out = run(tmp_path / "run", recipe(tmp_path, normalize=rules, steps=1))
    card = load(out).card
    assert card.target_normalizer.kind == "fixed"
    assert card.target_statistics == {
        "offset": pytest.approx(card.target_normalizer.offset),
        "gain": pytest.approx(card.target_normalizer.gain),
    }
    truth = np.concatenate([readers.read(p).numpy()[..., :48] for p in (tmp_path / "gt").iterdir()])
    np.testing.assert_allclose(card.target_normalizer.offset, truth.mean(), rtol=1e-4)
    np.testing.assert_allclose(card.target_normalizer.gain, truth.std(), rtol=1e-4)
    y = load(out)(x)
    # The network starts near the identity on z-scores, and so answers near the targets.
    assert np.corrcoef(y.ravel(), x.ravel())[0, 1] > 0.5
    assert abs(y.mean() - 2500) < 500


def test_units_are_chosen_when_a_trained_network_predicts(tmp_path, data):
    """Without retraining, whatever the recipe says."""
    rules = {"input": "zscore", "target": "zscore", "denormalize": "none"}
    predictor = load(run(tmp_path / "run", recipe(data, normalize=rules, steps=1)))
    statistics = predictor.card.target_statistics
    assert predictor.card.target_normalizer.kind == "zscore"
    image = readers.read(data / "in" / "0.tif")
    score, info = predictor.predict(image)
    assert (info["units"], info["target_statistics"]) == ("normalized", statistics)
    counts, info = predictor.predict(image, denormalize="stored")
    assert (info["units"], "target_statistics" in info) == ("target", False)
    (offset,), (gain,) = statistics["offset"], statistics["gain"]
    expected = score.numpy().astype(float) * gain + offset
    np.testing.assert_allclose(counts.numpy(), expected, rtol=1e-5, atol=1e-6 * gain)
    assert predictor.predict(image, denormalize="input")[1]["units"] == "input"


def test_a_probabilistic_run_predicts_its_uncertainty(tmp_path, data):
    values = recipe(data, loss="laplace", steps_per_epoch=6)
    predictor = load(run(tmp_path / "run", values))
    assert predictor.card.probabilistic
    x = readers.read(data / "in" / "0.tif").numpy()
    location, scale = predictor(x, uncertainty=True)
    assert location.shape == scale.shape == x.shape
    assert (scale > 0).all()


def test_planes_of_a_stack_train_a_network_of_planes(tmp_path, data):
    values = recipe(data, model={**MODEL, "rank": 2}, patch_size=[16, 16], steps_per_epoch=6)
    out = run(tmp_path / "run", values)
    assert (load(out).card.axes, load(out).card.output_axes) == ("YX", "YX")
    assert load(out).card.training["pairs"] == 2
    x = readers.read(data / "in" / "0.tif")
    assert load(out).predict(x)[0].shape == x.shape
    # Each plane is normalized by the numbers of its stack, as it is in a prediction.
    pairs, _, _ = prepare(Recipe.parse(values))
    assert len(pairs) == 2 * x.shape[0]
    first = {(float(p.input_affine.offset[0]), float(p.input_affine.gain[0])) for p in pairs[:8]}
    assert len(first) == 1


def test_channels_become_channels(tmp_path):
    rng = np.random.default_rng(0)
    for name, channels in (("in", 2), ("gt", 3)):
        x = rng.random((2, 8, 32, 80, channels), np.float32)
        for i in range(2):
            names = tuple(f"{name}{c}" for c in range(channels))
            writers.write(tmp_path / name / f"{i}.ome.tif", Image(x[i], "ZYXC", {}, names))
    model = {**MODEL, "input_residual": False}
    rules = {"normalize": {"denormalize": "stored"}, "model": model, "steps_per_epoch": 6}
    out = run(tmp_path / "run", recipe(tmp_path, **rules))
    card = load(out).card
    assert (card.input_channels, card.output_channels) == (("in0", "in1"), ("gt0", "gt1", "gt2"))
    result, _ = load(out).predict(readers.read(tmp_path / "in" / "0.ome.tif"))
    assert (result.sizes["C"], result.channel_names) == (3, card.output_channels)
    with pytest.raises(ValueError, match="3 channels cannot take the units of 2 input channels"):
        run(tmp_path / "other", recipe(tmp_path, model=model))


def test_the_projection_preset_is_trained(tmp_path):
    stacks(tmp_path, shape=(6, 32, 96), task="projection")
    small = {
        "projection": {"filters": 2},
        "restoration": {"filters": 2, "depth": 2, "encoder_blocks": 0, "decoder_blocks": 0},
    }
    changes = {"model": small, "patch_size": [6, 32, 32], "steps": 1}
    values = {"preset": "projection", **recipe(tmp_path, **changes)}
    out = run(tmp_path / "run", values)
    assert load(out).card.output_axes == "YX"
    result, _ = load(out).predict(readers.read(tmp_path / "in" / "0.tif"))
    assert (result.axes, result.shape) == ("YX", (32, 96))


# What stops it.


class StopError(Exception):
    pass


def stop_after(monkeypatch, epoch):
    class Stopping(callbacks.Backup):
        def on_epoch_begin(self, now, logs=None):
            if now == epoch:
                raise StopError

    monkeypatch.setattr(fitting.callbacks, "Backup", Stopping)


@pytest.mark.parametrize("first", [0, 1])
def test_a_loss_that_is_no_number_ends_the_run_and_keeps_earlier_weights(
    tmp_path, data, monkeypatch, first
):
    class Spoil(callbacks.Backup):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == first:
                self.model.set_weights([np.full_like(w, np.nan) for w in self.model.get_weights()])

    monkeypatch.setattr(fitting.callbacks, "Backup", Spoil)
    with pytest.raises(ValueError, match=r"loss became nan at step 1 .*0\.0004: lower"):
        run(tmp_path / "run", recipe(data))
    if first == 0:
        assert not list(tmp_path.iterdir())
        return
    model, card = model_folder.read_model(tmp_path / "run")
    assert card.training["best"]["epoch"] == 1
    assert all(np.isfinite(w).all() for w in model.get_weights())
    assert [row["epoch"] for row in history(tmp_path / "run")] == [1]


def test_a_run_goes_on_where_it_stopped(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 1)
        run(tmp_path / "run", recipe(data))
    assert [p.name for p in (tmp_path / "run" / "resume").glob("*.h5")] == ["state-1.h5"]
    before = history(tmp_path / "run")
    out = run(tmp_path / "run", recipe(data), resume=True)
    rows = history(out)
    assert rows[:1] == before
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert sorted(p.name for p in (out / "resume").iterdir()) == ["progress.json", "state-3.h5"]
    # A run that is over is left as it is.
    train(recipe(data), out, resume=True, progress=False)
    assert history(out) == rows


def test_a_worse_epoch_after_a_stop_does_not_replace_the_best(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 1)
        keep_scores(patch, 0.5)
        run(tmp_path / "run", recipe(data))
    best = weights(tmp_path / "run" / "weights.h5")
    keep_scores(monkeypatch, 0.6, 0.7)
    out = run(tmp_path / "run", recipe(data), resume=True)
    assert model_folder.read_model(out)[1].training["best"] == {"epoch": 1, "val_loss": 0.5}
    check_equal(weights(out / "weights.h5"), best)


def test_a_run_goes_on_with_its_own_recipe_only(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(StopError):
        stop_after(patch, 1)
        run(tmp_path / "run", recipe(data))
    message = r"other settings: batch_size was 2, is 1; seed was 0, is 1\. Continue with the recipe"
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", recipe(data, batch_size=1, seed=1), resume=True)
    # A default that was another one when the run began, and a value inside a mapping.
    kept = tmp_path / "run" / "recipe.yaml"
    text = kept.read_text()
    kept.write_text(text.replace("initial: 0.0004", "initial: 0.001").replace("99.8", "99.9", 1))
    high, rate = "normalize.input.high was 99.9, is 99.8", "learning_rate.initial was 0.001, is 0.0"
    with pytest.raises(ValueError, match=re.escape(f"settings: {high}; {rate}004. Continue")):
        run(tmp_path / "run", recipe(data), resume=True)
    kept.write_text(text)
    with pytest.raises(FileNotFoundError, match=r"none holds no run to continue: .*recipe\.yaml"):
        run(tmp_path / "none", recipe(data), resume=True)
    (tmp_path / "run" / "resume" / "state-1.h5").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"state-1\.h5 cannot be read as HDF5"):
        run(tmp_path / "run", recipe(data), resume=True)
    (tmp_path / "run" / "resume" / "progress.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"before its first epoch was over.*--force"):
        run(tmp_path / "run", recipe(data), resume=True)


def test_a_run_may_start_from_other_weights(tmp_path, data, monkeypatch):
    first = run(tmp_path / "first", recipe(data, steps_per_epoch=6))
    started = {}

    class Look(callbacks.Backup):
        def on_train_begin(self, logs=None):
            started.update(
                {n: w.numpy().copy() for n, w in model_folder.named_weights(self.model).items()}
            )

    monkeypatch.setattr(fitting.callbacks, "Backup", Look)
    run(tmp_path / "second", recipe(data, seed=7, steps_per_epoch=6), initial_weights=first)
    check_equal(started, weights(first / "weights.h5"))
    with pytest.raises(ValueError, match=r"are of another network: \d+ differ, such as"):
        run(tmp_path / "wide", recipe(data, model={**MODEL, "filters": 4}), initial_weights=first)
    with pytest.raises(FileNotFoundError, match="none is not a model folder"):
        run(tmp_path / "wide", recipe(data), initial_weights=tmp_path / "none")
    assert not (tmp_path / "wide").exists()


def test_images_that_cannot_be_trained_on_are_named(tmp_path, data):
    bad = stacks(tmp_path)
    path = bad / "in" / "1.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"in.1\.tif cannot be read as TIFF"):
        run(tmp_path / "run", recipe(bad))
    writers.write(path, Image(np.ones((8, 32, 80), np.float32), "ZYX"), force=True)
    with pytest.raises(ValueError, match=r"Channel 0 of 1 \(ZYX .*is constant"):
        run(tmp_path / "run", recipe(bad))
    writers.write(path, Image(np.arange(8.0 * 32 * 79).reshape(8, 32, 79), "ZYX"), force=True)
    with pytest.raises(ValueError, match=r"must have the same size along X: .*1 \(ZYX \(8, 32, 79"):
        run(tmp_path / "run", recipe(bad))
    with pytest.raises(ValueError, match="A patch of 16 voxels along Z does not fit into 0"):
        run(tmp_path / "run", recipe(data, patch_size=[16, 16, 16]))
    with pytest.raises(ValueError, match="No pair is left to train on"):
        values = recipe(data)
        values["data"]["regions"] = {"test": {"X": [0, 40]}}
        run(tmp_path / "run", values)
    assert not (tmp_path / "run").exists()


def test_a_file_that_breaks_during_training_is_named(tmp_path, monkeypatch):
    pytest.importorskip("zarr", reason="needs [zarr]")
    bad = stacks(tmp_path, suffix=".zarr")

    class Breaking(callbacks.Backup):
        def on_train_begin(self, logs=None):
            for chunk in (bad / "in" / "0.zarr" / "0" / "c").rglob("*"):
                if chunk.is_file():
                    chunk.write_bytes(b"broken")

    monkeypatch.setattr(fitting.callbacks, "Backup", Breaking)
    values = recipe(bad, steps=40, steps_per_epoch=40)
    values["data"]["regions"] = {"train": {}}
    with pytest.raises(ValueError, match=r"in.0\.zarr cannot be read as Zarr; is it whole"):
        run(tmp_path / "run", values)


# In processes of their own.


def train_and_tell(said, values, out, resume, stop):
    """Train; send the number of each epoch, and die after one of them."""

    class Backup(callbacks.Backup):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            said.send(epoch + 1)
            if epoch + 1 == stop:
                os._exit(9)

    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # bits are promised on the CPU
    fitting.callbacks.Backup = Backup
    fitting.measure_bytes_per_voxel = lambda *args: 1.0
    train(values, out, resume=resume, deterministic=True, progress=False)


def start(out, values, resume=False, stop=0):
    """Train in a process of its own, which may die after an epoch."""
    said, ending = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=train_and_tell, args=(ending, values, out, resume, stop))
    process.start()
    ending.close()
    return process, said


def end(process, said):
    """Wait for the end; give the exit code and the epochs not yet received."""
    epochs = []
    with contextlib.suppress(EOFError):
        while True:
            epochs.append(said.recv())
    process.join()
    return process.exitcode, epochs


MORE = {
    "optimizer": {"name": "adamw", "clipnorm": 1.0, "ema": 0.9},
    "learning_rate": {"schedule": "cosine", "initial": 0.01, "warmup_steps": 2},
    "precise_batch_norm": 2, "monitor": "val_r", "patience": 3,
}  # fmt: skip


# What is averaged holds all that is in a plain run too.
@pytest.mark.parametrize(
    "changes",
    [pytest.param({}, marks=pytest.mark.slow, id="plain"), pytest.param(MORE, id="averaged")],
)
def test_a_run_that_died_and_went_on_is_equal_to_the_last_bit(tmp_path, data, changes):
    # Dropout draws random numbers, and so do flips: both must go on where they were.
    model = {**MODEL, "attention_normalization": "softmax", "dropout": 0.2}
    model["norm"] = "batch" if changes else None
    values = recipe(data, model=model, augment={"flip": True, "rotate": True}, **changes)
    both = start(tmp_path / "whole", values), start(tmp_path / "cut", values, stop=1)
    assert [end(*process) for process in both] == [(0, [1, 2, 3]), (9, [1])]
    assert end(*start(tmp_path / "cut", values, resume=True)) == (0, [2, 3])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for name in ("weights.h5", "resume/state-3.h5"):
        check_equal(weights(whole / name), weights(cut / name))
    for name in ("history.csv", "resume/progress.json", "model.json"):
        assert (whole / name).read_text() == (cut / name).read_text()


def test_a_kill_costs_at_most_one_epoch(tmp_path, data):
    values = recipe(data, steps=20_000, steps_per_epoch=2)
    process, said = start(tmp_path / "run", values)
    epochs = [said.recv() for _ in range(3)]
    time.sleep(0.05)
    process.kill()
    status, rest = end(process, said)
    assert status == -signal.SIGKILL
    last = [*epochs, *rest][-1]
    _, card = model_folder.read_model(tmp_path / "run")
    assert 1 <= card.training["best"]["epoch"] <= last + 1
    progress = json.loads((tmp_path / "run" / "resume" / "progress.json").read_text())
    assert progress["epoch"] >= last >= 3
    model = build_network(Recipe.parse(values), (1, 1))
    fitting._compile(model, Recipe.parse(values))
    assert callbacks.restore(tmp_path / "run", model) == progress
    assert int(model.optimizer.iterations) == 2 * progress["epoch"]
