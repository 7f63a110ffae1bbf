import json

import numpy as np
import pytest
from microscope_files import STEPS, counts

from gvtnets_tf.images.image import Image
from gvtnets_tf.images.readers import read
from gvtnets_tf.images.writers import write


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


def test_ome_zarr_has_levels_with_their_voxel_size(tmp_path):
    pixels = counts(2, 300, 513)
    path = write(tmp_path / "a.zarr", Image(pixels, "ZYX", STEPS))
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    scales = attributes["ome"]["multiscales"][0]
    assert attributes["ome"]["version"] == "0.5"
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in scales["axes"]} == {"micrometer"}
    fine, coarse = (d["coordinateTransformations"] for d in scales["datasets"])
    assert fine[0]["scale"] == [0.29, 0.108, 0.11]
    assert coarse[0]["scale"] == pytest.approx([0.29, 0.216, 0.22])
    assert coarse[1]["translation"] == pytest.approx([0, 0.054, 0.055])

    import zarr

    level = zarr.open(str(path), mode="r")["1"]
    assert level.shape == (2, 150, 256)
    assert level[1, 3, 5] == np.rint(pixels[1, 6:8, 10:12].mean())
    assert level.metadata.dimension_names == ("z", "y", "x")


def write_chunks(path):
    """An OME-Zarr of chunks 0 and 1 along Z, the first of which is blank."""
    pixels = np.repeat(np.uint16([0, 7]), 32)[:, None, None] * np.ones((1, 8, 9), "uint16")
    return write(path, Image(pixels, "ZYX")), pixels


def test_a_blank_chunk_is_written_too_and_a_chunk_that_is_gone_is_named(tmp_path, caplog):
    path, pixels = write_chunks(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read(path, strict=True).numpy(), pixels)
    assert caplog.text == ""
    (path / "0" / "c" / "1" / "0" / "0").unlink()
    assert not read(path).numpy().any()
    assert "a.zarr: 1 of 2 chunks have no data and are read as 0 (c/1/0/0). A" in caplog.text
    with pytest.raises(ValueError, match=r"a\.zarr: 1 of 2 chunks.*with --strict \(`strict`\) it"):
        read(path, strict=True)


@pytest.mark.parametrize("separator", [".", "/"])
def test_missing_chunks_of_other_programs_are_named_too(tmp_path, caplog, separator):
    import zarr

    keys = {"name": "v2", "separator": separator}
    options = {"chunks": (1, 8, 9), "zarr_format": 2, "chunk_key_encoding": keys}
    zarr.create_array(str(tmp_path / "a.zarr"), data=counts(6, 8, 9) + 1, **options)
    for z in (0, 2, 3, 5):
        (tmp_path / "a.zarr" / f"{z}{separator}0{separator}0").unlink()
    read(tmp_path / "a.zarr", "ZYX")
    names = ", ".join(f"{z}{separator}0{separator}0" for z in (0, 2, 3))
    assert f"4 of 6 chunks have no data and are read as 0 ({names}, ...)" in caplog.text


def test_a_flipped_bit_of_a_chunk_is_an_error(tmp_path):
    path, _ = write_chunks(tmp_path / "a.zarr")
    chunk = path / "0" / "c" / "1" / "0" / "0"
    for place in range(len(chunk.read_bytes())):
        whole = bytearray(chunk.read_bytes())
        whole[place] ^= 1
        chunk.write_bytes(whole)
        with pytest.raises(ValueError, match=r"a\.zarr cannot be read as Zarr.*checksum do not"):
            read(path).numpy()
        whole[place] ^= 1
        chunk.write_bytes(whole)


def test_an_array_without_an_end_is_opened_at_once_and_never_read_whole(tmp_path):
    import zarr

    shape = (10**7, 10**7, 10**6)
    zarr.create_array(str(tmp_path / "a.zarr"), shape=shape, chunks=(1, 1, 1), dtype="uint8")
    image = read(tmp_path / "a.zarr", "ZYX")
    assert image.crop({letter: (0, 2) for letter in "ZYX"}).numpy().shape == (2, 2, 2)
    with pytest.raises(
        ValueError,
        match=r"a\.zarr does not fit the memory: it takes \d+\.\d TiB when it is read, and",
    ):
        image.numpy()
    zarr.create_array(str(tmp_path / "b.zarr"), shape=shape, chunks=shape, dtype="uint8")
    with pytest.raises(
        ValueError,
        match=r"b\.zarr does not fit the memory: it takes \d+\.\d TiB when it is read, and",
    ):
        read(tmp_path / "b.zarr", "ZYX")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"multiscales": 3}, r"`multiscales` must be a list of a mapping or null\. Received: 3"),
        (
            {"multiscales": [3]},
            r"`multiscales` must be a list of a mapping or null\. Received: \[3",
        ),
        ({"multiscales": [{}]}, "'datasets'"),
        ({"omero": [1]}, r"`omero` must be a mapping\. Received: \[1\]\."),
        (
            {"omero": {"channels": 3}},
            r"`omero\.channels` must be a list of a mapping\. Received: 3",
        ),
        ({"omero": {"channels": [3]}}, r"`omero\.channels` must be a list of a mapping\. Received"),
        (
            {"omero": {"channels": [{"label": 3}]}},
            r"`omero\.channels\.label` must be a list of texts or null\. Received: \[3\]\.",
        ),
        (
            {"omero": {"channels": [{"color": 3}]}},
            r"`omero\.channels\.color` must be a list of texts or null\. Received: \[3\]\.",
        ),
        ({"gvtnets": 3}, r"`gvtnets` must be a mapping\. Received: 3\."),
    ],
)
def test_attributes_of_another_type_are_named_in_one_line(tmp_path, changes, message):
    path = zarr_04(tmp_path / "a.zarr", counts(3, 8, 9), "zyx", [1, 1, 1])
    attributes = json.loads((path / ".zattrs").read_text())
    (path / ".zattrs").write_text(json.dumps(attributes | changes))
    message = rf"a\.zarr cannot be read as OME-Zarr; is it whole\? Reason: {message}"
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [3, None, ["z"]])
def test_an_axis_without_a_name_is_refused(tmp_path, name):
    path = zarr_04(tmp_path / "a.zarr", counts(3, 8, 9), "zyx", [1, 1, 1])
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["axes"][0]["name"] = name
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(ValueError, match=r"Reason: `axes\.name` must be a list of texts\. Receiv"):
        read(path)


def test_sizes_beyond_those_of_python_are_refused(tmp_path):
    path, _ = write_chunks(tmp_path / "a.zarr")
    file = path / "0" / "zarr.json"
    text = json.loads(file.read_text())
    text["shape"][1] = 2**63
    file.write_text(json.dumps(text))
    with pytest.raises(ValueError, match=r"a\.zarr cannot be read as Zarr"):
        read(path)


def test_a_path_without_end_is_refused(tmp_path):
    path = zarr_04(tmp_path / "a.zarr", counts(3, 8, 9), "zyx", [1, 1, 1])
    attributes = json.loads((path / ".zattrs").read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = "x" * 100_000
    (path / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(ValueError, match=r"`datasets\.path` must be the path of an array") as said:
        read(path)
    assert len(str(said.value)) < 500
