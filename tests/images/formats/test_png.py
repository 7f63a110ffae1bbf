import numpy as np
import pytest
from microscope_files import METADATA, STEPS, counts, png

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.readers import read, read_metadata
from gvtnets_tf.images.writers import write


def test_png_planes_are_gray_and_color_needs_axes(tmp_path):
    for dtype in ("uint8", "uint16"):
        png(tmp_path / f"{dtype}.png", counts(8, 9, dtype=dtype))
        image = read(tmp_path / f"{dtype}.png")
        assert (image.axes, image.array.dtype) == ("YX", dtype)
        np.testing.assert_array_equal(image.array, counts(8, 9, dtype=dtype))
    png(tmp_path / "rgb.png", counts(8, 9, 3, dtype="uint8"))
    with pytest.raises(ValueError, match=r"rgb\.png is a color image \(RGB\).*--axes YXC"):
        read(tmp_path / "rgb.png")
    np.testing.assert_array_equal(
        read(tmp_path / "rgb.png", axes="YXC").array, counts(8, 9, 3, dtype="uint8")
    )


def test_a_color_png_of_16_bits_is_refused_rather_than_cut(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(counts(8, 9, 3)))
    with pytest.raises(ValueError, match=r"a\.png has colors of 16 bits.*TIFF"):
        read(tmp_path / "a.png", axes="YXC")


def test_a_png_keeps_its_voxel_size_and_metadata(tmp_path):
    image = Image(counts(1, 5, 6), "ZYX", STEPS)
    path = write(tmp_path / "a.png", image, metadata=METADATA)
    assert read(path).voxel_size == STEPS
    assert read_metadata(path) == METADATA
