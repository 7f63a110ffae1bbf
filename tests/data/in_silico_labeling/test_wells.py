"""The wells of the in-silico labeling data set, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow
from wells import DAPI, MAP2, NFH, PLANE, bucket_name, sample_name

from gvtnets_tf.data.in_silico_labeling import file_names, wells
from gvtnets_tf.images.formats import png


def page(value, shape=(4, 5), dtype="uint16"):
    """A page that tells where it came from, and its rows and columns."""
    return (value + np.arange(np.prod(shape)).reshape(shape)).astype(dtype)


def put(folder, name, pixels, spell=bucket_name):
    """Write one image of the data set and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / spell(name)
    Pillow.fromarray(pixels).save(path)
    return path


def fill(folder, planes=13, labels=(DAPI, MAP2, NFH), start=PLANE, spell=bucket_name):
    """Write a whole well; plane z counts from 100 z, label i from 2000 + 100 i."""
    for z in range(planes):
        put(folder, replace(start, z=z), page(100 * z), spell)
    for i, label in enumerate(labels):
        put(folder, replace(start, z=None, channel=label), page(2000 + 100 * i), spell)
    return folder


@pytest.mark.parametrize("spell", [sample_name, bucket_name])
def test_planes_are_in_the_order_of_their_numbers(tmp_path, spell):
    (well,) = wells.find_wells(fill(tmp_path, spell=spell))
    image = well.input()
    assert well.name == image.name == "finkbeiner_kevan_0_8_2015-10-05_A4"
    assert (well.condition, well.split, well.shape, well.dtype) == ("B", None, (4, 5), np.uint16)
    assert (image.axes, image.shape, image.array.dtype) == ("CYX", (13, 4, 5), np.uint16)
    assert image.channel_names == tuple(f"z{z}" for z in range(13))
    np.testing.assert_array_equal(image.numpy(), [page(100 * z) for z in range(13)])


def test_only_the_planes_asked_for_are_decoded(tmp_path, monkeypatch):
    (well,) = wells.find_wells(fill(tmp_path))
    seen, read = [], png.read
    monkeypatch.setattr(png, "read", lambda path: seen.append(path) or read(path))
    image = well.input()
    assert seen == []
    cut = image.crop({"C": (10, 12), "Y": (1, 3)}).numpy()
    assert seen == list(well.planes[10:12])
    np.testing.assert_array_equal(cut, [page(1000)[1:3], page(1100)[1:3]])


def test_targets_come_in_the_order_asked_for_and_in_their_type(tmp_path):
    (well,) = wells.find_wells(fill(tmp_path))
    image = well.target([NFH, "dapi_confocal"])
    assert (image.axes, image.array.dtype, image.name) == ("CYX", np.uint16, well.name)
    assert image.channel_names == (NFH, DAPI)
    np.testing.assert_array_equal(image.numpy(), [page(2200), page(2000)])
    assert well.target(DAPI).shape == (1, 4, 5)


def test_a_label_that_the_well_lacks_is_not_a_number(tmp_path):
    (well,) = wells.find_wells(fill(tmp_path))
    image = well.target()
    pixels = image.numpy()
    assert image.channel_names == file_names.LABELS
    assert image.array.dtype == pixels.dtype == np.float32
    there = [label in (DAPI, MAP2, NFH) for label in file_names.LABELS]
    assert there == [True, False, True, True, False, False, False, False]
    np.testing.assert_array_equal(np.isnan(pixels).all((1, 2)), np.logical_not(there))
    np.testing.assert_array_equal(pixels[2], page(2100))


def test_neurite_is_read_where_it_is_a_file_and_else_the_mean_of_its_parts(tmp_path):
    folder = fill(tmp_path)
    (well,) = wells.find_wells(folder)
    image = well.target([file_names.NEURITE, MAP2])
    assert image.array.dtype == np.float32
    np.testing.assert_array_equal(image.numpy(), [page(2150), page(2100)])

    put(folder, replace(PLANE, z=None, channel=file_names.NEURITE), page(7))
    image = wells.find_wells(folder)[0].target([file_names.NEURITE])
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.numpy(), [page(7)])


