"""What a file says of its units decides how it is compared."""

import logging

import numpy as np
import pytest

from gvtnets_tf.evaluation.scoring import evaluate
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write

RNG = np.random.default_rng(0)
TRUTH = RNG.gamma(2, 500, (2, 8, 24, 24)).astype("float32")  # two channels
OFFSET, GAIN = np.array([300.0, 50.0]), np.array([800.0, 20.0])
SCORES = ((np.moveaxis(TRUTH, 0, -1) - OFFSET) / GAIN).astype("float32")
NORMALIZED = {
    "units": "normalized",
    "target_statistics": {"offset": OFFSET.tolist(), "gain": GAIN.tolist()},
}
ONE = {"units": "normalized", "target_statistics": {"offset": [300.0], "gain": [800.0]}}


@pytest.fixture
def files(tmp_path):
    """Write predictions with this metadata, and their targets; return what `evaluate` takes."""

    def save(metadata, array=SCORES, axes="ZYXC", **more):
        write(tmp_path / "truth" / "a.ome.tif", Image(TRUTH, "CZYX"), force=True)
        write(tmp_path / "found" / "a.ome.tif", Image(array, axes), metadata=metadata, force=True)
        return tmp_path / "found", tmp_path / "truth"

    return save


def mae(report):
    return [report.overall[f"channel {i}"]["scores"]["mae"]["mean"] for i in range(2)]


def test_normalized_predictions_are_compared_in_the_units_of_the_targets(files, caplog):
    predictions, targets = files(NORMALIZED)
    with caplog.at_level(logging.WARNING, "gvtnets_tf"):
        np.testing.assert_allclose(mae(evaluate(predictions, targets)), 0, atol=1e-3)
    assert caplog.messages == [
        f"{predictions} holds normalized values: they are compared in the units of the training "
        f"targets, by the statistics in their metadata."
    ]


def test_a_baseline_is_compared_in_the_units_of_the_targets_too(files):
    predictions, targets = files(NORMALIZED)
    report = evaluate(f"{targets}/*.tif", targets, baseline=f"{predictions}/*.tif")
    assert report.rows[0]["mae"] == 0
    np.testing.assert_allclose([row["baseline_mae"] for row in report.rows], 0, atol=1e-3)


@pytest.mark.parametrize("units", ["target", "input", None])
def test_what_has_units_is_compared_as_it_is(files, units):
    found = mae(evaluate(*files({"units": units})))
    np.testing.assert_allclose(found, np.abs(TRUTH - np.moveaxis(SCORES, -1, 0)).mean((1, 2, 3)))


def test_several_models_in_one_image_may_have_several_units(files):
    mixed = np.stack([SCORES[..., 0], TRUTH[1]])
    models = [{**ONE, "channels": 1}, {"units": "input", "channels": 1}]
    found = evaluate(*files({"models": models}, mixed, "CZYX"))
    np.testing.assert_allclose(mae(found), 0, atol=1e-3)


def test_normalized_predictions_without_statistics_are_refused(files):
    predictions, targets = files({"units": "normalized"})
    text = (
        r"a\.ome\.tif holds normalized values, and no statistics that would give them the units of "
        r"the targets: predict with --denormalize input \(`denormalize`\), or pass normalized "
        r"targets and predictions as `Image`\. Received: units 'normalized'\."
    )
    with pytest.raises(ValueError, match=text):
        evaluate(predictions, targets)
    # In memory they are what the user says they are.
    assert evaluate([Image(SCORES, "ZYXC")], [Image(TRUTH, "CZYX")]).rows[0]["mae"] > 0


@pytest.mark.parametrize(
    "record, message",
    [
        ({"units": "normalized", "target_statistics": {"offset": [0]}}, "gain` must be a list of"),
        ({"units": "normalized", "target_statistics": 7}, "must be a mapping of offset, gain"),
        (
            {"units": "normalized", "target_statistics": {"offset": [0] * 3, "gain": [1] * 3}},
            "target_statistics` must be of 2 channels. Received: 3",
        ),
        ({"models": 7}, "models` must be a list of"),
        ({"models": [ONE]}, "channels` must be a whole number. Received: None"),
        (
            {"models": [{**ONE, "channels": 10**15}]},
            "channels` must be from 1 to 2. Received: 1000",
        ),
        ({"models": [{**ONE, "channels": 1}]}, "channels` must be 2 in all. Received: 1"),
    ],
)
def test_a_record_that_is_none_names_the_file_and_the_key(files, record, message):
    predictions, targets = files(record)
    with pytest.raises(ValueError, match=rf"`.*a\.ome\.tif: .*{message}"):
        evaluate(predictions, targets)
