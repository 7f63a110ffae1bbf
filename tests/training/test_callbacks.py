"""What is kept between the epochs is whole, and enough to go on."""

import json
import logging
import math
import shutil
import types

import h5py
import keras
import numpy as np
import pytest

from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.training import callbacks
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.card import Card


def compiled(seed=0, **changes):
    """A small network that draws random numbers and has moving averages."""
    keras.utils.set_random_seed(seed)
    model = GVTNet(
        rank=2, filters=2, depth=2, encoder_blocks=0, decoder_blocks=0,
        attention_normalization="softmax", dropout=0.3,
        **changes,
    )  # fmt: skip
    model.build((None, None, None, 1))
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    return model


@pytest.fixture
def batch(noise):
    return noise(2, 8, 8, 1), noise(2, 8, 8, 1)


def backup(path, model, rows=(), best=0.25):
    keep = callbacks.KeepBest(path, Card(axes="YX", output_axes="YX"), best)
    found = callbacks.Backup(path, keep, 2, list(rows), seed=3)
    found.set_model(model)
    return found


@pytest.fixture(scope="module")
def after_two_steps(tmp_path_factory):
    """A model after two steps, and the folder of its backup: to be left as they are."""
    model, rng = compiled(), np.random.default_rng(0)
    for _ in range(2):
        model.train_on_batch(*rng.normal(size=(2, 2, 8, 8, 1)).astype("float32"))
    path = tmp_path_factory.mktemp("saved")
    backup(path, model).on_epoch_end(0, {"loss": 1.5})
    return model, path


@pytest.fixture
def saved(after_two_steps, tmp_path):
    """The model, and a copy of the folder of its backup."""
    model, path = after_two_steps
    shutil.copytree(path, tmp_path, dirs_exist_ok=True)
    return model, tmp_path


def test_all_that_the_next_step_depends_on_is_restored(tmp_path, batch):
    model = compiled()
    for _ in range(2):
        model.train_on_batch(*batch)
    path = tmp_path
    backup(path, model).on_epoch_end(0, {"loss": 1.5})
    other = compiled(seed=1)
    run = callbacks.restore(path, other)
    assert run == {
        "epoch": 1, "steps": 2, "best": 0.25, "seed": 3, "history": [{"epoch": 1, "loss": 1.5}],
    }  # fmt: skip
    # Weights, moving averages, the state of Adam and that of the dropout: the same next steps.
    for _ in range(2):
        assert other.train_on_batch(*batch) == model.train_on_batch(*batch)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert int(other.optimizer.iterations) == 4


def test_the_state_names_what_dropout_draws_from(saved):
    model, path = saved
    with h5py.File(path / "resume" / "state-1.h5", "r") as store:
        kinds = {item.dtype.kind for item in store.values()}
        assert len(store) == len(callbacks.collect_state(model))
    assert kinds <= {"f", "i", "u"}
    seeds = [v for v in model.variables if "seed" in v.path]
    assert seeds
    assert {id(v) for v in seeds} <= {id(v) for v in callbacks.collect_state(model).values()}


def test_the_last_state_replaces_the_one_before(saved):
    model, path = saved
    (path / "resume" / ".0a1b2c3d.state-2.h5").write_bytes(b"what a kill left")
    backup(path, model, [{"epoch": 1, "loss": 1.5}]).on_epoch_end(1, {"loss": 1, "val_loss": 2})
    assert sorted(p.name for p in (path / "resume").iterdir()) == ["progress.json", "state-2.h5"]
    assert (path / "history.csv").read_text().split() == [
        "epoch,loss,val_loss", "1,1.5,", "2,1.0,2.0",
    ]  # fmt: skip


@pytest.mark.parametrize("broken", ["write_weights", "atomic_rewrite"])
def test_a_fault_while_writing_leaves_the_earlier_state(saved, monkeypatch, broken):
    model, path = saved
    before = (path / "resume" / "progress.json").read_text()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    place = callbacks.model_folder if broken == "write_weights" else callbacks
    monkeypatch.setattr(place, broken, full)
    with pytest.raises(OSError, match="No space left"):
        backup(path, model).on_epoch_end(1, {"loss": 1.0})
    assert (path / "resume" / "progress.json").read_text() == before
    assert callbacks.restore(path, compiled(seed=1))["epoch"] == 1


def test_a_state_of_another_network_is_refused(saved):
    _, path = saved
    with pytest.raises(ValueError, match=r"state-1\.h5 does not belong to this network|has shape"):
        callbacks.restore(path, compiled(up="gvto_v1"))


def test_the_best_is_kept_and_the_rest_is_not(tmp_path):
    card = Card(axes="YX", output_axes="YX", training={"steps": 8})
    keep = callbacks.KeepBest(tmp_path, card)
    keep.set_model(compiled())
    scores = [2.0, math.nan, 1.0, 1.0, 3.0]
    kept = []
    for epoch, score in enumerate(scores):
        keep.on_epoch_end(epoch, {"loss": 0.0, "val_loss": score})
        kept.append(model_folder.read_model(tmp_path)[1].training["best"])
    first, second = {"epoch": 1, "val_loss": 2.0}, {"epoch": 3, "val_loss": 1.0}
    assert kept == [first, first, second, second, second]
    assert model_folder.read_model(tmp_path)[1].training["steps"] == 8


