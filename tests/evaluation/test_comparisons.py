"""What is compared with what, where the targets are the wells of a data set.

How files and images in memory pair, and what is said where they do not, is tested with
`evaluate` itself in `test_scoring.py`.
"""

import numpy as np
import pytest

from gvtnets_tf.data.in_silico_labeling import file_names, wells
from gvtnets_tf.evaluation.comparisons import Comparisons
from gvtnets_tf.evaluation.scoring import evaluate
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write

WELL = "lab-FINKBEINER,condition-KEVAN_0_8,acquisition_date,year-2015,month-10,day-5,well-{},"
LABEL = WELL + "depth_computation-MAXPROJECT,channel-{},is_mask-false.png"
PLANE = WELL + "z_depth-{},channel-PHASE_CONTRAST,is_mask-false.png"


@pytest.fixture
def plate(tmp_path):
    """Three wells with three planes; all have DAPI, the second MAP2 and NFH as well."""
    folder = tmp_path / "data" / "Finkbeiner" / "kevan_0_8"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels = lambda: Image(generator.integers(500, 9000, (12, 14)).astype(np.uint16), "YX")
    for well in ("A1", "A2", "A3"):
        for z in range(3):
            write(folder / PLANE.format(well, z), pixels())
        for label in ("DAPI", "MAP2", "NFH")[: 3 if well == "A2" else 1]:
            write(folder / LABEL.format(well, f"{label}_CONFOCAL"), pixels())
    return tmp_path / "data"


def predict_wells(plate, names, folder="predictions", shift=0):
    """Write a prediction of each well: what it was stained with, or 7 where it was not."""
    out = plate.parent / folder
    out.mkdir()
    for well in wells.find_wells(plate):
        truth = well.target(names or file_names.LABELS).numpy()
        image = Image(np.nan_to_num(truth, nan=7.0) + shift, "CYX", {}, tuple(names))
        write(out / f"{well.name}.tif", image)
    return out


NAME = "finkbeiner_kevan_0_8_2015-10-05_"


def test_the_wells_of_the_data_set_are_targets_by_name(plate, monkeypatch):
    for name in ("plots.comparison", "plots.box", "virtual_staining.figures.save_figure"):
        monkeypatch.setattr(f"gvtnets_tf.evaluation.{name}", lambda *_, **__: None)
    predictions = predict_wells(plate, ["MAP2_CONFOCAL", "DAPI_CONFOCAL"])
    worse = predict_wells(plate, ["DAPI_CONFOCAL", "MAP2_CONFOCAL"], "worse", 5)
    report = evaluate(
        str(predictions), str(plate), plate.parent / "out", worse, inputs=plate, staining=True
    )
    found = [(row["name"].removeprefix(NAME), row["channel"], row["mae"]) for row in report.rows]
    dapi, map2 = "DAPI_CONFOCAL", "MAP2_CONFOCAL"
    assert found == [("A1", dapi, 0), ("A2", map2, 0), ("A2", dapi, 0), ("A3", dapi, 0)]
    assert [row["baseline_mae"] for row in report.rows] == [5] * 4
    assert report.staining.labels["DAPI_CONFOCAL"].images == 3


def test_a_prediction_without_names_is_that_of_all_labels_in_order(plate):
    report = evaluate(predict_wells(plate, []), plate)
    labels = [row["channel"] for row in report.rows]
    assert labels == ["DAPI_CONFOCAL"] * 2 + ["MAP2_CONFOCAL", "NFH_CONFOCAL", "DAPI_CONFOCAL"]
    assert {row["mae"] for row in report.rows} == {0}