def test_neurite_needs_both_of_its_parts(tmp_path):
    (well,) = wells.find_wells(fill(tmp_path, labels=[MAP2]))
    assert np.isnan(well.target([file_names.NEURITE]).numpy()).all()


def test_labels_may_have_other_bits_than_planes(tmp_path):
    fill(tmp_path, labels=[])
    put(tmp_path, replace(PLANE, z=None, channel=DAPI), page(3, dtype="uint8"))
    (well,) = wells.find_wells(tmp_path)
    assert (well.dtype, well.label_dtype) == (np.uint16, np.uint8)
    assert well.target([DAPI]).array.dtype == np.uint8


def test_predictions_and_masks_are_passed_over(tmp_path):
    fill(tmp_path, labels=[DAPI])
    label = replace(PLANE, z=None, channel=DAPI)
    put(tmp_path, replace(label, predicted=True), page(1))
    put(tmp_path, replace(label, channel=MAP2, predicted=True), page(1))
    put(tmp_path, replace(label, channel="UNKNOWN", predicted=True), page(1))
    put(tmp_path, replace(label, channel=NFH, mask=True), page(1))
    put(tmp_path, replace(PLANE, mask=True), page(1))
    (well,) = wells.find_wells(tmp_path)
    assert list(well.labels) == [DAPI] and len(well.planes) == 13
    np.testing.assert_array_equal(well.target([DAPI]).numpy(), [page(2000)])


def data_set(folder):
    """Two wells of condition B and one of C for training, one of B for testing."""
    other = replace(PLANE, lab="finkbeiner", condition="alicia_2_0", letter="C")
    fill(folder / "train" / "Finkbeiner" / "kevan_0_8", 2, [DAPI])
    fill(folder / "train" / "Finkbeiner" / "kevan_0_8", 2, [DAPI], replace(PLANE, well="A10"))
    fill(folder / "train" / "Finkbeiner" / "alicia_2_0", 2, [DAPI], other)
    fill(folder / "test" / "Finkbeiner" / "kevan_0_8", 2, [DAPI], replace(PLANE, well="B1"))
    return folder


def test_conditions_and_splits_are_chosen(tmp_path):
    data_set(tmp_path)
    found = lambda **kwargs: [
        (well.condition, well.name.rsplit("_", 1)[1], well.split)
        for well in wells.find_wells(tmp_path, **kwargs)
    ]
    a10, a4, b1 = ("B", "A10", "train"), ("B", "A4", "train"), ("B", "B1", "test")
    c = ("C", "A4", "train")
    assert found() == [c, a10, a4, b1]
    assert found(split="train") == [c, a10, a4]
    assert found(split="test") == [b1]
    assert found(conditions="b") == found(conditions=["KEVAN_0_8"]) == [a10, a4, b1]
    assert found(conditions=["C", "A"], split="train") == [c]
    assert [well.split for well in wells.find_wells(tmp_path / "train")] == ["train"] * 3


def test_the_folders_of_the_bucket_are_splits_too(tmp_path):
    fill(tmp_path / "test_single_channel_images" / "Finkbeiner" / "kevan_0_8", 2)
    assert [well.split for well in wells.find_wells(tmp_path, split="test")] == ["test"]