@pytest.mark.parametrize("best", [None, -0.5])
def test_a_correlation_is_better_when_it_is_higher(tmp_path, best):
    keep = callbacks.KeepBest(tmp_path, Card(axes="YX", output_axes="YX"), best, "val_r")
    keep.set_model(compiled())
    found = []
    for epoch, score in enumerate([-0.2, math.nan, -0.4, 0.3, 0.3]):
        keep.on_epoch_end(epoch, {"val_loss": 1.0, "val_r": score})
        found.append(model_folder.read_model(tmp_path)[1].training["best"]["epoch"])
    assert found == [1, 1, 1, 4, 4]
    assert keep.best == 0.3


@pytest.mark.parametrize(
    "monitor, scores, last",
    [
        ("val_loss", [3.0, 2.0, 2.0, 2.5, 1.0], 4),
        ("val_r", [0.3, 0.4, 0.4, 0.3, 0.9], 4),
        ("val_loss", [3.0, 2.0, math.nan, 1.0, 1.5, 1.0], 6),
        ("val_loss", [math.nan, math.nan, 1.0], 2),
    ],
)
def test_a_run_stops_when_nothing_got_better(caplog, monitor, scores, last):
    caplog.set_level(logging.INFO, "gvtnets_tf")
    rows, stopped = [], []
    for score in scores:  # each epoch as if the run was resumed for it
        stop = callbacks.StopEarly(rows, monitor, patience=2)
        stop.set_model(types.SimpleNamespace())
        rows.append({monitor: score})
        stop.on_epoch_end(len(rows) - 1, {})
        stopped.append(stop.model.stop_training)
        if stopped[-1]:
            break
    assert stopped == [False] * (last - 1) + [True]
    text = f"the run ends early: {monitor} was best in epoch {last - 2} of {last}"
    assert [record.message for record in caplog.records] == [text]


def test_a_state_is_restored_over_a_scaled_loss_too(tmp_path, batch):
    model = compiled(dtype="mixed_float16")
    assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(4.0)
    model.train_on_batch(*batch)
    backup(tmp_path, model).on_epoch_end(0, {"loss": 1.5})
    other = compiled(seed=1, dtype="mixed_float16")
    other.optimizer.build(other.trainable_variables)
    callbacks.restore(tmp_path, other)
    assert other.optimizer.dynamic_scale == 4
    assert other.optimizer.step_counter == 1
    assert len(callbacks.collect_state(other)) == len(callbacks.collect_state(model))


def test_without_a_score_the_last_is_kept(tmp_path):
    keep = callbacks.KeepBest(tmp_path, Card(axes="YX", output_axes="YX"), monitor=None)
    keep.set_model(compiled())
    for epoch in range(2):
        keep.on_epoch_end(epoch, {"loss": 1.0})
        assert json.loads((tmp_path / "model.json").read_text())["training"] == {
            "best": {"epoch": epoch + 1}
        }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_says_what_to_do(loss):
    stop = callbacks.StopOnNaN()
    stop.set_model(compiled())
    stop.on_train_batch_end(0, {"loss": 1.0})
    with pytest.raises(ValueError, match=rf"loss became {loss} at step 8 .* rate of 0\.01: lower"):
        stop.on_train_batch_end(7, {"loss": loss})


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"progress\.json is not JSON: it is truncated or damaged"),
        ("[1]", r"progress\.json must hold a JSON object\. Received: list"),
        ("{}", r"progress\.json is not as it was written: `epoch` is missing: it must be a whole"),
        ({"epoch": "1"}, "`epoch` must be a whole number. Received: '1'. Leave out the quotes: 1."),
        ({"epoch": 0}, "`epoch` must be at least 1. Received: epoch=0."),
        ({"steps": 0}, "`steps` must be at least 1. Received: steps=0."),
        ({"epoch": "../../x"}, "`epoch` must be a whole number"),
        ({"best": []}, r"`best` must be a number or null. Received: \[\]\."),
        ({"history": {}}, "`history` must be a list of a mapping. Received: {}"),
        ({"history": [{"loss": "low"}]}, "`history` must be a list of a mapping. Received: "),
        ({"ebest": 1}, "`key of it` cannot be 'ebest'. Did you mean 'best'"),
    ],
)
def test_progress_that_was_damaged_is_named(saved, text, message):
    _, path = saved
    file = path / "resume" / "progress.json"
    if isinstance(text, dict):
        text = json.dumps({**json.loads(file.read_text()), **text})
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        callbacks.restore(path, compiled(seed=1))
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_numbers_that_are_not_finite_are_null_in_the_file_and_come_back(saved):
    model, path = saved
    backup(path, model, best=None).on_epoch_end(0, {"loss": 1.5, "val_loss": math.nan})
    text = (path / "resume" / "progress.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["best"] is None
    run = callbacks.restore(path, compiled(seed=1))
    assert (run["best"], run["history"][0]["epoch"]) == (None, 1)
    assert math.isnan(run["history"][0]["val_loss"])


def test_weights_that_are_not_finite_are_not_kept(saved):
    model, path = saved
    before = (path / "resume" / "progress.json").read_text()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(ValueError, match=r"not written: 0000 holds \d+ values that are NaN or inf"):
        backup(path, model).on_epoch_end(1, {"loss": 1.0})
    assert (path / "resume" / "progress.json").read_text() == before
    assert callbacks.restore(path, compiled(seed=1))["epoch"] == 1
