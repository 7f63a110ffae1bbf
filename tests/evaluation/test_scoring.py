import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gvtnets_tf.evaluation import metrics
from gvtnets_tf.evaluation.report import TESTED
from gvtnets_tf.evaluation.scoring import evaluate
from gvtnets_tf.evaluation.statistics import paired_t_test, summarize
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write


def truths(count, axes="ZYX", shape=(8, 16, 18), names=(), seed=0):
    """Smooth images called `cell_0`, `cell_1` ..."""
    generator = np.random.default_rng(seed)
    return [
        Image(
            (500 + 9000 * gaussian_filter(generator.normal(size=shape), 2)).astype(np.float32),
            axes,
            channel_names=names,
            name=f"cell_{i}",
        )
        for i in range(count)
    ]


def noisy(images, sd, seed=1):
    generator = np.random.default_rng(seed)
    return [
        Image(x.array + generator.normal(0, sd, x.shape).astype(np.float32), x.axes, name=x.name)
        for x in images
    ]


@pytest.fixture
def blank(monkeypatch):
    """Leave the figures blank, where a test is about something else."""
    for name in ("comparison", "box"):
        monkeypatch.setattr(
            f"gvtnets_tf.evaluation.plots.{name}", lambda path, *args, **kwargs: path.touch()
        )


def test_a_row_holds_every_score_of_an_image():
    targets = truths(2)
    predictions = noisy(targets, 50)
    report = evaluate(predictions, targets)
    assert [(row["name"], row["channel"]) for row in report.rows] == [
        ("cell_0", "channel 0"),
        ("cell_1", "channel 0"),
    ]
    for row, prediction, target in zip(report.rows, predictions, targets):
        expected = metrics.all_metrics(target.array, prediction.array)
        assert {k: row[k] for k in expected} == pytest.approx(expected)


def test_overall_scores_are_means_over_images_not_over_voxels():
    generator = np.random.default_rng(0)
    small, large = generator.normal(size=(8, 8)), generator.normal(size=(40, 40))
    report = evaluate([small + 1, large + 3], [small, large])
    assert report.overall["channel 0"]["scores"]["mae"]["mean"] == pytest.approx(2.0)
    assert report.overall["channel 0"]["scores"]["mae"] == summarize(
        [r["mae"] for r in report.rows]
    )


def test_channels_are_scored_by_themselves_under_their_names():
    targets = truths(2, "CYX", (2, 16, 16), ("DNA", "ER"))
    predictions = [Image(x.array.copy(), x.axes) for x in targets]
    for image in predictions:
        image.array[1] *= -1
    report = evaluate(predictions, targets)
    assert list(report.overall) == ["DNA", "ER"]
    assert report.overall["DNA"]["scores"]["r"]["mean"] == pytest.approx(1)
    assert report.overall["ER"]["scores"]["r"]["mean"] == pytest.approx(-1)


def test_axes_are_matched_by_letter():
    targets = truths(1, "CZYX", (2, 8, 9, 10))
    predictions = [Image(np.moveaxis(targets[0].array, 0, -1)[None], "TZYXC")]
    for row in evaluate(predictions, targets).rows:
        assert row["mae"] == 0


def test_target_channels_pick_what_the_prediction_shows():
    targets = truths(1, "CYX", (3, 16, 16), ("BF", "DNA", "ER"))
    predictions = [Image(targets[0].array[[2, 1]], "CYX")]
    report = evaluate(predictions, targets, target_channels=["ER", 1])
    assert [(row["channel"], row["mae"]) for row in report.rows] == [("ER", 0), ("DNA", 0)]


@pytest.mark.parametrize("names", [("BF", "DNA", "ER"), ()])
@pytest.mark.parametrize("channels", [[2, 1], [1], [2]])
def test_target_channels_pick_those_of_a_baseline_of_many_channels_too(names, channels):
    (target,) = truths(1, "CYX", (3, 16, 16), names)
    predictions = [Image(target.array[channels] + 1, "CYX")]
    rows = evaluate(predictions, [target], baseline=[target], target_channels=channels).rows
    assert [row["baseline_mae"] for row in rows] == [0] * len(channels)
    # A baseline of the channels that are compared is taken as it is.
    baseline = [Image(target.array[channels] + 2, "CYX")]
    rows = evaluate(predictions, [target], baseline=baseline, target_channels=channels).rows
    assert [row["baseline_mae"] for row in rows] == [2] * len(channels)


