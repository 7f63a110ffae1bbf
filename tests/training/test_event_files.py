"""What TensorBoard reads is what was written."""

import io

import keras
import numpy as np
import PIL.Image
import pytest

from gvtnets_tf.training.event_files import EventFile, Images, Logs

event_accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs [tensorboard]"
)


def read_back(folder):
    return event_accumulator.EventAccumulator(str(folder)).Reload()


def scalars(folder):
    found = read_back(folder)
    return {t: [(e.step, e.value) for e in found.Scalars(t)] for t in found.Tags()["scalars"]}


def image(folder, name):
    (event,) = read_back(folder).Images(name)
    pixels = np.asarray(PIL.Image.open(io.BytesIO(event.encoded_image_string)))
    assert pixels.shape == (event.height, event.width)
    return event.step, pixels


def compiled(function=None):
    model = keras.Sequential([keras.layers.Conv2D(1, 1)])
    model.build((None, 4, 4, 1))
    model.compile(keras.optimizers.Adam(0.25), "mse", run_eagerly=True)
    if function:
        model.predict_on_batch = function
    return model


def test_numbers_and_images_come_back_with_their_steps(tmp_path):
    file, plane = EventFile(tmp_path / "logs"), np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert not (tmp_path / "logs").exists()
    file.append(0, {"loss": np.float32(0.5)})
    file.append(7, {"loss": 2, "cells": plane})
    assert scalars(tmp_path / "logs") == {"loss": [(0, 0.5), (7, 2.0)]}
    step, pixels = image(tmp_path / "logs", "cells")
    assert step == 7
    np.testing.assert_array_equal(pixels, plane)
    # A run that goes on writes a file of its own, which is read as one with the first.
    EventFile(tmp_path / "logs").append(8, {"loss": 3})
    assert scalars(tmp_path / "logs")["loss"][-1] == (8, 3.0)


def test_numbers_of_training_and_validation_are_apart(tmp_path):
    logs = Logs(tmp_path)
    logs.set_model(compiled())
    logs.on_epoch_end(0, {"loss": 1.5, "mae": 0.5})
    assert not (tmp_path / "validation").exists()
    logs.on_epoch_end(1, {"loss": 1.0, "val_loss": 2.0})
    assert scalars(tmp_path / "train") == {
        "epoch_learning_rate": [(0, 0.25), (1, 0.25)],
        "epoch_loss": [(0, 1.5), (1, 1.0)],
        "epoch_mae": [(0, 0.5)],
    }
    assert scalars(tmp_path / "validation") == {"epoch_loss": [(1, 2.0)]}


def test_the_central_plane_of_the_first_patch_is_shown(tmp_path):
    ramp = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    x = np.zeros((2, 3, 4, 4, 1), np.float32)
    x[0, 1, ..., 0] = ramp
    images = Images(tmp_path, (x, x[::-1]))
    images.set_model(compiled(lambda given: 1 - given))
    images.on_epoch_end(4)
    step, pixels = image(tmp_path, "input")
    assert step == 4 and (np.diff(pixels.ravel().astype(int)) >= 0).all()
    assert (pixels.min(), pixels.max()) == (0, 255)
    _, pixels = image(tmp_path, "prediction")  # with the contrast of the target
    assert (np.diff(pixels.ravel().astype(int)) <= 0).all()
    assert image(tmp_path, "target")[1].shape == (4, 4)


def test_missing_labels_are_dark_and_of_a_distribution_the_likeliest_is_shown(tmp_path):
    y = np.full((1, 4, 4, 2), np.nan, np.float32)
    y[..., 1] = np.arange(16).reshape(4, 4)
    likely = np.eye(16, dtype=np.float32)[np.arange(16).reshape(1, 4, 4, 1).repeat(2, -1)]
    images = Images(tmp_path, (np.zeros((1, 4, 4, 1), np.float32), y))
    images.set_model(compiled(lambda given: likely))
    images.on_epoch_end(0)
    assert not image(tmp_path, "target")[1].any()
    _, pixels = image(tmp_path, "prediction")
    assert (np.diff(pixels.ravel().astype(int)) >= 0).all() and pixels.max() == 255
