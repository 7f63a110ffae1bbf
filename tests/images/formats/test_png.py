import struct
import zlib

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


def test_a_png_larger_than_its_bytes_can_hold_is_refused_when_it_is_opened(tmp_path):
    path = tmp_path / "a.png"
    png(path, np.zeros((8, 9), "uint8"))
    whole = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 9000, 9000) + whole[24:29]
    path.write_bytes(whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:])
    text = r"a\.png cannot be read as PNG.*its header asks for 77\.2 MiB of pixels, and the \d+ B"
    with pytest.raises(ValueError, match=text):
        read(path)


def test_a_blank_png_is_never_too_well_compressed(tmp_path):
    path = tmp_path / "a.png"
    png(path, np.zeros((3000, 3000), "uint8"))
    assert not read(path).numpy().any()


def test_a_png_beyond_the_memory_is_refused_when_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    png(path, np.zeros((9000, 9000), "uint8"))
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "70MB")
    with pytest.raises(
        ValueError,
        match=r"a\.png does not fit the memory: it takes 77\.2 MiB when it is read, and 66\.8 MiB",
    ):
        read(path)