def test_a_channel_without_a_name_has_its_number_in_the_file_everywhere():
    (target,) = truths(1, "CYX", (4, 16, 16), ())
    report = evaluate([target.array[3]], [target], target_channels=[3], axes="YX")
    assert [row["channel"] for row in report.rows] == ["channel 3"]
    assert str(report).startswith("channel 3 ")


def test_channels_are_matched_by_name_where_both_have_names():
    targets = truths(2, "CYX", (3, 16, 16), ("BF", "DNA", "ER"))
    predictions = [x.select_channels(["ER", "DNA"]) for x in targets]
    baseline = [x.select_channels(["BF", "ER", "DNA"]) for x in targets]
    baseline[1].array[1] += 3
    report = evaluate(predictions, targets, baseline=baseline)
    assert [(row["channel"], row["mae"]) for row in report.rows] == [("ER", 0), ("DNA", 0)] * 2
    assert [row["baseline_mae"] for row in report.rows] == pytest.approx([0, 0, 3, 0], abs=1e-3)


def test_channels_are_matched_by_order_where_names_are_unknown_to_the_target():
    targets = truths(1, "CYX", (2, 16, 16), ("DNA", "ER"))
    predictions = [replace(targets[0], channel_names=("blue", "green"))]
    assert [row["channel"] for row in evaluate(predictions, targets).rows] == ["DNA", "ER"]
    short = [targets[0].select_channels(["DNA"])]
    short = [replace(short[0], channel_names=("blue",))]
    with pytest.raises(ValueError, match=r"\(1, 16, 16\) \(axes CYX, channels blue\) against"):
        evaluate(short, targets)


def test_asked_channels_go_before_names():
    targets = truths(1, "CYX", (2, 16, 16), ("DNA", "ER"))
    report = evaluate(targets, targets, target_channels=["ER", "DNA"])
    assert [row["channel"] for row in report.rows] == ["ER", "DNA"]
    assert min(row["mae"] for row in report.rows) > 1


@pytest.mark.parametrize("names", [("DNA", "ER", "actin"), ()])
def test_a_label_that_was_not_taken_is_left_out(tmp_path, monkeypatch, names):
    drawn = {}
    draw = lambda path, images, **options: drawn.update({path.stem: (images, options)})
    monkeypatch.setattr("gvtnets_tf.evaluation.plots.comparison", draw)
    targets = truths(3, "CYX", (3, 16, 16), names)
    expected = evaluate(noisy(targets, 30), targets).rows
    predictions, worse = noisy(targets, 30), noisy(targets, 90)
    targets[1].array[1] = np.nan
    report = evaluate(predictions, targets, tmp_path / "out", baseline=worse)
    labels = names or ("channel 0", "channel 1", "channel 2")
    assert [x["n"] for x in (report.overall[c]["scores"]["r"] for c in labels)] == [3, 2, 3]
    del expected[4]
    assert [(row["name"], row["channel"], row["r"]) for row in report.rows] == [
        (row["name"], row["channel"], row["r"]) for row in expected
    ]
    images, options = drawn["cell_1"]
    assert options["channel_names"] == [labels[0], labels[2]]
    assert [x.shape for x in images.values()] == [(2, 16, 16)] * 3
    assert not np.isnan(images["truth"]).any()


def test_an_image_without_any_label_is_named():
    targets = truths(2, "CYX", (2, 16, 16), ("DNA", "ER"))
    predictions = noisy(targets, 30)
    targets[1].array[:] = np.nan
    with pytest.raises(ValueError, match=r"cell_1 has none of the labels DNA, ER: it is NaN"):
        evaluate(predictions, targets)


def test_nan_in_a_part_of_a_label_stays_an_error():
    targets = truths(1, "CYX", (2, 16, 16), ("DNA", "ER"))
    predictions = noisy(targets, 30)
    targets[0].array[1, :8] = np.nan
    with pytest.raises(ValueError, match=r"cell_0, channel ER, prediction: `true` holds 128 val"):
        evaluate(predictions, targets)