def test_labels_of_wells_may_be_asked_for_and_computed(plate):
    predictions = predict_wells(plate, ["NEURITE_CONFOCAL"])
    only = predictions / f"{NAME}A2.tif"
    assert evaluate(only, plate).rows[0]["mae"] == 0
    report = evaluate(only, plate, target_channels=["NFH_CONFOCAL"])
    assert [row["channel"] for row in report.rows] == ["NFH_CONFOCAL"]
    assert report.rows[0]["mae"] > 0
    with pytest.raises(ValueError, match=r"A1 has none of the labels NEURITE_CONFOCAL"):
        evaluate(predictions, plate)
    with pytest.raises(ValueError, match=r"A2 has no channel 'DAPI'"):
        evaluate(only, plate, target_channels=["DAPI"])


def test_wells_without_prediction_are_left_out_which_is_said(plate, caplog):
    predictions = predict_wells(plate, ["DAPI_CONFOCAL"])
    (predictions / f"{NAME}A1.tif").unlink()
    report = evaluate(predictions, plate)
    assert [row["name"] for row in report.rows] == [f"{NAME}A2", f"{NAME}A3"]
    assert "2 of 3 wells have a prediction and are scored" in caplog.text


def test_files_and_wells_that_do_not_pair_are_named(plate):
    predictions = predict_wells(plate, ["DAPI_CONFOCAL"])
    worse = predict_wells(plate, ["DAPI_CONFOCAL"], "worse")
    (worse / f"{NAME}A2.tif").unlink()
    with pytest.raises(ValueError, match=rf"No baseline for .*{NAME}A2\.tif"):
        evaluate(predictions, plate, baseline=worse)
    (predictions / f"{NAME}A2.tif").rename(predictions / "A2.tif")
    with pytest.raises(
        ValueError, match=rf"No well in .*data for .*A2\.tif.*such as {NAME}A1\.tif"
    ):
        evaluate(predictions, plate)


def test_two_predictions_of_a_well_are_named(plate):
    predictions = predict_wells(plate, ["DAPI_CONFOCAL"])
    write(predictions / f"{NAME}A1.npy", Image(np.ones((1, 12, 14)), "CYX"))
    with pytest.raises(ValueError, match=rf"More than one file bears the name of .*{NAME}A1"):
        evaluate(predictions, plate)


def test_the_wells_are_the_input_too(plate):
    (comparison, *_) = Comparisons(plate, predict_wells(plate, ["DAPI_CONFOCAL"]), inputs=plate)
    assert comparison.name == f"{NAME}A1"
    assert comparison.images["input"].shape == (3, 12, 14)
    first = wells.find_wells(plate)[0].input().numpy()
    np.testing.assert_array_equal(comparison.images["input"].numpy(), first)


def test_comparisons_can_be_gone_through_again_and_read_what_is_asked_for():
    truth = np.arange(24.0).reshape(2, 3, 4)
    comparisons = Comparisons(
        [Image(truth, "CYX", {}, ("DNA", "ER"), "a")], [truth + 1], axes="CYX"
    )
    assert len(comparisons) == 1
    for _ in range(2):
        (comparison,) = comparisons
        assert (comparison.name, comparison.axes, comparison.channel_names) == (
            "a",
            "YX",
            ["DNA", "ER"],
        )
        (_, only), _ = comparison.channels("target")
        assert list(only) == ["target"]
        _, (label, images) = comparison.channels()
        assert label == "ER"
        np.testing.assert_array_equal(images["prediction"], truth[1] + 1)


@pytest.mark.shared
def test_the_real_well_is_its_own_best_prediction(microscopy, tmp_path):
    (well,) = wells.find_wells(microscopy / "isl-condition-b-A4")
    labels = ("DAPI_CONFOCAL", "MAP2_CONFOCAL")
    write(tmp_path / f"{well.name}.tif", well.target(labels))
    report = evaluate(
        tmp_path, microscopy / "isl-condition-b-A4", regions={"X": (576, 768)}, staining=True
    )
    assert [(row["channel"], row["mae"]) for row in report.rows] == [(x, 0) for x in labels]
    found = report.staining.labels["MAP2_CONFOCAL"]
    assert found.available == 1024 * 192
    assert found.r["prediction"] == pytest.approx([1])
    assert 0 < found.accuracies()["constant"][1] < found.accuracies()["prediction"][1] == 1
