import json
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import CACHE
from gvtnets_tf.images.metadata import convert_step
from gvtnets_tf.images.readers import read, read_metadata, read_npz
from gvtnets_tf.images.writers import write

KNOWN_AXES = ("YX", "CYX", "ZYX", "ZCYX")  # that end the names of the shared images


def counts(*shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)


def png(path, pixels):
    from PIL import Image as Pillow

    Pillow.fromarray(pixels).save(path)


def zarr_04(path, pixels, axes, scale, unit="nanometer"):
    """An OME-Zarr as 0.4 says, by hand."""
    import zarr

    group = zarr.create_group(str(path), zarr_format=2)
    group.create_array("0", data=pixels, chunks=pixels.shape)
    spatial = [{"name": k, "type": "space", "unit": unit} for k in axes if k in "zyx"]
    other = [{"name": k, "type": {"t": "time", "c": "channel"}[k]} for k in axes if k in "tc"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": other + spatial, "datasets": [dataset]}
    ]
    group.attrs["omero"] = {"channels": [{"label": "DNA"}, {"label": "ER"}]}
    return path


# What other programs write.


@pytest.mark.parametrize(
    "unit, factor", [("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("m", 1e6), ("inch", 25400)]
)
def test_ome_voxel_sizes_come_in_micrometres_whatever_their_unit(tmp_path, unit, factor):
    words = {"axes": "ZYX", "PhysicalSizeX": 3.0, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", counts(3, 8, 9), metadata=words)
    image = read(tmp_path / "a.ome.tif")
    assert image.axes == "ZYX"
    assert image.voxel_size == pytest.approx({"X": 3.0 * factor})


@pytest.mark.parametrize("unit", ["pixel", "reference frame", ""])
def test_a_pixel_is_not_a_length(tmp_path, unit):
    words = {"axes": "YX", "PhysicalSizeX": 3.0, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", counts(8, 9), metadata=words)
    assert read(tmp_path / "a.ome.tif").voxel_size == {}


@pytest.mark.parametrize(
    "letter, value, unit, size",
    [
        ("X", "100", "nm", 0.1),
        ("Y", 2, "\\u00B5m", 2.0),
        ("Z", 2, "μm", 2.0),  # Greek mu
        ("Z", 0.5, "Micron", 0.5),
        ("T", 250, "ms", 0.25),
        ("T", 1, "µm", None),
        ("Z", 0, "µm", None),
        ("Z", None, "µm", None),
        ("Z", "inf", "µm", None),
    ],
)
def test_steps_are_micrometres_and_seconds(letter, value, unit, size):
    assert convert_step(letter, value, unit) == (size and pytest.approx(size))


def test_ome_axes_keep_the_order_of_the_file(tmp_path):
    for axes in ("ZCYX", "CZYX", "TCYX"):
        path = tmp_path / f"{axes}.ome.tif"
        tifffile.imwrite(path, counts(2, 3, 8, 9), metadata={"axes": axes})
        assert read(path).axes == axes
        np.testing.assert_array_equal(read(path).array, counts(2, 3, 8, 9))


def test_imagej_axes_and_sizes_are_believed(tmp_path):
    words = {"axes": "TCYX", "unit": "\\u00B5m", "finterval": 30.0}
    tifffile.imwrite(
        tmp_path / "a.tif",
        counts(2, 3, 8, 9),
        imagej=True,
        byteorder=">",
        metadata=words,
        resolution=(2, 4),
    )
    image = read(tmp_path / "a.tif")
    assert image.axes == "TCYX"
    assert image.voxel_size == {"T": 30.0, "X": 0.5, "Y": 0.25}
    np.testing.assert_array_equal(image.array, counts(2, 3, 8, 9))


def test_a_resolution_for_printing_is_not_a_voxel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9), resolution=(300, 300), resolutionunit=2)
    assert read(tmp_path / "a.tif").voxel_size == {}


def test_an_edited_file_is_not_bent_to_its_old_axes(tmp_path):
    # ImageJ keeps our note when it cuts a stack; the axes in it are then out of date.
    path = write(tmp_path / "a.tif", Image(counts(4, 3, 8, 9), "CZYX"))
    with tifffile.TiffFile(path) as tif:
        note = tif.imagej_metadata["Info"]
    words = {"axes": "TYX", "Info": note}
    tifffile.imwrite(tmp_path / "b.tif", counts(5, 8, 9), imagej=True, metadata=words)
    assert read(tmp_path / "b.tif").axes == "TYX"


def test_pages_without_axes_are_z_and_that_is_said_once(tmp_path, caplog):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(5, 8, 9), photometric="minisblack", metadata=None)
    assert read(path).axes == read(path).axes == "ZYX"
    assert (
        caplog.text.count("a.tif: pages without axes are taken as Z; say otherwise with --axes")
        == 1
    )
    assert read(path, axes="tyx").axes == "TYX"
    assert len(caplog.records) == 1


def test_one_page_is_yx_without_a_word(tmp_path, caplog):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9), metadata=None)
    assert read(tmp_path / "a.tif").axes == "YX"
    assert caplog.text == ""


