"""A folder of wells becomes a model folder, and the model folder images of labels."""

import csv
import json

import numpy as np
import pytest
import yaml
from small import fast_training
from wells import DAPI, MAP2, NFH, well

from gvtnets_tf import load
from gvtnets_tf.data.in_silico_labeling import wells
from gvtnets_tf.data.pipeline import validation_dataset
from gvtnets_tf.training import callbacks, fitting
from gvtnets_tf.training.fitting import train
from gvtnets_tf.training.preparation import prepare
from gvtnets_tf.training.recipe import Recipe
from gvtnets_tf.zoo import model_folder

MODEL = {
    "filters": 4, "growth": 4, "encoder_depths": [1], "bottom_depth": 1, "decoder_depths": [1],
    "dropout": 0.0, "classes": 16,
}  # fmt: skip
LABELS = [DAPI, MAP2, NFH]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    fast_training(monkeypatch, bytes_per_voxel=100.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two wells to train on, of which the second lacks MAP2, and one to report."""
    place = tmp_path_factory.mktemp("isl")
    well(place / "train" / "Finkbeiner" / "kevan_0_8", "A4", [DAPI, MAP2], seed=0)
    well(place / "train" / "Finkbeiner" / "kevan_0_8", "A5", [DAPI], seed=1)
    well(place / "test" / "Finkbeiner" / "kevan_0_8", "B1", [DAPI, MAP2], seed=2)
    return place


def recipe(place, labels=LABELS, model=None, **changes):
    return {
        "preset": "gpt_virtual_staining",
        "model": MODEL | (model or {}),
        "data": {"root": str(place), "wells": ".", "labels": labels},
        "patch_size": [16, 16],
        "batch_size": 2,
        "steps": 4,
        "steps_per_epoch": 2,
        "learning_rate": 1e-2,
        **changes,
    }


def run(out, values, **options):
    return train(values, out, progress=False, **options)


def one(place, split="test"):
    return wells.find_wells(place, split=split)[0]


def history(path):
    with (path / "history.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def test_wells_become_a_model_folder_that_predicts_labels_in_their_counts(tmp_path, data):
    out = run(tmp_path / "run", recipe(data))
    model, card = model_folder.read_model(out)
    assert (model.out_channels, model.classes, card.classes) == (3, 16, 16)
    assert (card.scales, card.tile) == ((1.0, 2.0, 0.5), (16, 16))
    assert card.output_channels == tuple(LABELS)
    assert card.trained_channels == (DAPI, MAP2)  # no well has NFH
    assert card.input_channels == ("z0", "z1", "z2")
    assert card.denormalize == "stored"

    # Stored are the percentiles 0.1 and 99.9 of each label, over the parts trained on.
    parts = [w.target([DAPI]).numpy()[0, :, :32] for w in wells.find_wells(data, split="train")]
    low, high = np.percentile(np.concatenate(parts), (0.1, 99.9))
    assert card.target_normalizer.offset[0] == pytest.approx(low)
    assert card.target_normalizer.gain[0] == pytest.approx(high - low)
    assert (card.target_normalizer.offset[2], card.target_normalizer.gain[2]) == (0, 1)

    predictor, image = load(out), one(data).input()
    result, info = predictor.predict(image)
    assert (result.axes, result.shape) == ("CYX", (2, 48, 64))
    assert result.channel_names == (DAPI, MAP2)
    for i in range(2):
        low, gain = card.target_normalizer.offset[i], card.target_normalizer.gain[i]
        steps = (result.array[i] - low) / gain * 15
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)  # medians are classes
        assert steps.min() >= 0 and steps.max() <= 15
    assert (info["tile"], info["overlap"], info["blend"]) == ([16, 16], [8, 8], "average")
    (value, spread), _ = predictor.predict(
        image, output_channels=[MAP2], estimate="mean", uncertainty=True
    )
    assert value.shape == spread.shape == (1, 48, 64)
    assert (spread.array > 0).all()
    assert yaml.safe_load((out / "recipe.yaml").read_text())["scales"] == [1, 2, 0.5]


@pytest.mark.slow
def test_it_learns_the_labels_of_a_well_it_has_not_seen(tmp_path, data):
    values = recipe(data, [DAPI], steps=120, steps_per_epoch=60, model={"filters": 8})
    predictor = load(run(tmp_path / "run", values))
    truth = one(data).target([DAPI]).numpy()
    found, _ = predictor.predict(one(data).input(), estimate="mean")
    assert np.corrcoef(found.array.ravel(), truth.ravel())[0, 1] > 0.6
    assert found.array.mean() == pytest.approx(truth.mean(), rel=0.25)


def test_the_validation_loss_is_that_of_the_loss_on_its_patches(tmp_path, data):
    out = run(tmp_path / "run", recipe(data, steps=2))
    model, card = model_folder.read_model(out)
    made = Recipe.load(out / "recipe.yaml")
    _, validation, _ = prepare(made)
    assert [pair.origin for pair in validation] == [{"X": 48}] * 2
    assert all(pair.around.shape == (3, 48, 64) for pair in validation)
    held = validation_dataset(
        validation, made.patch_size, made.batch_size, axes="YX", scales=made.scales, classes=16
    )
    total = count = 0
    for x, y in held.as_numpy_iterator():
        p = np.asarray(model(x), np.float64)
        p = p - np.log(np.exp(p).sum(-1, keepdims=True))
        there = y >= 0
        chosen = np.take_along_axis(p, np.maximum(y, 0).astype(int)[..., None], -1)[..., 0]
        # Keras takes the mean over batches by their number of patches.
        total += len(x) * -chosen[there].sum() / there.sum()
        count += len(x)
    assert card.training["best"]["val_loss"] == pytest.approx(total / count, rel=1e-4)


def test_a_regression_passes_over_missing_labels_too(tmp_path, data):
    values = recipe(data, model={"classes": None}, loss="masked_mse")
    out = run(tmp_path / "run", values)
    card = load(out).card
    assert (card.classes, card.trained_channels) == (None, (DAPI, MAP2))
    assert all(np.isfinite(row["loss"]) and np.isfinite(row["val_loss"]) for row in history(out))
    result, info = load(out).predict(one(data).input())
    assert result.shape == (2, 48, 64)
    assert np.isfinite(result.array).all()
    assert "estimate" not in info


def test_labels_that_all_wells_have_need_no_mask(tmp_path, data):
    values = recipe(data, [DAPI], model={"classes": None}, loss="mae")
    card = load(run(tmp_path / "run", values)).card
    assert (card.output_channels, card.trained_channels) == ((DAPI,), ())


def test_a_loss_that_a_missing_label_would_stop_is_refused(tmp_path, data):
    values = recipe(data, model={"classes": None}, loss="mse")
    message = (
        r"A4 lacks labels .*which the loss 'mse' cannot pass over: use one of "
        r"masked_mse, masked_crossentropy, or choose labels that all images have"
    )
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", values)
    assert not (tmp_path / "run").exists()


def test_a_validation_image_that_lacks_a_label_is_refused_too(tmp_path):
    place = tmp_path / "Finkbeiner" / "kevan_0_8"
    for name, labels in zip(("A1", "A2", "A3", "A4", "A5"), [[DAPI, MAP2]] * 4 + [[DAPI]]):
        well(place, name, labels, seed=0)
    changes = {"model": {"classes": None}, "loss": "mae", "validation_split": 0.2}
    values = recipe(tmp_path, [DAPI, MAP2], **changes)
    with pytest.raises(ValueError, match=r"A5 lacks labels .*loss 'mae' cannot pass over"):
        run(tmp_path / "run", values)


def test_a_region_is_trained_on_with_what_lies_around_it(tmp_path, data):
    values = recipe(data, [DAPI], steps=1)
    values["data"] |= {
        "split": "train",
        "regions": {"train": {"X": [0, 32]}, "validation": {"X": [40, 64]}},
    }
    out = run(tmp_path / "run", values)
    training_pairs, _, _ = prepare(Recipe.load(out / "recipe.yaml"))
    x = training_pairs[0]
    assert (x.input.shape, x.around.shape) == ((3, 48, 32), (3, 48, 64))
    # Normalized by the numbers of the whole, as in a prediction.
    whole = one(data, "train").input().numpy()
    np.testing.assert_allclose(x.input_affine.offset, whole.mean((1, 2)))
    np.testing.assert_allclose(x.input_affine.gain, whole.std((1, 2)))


def test_light_is_changed_in_training_only(tmp_path, data, monkeypatch):
    seen = []
    real = fitting.TrainingBatches

    def watched(*args, **kwargs):
        seen.append(kwargs["intensity"])
        return real(*args, **kwargs)

    monkeypatch.setattr(fitting, "TrainingBatches", watched)
    light = {"gain": 0.2, "offset": 0.1, "noise": 0.05, "drop": 0.1, "blur": 0.5}
    values = recipe(data, steps=1, augment={"flip": True, "rotate": True, "intensity": light})
    run(tmp_path / "run", values)
    assert [vars(one) for one in seen] == [light]


class StopError(Exception):
    pass


def test_a_run_goes_on_where_it_stopped(tmp_path, data, monkeypatch):
    class Stopping(callbacks.Backup):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise StopError

    with monkeypatch.context() as patch, pytest.raises(StopError):
        patch.setattr(fitting.callbacks, "Backup", Stopping)
        run(tmp_path / "cut", recipe(data, steps=6))
    out = run(tmp_path / "cut", recipe(data, steps=6), resume=True)
    whole = run(tmp_path / "whole", recipe(data, steps=6))
    assert [row["epoch"] for row in history(out)] == [1, 2, 3]
    for a, b in zip(history(out), history(whole)):
        assert a == pytest.approx(b, rel=1e-4)
    progress = json.loads((out / "resume" / "progress.json").read_text())
    assert progress["epoch"] == 3
    with pytest.raises(
        ValueError, match=r"other settings: scales was \[1\.0, 2\.0, 0\.5\], is \[1"
    ):
        run(out, recipe(data, steps=6, scales=[1, 2]), resume=True)


def test_a_patch_larger_than_a_well_is_named(tmp_path, data):
    with pytest.raises(ValueError, match=r"patch of 64 voxels along Y does not fit into .*_A4"):
        run(tmp_path / "run", recipe(data, patch_size=[64, 16], validation_split=0))


def test_a_damaged_plane_is_named_with_its_file(tmp_path):
    place = well(tmp_path / "isl")
    path = next(place.glob("*z_depth-1*"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"z_depth-1.*cannot be read as PNG; is it whole"):
        run(tmp_path / "run", recipe(place, [DAPI]))
