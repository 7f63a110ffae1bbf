"""Volumes of the label-free study: normalized, resized and cropped as published."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom

from gvtnets_tf.data import pairing
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.images.writers import write
from gvtnets_tf.studies import label_free_volumes

VOXEL = {"Z": 0.29, "Y": 0.108, "X": 0.108}


def volume(path, shape):
    """Write a volume of three channels; return its pixels."""
    pixels = np.random.default_rng(0).integers(100, 4000, shape).astype("uint16")
    write(path, Image(pixels, "CZYX", VOXEL), force=True)
    return pixels


def test_a_volume_is_zscored_whole_then_resized_by_cubic_splines(tmp_path):
    pixels = volume(tmp_path / "a.ome.tif", (3, 4, 40, 44))
    row = pairing.PairPaths(tmp_path / "a.ome.tif", tmp_path / "a.ome.tif", "train", 2, 1)
    images = label_free_volumes.prepare_pair(row, (1, 0.37241, 0.37241))
    for image, channel in zip(images, (2, 1)):
        x = pixels[channel].astype(float)
        expected = zoom((x - x.mean()) / x.std(), (1, 0.37241, 0.37241), order=3, mode="nearest")
        assert (image.axes, image.shape, image.array.dtype) == ("ZYX", (4, 15, 16), np.float32)
        np.testing.assert_allclose(image.array, expected, atol=1e-5)
        assert image.voxel_size == pytest.approx({"Z": 0.29, "Y": 0.29, "X": 0.29}, rel=1e-4)


def test_resizing_first_and_zscoring_by_the_numbers_of_the_whole_is_the_same(tmp_path):
    """What a recipe with `resize` does: statistics of the stored image, pixels resized."""
    pixels = volume(tmp_path / "a.ome.tif", (3, 4, 40, 44))
    row = pairing.PairPaths(tmp_path / "a.ome.tif", tmp_path / "a.ome.tif", "train", 0, 1)
    signal, _ = label_free_volumes.prepare_pair(row, (1, 0.5, 0.5))
    affine = Normalizer("zscore").measure(pixels[0][..., None])
    resized = zoom(pixels[0].astype("float32"), (1, 0.5, 0.5), order=3, mode="nearest")
    np.testing.assert_allclose(affine.apply(resized[..., None])[..., 0], signal.array, atol=1e-4)


def test_a_test_volume_keeps_its_centre(tmp_path):
    volume(tmp_path / "a.ome.tif", (3, 18, 70, 90))
    row = pairing.PairPaths(tmp_path / "a.ome.tif", tmp_path / "a.ome.tif", "test", 0, 1)
    whole, _ = label_free_volumes.prepare_pair(row, (1, 1, 1))
    cropped, target = label_free_volumes.prepare_pair(row, (1, 1, 1), 16 * 48 * 64)
    assert cropped.shape == target.shape == (16, 48, 64)
    np.testing.assert_array_equal(cropped.array, whole.array[1:17, 11:59, 13:77])
    volume(tmp_path / "a.ome.tif", (3, 10, 70, 90))
    with pytest.raises(ValueError, match=r"a: a test volume is cropped to multiples of 16.*\(10, "):
        label_free_volumes.prepare_pair(row, (1, 1, 1), label_free_volumes.MAX_VOXELS)


@pytest.mark.parametrize(
    "shape, expected",
    [
        ((65, 344, 232), (64, 336, 224)),
        ((32, 512, 512), (32, 512, 512)),
        ((64, 512, 512), (64, 384, 384)),  # 64 * 384 * 384 = 9,437,184; 400 * 384 is too much
        ((64, 400, 384), (64, 384, 384)),
        ((66, 400, 380), (64, 400, 368)),
    ],
)
def test_the_published_cropping(shape, expected):
    assert label_free_volumes.compute_crop_shape(shape) == expected


@settings(deadline=None, max_examples=50)
@given(st.tuples(*[st.integers(16, 700)] * 3))
def test_a_cropped_shape_fits_and_one_shrink_less_would_not(shape):
    z, y, x = found = label_free_volumes.compute_crop_shape(shape)
    whole = tuple(n // 16 * 16 for n in shape)
    assert math.prod(found) <= label_free_volumes.MAX_VOXELS and z == whole[0]
    assert not any(n % 16 for n in found) and all(n <= m for n, m in zip(found, whole))
    shrunk = (whole[1] - y) // 16, (whole[2] - x) // 16
    assert shrunk[0] - shrunk[1] in (0, 1)  # y first, in turn
    if any(shrunk):
        last = (z, y + 16, x) if shrunk[0] > shrunk[1] else (z, y, x + 16)
        assert math.prod(last) > label_free_volumes.MAX_VOXELS