def test_four_axes_without_names_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, counts(2, 5, 8, 9), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif has 4 axes and does not name them.*--axes CZYX"):
        read(path)
    assert read(path, axes="TZYX").shape == (2, 5, 8, 9)
    with pytest.raises(ValueError, match=r"a\.tif.*axes='ZYX' \(3 letters\).*4 axes"):
        read(path, axes="ZYX")


def test_unknown_axes_of_length_one_are_dropped_or_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", counts(1, 1, 8, 9), photometric="minisblack")
    assert read(tmp_path / "a.tif").axes == "YX"
    assert read(tmp_path / "a.tif", axes="CZYX").shape == (1, 1, 8, 9)


def test_of_several_images_the_first_is_read_and_that_is_said(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as tif:
        for size in (8, 6):
            tif.write(counts(2, size, 9), photometric="minisblack", metadata={"axes": "ZYX"})
    assert read(tmp_path / "a.ome.tif").shape == (2, 8, 9)
    assert "a.ome.tif: holds 2 images; the first, (2, 8, 9), is read" in caplog.text


def test_a_color_tiff_is_an_error_unless_axes_say_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9, 3, dtype="uint8"), photometric="rgb")
    with pytest.raises(ValueError, match=r"a\.tif is a color image.*--axes YXC"):
        read(tmp_path / "a.tif")
    image = read(tmp_path / "a.tif", axes="YXC")
    assert (image.axes, image.shape) == ("YXC", (8, 9, 3))
    tifffile.imwrite(tmp_path / "b.tif", counts(4, 8, 9, 3, dtype="uint8"), photometric="rgb")
    with pytest.raises(ValueError, match=r"b\.tif is a color image.*--axes ZYXC"):
        read(tmp_path / "b.tif")
    assert read(tmp_path / "b.tif", axes="ZYXC").shape == (4, 8, 9, 3)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_is_opened_with_axes_sizes_and_names(tmp_path, version):
    pixels = counts(2, 3, 8, 9)
    path = tmp_path / "a.zarr"
    if version == "0.4":
        zarr_04(path, pixels, "czyx", [1, 290, 108, 110])
    else:
        sizes = {"Z": 0.29, "Y": 0.108, "X": 0.11}
        write(path, Image(pixels, "CZYX", sizes, ("DNA", "ER")))
    image = read(path)
    assert not isinstance(image.array, np.ndarray)  # still on disk
    assert (image.axes, image.channel_names) == ("CZYX", ("DNA", "ER"))
    assert image.voxel_size == pytest.approx({"Z": 0.29, "Y": 0.108, "X": 0.11})
    np.testing.assert_array_equal(image.numpy(), pixels)
    cut = image.crop({"X": (2, 5)})
    np.testing.assert_array_equal(cut.numpy(), pixels[..., 2:5])
    assert read(path, axes="TZYX").axes == "TZYX"


