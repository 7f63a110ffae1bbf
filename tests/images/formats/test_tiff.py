import os
import struct

import numpy as np
import pytest
import tifffile
from microscope_files import COLORS, METADATA, NAMES, STEPS, counts, stack

from gvtnets_tf.images.formats import tiff
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.readers import read, read_metadata
from gvtnets_tf.images.writers import write


@pytest.mark.parametrize(
    "unit, factor", [("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("Å", 1e-4), ("m", 1e6), ("inch", 25400)]
)
def test_ome_voxel_sizes_come_in_micrometers_whatever_their_unit(tmp_path, unit, factor):
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


def test_a_compression_without_its_decoder_names_the_extra(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", counts(8, 9), compression="zlib")

    def absent(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "decode", absent)
    with pytest.raises(ValueError, match=r"a\.tif.*pip install 'gvtnets_tf\[io\]'"):
        read(tmp_path / "a.tif")


def test_tifffile_finds_axes_and_micrometers_in_the_ome_tiff(tmp_path):
    path = write(tmp_path / "a.ome.tif", stack(), colors=COLORS)
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].kind, tif.series[0].axes) == ("ome", "CZYX")
        np.testing.assert_array_equal(tif.asarray(), stack().array)
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (0.29, "µm")
    assert [channel["Name"] for channel in pixels["Channel"]] == list(NAMES)
    assert pixels["Channel"][0]["Color"] == 0x0000FFFF
    assert pixels["Channel"][2]["Color"] == 0xFF8000FF - 2**32


def test_imagej_finds_a_hyperstack_in_micrometers(tmp_path):
    image = Image(counts(2, 3, 4, 8, 9), "CTZYX", {**STEPS, "T": 2.5}, NAMES[:2])
    with tifffile.TiffFile(write(tmp_path / "a.tif", image)) as tif:
        words = tif.imagej_metadata
        assert (words["images"], words["channels"], words["slices"], words["frames"]) == (
            24,
            2,
            4,
            3,
        )
        assert (words["unit"], words["spacing"], words["finterval"]) == ("micron", 0.29, 2.5)
        assert words["Labels"][:4] == ["DNA", "ER", "DNA", "ER"]
        assert tif.pages[0].resolution == pytest.approx((1 / 0.11, 1 / 0.108))
        np.testing.assert_array_equal(tif.asarray(), np.moveaxis(image.array, 0, 2))


def test_a_dtype_that_imagej_lacks_is_a_tiff_with_axes_in_json(tmp_path):
    path = write(tmp_path / "a.tif", Image(counts(3, 8, 9, dtype="float64"), "ZYX", STEPS))
    with tifffile.TiffFile(path) as tif:
        assert (tif.series[0].kind, tif.series[0].axes) == ("shaped", "ZYX")
    assert read(path).voxel_size == STEPS


def test_a_stack_too_large_for_imagej_is_written_with_its_axes(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "IMAGEJ_BYTES", stack().array.nbytes - 1)
    path = write(tmp_path / "a.tif", stack(), metadata=METADATA)
    back = read(path)
    assert (back.axes, back.voxel_size, back.channel_names) == ("CZYX", STEPS, NAMES)
    np.testing.assert_array_equal(back.numpy(), stack().array)
    assert read_metadata(path) == METADATA
    with pytest.raises(ValueError, match="GiB of uint16 cannot hold channel colors"):
        write(tmp_path / "b.tif", stack(), colors=COLORS)


# Files that are damaged, or made to deceive.


def tagged(tif, number, name):
    """Place and form of the number in a tag of a page."""
    tag = tif.pages[number].tags[name]
    return tag.valueoffset, tif.byteorder + {3: "H", 4: "I"}[int(tag.dtype)]


def stack_with(path, changes, pages=3, **options):
    """A TIFF of planes (8, 9) of uint16, with other numbers in its tags."""
    options = {"photometric": "minisblack", "metadata": None, **options}
    tifffile.imwrite(path, counts(pages, 8, 9), **options)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for (number, name), value in changes.items():
            place, form = tagged(tif, number, name)
            struct.pack_into(form, content, place, value)
    path.write_bytes(content)
    return path


def ome_with(path, old, new):
    tifffile.imwrite(path, counts(2, 8, 9), metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    assert old in xml
    tifffile.tiffcomment(path, xml.replace(old, new).encode())
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", ["float32", "int32", "int16"])
def test_pages_of_several_dtypes_are_refused_and_not_cast(tmp_path, dtype, compression):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tif:
        for kind in ("uint16", "uint16", dtype):
            options = {"photometric": "minisblack", "compression": compression}
            tif.write(counts(8, 9, dtype=kind), metadata=None, **options)
    text = rf"a\.tif has pages of several dtypes: page 2 holds {dtype}, page 0 uint16\. Save each"
    with pytest.raises(ValueError, match=text):
        read(path, "ZYX")


@pytest.mark.parametrize("kind", ["ome", "imagej", "shaped"])
def test_a_page_of_another_dtype_is_refused_in_a_file_with_axes_too(tmp_path, kind):
    options = {"metadata": {"axes": "ZYX"}, "compression": "zlib", "ome": kind == "ome"}
    options |= {"imagej": True} if kind == "imagej" else {}
    # 2 is a signed integer: the page has the size of the others.
    path = stack_with(tmp_path / "a.tif", {(1, "BitsPerSample"): 8}, **options)
    with pytest.raises(ValueError, match=r"page 1 holds uint8, page 0 uint16"):
        read(path)


def test_images_of_a_file_may_differ_in_dtype(tmp_path):
    for name in ("a.ome.tif", "a.tif"):
        with tifffile.TiffWriter(tmp_path / name) as tif:
            for dtype in ("uint16", "float32"):
                options = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
                tif.write(counts(2, 8, 9, dtype=dtype), **options)
        np.testing.assert_array_equal(read(tmp_path / name, "ZYX").numpy(), counts(2, 8, 9))


@pytest.mark.parametrize("tag", ["StripByteCounts", "StripOffsets"])
@pytest.mark.parametrize("ome", [True, False])
def test_pages_without_data_are_named_and_refused_if_strict(tmp_path, caplog, tag, ome):
    options = {"metadata": {"axes": "ZYX"}, "ome": True} if ome else {}
    changes = dict.fromkeys([(1, tag), (3, tag)], 0)
    path = stack_with(tmp_path / "a.tif", changes, 5, compression="zlib", **options)
    image = read(path, "ZYX")
    text = "a.tif: 2 of 5 pages have no data and are read as zeros (page 1, page 3). A sparse file"
    assert text in caplog.text
    assert "--strict (`strict`) refuses it" in caplog.text
    assert (image.numpy()[[1, 3]] == 0).all()
    np.testing.assert_array_equal(image.numpy()[[0, 2, 4]], counts(5, 8, 9)[[0, 2, 4]])
    with pytest.raises(ValueError, match=r"a\.tif: 2 of 5 pages have no data.*it is refused\.$"):
        read(path, "ZYX", strict=True)


def test_an_uncompressed_page_without_a_place_does_not_show_other_bytes(tmp_path, caplog):
    path = stack_with(tmp_path / "a.tif", {(1, "StripOffsets"): 0})
    assert (read(path, "ZYX").numpy()[1] == 0).all()
    assert "1 of 3 pages have no data and are read as zeros (page 1)" in caplog.text


def test_a_whole_file_is_read_strictly_without_a_word(tmp_path, caplog):
    path = stack_with(tmp_path / "a.tif", {}, compression="zlib")
    np.testing.assert_array_equal(read(path, "ZYX", strict=True).numpy(), counts(3, 8, 9))
    assert caplog.text == ""


@pytest.mark.parametrize("kind", ["pages", "imagej", "ome"])
@pytest.mark.parametrize("back_to", [0, 1, 2])
def test_a_looping_chain_of_pages_ends(tmp_path, kind, back_to):
    path = tmp_path / "a.tif"
    words = None if kind == "pages" else {"axes": "ZYX"}
    options = {"imagej": kind == "imagej", "ome": kind == "ome", "compression": "zlib"}
    tifffile.imwrite(path, counts(3, 8, 9), photometric="minisblack", metadata=words, **options)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        last, target = tif.pages[2], tif.pages[back_to].offset
        place = last.offset + 2 + 12 * len(last.tags)
        struct.pack_into(f"{tif.byteorder}I", content, place, target)
    path.write_bytes(content)
    for function in (read, read_metadata):
        with pytest.raises(ValueError, match=r"a\.tif cannot.*page 3 is an earlier page again"):
            function(path)


@pytest.mark.parametrize(
    "old, new, text",
    [
        ('SizeZ="2"', 'SizeZ="1000000000"', "counts T 1, C 1, Z 1000000000, Y 8, X 9, and its"),
        ('SizeX="9"', 'SizeX="1000000000"', "counts T 1, C 1, Z 2, Y 8, X 1000000000, and its"),
        ('SizeC="1"', 'SizeC="3"', "pages hold 144 voxels"),
        ('PlaneCount="2"', 'PlaneCount="1000000000000"', "counts 1000000000000 planes, and there"),
        ('SizeZ="2"', 'SizeZ="two"', "invalid literal for int"),
    ],
)
def test_ome_xml_that_counts_more_than_there_is_is_refused(tmp_path, old, new, text):
    path = ome_with(tmp_path / "a.ome.tif", old, new)
    with pytest.raises(ValueError, match=rf"a\.ome\.tif cannot be read as TIFF.*{text}"):
        read(path)


def test_a_plane_that_ome_xml_lacks_is_not_read_as_zeros(tmp_path):
    path = ome_with(tmp_path / "a.ome.tif", 'PlaneCount="2"', 'PlaneCount="1"')
    with pytest.raises(ValueError, match=r"a\.ome\.tif.*1 of 2 planes are not in the file"):
        read(path)


def test_a_pipe_that_ome_xml_names_is_not_opened(tmp_path):
    text = '<UUID FileName="b.ome.tif">urn:uuid:1</UUID>'
    plane = '<TiffData IFD="0" PlaneCount="2"'
    path = ome_with(tmp_path / "a.ome.tif", f"{plane}/>", f"{plane}>{text}</TiffData>")
    os.mkfifo(tmp_path / "b.ome.tif")
    with pytest.raises(ValueError, match=r"a\.ome\.tif.*it names b\.ome\.tif, which is not a file"):
        read(path)


def test_the_files_of_an_ome_set_are_read_together(tmp_path):
    names = ("a.ome.tif", "b.ome.tif")
    pixels = '<Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint16" SizeX="9" SizeY="8" SizeZ="2" '
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    for z, name in enumerate(names):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}">'
            f'<Image ID="I:0">{pixels}SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
        )
        plane, options = counts(2, 8, 9)[z], {"metadata": None, "compression": "zlib"}
        tifffile.imwrite(tmp_path / name, plane, description=xml, **options)
    np.testing.assert_array_equal(read(tmp_path / names[0]).numpy(), counts(2, 8, 9))
    tifffile.imwrite(tmp_path / names[1], counts(8, 9, dtype="int16"), metadata=None)
    with pytest.raises(ValueError, match=r"a\.ome\.tif.*page 1 holds int16, the first uint16"):
        read(tmp_path / names[0]).numpy()


