"""The demo shows what it claims: the shipped denoiser beats the input and a tuned filter."""

import csv

import numpy as np
import pytest

from gvtnets_tf import load
from gvtnets_tf.images import readers
from gvtnets_tf.studies import demo

FILES = [
    ".gvtnets", "comparison.png", "gaussian.tif", "input.tif", "prediction.tif", "scores.csv",
    "truth.tif",
]  # fmt: skip


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo on a smaller specimen, and its folder."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "SHAPE", (16, 96, 96))
        patch.chdir(out.parent)
        return demo.run_demo("out"), out


def test_the_denoiser_beats_the_input_and_a_tuned_gaussian(shown):
    table, _ = shown
    assert list(table) == ["noisy", "gaussian", demo.MODEL]
    noisy, gaussian, ours = table.values()
    for score in ("psnr", "r"):
        assert ours[score] > gaussian[score] > noisy[score]
    assert ours["mae"] < gaussian["mae"] < noisy["mae"]


def test_it_leaves_images_a_figure_and_a_table(shown):
    table, out = shown
    assert sorted(p.name for p in out.iterdir()) == FILES
    with (out / "scores.csv").open() as file:
        rows = {row.pop("method"): row for row in csv.DictReader(file)}
    assert rows.keys() == table.keys()
    for method, scores in table.items():
        assert {k: float(v) for k, v in rows[method].items()} == pytest.approx(scores, abs=1e-4)
    images = {name: readers.read(out / f"{name}.tif") for name in ("input", "truth", "prediction")}
    assert {i.axes for i in images.values()} == {"ZYX"}
    assert len({tuple(i.voxel_size.items()) for i in images.values()}) == 1
    again = load(demo.MODEL)(images["input"].numpy())
    np.testing.assert_allclose(again, images["prediction"].numpy(), atol=1e-4)
    assert readers.read_metadata(out / "prediction.tif")["mode"] == "whole"
    assert (out / "comparison.png").stat().st_size > 10_000


def test_the_table_is_shown_with_a_line_per_method(shown):
    lines = demo.format_scores(shown[0]).splitlines()
    assert lines[0].split() == list(demo.SCORES)
    assert [line.split()[0] for line in lines[1:]] == list(shown[0])


def test_a_demo_is_not_replaced_unless_forced(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="out exists and is not overwritten"):
        demo.run_demo(tmp_path / "out")
