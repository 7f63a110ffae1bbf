import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.io import imread

from gvtnets_tf.evaluation import plots


def stack(seed=0, shape=(6, 24, 32)):
    return np.random.default_rng(seed).normal(100, 20, shape)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(plots, "DPI", 40)


@pytest.fixture
def drawn(monkeypatch):
    """Collect the figures that are drawn."""
    figures = []
    make = plots.make_figure

    def collect(size):
        figures.append(make(size))
        return figures[-1]

    monkeypatch.setattr(plots, "make_figure", collect)
    return figures


def panels(figure):
    """The images of a figure by their heading, row after row."""
    return [(place.get_title(), place.images[0]) for place in figure.axes if place.images]


def test_comparison_shows_input_truth_prediction_and_difference(tmp_path, drawn):
    true = stack()
    images = {"input": stack(1), "truth": true, "prediction": true + 3}
    plots.comparison(tmp_path / "a.png", images, title="embryo")
    shown = panels(drawn[0])
    headings = ["input", "truth", "prediction, r = 1.000", "prediction - truth"]
    assert [heading for heading, _ in shown] == headings
    np.testing.assert_array_equal(shown[1][1].get_array(), true[3])
    np.testing.assert_allclose(shown[3][1].get_array(), 3)
    assert drawn[0].get_suptitle() == "embryo"
    assert imread(tmp_path / "a.png").ndim == 3


def test_predictions_share_the_grey_scale_of_the_truth(tmp_path, drawn):
    true = stack()
    plots.comparison(tmp_path / "a.png", {"input": true, "truth": true, "a": 2 * true, "b": true})
    limits = {heading: image.get_clim() for heading, image in panels(drawn[0])}
    expected = pytest.approx(np.percentile(true[3], (0.5, 99.8)))
    assert limits["truth"] == limits["a, r = 1.000"] == limits["b, r = 1.000"] == expected


def test_differences_have_symmetric_limits_that_all_predictions_share(tmp_path, drawn):
    true = stack()
    plots.comparison(tmp_path / "a.png", {"truth": true, "a": true - 7, "b": true + 1})
    limits = {heading: image.get_clim() for heading, image in panels(drawn[0])}
    assert limits["a - truth"] == limits["b - truth"] == pytest.approx((-7, 7))


def test_differences_of_unsigned_counts_go_below_zero(tmp_path, drawn):
    true = stack().astype(np.uint16)
    plots.comparison(tmp_path / "a.png", {"truth": true, "a": true - 2})
    np.testing.assert_array_equal(panels(drawn[0])[-1][1].get_array(), np.full((24, 32), -2))


def test_channels_make_rows_and_an_input_of_another_kind_is_shown_once(tmp_path, drawn):
    true = stack(shape=(6, 24, 32, 2))
    plots.comparison(
        tmp_path / "a.png",
        {"input": stack(1, (3, 24, 32)), "truth": true, "prediction": true},
        axes={"input": "CYX", "truth": "ZYXC", "prediction": "ZYXC"},
        channel_names=("DNA", "ER"),
    )
    shown = panels(drawn[0])
    assert [heading for heading, _ in shown].count("truth") == 2
    assert shown[0][0] == "input, channel 0 of 3"
    np.testing.assert_array_equal(shown[4][1].get_array(), true[3, ..., 1])
    texts = {text.get_text() for place in drawn[0].axes for text in place.texts}
    assert texts == {"DNA", "ER"}


def test_channels_of_the_input_stand_beside_those_of_the_truth(tmp_path, drawn):
    images = {"input": stack(1, (2, 9, 9)), "truth": stack(2, (2, 9, 9))}
    plots.comparison(tmp_path / "a.png", images, axes="CYX")
    np.testing.assert_array_equal(panels(drawn[0])[2][1].get_array(), images["input"][1])


def test_a_stack_may_be_shown_by_its_maximum(tmp_path, drawn):
    true = stack()
    plots.comparison(tmp_path / "a.png", {"truth": true}, show="max")
    np.testing.assert_array_equal(panels(drawn[0])[0][1].get_array(), true.max(0))


def test_a_series_is_shown_by_its_central_frame(tmp_path, drawn):
    true = stack(shape=(5, 9, 9))
    plots.comparison(tmp_path / "a.png", {"truth": true}, axes="TYX")
    np.testing.assert_array_equal(panels(drawn[0])[0][1].get_array(), true[2])


def test_a_prediction_without_truth_is_shown_by_its_own_scale(tmp_path, drawn):
    images = {"input": stack(), "staining": stack(1) * 9}
    plots.comparison(tmp_path / "a.png", images)
    (_, first), (heading, second) = panels(drawn[0])
    assert heading == "staining"
    assert first.get_clim() == pytest.approx(np.percentile(images["input"][3], (0.5, 99.8)))
    assert second.get_clim() == pytest.approx(np.percentile(images["staining"][3], (0.5, 99.8)))


def test_images_of_one_value_and_nearly_empty_ones_are_drawn(tmp_path, drawn):
    empty = np.zeros((40, 40))
    spot = empty.copy()
    spot[4, 4] = 9
    plots.comparison(tmp_path / "a.png", {"truth": empty, "prediction": empty})
    plots.comparison(tmp_path / "b.png", {"truth": spot, "prediction": empty})
    assert panels(drawn[0])[1][0] == "prediction, r = nan"
    assert panels(drawn[1])[0][1].get_clim() == (0, 9)