def test_regions_limit_what_is_scored(tmp_path, blank):
    targets = truths(1)
    predictions = [Image(targets[0].array.copy(), "ZYX")]
    predictions[0].array[:, :, 9:] = 0
    report = evaluate(predictions, targets, tmp_path / "out", regions={"X": (0, 9)})
    assert report.rows[0]["mae"] == 0
    assert evaluate(predictions, targets).rows[0]["mae"] > 100
    assert read_summary(tmp_path / "out")["regions"] == {"X": [0, 9]}


def test_a_baseline_is_scored_and_tested_on_the_same_images():
    targets = truths(6)
    better, worse = noisy(targets, 30), noisy(targets, 90, seed=2)
    report = evaluate(better, targets, baseline=worse)
    found = report.overall["channel 0"]
    column = lambda key: [row[key] for row in report.rows]
    assert found["baseline"]["r"] == summarize(column("baseline_r"))
    assert column("baseline_mse") == pytest.approx(
        [metrics.mse(t.array, w.array) for t, w in zip(targets, worse)]
    )
    assert found["tests"]["r"] == paired_t_test(column("r"), column("baseline_r"))
    # Of an error, less is better.
    expected = paired_t_test(column("baseline_nrmse_fit"), column("nrmse_fit"))
    assert found["tests"]["nrmse_fit"] == expected
    assert set(found["tests"]) == set(TESTED)
    assert all(test["p"] < 0.001 for test in found["tests"].values())
    swapped = evaluate(worse, targets, baseline=better).overall["channel 0"]["tests"]
    assert all(test["p"] > 0.999 for test in swapped.values())


def test_four_images_are_too_few_for_a_test():
    targets = truths(4)
    report = evaluate(noisy(targets, 30), targets, baseline=noisy(targets, 90))
    assert report.overall["channel 0"]["tests"]["r"]["p"] is None
    assert "n too small" in str(report)


def test_a_report_prints_as_a_table():
    targets = truths(5, "CYX", (1, 16, 16), ("DNA",))
    report = evaluate(noisy(targets, 30), targets, baseline=noisy(targets, 90, seed=3))
    lines = {line.split()[0]: line.split() for line in str(report).splitlines()}
    assert lines["channel"][:6] == ["channel", "DNA", "mean", "sd", "median", "n"]
    scores = report.overall["DNA"]
    assert float(lines["r"][1]) == pytest.approx(scores["scores"]["r"]["mean"], rel=1e-4)
    assert lines["r"][4] == "5"
    assert float(lines["r"][5]) == pytest.approx(scores["baseline"]["r"]["mean"], rel=1e-4)
    assert float(lines["r"][6]) == pytest.approx(scores["tests"]["r"]["p"], rel=1e-2)
    assert "p (one-tailed, paired)" not in str(evaluate(targets, targets))


def read_summary(folder):
    return json.loads((folder / "summary.json").read_text())