def test_the_scale_of_all_levels_counts_too(tmp_path):
    path = zarr_04(tmp_path / "a.zarr", counts(3, 8, 9), "zyx", [1, 0.5, 0.5], "micrometer")
    attributes = json.loads((path / ".zattrs").read_text())
    whole = [{"type": "scale", "scale": [2, 3, 4]}]
    attributes["multiscales"][0]["coordinateTransformations"] = whole
    (path / ".zattrs").write_text(json.dumps(attributes))
    assert read(path).voxel_size == {"Z": 2.0, "Y": 1.5, "X": 2.0}


def test_a_bare_zarr_array_needs_axes(tmp_path):
    import zarr

    zarr.create_array(str(tmp_path / "a.zarr"), data=counts(3, 8, 9), chunks=(1, 8, 9))
    with pytest.raises(ValueError, match=r"a\.zarr is a Zarr array .*without OME axes.*--axes ZYX"):
        read(tmp_path / "a.zarr")
    image = read(tmp_path / "a.zarr", axes="ZYX")
    np.testing.assert_array_equal(image.numpy(), counts(3, 8, 9))


def test_a_zarr_group_without_an_image_says_what_it_holds(tmp_path):
    import zarr

    zarr.create_group(str(tmp_path / "plate.zarr")).create_group("B03")
    with pytest.raises(ValueError, match=r"plate\.zarr.*no `multiscales`.*It holds B03"):
        read(tmp_path / "plate.zarr")


def test_png_planes_are_grey_and_color_needs_axes(tmp_path):
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


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_folder_of_planes_is_a_stack_in_natural_order(tmp_path, suffix):
    pixels = counts(12, 8, 9)
    for z, plane in enumerate(pixels):
        write(tmp_path / f"z_depth-{z}{suffix}", Image(plane, "YX", {"X": 0.5}))
    image = read(tmp_path)
    assert (image.axes, image.voxel_size) == ("ZYX", {"X": 0.5})
    np.testing.assert_array_equal(image.array, pixels)
    assert read(tmp_path, axes="TYX").axes == "TYX"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".zlib.tif"])
def test_a_series_is_opened_without_its_pixels_and_holds_no_file_open(tmp_path, suffix):
    pixels = counts(12, 80, 90)
    for z, plane in enumerate(pixels):
        if suffix == ".png":
            png(tmp_path / f"{z}.png", plane)
        else:
            compression = "zlib" if "zlib" in suffix else None
            tifffile.imwrite(tmp_path / f"{z}{suffix}", plane, compression=compression)
    before, held = psutil.Process().num_fds(), CACHE.size
    image = read(tmp_path)
    assert CACHE.size == held
    part = image.crop({"Z": (3, 5), "X": (10, 20)}).numpy()
    np.testing.assert_array_equal(part, pixels[3:5, :, 10:20])
    assert CACHE.size == held + 2 * pixels[0].nbytes
    np.testing.assert_array_equal(image.numpy(), pixels)
    assert psutil.Process().num_fds() == before


def test_a_damaged_plane_of_a_series_is_named_when_it_is_opened(tmp_path):
    for name in "ab":
        png(tmp_path / f"{name}.png", counts(40, 50))
    path = tmp_path / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"b\.png cannot be read as PNG"):
        read(tmp_path)


def test_a_plane_that_does_not_fit_is_named(tmp_path):
    png(tmp_path / "a.png", counts(8, 9))
    png(tmp_path / "b.png", counts(8, 8))
    with pytest.raises(ValueError, match=r"b\.png does not fit.*a\.png.*\(8, 9\).*\(8, 8\)"):
        read(tmp_path)
    (tmp_path / "b.png").unlink()
    tifffile.imwrite(tmp_path / "c.tif", counts(8, 9))
    with pytest.raises(ValueError, match=r"of one kind.*2 planes of \.png and \.tif"):
        read(tmp_path)


