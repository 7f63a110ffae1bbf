"""Other voxels for the same specimen, and the way back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.resampling import resample, resampling_factors

FINE = {"Z": 0.29, "Y": 0.108, "X": 0.108}
CUBES = {"Z": 0.29, "Y": 0.29, "X": 0.29}


def smooth(*shape, seed=0):
    """Band-limited noise, which a few voxels describe."""
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 4).astype(np.float32)


def test_the_published_factors_come_out_of_the_voxel_sizes():
    image = Image(np.zeros((2, 4, 10, 10), np.uint8), "CZYX", FINE)
    found = resampling_factors(image, CUBES)
    assert found == pytest.approx({"Z": 1, "Y": 0.37241, "X": 0.37241}, abs=1e-5)
    assert resampling_factors(image, {"Y": 0.054}) == pytest.approx(
        {"Y": 2}
    )  # the others are left alone


def test_a_volume_is_what_scipy_makes_of_it():
    x = np.random.default_rng(0).poisson(100, (6, 40, 50)).astype(np.float32)
    result = resample(Image(x, "ZYX", FINE, ("dna",), "cells"), CUBES)
    expected = ndimage.zoom(x, (1, 0.108 / 0.29, 0.108 / 0.29), order=3, mode="nearest")
    assert result.shape == expected.shape == (6, 15, 19)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)
    assert (result.voxel_size, result.channel_names, result.name) == (CUBES, ("dna",), "cells")
    linear = resample(Image(x, "ZYX", FINE), CUBES, order=1).numpy()
    assert np.abs(linear - expected).max() > 1


def test_channels_and_frames_are_resampled_by_themselves_and_only_when_read(monkeypatch):
    calls = []
    zoom = ndimage.zoom
    monkeypatch.setattr(ndimage, "zoom", lambda *a, **k: calls.append(a[0].shape) or zoom(*a, **k))
    x = np.stack([smooth(3, 5, 16, 18, seed=i) for i in range(2)])  # T, C, Z, Y, X
    mixed = np.moveaxis(x, (0, 1), (2, 0))  # C, Z, T, Y, X
    result = resample(Image(mixed, "CZTYX", FINE), CUBES)
    assert calls == []
    assert (result.axes, result.shape) == ("TCZYX", (2, 3, 5, 6, 7))
    one = np.asarray(result.array[1])
    assert calls == [(5, 16, 18)] * 3
    for channel, volume in zip(one, x[1]):
        expected = zoom(volume, (1, 6 / 16, 7 / 18), order=3, mode="nearest")
        np.testing.assert_allclose(channel, expected, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_there_and_back_meets_the_shape_the_voxel_size_and_the_corners(data):
    shape = [data.draw(st.integers(1, 12)) for _ in "ZYX"]
    sizes = {a: data.draw(st.floats(0.05, 2)) for a in "ZYX"}
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = Image(x, "ZYX", sizes)
    there = resample(image, CUBES)
    back = resample(there, like=image)
    assert (back.shape, back.voxel_size) == (x.shape, sizes)
    if min(*shape, *there.shape) > 1:
        np.testing.assert_allclose(back.numpy()[0, 0, 0], x[0, 0, 0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(back.numpy()[-1, -1, -1], x[-1, -1, -1], rtol=1e-4, atol=1e-5)


def test_a_smooth_volume_survives_the_way_there_and_back():
    x = smooth(20, 64, 64)
    image = Image(x, "ZYX", FINE)
    back = resample(resample(image, {**CUBES, "Y": 0.216, "X": 0.216}), like=image).numpy()
    assert np.abs(back - x).max() < 0.01 * np.abs(x).max()


def test_a_grid_that_fits_already_keeps_its_array():
    x = smooth(4, 8, 8)
    image = Image(x, "ZYX", {"Z": 0.29, "Y": 0.291, "X": 0.29})
    result = resample(image, CUBES)
    assert result.array is x
    assert result.voxel_size == CUBES


def test_whole_numbers_are_not_rounded_and_a_file_is_read_when_it_is_wanted(tmp_path):
    x = np.random.default_rng(0).integers(0, 60000, (3, 10, 12)).astype(np.uint16)
    path = writers.write(tmp_path / "a.tif", Image(x, "ZYX", FINE))
    result = resample(readers.read(path), {"X": 0.054}).numpy()
    expected = ndimage.zoom(x.astype(np.float64), (1, 1, 2), order=3, mode="nearest")
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert result.dtype == np.float32


@pytest.mark.parametrize(
    "size, message",
    [
        ({}, r"cells has no voxel size along Z, and resampling needs one: give it with --voxel-s"),
        ({"Z": 0.0, "Y": 1, "X": 1}, r"cells has a voxel size of 0 µm along Z"),
        ({"Z": 1, "Y": -0.1, "X": 1}, r"cells has a voxel size of -0\.1 µm along Y"),
        ({"Z": 1, "Y": 1}, r"cells has no voxel size along X.*Received: \{'Z': 1, 'Y': 1\}"),
        ({"Z": 1, "Y": 1, "X": float("nan")}, r"cells has a voxel size of nan µm along X"),
    ],
)
def test_a_voxel_size_that_is_none_is_named_with_its_axis(size, message):
    image = Image(np.ones((2, 3, 4), np.float32), "ZYX", size, name="cells")
    with pytest.raises(ValueError, match=message):
        resample(image, CUBES)


def test_what_to_resample_to_is_said_once_and_is_a_size():
    image = Image(np.ones((2, 3, 4), np.float32), "ZYX", CUBES)
    with pytest.raises(ValueError, match=r"The grid to resample to has a voxel size of 0 µm along"):
        resample(image, {"Z": 0})
    for both in ({}, {"voxel_size": CUBES, "like": image}):
        with pytest.raises(ValueError, match="Pass `voxel_size` or `like`, the one or the other"):
            resample(image, **both)