def read_table(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_table_summary_and_figures(tmp_path):
    targets = truths(2)
    out = tmp_path / "scores"
    report = evaluate(
        noisy(targets, 30), targets, out, baseline=noisy(targets, 90), inputs=noisy(targets, 200)
    )
    names = [".gvtnets", "box.png", "cell_0.png", "cell_1.png", "metrics.csv", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    for row, stored in zip(report.rows, read_table(out), strict=True):
        assert stored["name"] == row["name"]
        assert float(stored["r"]) == row["r"]
        assert float(stored["baseline_psnr"]) == row["baseline_psnr"]
    summary = read_summary(out)
    assert summary["images"] == 2
    assert (
        summary["channels"]["channel 0"]["scores"]["ssim"]
        == report.overall["channel 0"]["scores"]["ssim"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]


def test_the_figure_shows_all_that_was_given(tmp_path, monkeypatch):
    calls = []
    draw = lambda path, images, **options: calls.append((path.name, images, options))
    monkeypatch.setattr("gvtnets_tf.evaluation.plots.comparison", draw)
    targets = truths(1, "YX", (16, 18), ())
    stack = Image(np.zeros((5, 16, 18)), "ZYX")
    evaluate(noisy(targets, 3), targets, tmp_path / "a", inputs=[stack], regions={"Y": (0, 8)})
    name, images, options = calls[0]
    assert name == "cell_0.png"
    assert {k: x.shape for k, x in images.items()} == {
        "input": (5, 8, 18),
        "truth": (8, 18),
        "prediction": (8, 18),
    }
    assert options["axes"] == {"input": "ZYX", "truth": "YX", "prediction": "YX"}


def test_scores_that_are_not_numbers_are_null_in_json_and_spelled_in_the_table(tmp_path, blank):
    targets = truths(1)
    evaluate(targets, targets, tmp_path / "out")
    assert read_table(tmp_path / "out")[0]["psnr"] == "inf"
    psnr = read_summary(tmp_path / "out")["channels"]["channel 0"]["scores"]["psnr"]
    assert psnr == {"n": 1, "mean": None, "sd": None, "median": None}


def test_a_constant_prediction_has_no_correlation_and_the_mean_says_over_how_many(tmp_path):
    targets = truths(3)
    flat = Image(np.ones(targets[0].shape), "ZYX")
    report = evaluate([flat, *noisy(targets[1:], 30)], targets, tmp_path / "out")
    assert math.isnan(report.rows[0]["r"])
    assert report.overall["channel 0"]["scores"]["r"]["n"] == 2
    assert report.overall["channel 0"]["scores"]["mae"]["n"] == 3


def test_images_of_one_name_keep_apart(tmp_path, blank):
    targets = [Image(x.array, x.axes, name="box") for x in truths(2)]
    report = evaluate(targets, targets, tmp_path / "out")
    assert [row["name"] for row in report.rows] == ["box_2", "box_3"]
    assert {"box.png", "box_2.png", "box_3.png"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_plain_arrays_are_named_by_their_number():
    array = truths(1)[0].array
    assert evaluate([array] * 2, [array] * 2).rows[1]["name"] == "001"
    assert len(evaluate(array, array).rows) == 1  # one array is one image


def test_plain_arrays_of_four_axes_need_their_names():
    array = truths(1, "ZYXC", (8, 9, 10, 2))[0].array
    with pytest.raises(ValueError, match=r"`axes` must name the axes of image 000.*8, 9, 10, 2"):
        evaluate([array], [array])
    assert len(evaluate([array], [array], axes="ZYXC").rows) == 2


@pytest.mark.parametrize("role", ["prediction", "baseline"])
def test_shapes_that_differ_are_refused_by_name(role):
    targets = truths(1)
    short = Image(targets[0].array[1:], "ZYX", name="short")
    images = {"prediction": targets, "baseline": targets, role: [short]}
    expected = rf"The {role} short and the target cell_0 .*\(7, 16, 18\) .*against \(8, 16, 18\)"
    with pytest.raises(ValueError, match=expected):
        evaluate(images["prediction"], targets, baseline=images["baseline"])


def test_shapes_are_compared_before_a_region_is_cut_out():
    targets = truths(1)
    short = [Image(targets[0].array[:, :, 1:], "ZYX")]
    with pytest.raises(ValueError, match="do not show the same voxels"):
        evaluate(short, targets, regions={"X": (0, 9)})


def test_a_missing_channel_is_refused_with_the_choice_that_was_made():
    targets = truths(1, "CYX", (3, 16, 16))
    prediction = [Image(targets[0].array[0], "YX")]
    with pytest.raises(ValueError, match=r"axes YX\) against \(3, 16, 16\).*target_channels"):
        evaluate(prediction, targets)
    with pytest.raises(ValueError, match=r"\(16, 16\) \(axes YX\) against \(2, 16, 16\)"):
        evaluate(prediction, targets, target_channels=[0, 1])
    assert evaluate(prediction, targets, target_channels=[0]).rows[0]["mae"] == 0


def test_a_region_outside_the_image_is_refused():
    targets = truths(1)
    with pytest.raises(ValueError, match=r"region X: \[0, 99\] is not inside cell_0"):
        evaluate(targets, targets, regions={"X": (0, 99)})


def test_a_bad_image_is_named_and_nothing_is_kept(tmp_path, blank):
    targets = truths(2, "CYX", (2, 16, 16), ("DNA", "ER"))
    predictions = noisy(targets, 30)
    predictions[1].array[1, 0, 0] = np.nan
    with pytest.raises(
        ValueError, match=r"cell_1, channel ER, prediction: .*1 values that are NaN"
    ):
        evaluate(predictions, targets, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_constant_target_is_named():
    flat = [Image(np.full((8, 8), 3.0), "YX", name="blank")]
    with pytest.raises(ValueError, match=r"blank, channel 0, prediction: The truth is constant"):
        evaluate([np.eye(8)], flat)


@pytest.mark.parametrize(
    "predictions, targets, options, message",
    [
        ([], [], {}, "the list of target images is empty"),
        ([np.eye(8)], [np.eye(8)] * 2, {}, "counts must agree.*target 2, prediction 1"),
        (["a.tif"], [np.eye(8)], {}, "Received files for prediction only"),
        ([np.eye(8)], [np.eye(8)], {"inputs": "*.tif"}, "Received files for input only"),
    ],
)
def test_lists_that_do_not_fit_are_refused(predictions, targets, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(predictions, targets, **options)


def test_an_output_is_not_overwritten_unless_asked(tmp_path, blank):
    targets = truths(1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with pytest.raises(FileExistsError, match="not overwritten"):
        evaluate(targets, targets, tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"out was not written by gvtnets_tf, and --force"):
        evaluate(targets, targets, tmp_path / "out", force=True)
    assert (tmp_path / "out" / "old.txt").read_text() == "old"
    (tmp_path / "out" / "old.txt").rename(tmp_path / "old.txt")
    for _ in range(2):
        evaluate(targets, targets, tmp_path / "out", force=True)
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {".gvtnets", "metrics.csv"}


def test_what_is_scored_is_not_replaced_by_the_scores(folders):
    (folders / ".gvtnets").touch()  # all of it was made by this package
    text = r"is an input of this run, or holds one \(\S+/targets/\*\), and is not replaced by"
    with pytest.raises(ValueError, match=text):
        evaluate(f"{folders}/predictions/*", f"{folders}/targets/*", folders, force=True)
    files = sorted((folders / "targets").iterdir())
    with pytest.raises(ValueError, match=r"or holds one \(\S+/targets/\S+\.tif\)"):
        evaluate(files, files, folders / "targets", force=True)


@pytest.fixture
def folders(tmp_path):
    """Three images as files: targets, predictions, baselines and inputs."""
    targets = truths(3)
    kinds = {"targets": targets, "predictions": noisy(targets, 30), "baseline": noisy(targets, 90)}
    for kind, images in kinds.items():
        (tmp_path / kind).mkdir()
        for image in images:
            write(tmp_path / kind / f"{image.name}.tif", image)
    return tmp_path


def test_files_are_paired_by_name(folders, blank):
    targets = truths(3)
    from_files = evaluate(
        str(folders / "predictions" / "*.tif"),
        str(folders / "targets" / "*.tif"),
        folders / "out",
        baseline=str(folders / "baseline" / "*.tif"),
        inputs=str(folders / "baseline" / "*.tif"),
    )
    in_memory = evaluate(noisy(targets, 30), targets, baseline=noisy(targets, 90))
    assert from_files.rows == in_memory.rows
    assert (folders / "out" / "cell_2.png").exists()


def test_lists_of_paths_are_paired_by_name_too(folders):
    targets = sorted((folders / "targets").iterdir())
    predictions = sorted((folders / "predictions").iterdir(), reverse=True)
    report = evaluate(predictions, targets)
    assert min(row["r"] for row in report.rows) > 0.9


def test_a_file_without_partner_is_named(folders):
    (folders / "predictions" / "cell_1.tif").unlink()
    with pytest.raises(ValueError, match="cell_1"):
        evaluate(str(folders / "predictions" / "*.tif"), str(folders / "targets" / "*.tif"))


def test_files_whose_shapes_differ_are_named_both(folders):
    path = folders / "predictions" / "cell_1.tif"
    write(path, truths(1, shape=(8, 16, 9))[0], force=True)
    expected = r"predictions.cell_1\.tif and the target .*targets.cell_1\.tif .*16, 9\).*16, 18\)"
    with pytest.raises(ValueError, match=expected):
        evaluate(str(folders / "predictions" / "*.tif"), str(folders / "targets" / "*.tif"))