@pytest.mark.parametrize(
    "changes, text",
    [
        ({(1, "ImageWidth"): 60_000}, r"page 1 asks for 937\.5 KiB of pixels, and the 1\d\d B"),
        ({(0, "ImageLength"): 60_000}, "page 0 has 1 strips or tiles and needs 7500"),
    ],
)
def test_a_page_larger_than_its_bytes_can_hold_is_refused_when_it_is_opened(
    tmp_path, changes, text
):
    path = stack_with(tmp_path / "a.tif", changes, compression="zlib")
    with pytest.raises(ValueError, match=rf"a\.tif cannot be read as TIFF.*{text}"):
        read(path, "ZYX")


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd", "lzma", "packbits"])
def test_blank_pages_are_never_too_well_compressed(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    pixels, path = np.zeros((2000, 2000), "uint16"), tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, compression=compression, rowsperstrip=2000)
    np.testing.assert_array_equal(read(path).numpy(), pixels)


def test_a_page_beyond_the_memory_is_refused_when_it_is_opened(tmp_path, monkeypatch):
    sides = dict.fromkeys([(0, "ImageWidth"), (0, "ImageLength"), (0, "RowsPerStrip")], 60_000)
    # JPEG 2000, whose bytes say nothing about the pixels.
    changes = sides | {(0, "Compression"): 34712}
    path = stack_with(tmp_path / "a.tif", changes, 1, compression="zlib")
    monkeypatch.setenv("GVTNETS_MAX_MEMORY", "2GiB")
    text = (
        r"^\S*a\.tif does not fit the memory: "
        r"it takes 6\.7 GiB when it is read, and 2\.0 GiB may be used\. Crop it, or allow"
    )
    with pytest.raises(ValueError, match=text):
        read(path, "ZYX")