def test_what_is_not_there_is_told_beside_what_is(tmp_path):
    data_set(tmp_path)
    with pytest.raises(ValueError, match=r"conditions='E', split=None.*B \(kevan_0_8, test\)"):
        wells.find_wells(tmp_path, conditions="E")
    with pytest.raises(ValueError, match=r"`condition` cannot be '3'. Choose one of .*'A', 'B'"):
        wells.find_wells(tmp_path, conditions=[3])
    with pytest.raises(ValueError, match=r"`condition` cannot be 'kevan_0_1'. Did you mean 'kev"):
        wells.find_wells(tmp_path, conditions=["kevan_0_1"])
    with pytest.raises(ValueError, match=r"`split` cannot be 'tset'. Did you mean 'test'"):
        wells.find_wells(tmp_path, split="tset")
    with pytest.raises(ValueError, match="at least one condition"):
        wells.find_wells(tmp_path, conditions=[])
    with pytest.raises(ValueError, match=r"split='test'.*neither train nor test"):
        wells.find_wells(fill(tmp_path / "flat", 2), split="test")
    with pytest.raises(FileNotFoundError, match=r"No such folder: .*nothing"):
        wells.find_wells(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no image of the in-silico"):
        wells.find_wells(tmp_path / "empty")


def test_nothing_but_predictions_is_told(tmp_path):
    put(tmp_path, replace(PLANE, z=None, channel=DAPI, predicted=True), page(0))
    with pytest.raises(ValueError, match=r"nothing but predictions.*PREDICTED.*1 files, .*\.png"):
        wells.find_wells(tmp_path)


def test_a_well_without_labels_is_read_until_targets_are_asked_for(tmp_path):
    fill(tmp_path, labels=[])
    put(tmp_path, replace(PLANE, z=None, channel=DAPI, predicted=True), page(0))
    (well,) = wells.find_wells(tmp_path)
    assert well.input().shape == (13, 4, 5) and well.label_dtype is None
    with pytest.raises(ValueError, match=r"2015-10-05_A4 has no label.*z_depth-0.*PREDICTED"):
        well.target()


def test_labels_that_nobody_knows_are_refused(tmp_path):
    (well,) = wells.find_wells(fill(tmp_path))
    with pytest.raises(ValueError, match="`label` cannot be 'DAPI'"):
        well.target(["dapi"])
    with pytest.raises(ValueError, match="Did you mean 'MAP2_CONFOCAL'"):
        well.target(["MAP_CONFOCAL"])
    with pytest.raises(ValueError, match="at least one label"):
        well.target([])


def test_a_gap_in_the_planes_is_told(tmp_path):
    fill(tmp_path, 13)
    for z in (0, 7):
        (tmp_path / bucket_name(replace(PLANE, z=z))).unlink()
    with pytest.raises(ValueError, match=r"A4 lacks z_depth 0, 7, .* beside .*\.png"):
        wells.find_wells(tmp_path)


def test_a_plane_with_a_huge_number_is_told(tmp_path):
    put(fill(tmp_path, 3), replace(PLANE, z=10**15), page(0))
    with pytest.raises(ValueError, match=r"A4 lacks z_depth 3, 4, .* 22, which"):
        wells.find_wells(tmp_path)


def test_a_well_of_labels_alone_lacks_its_planes(tmp_path):
    with pytest.raises(ValueError, match=r"A4 lacks z_depth 0, .*DAPI_CONFOCAL.*\.png"):
        wells.find_wells(fill(tmp_path, 0))


def test_wells_agree_in_their_planes(tmp_path):
    for well in ("A4", "A5"):
        fill(tmp_path, 3, start=replace(PLANE, well=well))
    fill(tmp_path, 2, start=replace(PLANE, well="A6"))
    with pytest.raises(ValueError, match=r"A6 of condition B has 2 planes and the others have 3.*"):
        wells.find_wells(tmp_path)
    with pytest.raises(ValueError, match=r"A4 of condition B has 3 planes and planes=2 was asked"):
        wells.find_wells(tmp_path, planes=2)
    with pytest.raises(ValueError, match="`planes` must be at least 1"):
        wells.find_wells(tmp_path, planes=0)
    (tmp_path / bucket_name(replace(PLANE, well="A6", z=1))).unlink()
    with pytest.raises(ValueError, match=r"A6 .*has 1 planes and planes=3 .*z_depth-0.*\.png"):
        wells.find_wells(tmp_path, planes=3)


@pytest.mark.parametrize("name", [replace(PLANE, z=1), replace(PLANE, z=None, channel=DAPI)])
def test_images_of_unequal_size_are_refused(tmp_path, name):
    fill(tmp_path, 3)
    path = put(tmp_path, name, page(0, (4, 6)))
    with pytest.raises(ValueError, match=r"has 6 x 4 pixels and .*z_depth-0.* has 5 x 4") as told:
        wells.find_wells(tmp_path)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("name", [replace(PLANE, z=1), replace(PLANE, z=None, channel=MAP2)])
def test_bits_do_not_mix_among_planes_or_among_labels(tmp_path, name):
    fill(tmp_path, 3)
    path = put(tmp_path, name, page(0, dtype="uint8"))
    with pytest.raises(ValueError, match=r"has 8 bits and .* has 16: convert one") as told:
        wells.find_wells(tmp_path)
    assert str(path) in str(told.value)


def test_color_images_are_refused(tmp_path):
    fill(tmp_path, 3)
    path = put(tmp_path, replace(PLANE, z=2), np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"must be a gray PNG.*Received: RGB of 8 bits") as told:
        wells.find_wells(tmp_path)
    assert str(path) in str(told.value)


def test_a_grey_image_of_one_bit_is_refused(tmp_path):
    fill(tmp_path, 3)
    Pillow.new("1", (5, 4)).save(tmp_path / bucket_name(replace(PLANE, z=2)))
    with pytest.raises(ValueError, match="Received: gray of 1 bits"):
        wells.find_wells(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"not a png" * 10])