def test_no_figure_chooses_a_backend_for_everyone(tmp_path):
    # pyplot does, when it is loaded; whatever other tests did, a fresh Python has not.
    code = (
        "import sys; from gvtnets_tf.evaluation import plots;"
        "plots.comparison(sys.argv[1] + '/a.png', {'truth': [[1, 2], [3, 4]]});"
        "plots.box(sys.argv[1] + '/b.png', {'DNA': [0.5, 0.6]});"
        "plots.curves(sys.argv[1] + '/c.png', {'loss': [1, 2]});"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(plots.__file__).parents[2]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_the_suffix_chooses_the_format(tmp_path):
    plots.comparison(tmp_path / "a.svg", {"truth": stack()})
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_an_unknown_format_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="xyz"):
        plots.comparison(tmp_path / "a.xyz", {"truth": stack()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_figure_is_not_overwritten_unless_asked_and_ours(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    plots.curves(path, {"loss": [1, 2]})
    with pytest.raises(FileExistsError, match="not overwritten"):
        plots.curves(path, {"loss": [1, 2]})
    plots.curves(path, {"loss": [1, 2]}, force=True)
    Figure(figsize=(1, 1)).savefig(path)
    with pytest.raises(FileExistsError, match="was not written by gvtnets_tf"):
        plots.curves(path, {"loss": [1, 2]}, force=True)


@pytest.mark.parametrize(
    "images, options, message",
    [
        ({}, {}, "at least one image"),
        ({"truth": stack(), "a": stack()[1:]}, {}, r"one shape.*truth \(1, 1, 6.*a \(1, 1, 5"),
        ({"truth": stack(shape=(2, 3, 4, 5))}, {}, r"name the axes of 'truth'.*\(2, 3, 4, 5\)"),
        ({"truth": stack()}, {"axes": "YX"}, r"axes='YX' \(2 letters\).*3 axes"),
        ({"truth": stack()}, {"channel_names": ["a", "b"]}, "each of the 1 channels"),
        ({"truth": stack()}, {"show": "mix"}, "`show` cannot be 'mix'. Did you mean 'max'"),
    ],
)
def test_images_that_do_not_fit_are_refused(tmp_path, images, options, message):
    with pytest.raises(ValueError, match=message):
        plots.comparison(tmp_path / "a.png", images, **options)


def test_box_draws_every_finite_score_and_whiskers_to_the_extremes(tmp_path, drawn):
    plots.box(tmp_path / "a.png", {"DNA": [0.1, 0.5, math.nan, 0.9], "ER": [0.3]}, label="r")
    place = drawn[0].axes[0]
    assert [line.get_ydata().tolist() for line in place.lines] == [[0.1, 0.5, 0.9], [0.3]]
    box, median, caps, whiskers = place.collections[:4]
    edges = box.get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == pytest.approx((0.3, 0.7))  # quartiles of .1, .5, .9
    assert median.get_segments()[0][0][1] == 0.5
    assert [segment[0][1] for segment in caps.get_segments()] == [0.1, 0.9]
    np.testing.assert_allclose(
        [segment[:, 1] for segment in whiskers.get_segments()], [[0.1, 0.3], [0.7, 0.9]]
    )
    assert [tick.get_text() for tick in place.get_xticklabels()] == ["DNA", "ER"]
    assert place.get_ylabel() == "r"


def test_box_sets_series_side_by_side_and_names_them_once(tmp_path, drawn):
    table = {name: {"ours": [0.8, 0.9], "baseline": [0.6, 0.7]} for name in ("DNA", "ER")}
    plots.box(tmp_path / "a.png", table)
    legend = drawn[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["ours", "baseline"]


def test_box_draws_a_group_without_any_finite_score(tmp_path):
    plots.box(tmp_path / "a.png", {"DNA": [math.nan, math.inf], "ER": [0.4, 0.5]})
    assert (tmp_path / "a.png").exists()


def test_box_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one group"):
        plots.box(tmp_path / "a.png", {})


def test_dots_have_a_panel_per_group_a_row_per_series_and_a_bar_at_the_mean(tmp_path, drawn):
    table = {"DNA": {"ours": [0.8, 0.9], "baseline": [0.6]}, "ER": {"baseline": [0.2, 0.3]}}
    plots.dots(tmp_path / "a.png", table, label="Pearson r")
    dna, er = drawn[0].axes
    assert [text.get_text() for text in dna.get_yticklabels()] == ["ours", "baseline"]
    assert (dna.get_title(), er.get_title(), er.get_xlabel()) == ("DNA", "ER", "Pearson r")
    points = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in dna.lines]
    ours, mean, baseline, _ = points
    assert (ours, baseline) == (([0.8, 0.9], [0, 0]), ([0.6], [1]))
    assert mean == ([pytest.approx(0.85)], [0])
    assert [len(line.get_xdata()) for line in er.lines] == [0, 2, 1]
    low, high = dna.get_ylim()
    assert low > high  # the first series is at the top


def test_dots_of_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one group"):
        plots.dots(tmp_path / "a.png", {})


def test_curves_put_training_and_validation_into_one_panel(tmp_path, drawn):
    history = {"epoch": [3, 4], "loss": [4, 2], "val_loss": [5, None], "learning_rate": [1, 0.01]}
    plots.curves(tmp_path / "a.png", history)
    loss, rate = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    assert loss.lines[0].get_xdata().tolist() == [3, 4]
    assert math.isnan(loss.lines[1].get_ydata()[1])
    assert (rate.get_title(), rate.get_yscale(), loss.get_yscale()) == (
        "learning rate",
        "log",
        "linear",
    )


def test_curves_below_zero_keep_a_linear_scale(tmp_path, drawn):
    plots.curves(tmp_path / "a.png", {"loss": [50, 1, -1]})
    assert drawn[0].axes[0].get_yscale() == "linear"


def test_curves_without_a_column_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one column"):
        plots.curves(tmp_path / "a.png", {"epoch": [1, 2]})