def test_npy_is_mapped_and_its_axes_follow_the_rule_for_pages(tmp_path, caplog):
    np.save(tmp_path / "a.npy", counts(3, 8, 9))
    image = read(tmp_path / "a.npy")
    assert isinstance(image.array, np.memmap)
    assert image.axes == "ZYX"
    assert "taken as Z" in caplog.text


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif"])
def test_an_uncompressed_tiff_stays_on_disk(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", Image(counts(3, 8, 9), "ZYX"))
    assert isinstance(read(path).array, np.memmap)


COMPRESSED = {
    "ome": ({"ome": True, "metadata": {"axes": "ZYX"}}, (6, 20, 30), "ZYX"),
    "imagej": ({"imagej": True, "metadata": {"axes": "ZYX"}}, (6, 20, 30), "ZYX"),
    "shaped": ({"metadata": {"axes": "TZYX"}}, (2, 3, 20, 30), "TZYX"),
    "pages": ({"metadata": None, "bigtiff": True}, (6, 20, 30), "ZYX"),
    "one": ({"metadata": None}, (20, 30), "YX"),
    "tiled": ({"metadata": {"axes": "ZYX"}, "tile": (16, 16)}, (6, 20, 30), "ZYX"),
    "colors": ({"photometric": "rgb"}, (6, 20, 30, 3), "ZYXC"),
    "planar": ({"photometric": "rgb", "planarconfig": "separate"}, (6, 3, 20, 30), "ZCYX"),
}


@pytest.mark.parametrize("case", COMPRESSED)
def test_of_a_compressed_tiff_only_the_pages_asked_for_are_decoded(tmp_path, monkeypatch, case):
    options, shape, axes = COMPRESSED[case]
    pixels, path = counts(*shape, dtype="uint8"), tmp_path / "a.tif"
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, pixels, compression="zlib", **options)
    decoded, decode = [], tifffile.TiffPage.asarray
    monkeypatch.setattr(
        tifffile.TiffPage, "asarray", lambda page: decoded.append(1) or decode(page)
    )
    image = read(path, axes)
    assert (image.axes, image.shape, image.array.dtype) == (axes, shape, "uint8")
    part = image.crop({"Y": (3, 9), **({"Z": (1, 3)} if "Z" in axes else {})})
    assert not decoded
    index = tuple({"Y": slice(3, 9), "Z": slice(1, 3)}.get(letter, slice(None)) for letter in axes)
    np.testing.assert_array_equal(part.numpy(), pixels[index])
    # One per plane of the crop; again, nothing.
    assert len(decoded) == {"one": 1, "shaped": 4}.get(case, 2)
    part.numpy()
    assert len(decoded) == {"one": 1, "shaped": 4}.get(case, 2)
    np.testing.assert_array_equal(image.numpy(), pixels)


def test_a_tiff_whose_pages_are_blocks_is_read_right_too(tmp_path):
    pixels, path = counts(16, 32, 32), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, compression="zlib", tile=(16, 16, 16), volumetric=True)
    np.testing.assert_array_equal(read(path, "ZYX").numpy(), pixels)


def test_a_damaged_page_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    options = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(path, counts(3, 20, 30), compression="zlib", **options)
    with tifffile.TiffFile(path) as tif:
        (start,), (size,) = tif.pages[1].dataoffsets, tif.pages[1].databytecounts
    whole = bytearray(path.read_bytes())
    whole[start : start + size] = b"x" * size
    path.write_bytes(whole)
    image = read(path)
    np.testing.assert_array_equal(image.crop({"Z": (0, 1)}).numpy(), counts(3, 20, 30)[:1])
    with pytest.raises(ValueError, match=r"a\.tif cannot be read as TIFF; is it whole\? Reason:"):
        image.numpy()


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "TZCYX"])
def test_an_imagej_file_of_one_plane_takes_axes_that_it_names(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9), imagej=True)
    image = read(tmp_path / "a.tif", axes)
    assert (image.axes, image.shape[-2:], image.sizes[axes[0]]) == (axes, (8, 9), 1)