def test_what_is_no_png_is_refused_by_its_header(tmp_path, content):
    fill(tmp_path, 3)
    (tmp_path / bucket_name(replace(PLANE, z=2))).write_bytes(content)
    with pytest.raises(ValueError, match=r"z_depth-2.*is not a PNG"):
        wells.find_wells(tmp_path)


def test_sizes_are_read_from_headers_and_damage_is_told_with_its_file(tmp_path):
    fill(tmp_path, 3)
    path = tmp_path / bucket_name(replace(PLANE, z=2))
    path.write_bytes(path.read_bytes()[:40])
    (well,) = wells.find_wells(tmp_path)  # Nothing but the header was looked at.
    np.testing.assert_array_equal(well.input().crop({"C": (0, 1)}).numpy(), [page(0)])
    with pytest.raises(ValueError, match=r"z_depth-2.*cannot be read as PNG; is it whole"):
        well.input().numpy()


def test_a_plane_that_was_replaced_by_one_of_another_size_is_told_when_read(tmp_path):
    fill(tmp_path, 2)
    (well,) = wells.find_wells(tmp_path)
    put(tmp_path, replace(PLANE, z=1), page(0, (4, 6)))  # replaced since
    with pytest.raises(ValueError, match=r"A4 cannot be read.*page 1 has shape \(4, 6\)"):
        well.input().numpy()


@pytest.mark.parametrize("name, told", [(PLANE, "z_depth 0"), (replace(PLANE, z=None), DAPI)])
def test_two_files_for_the_same_are_refused(tmp_path, name, told):
    fill(tmp_path / "train", 3)
    name = name if name.z is not None else replace(name, channel=DAPI)
    path = put(tmp_path / "test", name, page(0), sample_name)
    with pytest.raises(ValueError, match=rf"A4 has two files for {told}: .* and .*") as error:
        wells.find_wells(tmp_path)
    assert str(path) in str(error.value)


def test_other_files_are_passed_over(tmp_path):
    fill(tmp_path, 3)
    put(tmp_path, PLANE, page(0), lambda _: "overview.png")
    put(tmp_path, PLANE, page(0), lambda name: "._" + bucket_name(name))
    (tmp_path / "SOURCE.txt").write_text("lab-")
    assert len(wells.find_wells(tmp_path)) == 1


@pytest.mark.shared
def test_the_real_well_is_read(microscopy):
    folder = microscopy / "isl-condition-b-A4"
    if not folder.exists():
        pytest.skip(f"no real well at {folder}")
    assert file_names.is_dataset(folder)
    (well,) = wells.find_wells(folder, conditions="B", planes=13)
    assert (well.condition, well.shape, well.dtype) == ("B", (1024, 768), np.uint16)
    assert list(well.labels) == [DAPI, MAP2, NFH] and well.label_dtype == np.uint16

    image = well.input()
    assert image.shape == (13, 1024, 768)
    corner = image.crop({"C": (9, 11), "Y": (0, 8), "X": (0, 8)}).numpy()
    with Pillow.open(next(folder.glob("*z_depth-10,*"))) as tenth:
        np.testing.assert_array_equal(corner[1], np.asarray(tenth)[:8, :8])

    pixels = well.target([*file_names.LABELS, file_names.NEURITE]).numpy()
    assert pixels.shape == (9, 1024, 768) and pixels.dtype == np.float32
    there = np.isfinite(pixels).all((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(there), [0, 2, 3, 8])
    np.testing.assert_allclose(pixels[8], (pixels[2] + pixels[3]) / 2)
