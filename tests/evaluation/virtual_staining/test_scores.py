import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.evaluation.comparisons import Comparisons
from gvtnets_tf.evaluation.scoring import evaluate
from gvtnets_tf.evaluation.virtual_staining import figures as staining_figures
from gvtnets_tf.evaluation.virtual_staining import scores
from gvtnets_tf.images.image import Image

LABELS = ("DAPI_CONFOCAL", "MAP2_CONFOCAL")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(plots, "DPI", 50)


def wells(count=3, shape=(40, 50), names=LABELS, seed=0):
    """Smooth images, a channel per label."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(count, len(names), *shape))
    return [
        Image(
            (1000 + 5000 * gaussian_filter(x, (0, 2, 2))).astype(np.float32),
            "CYX",
            {},
            names,
            f"w{i}",
        )
        for i, x in enumerate(noise)
    ]


def noisy(images, sd, seed=1):
    generator = np.random.default_rng(seed)
    return [
        Image(
            x.array + generator.normal(0, sd, x.shape).astype(np.float32),
            x.axes,
            {},
            x.channel_names,
        )
        for x in images
    ]


def without(images, index, label):
    """The same images, of which one lacks a label."""
    images[index].array[label] = np.nan
    return images


def pooled(images, label):
    return np.concatenate([image.array[label].ravel() for image in images])


def measure(predictions, targets, baseline=None, regions=None, **options):
    return scores.score_pixels(
        Comparisons(targets, predictions, baseline, regions=regions), **options
    )


# A dozen pixels, of which the true ones lie in bins 0 (five), 1 (four), 9 (three).
TRUE = np.array([[0.0, 0.01, 0.02, 0.05, 0.099, 0.1], [0.15, 0.19, 0.11, 0.95, 0.9, 1.0]])
FOUND = np.array([[0.0, 0.05, 0.30, 0.05, 0.12, 0.1], [0.15, 0.25, 0.05, 0.95, 0.8, 1.0]])


@pytest.fixture
def dozen():
    return measure([FOUND], [TRUE], ranges={"channel 0": (0, 1)}).labels["channel 0"]


def test_the_confusion_of_a_dozen_pixels_by_hand(dozen):
    expected = np.zeros((10, 10), int)
    expected[0, [0, 1, 3]] = 3, 1, 1
    expected[1, [0, 1, 2]] = 1, 2, 1
    expected[9, [8, 9]] = 1, 2
    np.testing.assert_array_equal(dozen.counts["prediction"], expected)
    np.testing.assert_allclose(dozen.per_thousand()["prediction"], expected * 1000 / 12)


def test_the_accuracies_of_a_dozen_pixels_by_hand(dozen):
    bins, overall = dozen.accuracies()["prediction"]
    assert overall == pytest.approx(7 / 12)
    assert bins == pytest.approx([3 / 5, 2 / 4, *[math.nan] * 7, 2 / 3], nan_ok=True)


def test_a_constant_predictor_has_the_share_of_the_most_frequent_bin(dozen):
    bins, overall = dozen.accuracies()["constant"]
    assert overall == pytest.approx(5 / 12)
    assert bins == pytest.approx([1, 0, *[math.nan] * 7, 0], nan_ok=True)


def test_bins_are_closed_below_open_above_and_the_last_holds_one():
    edges = np.arange(11) / 10
    assert scores.assign_bins(edges, 0, 1).tolist() == [*range(10), 9]
    assert scores.assign_bins(np.nextafter(edges[1:10], 0), 0, 1).tolist() == list(range(9))
    assert scores.assign_bins([-5, 1.2], 0, 1).tolist() == [0, 9]
    assert scores.assign_bins(np.array([500, 599, 600, 1500], np.uint16), 500, 1500).tolist() == [
        0,
        0,
        1,
        9,
    ]


def test_values_without_a_bin_are_refused():
    with pytest.raises(ValueError, match="NaN or infinite belong to no bin"):
        scores.assign_bins([0, np.nan], 0, 1)


def test_r_of_all_pixels_is_that_of_all_images_together():
    targets = wells()
    found = measure(noisy(targets, 300), targets, noisy(targets, 900, seed=2)).labels
    for i, label in enumerate(LABELS):
        true = pooled(targets, i)
        ours, other = (pooled(noisy(targets, sd, seed), i) for sd, seed in ((300, 1), (900, 2)))
        # One repeat says it all: the next would take the same pixels.
        assert found[label].r["prediction"] == pytest.approx([metrics.pearson(true, ours)])
        assert found[label].r["baseline"] == pytest.approx([metrics.pearson(true, other)])
        assert found[label].pixels == found[label].available == true.size
        assert math.isnan(found[label].correlations()["prediction"]["sd"])


def test_r_of_pooled_images_is_not_the_mean_over_images():
    bright, dark = np.eye(8) + 100, np.eye(8)
    flipped = [bright[:, ::-1], dark[:, ::-1]]  # the right level, the wrong place
    assert metrics.pearson(dark, dark[:, ::-1]) < 0
    assert measure(flipped, [bright, dark]).labels["channel 0"].r["prediction"][0] > 0.99


def test_all_models_are_compared_on_the_same_pixels():
    targets = wells()
    twin = noisy(targets, 500)
    found = measure(twin, targets, twin, pixels=200).labels[LABELS[0]]
    assert len(set(found.r["prediction"])) == len(found.r["prediction"]) == 30
    np.testing.assert_array_equal(found.r["prediction"], found.r["baseline"])
    assert found.correlations()["difference"] == {"n": 30, "mean": 0, "sd": 0, "median": 0}


def test_the_difference_is_taken_repeat_by_repeat():
    targets = wells()
    found = measure(noisy(targets, 300), targets, noisy(targets, 900), pixels=100).labels[LABELS[0]]
    difference = found.r["prediction"] - found.r["baseline"]
    said = found.correlations()["difference"]
    assert (said["mean"], said["sd"]) == pytest.approx((difference.mean(), difference.std(ddof=1)))
    assert said["mean"] > 0.05


def test_repeats_scatter_as_much_as_random_pixels_do():
    targets = [x.select_channels([0]) for x in wells(shape=(200, 200))]
    found = measure(noisy(targets, 400), targets, pixels=2000).labels[LABELS[0]]
    r = metrics.pearson(pooled(targets, 0), pooled(noisy(targets, 400), 0))
    said = found.correlations()["prediction"]
    assert said["mean"] == pytest.approx(r, abs=4 * said["sd"] / math.sqrt(30))
    assert said["sd"] == pytest.approx((1 - r**2) / math.sqrt(2000), rel=0.5)


def test_no_pixel_is_drawn_twice_and_every_image_gives_its_share(monkeypatch):
    drawn = {}

    def spy(tally, repeat, take=scores._Tally._draw):
        at = take(tally, repeat)
        drawn.setdefault(repeat, []).append(set(at.tolist()))
        assert len(drawn[repeat][-1]) == len(at)
        return at

    monkeypatch.setattr(scores._Tally, "_draw", spy)
    images = [np.random.default_rng(0).random((10, n)) for n in (30, 5, 65)]
    measure(images, images, pixels=400, repeats=20)
    counts = np.array([[len(at) for at in drawn[repeat]] for repeat in range(20)])
    assert (counts.sum(1) == 400).all()
    assert counts.mean(0) == pytest.approx([120, 20, 260], abs=10)
    assert drawn[0] != drawn[1]


def test_the_same_seed_draws_the_same_pixels():
    targets = wells(1)  # of which all pixels come, whatever the seed
    first, again, other = (
        measure(noisy(targets, 300), targets, pixels=100, seed=seed).labels[LABELS[1]]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.r["prediction"], again.r["prediction"])
    assert first.r["prediction"][0] != other.r["prediction"][0]


def test_a_constant_prediction_has_no_correlation():
    targets = wells(names=("A",))
    flat = [np.full((1, 40, 50), 0.1)] * 3
    found = scores.score_pixels(Comparisons(targets, flat, axes="CYX"), pixels=500)
    assert np.isnan(found.labels["A"].r["prediction"]).all()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_ranges_are_percentiles_of_all_images_together(seed, sizes):
    generator = np.random.default_rng(seed)
    parts = [generator.normal(generator.normal(0, 5), 1, size) for size in sizes]
    tails = scores._Tails(sum(sizes))
    for part in parts:
        tails.add(part)
    if sum(sizes) > 1:
        expected = np.percentile(np.concatenate(parts), (0.1, 99.9))
        assert tails.range() == pytest.approx(expected)


def test_many_pixels_keep_only_the_ends_of_their_values():
    values = np.random.default_rng(0).integers(0, 60_000, (20, 5000)).astype(np.uint16)
    tails = scores._Tails(values.size)
    for part in values:
        tails.add(part)
    assert len(tails.low) == len(tails.high) == 101
    assert tails.range() == pytest.approx(np.percentile(values, (0.1, 99.9)))


def test_a_label_of_few_bright_pixels_has_its_whole_range():
    true = np.zeros((100, 100))
    true[3, 4] = 9  # one pixel of 10,000 lies beyond both percentiles
    assert measure([true], [true]).labels["channel 0"].range == (0, 9)


def test_regions_limit_what_is_counted():
    targets = wells()
    predictions = [Image(x.array.copy(), x.axes) for x in targets]
    for image in predictions:
        image.array[..., 25:] = 0
    inside = measure(predictions, targets, regions={"X": (0, 25)}).labels[LABELS[0]]
    assert inside.r["prediction"] == pytest.approx([1])
    assert inside.accuracies()["prediction"][1] == 1
    assert inside.available == 3 * 40 * 25
    assert measure(predictions, targets).labels[LABELS[0]].r["prediction"][0] < 0.9


def test_labels_that_were_not_taken_are_left_out():
    targets = without(wells(), 1, 0)
    found = measure(noisy(wells(), 300), targets).labels
    assert {label: found[label].images for label in LABELS} == dict(zip(LABELS, (2, 3)))
    ours = noisy(wells(), 300)
    expected = metrics.pearson(pooled(targets[::2], 0), pooled(ours[::2], 0))
    assert found[LABELS[0]].r["prediction"] == pytest.approx([expected])


def test_given_ranges_replace_those_of_the_truth():
    targets = wells()
    found = measure(targets, targets, ranges={LABELS[1]: (-1000, 9000)}).labels
    assert found[LABELS[1]].range == (-1000, 9000)
    expected = np.percentile(pooled(targets, 0), (0.1, 99.9))
    assert found[LABELS[0]].range == pytest.approx(expected)
    inside = np.clip(pooled(targets, 1), -1000, 9000)
    spread = found[LABELS[1]].counts["prediction"].sum(1)
    assert spread.tolist() == np.histogram(inside, 10, (-1000, 9000))[0].tolist()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ranges": {"MAP2": (0, 1)}}, "`ranges` cannot be 'MAP2'. Choose one of .'DAPI_CONFOCAL'"),
        ({"ranges": {LABELS[0]: (5, 5)}}, "range of DAPI_CONFOCAL must go.* Received: 5 to 5"),
        ({"pixels": 1}, "`pixels` must be at least 2"),
        ({"repeats": 0}, "`repeats` must be at least 1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        measure(wells(), wells(), **options)


def test_more_pixels_than_can_be_drawn_from_are_refused(monkeypatch):
    monkeypatch.setattr(scores, "MOST", 5999)
    with pytest.raises(ValueError, match=r"DAPI_CONFOCAL has 6000 pixels, more than.*a region"):
        measure(wells(), wells())


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """An evaluation with its folder; one image lacks a label."""
    targets = without(wells(5), 1, 1)
    ours, other = noisy(wells(5), 200), noisy(wells(5), 900, seed=2)
    inputs = [Image(np.stack([x.array[0]] * 3), "ZYX") for x in noisy(wells(5), 100)]
    options = {"pixels": 1000, "repeats": 7}
    out = tmp_path_factory.mktemp("staining") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "DPI", 50)
        patch.setattr(plots, "comparison", lambda path, *_, **__: path.touch())
        return evaluate(ours, targets, out, other, inputs=inputs, staining=options), out


def read_table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_tables_and_figures_lie_beside_the_usual_scores(written):
    _, out = written
    names = {path.name for path in out.iterdir()}
    assert {"metrics.csv", "summary.json", "pearson.csv", "bins.csv", "confusion.csv"} < names
    assert {f"{kind}_{label}.png" for kind in ("confusion", "crops") for label in LABELS} < names
    for label in LABELS:
        for kind in ("confusion", "crops"):
            assert imread(out / f"{kind}_{label}.png")[..., :3].std() > 10


def test_the_tables_hold_what_was_found(written):
    report, out = written
    for row, (label, found) in zip(read_table(out / "pearson.csv"), report.staining.labels.items()):
        said = found.correlations()
        assert row["label"] == label
        counted = [int(row[key]) for key in ("images", "available", "pixels", "repeats")]
        assert counted == [found.images, found.images * 2000, 1000, 7]
        for prefix, model in {"": "prediction", "baseline_": "baseline"}.items():
            assert float(row[f"{prefix}r"]) == said[model]["mean"]
            assert float(row[f"{prefix}sd"]) == said[model]["sd"]
        assert float(row["difference_r"]) == said["difference"]["mean"] > 0
    bins = read_table(out / "bins.csv")
    models = ["prediction", "baseline", "constant"]
    assert [(row["label"], row["model"]) for row in bins] == [
        (x, m) for x in LABELS for m in models
    ]
    shares, overall = report.staining.labels[LABELS[0]].accuracies()["baseline"]
    assert [float(bins[1][f"bin_{i}"]) for i in range(10)] == shares
    assert float(bins[1]["overall"]) == overall
    rows = read_table(out / "confusion.csv")
    assert len(rows) == 2 * 2 * 10
    for start in range(0, 40, 10):
        cells = [
            [float(row[f"predicted_{j}"]) for j in range(10)] for row in rows[start : start + 10]
        ]
        assert np.sum(cells) == pytest.approx(1000)


def test_the_summary_holds_the_same_for_machines(written):
    report, out = written
    said = json.loads((out / "summary.json").read_text())["staining"]["MAP2_CONFOCAL"]
    found = report.staining.labels["MAP2_CONFOCAL"]
    assert (said["images"], said["pixels"]) == (4, 1000)
    assert said["pearson"]["difference"]["n"] == 7
    assert said["accuracy"]["constant"]["overall"] == found.accuracies()["constant"][1]
    assert np.sum(said["confusion"]["prediction"]) == pytest.approx(1000)


def test_bins_without_a_true_pixel_are_null_in_json_and_a_dash_in_the_table(dozen):
    found = scores.StainingReport({"channel 0": dozen})
    report = evaluate([FOUND], [TRUE], staining={"ranges": {"channel 0": (0, 1)}})
    said = json.loads(report.json())["staining"]["channel 0"]["accuracy"]["prediction"]["bins"]
    assert said == [0.6, 0.5, *[None] * 7, pytest.approx(2 / 3)]
    assert str(report).endswith(str(found))
    lines = {line.split()[0]: line.split() for line in str(found).splitlines()}
    assert lines["prediction"][2:] == ["-", "0.583", "0.600", "0.500", *["-"] * 7, "0.667"]
    assert lines["constant"][1] == "0.417"
    assert lines["staining"][1:6] == ["channel", "0:", "all", "12", "pixels,"]


def test_without_being_asked_nothing_of_it_is_there():
    report = evaluate([FOUND], [TRUE])
    assert report.staining is None
    assert "staining" not in report.json() + str(report)


def test_the_matrix_shows_counts_per_thousand_the_baseline_first(tmp_path, monkeypatch, dozen):
    figures = []
    keep = lambda figure, path, force: figures.append(figure)
    monkeypatch.setattr(staining_figures, "save_figure", keep)
    shares = {**dozen.per_thousand(), "baseline": np.diag(np.full(10, 100.0))}
    accuracies = {"prediction": 7 / 12, "baseline": 1}
    staining_figures.confusion(tmp_path / "a.png", shares, accuracies, "DNA")
    assert figures[0].get_suptitle() == "DNA, pixels per 1,000"
    first, second = figures[0].axes[:2]
    assert first.get_title() == "baseline, overall accuracy 1.000"
    assert second.get_title() == "prediction, overall accuracy 0.583"
    texts = {text.get_position(): text.get_text() for text in second.texts}
    # Columns are predictions: of the true bin 0, one pixel of twelve was put into bin 3.
    assert (texts[3, 0], texts[0, 0], len(texts)) == ("83", "250", 8)
    colors = second.images[0].get_array()
    assert (colors[0, 3], colors[0, 0]) == pytest.approx((1 / 5, 3 / 5))


def test_crops_show_where_the_truth_differs_most_in_the_color_of_the_stain(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(staining_figures, "save_figure", lambda figure, *_: figures.append(figure))
    monkeypatch.setattr(scores, "SIDE", 16)
    true = np.zeros((1, 40, 64), np.float32)
    true[0, 24:30, 50:56] = np.arange(6)
    target = Image(true, "CYX", {}, ("DAPI_CONFOCAL",), "w")
    input = Image(np.arange(3 * 40 * 64).reshape(3, 40, 64), "ZYX")
    comparisons = Comparisons([target], [Image(true + 1, "CYX")], inputs=[input])
    ((name, planes),) = scores.score_pixels(comparisons).labels["DAPI_CONFOCAL"].crops
    assert (name, list(planes)) == ("w", ["input", "target", "prediction"])
    assert planes["target"].sum() == true.sum()
    assert planes["target"].shape == planes["input"].shape == (16, 16)
    y, x = np.argwhere(input.array[1] == planes["input"][0, 0])[0]
    np.testing.assert_array_equal(planes["target"], true[0, y : y + 16, x : x + 16])

    staining_figures.crops(tmp_path / "a.png", [(name, planes)], (0, 5), "DAPI_CONFOCAL")
    shown = [place.images[0] for place in figures[0].axes]
    assert [place.get_title() for place in figures[0].axes] == ["input", "truth", "prediction"]
    assert shown[1].get_clim() == shown[2].get_clim() == (0, 5)
    red, green, blue, _ = shown[1].cmap(1.0)
    assert blue > max(red, green)
    assert shown[1].cmap(0.0)[:3] == (0, 0, 0)


def test_a_label_of_many_images_is_shown_by_four_of_them():
    targets = wells(9, names=("A",))
    shown = measure(targets, targets).labels["A"].crops
    assert [name for name, _ in shown] == ["w0", "w3", "w5", "w8"]


def test_an_input_of_another_size_is_not_cropped():
    targets = wells(1)
    comparisons = Comparisons(targets, targets, inputs=[np.zeros((20, 25))])
    (_, planes) = scores.score_pixels(comparisons).labels[LABELS[0]].crops[0]
    assert list(planes) == ["target", "prediction"]