# Damage.


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".png", ".npy"])
@pytest.mark.parametrize("share", [0.005, 0.02, 0.1, 0.5, 0.9])
def test_a_truncated_file_is_noticed(tmp_path, suffix, share):
    shape = "YX" if suffix == ".png" else "ZYX"
    pixels = counts(*(40, 20, 30)[-len(shape) :])
    whole = write(tmp_path / f"whole{suffix}", Image(pixels, shape)).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=rf"cut{suffix}"):
        read(path, axes=shape)


@pytest.mark.parametrize("kind", ["ome", "imagej", "shaped", "pages"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_truncated_tiff_of_another_program_never_gives_wrong_pixels(tmp_path, kind, compression):
    pytest.importorskip("imagecodecs")
    pixels = counts(6, 20, 30)
    words = None if kind == "pages" else {"axes": "ZYX"}
    path = tmp_path / "a.tif"
    kinds = {"ome": kind == "ome", "imagej": kind == "imagej", "metadata": words}
    tifffile.imwrite(path, pixels, compression=compression, photometric="minisblack", **kinds)
    whole = path.read_bytes()
    refused = 0
    for length in np.linspace(9, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        try:
            image = read(path, axes="ZYX")
        except ValueError as error:
            assert "a.tif" in str(error)
            refused += 1
        else:  # only what lies behind the pixels was lost
            np.testing.assert_array_equal(image.numpy(), pixels)
    assert refused >= 30


def test_a_missing_part_of_an_ome_tiff_is_not_read_as_zeros(tmp_path):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, counts(2, 8, 9), metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    xml = xml.replace('SizeZ="2"', 'SizeZ="4"').replace('PlaneCount="2"', 'PlaneCount="4"')
    tifffile.tiffcomment(path, xml.encode())
    with pytest.raises(ValueError, match=r"a\.ome\.tif cannot be read as TIFF"):
        read(path)


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".png", ".npy", ".npz"])
def test_an_empty_file_is_named(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(ValueError, match=rf"a{suffix} is empty \(0 bytes\)"):
        (read_npz if suffix == ".npz" else read)(path)


def test_a_missing_file_and_a_foreign_one_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or folder: .*none\.tif"):
        read(tmp_path / "none.tif")
    (tmp_path / "a.tif").write_text("hello, world")
    with pytest.raises(ValueError, match=r"a\.tif is not an image.*begins with b'hello, w'"):
        read(tmp_path / "a.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not a series.*0 planes"):
        read(tmp_path / "empty")
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(ValueError, match=r"a\.zarr cannot be read as Zarr"):
        read(tmp_path / "a.zarr")


def test_a_compression_without_its_decoder_names_the_extra(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9), compression="zlib")

    def absent(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "decode", absent)
    with pytest.raises(ValueError, match=r"a\.tif.*pip install 'gvtnets_tf\[io\]'"):
        read(tmp_path / "a.tif")


def test_an_object_array_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy cannot be read as \.npy"):
        read(tmp_path / "a.npy")


def test_a_file_without_metadata_has_none(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9))
    np.save(tmp_path / "a.npy", counts(8, 9))
    assert read_metadata(tmp_path / "a.tif") == read_metadata(tmp_path / "a.npy") == {}


# Training files.


def test_care_npz_gives_a_pair_per_sample(tmp_path):
    x, y = counts(3, 1, 4, 8, 9, dtype="float32"), counts(3, 1, 4, 8, 9, dtype="float32", seed=1)
    np.savez(tmp_path / "a.npz", X=x, Y=y, axes="SCZYX")
    pairs = read_npz(tmp_path / "a.npz")
    assert [(a.axes, b.axes, a.name) for a, b in pairs] == [
        ("CZYX", "CZYX", f"a_{i}") for i in range(3)
    ]
    np.testing.assert_array_equal(pairs[2][0].array, x[2])
    np.testing.assert_array_equal(pairs[2][1].array, y[2])


