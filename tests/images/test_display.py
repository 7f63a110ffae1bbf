"""Figures and movies of channels, read back."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageSequence

from gvtnets_tf.images import display
from gvtnets_tf.images.image import Image


def test_colors_differ_and_one_channel_is_white():
    assert display.choose_colors(1) == ("#ffffff",)
    found = display.choose_colors(13)
    assert len(set(found)) == 13
    assert found[:5] == display.choose_colors(5)  # a further channel does not change the others
    values = np.array([list(bytes.fromhex(c[1:])) for c in found])
    near = np.abs(values[:, None] - values[None]).sum(-1) + 999 * np.eye(13)
    assert near.min() > 40


def test_channels_are_added_in_their_colors_between_their_limits():
    planes = np.array([[[0, 5, 10, 20]], [[0, 0, 1, 1]]], float)
    between = np.array([[0, 10], [0, 1]])
    found = display.blend_channels(planes, between, ("#ff0000", "#00ff80"))
    expected = [[0, 0, 0], [128, 0, 0], [255, 255, 128], [255, 255, 128]]
    np.testing.assert_array_equal(found[0], expected)


def test_limits_show_what_there_is():
    rng = np.random.default_rng(0)
    planes = np.stack([rng.normal(size=(50, 50)), np.zeros((50, 50)), np.full((50, 50), 3.0)])
    planes[1, 0, 0] = 7  # one bright voxel, which the percentiles miss
    found = [display.contrast_limits(plane) for plane in planes]
    np.testing.assert_allclose(found[0], np.percentile(planes[0], display.CONTRAST))
    assert tuple(found[1]) == (0, 7)
    assert found[2][1] > found[2][0] == 3


def test_a_figure_is_the_maximum_over_z_with_a_line_per_name(tmp_path):
    x = np.zeros((2, 5, 30, 40), np.float32)
    x[0, 1, :, :20] = 1
    x[1, 4, :15] = 1
    image = Image(x, "CZYX", channel_names=("dna", "er"))
    for force in (False, True):
        display.write_merged_figure(tmp_path / "a.png", image, ("#ff0000", "#0000ff"), force)
    found = np.asarray(Picture.open(tmp_path / "a.png"))
    assert tuple(found[0, 0]) == (255, 0, 255)
    assert tuple(found[20, 0]) == (255, 0, 0)
    assert tuple(found[0, 30]) == (0, 0, 255)
    assert not found[20, 30].any()
    legend = found[30:]
    assert legend[: len(legend) // 2, :, 0].max() > 100  # the first name, in red
    assert legend[len(legend) // 2 :, :, 2].max() > 100
    long = replace(image, channel_names=("dna", "a name that is wider than the image"))
    display.write_merged_figure(tmp_path / "b.png", long, ("#ff0000", "#0000ff"))
    wide = np.asarray(Picture.open(tmp_path / "b.png"))
    assert wide[30:, 40:].any()
    assert not wide[:, -2:].any()
    with pytest.raises(FileExistsError, match=r"a\.png exists"):
        display.write_merged_figure(tmp_path / "a.png", image, ("#ff0000", "#0000ff"))


def read_movie(path):
    with Picture.open(path) as movie:
        return np.stack([np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(movie)])


def test_a_movie_has_one_contrast_for_all_frames(tmp_path):
    x = np.zeros((4, 3, 10, 12), np.float32)
    x[:, 1] = np.array([1, 2, 3, 4]).reshape(4, 1, 1)
    x[:, 1, 0, 0] = 0
    x[:, 2] = 99  # another plane, which must not count
    for force in (False, True):
        display.write_movie(tmp_path / "a.gif", Image(x, "TZYX"), force=force)
    found = read_movie(tmp_path / "a.gif")
    assert found.shape == (4, 10, 12, 3)
    assert not found[:, 0, 0].any()
    np.testing.assert_allclose(found[:, 5, 5, 0], [64, 128, 191, 255], atol=1)
    assert (found[..., 0] == found[..., 2]).all()
    with Picture.open(tmp_path / "a.gif") as movie:
        assert (movie.info["loop"], movie.info["duration"]) == (0, display.DURATION)


def test_a_movie_of_channels_is_in_colors_of_a_chosen_plane(tmp_path):
    x = np.zeros((2, 2, 3, 8, 8), np.float32)
    x[0, 0, 2, :4], x[1, 1, 2, 4:] = 1, 1
    shown = ("#ff0000", "#00ff00")
    for plane, name in ((2, "a"), (-1, "b")):
        display.write_movie(tmp_path / f"{name}.gif", Image(x, "TCZYX"), plane, shown)
        found = read_movie(tmp_path / f"{name}.gif")
        assert tuple(found[0, 0, 0]) == (255, 0, 0)
        assert tuple(found[1, 7, 7]) == (0, 255, 0)
        assert not found[0, 7, 7].any()


def test_what_is_no_series_or_has_no_such_plane_is_refused():
    with pytest.raises(ValueError, match=r"--gif .* shows a time series, and cells has no axis T"):
        display.check_movie({"Z": 3, "Y": 4, "X": 4}, name="cells")
    with pytest.raises(ValueError, match=r"cells has no plane 3 to show: --gif-plane .* its 3 pla"):
        display.check_movie({"T": 2, "Z": 3, "Y": 4, "X": 4}, 3, "cells")
    display.check_movie({"T": 2, "Y": 4, "X": 4}, 0)
