"""Sources: the images that a path, a glob, a folder or a folder of wells stands for."""

import numpy as np
import pytest
from wells import DAPI, well

from gvtnets_tf.data.sources import find, is_wells


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(spec):
    return [source.path.name for source in find(spec)]


def test_a_folder_and_a_glob_give_images_in_natural_order(tmp_path):
    touch(tmp_path, "z10.tif", "z2.tif", "z1.ome.tif", "notes.txt", ".hidden.tif")
    touch(tmp_path / "b.zarr", "zarr.json")
    assert names(tmp_path) == ["b.zarr", "z1.ome.tif", "z2.tif", "z10.tif"]
    assert names(f"{tmp_path}/z*.tif") == ["z1.ome.tif", "z2.tif", "z10.tif"]
    assert names(tmp_path / "b.zarr") == ["b.zarr"]
    assert names([tmp_path / "z10.tif", f"{tmp_path}/z1*"]) == [
        "z10.tif",
        "z1.ome.tif",
        "z10.tif",
    ]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    touch(tmp_path, "a[1].tif", "a1.tif")
    assert names(tmp_path / "a[1].tif") == ["a[1].tif"]


def test_nothing_found_names_the_pattern(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file matches .*none\*\.tif \(quote"):
        find(f"{tmp_path}/none*.tif")
    with pytest.raises(FileNotFoundError, match="no image in the folder"):
        find(touch(tmp_path / "empty", "notes.txt"))
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        find([tmp_path / "none.tif"])


def test_a_source_knows_its_name_and_is_opened_with_the_axes_it_is_given(tmp_path):
    pixels = np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "stack.npy", pixels)
    (source,) = find(tmp_path / "stack.npy")
    assert (source.name, str(source), source.well) == ("stack", f"{tmp_path}/stack.npy", None)
    image = source.open("ZYX")
    assert (image.name, image.axes) == ("stack", "ZYX")
    np.testing.assert_array_equal(image.array, pixels)


def test_a_folder_of_the_labeling_data_set_stands_for_its_wells(tmp_path):
    for name in ("B2", "A4"):
        well(tmp_path / "train" / "Finkbeiner" / "kevan_0_8", name, [DAPI])
    sources = find(tmp_path)
    assert [source.name[-2:] for source in sources] == ["A4", "B2"]
    assert [str(source) for source in sources] == [source.well.name for source in sources]
    assert "z_depth-0" in sources[0].path.name
    image = sources[0].open()
    assert (image.axes, image.channel_names) == ("CYX", ("z0", "z1", "z2"))
    assert is_wells(tmp_path) and is_wells(str(tmp_path))
    # One plane, a glob and a list are files, as they were named.
    assert not is_wells(sources[0].path) and not is_wells([tmp_path])
    assert find(sources[0].path)[0].well is None
    assert len(find([tmp_path, sources[0].path])) == 3


def test_a_source_is_opened_strictly_if_asked_for(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "gaps.zarr"
    zarr.create_array(str(path), shape=(2, 4, 5), chunks=(1, 4, 5), dtype="uint16")
    (source,) = find(path)
    assert not source.open("ZYX").numpy().any()
    with pytest.raises(ValueError, match=r"gaps\.zarr: 2 of 2 chunks have no data"):
        source.open("ZYX", strict=True)