@pytest.mark.parametrize("shape", [(3, 1, 1, 8, 9), (3, 1, 8, 9)])
def test_a_projection_npz_loses_z_in_both_spellings(tmp_path, shape):
    np.savez(tmp_path / "a.npz", X=counts(3, 1, 4, 8, 9), Y=counts(*shape), axes="SCZYX")
    for x, y in read_npz(tmp_path / "a.npz"):
        assert (x.axes, x.shape, y.axes, y.shape) == ("CZYX", (1, 4, 8, 9), "CYX", (1, 8, 9))


def test_gvtnets_npz_is_one_pair_of_czyx(tmp_path):
    np.savez(tmp_path / "train_00.npz", X=counts(1, 4, 8, 9), Y=counts(2, 4, 8, 9))
    ((x, y),) = read_npz(tmp_path / "train_00.npz")
    assert (x.axes, x.shape, y.shape) == ("CZYX", (1, 4, 8, 9), (2, 4, 8, 9))
    assert x.name == "train_00"


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"X": counts(1, 4, 8, 9)}, "it needs arrays X and Y and holds X"),
        ({"X": counts(4, 8, 9), "Y": counts(4, 8, 9)}, r"axes='SCZYX' \(5 letters\).*4 axes"),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 8)},
            r"X and Y do not go together.*X \(1, 1, 4, 8, 9\), Y \(1, 1, 4, 8, 8\)",
        ),
        (
            {"X": counts(2, 1, 4, 8, 9), "Y": counts(3, 1, 4, 8, 9), "axes": "SCZYX"},
            "X and Y do not go together",
        ),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 9), "axes": "CZYX"},
            "S must count the samples",
        ),
        (
            {"X": counts(1, 4, 8, 9), "Y": counts(1, 4, 8, 9), "axes": "QZYX"},
            "distinct letters of 'SCZYX'",
        ),
        ({"X": np.array([{}], dtype=object), "Y": counts(1)}, "Object arrays cannot be loaded"),
    ],
)
def test_an_npz_that_does_not_fit_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=rf"a\.npz.*{message}"):
        read_npz(tmp_path / "a.npz")


def test_a_truncated_npz_is_named_and_read_sends_npz_to_its_reader(tmp_path):
    np.savez(tmp_path / "a.npz", X=counts(1, 4, 8, 9), Y=counts(1, 4, 8, 9))
    with pytest.raises(ValueError, match="Read it with `read_npz`"):
        read(tmp_path / "a.npz")
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a\.npz cannot be read as npz"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.shared
def test_real_images_are_read_by_the_axes_in_their_names(microscopy):
    known = [p for p in microscopy.rglob("*.tif") if p.stem.rsplit("_", 1)[-1] in KNOWN_AXES]
    assert known
    for path in known:
        image = read(path)
        assert image.axes == path.stem.rsplit("_", 1)[-1]
        np.testing.assert_array_equal(rearrange(image.numpy(), image.axes, image.axes), image.array)


@pytest.mark.shared
def test_a_real_series_of_png_is_sorted_by_its_depth(microscopy, tmp_path):
    planes = list((microscopy / "isl-condition-b-A4").glob("*z_depth-*.png"))
    if not planes:
        pytest.skip(f"no planes in {microscopy}")
    for plane in planes:
        (tmp_path / plane.name).symlink_to(plane.resolve())
    image = read(tmp_path)
    assert image.sizes["Z"] == len(planes)
    last = max(planes, key=lambda p: int(p.name.split("z_depth-")[1].split(",")[0]))
    np.testing.assert_array_equal(image.array[-1], read(Path(last)).array)
