"""Pairs of images that a recipe names, and the part of the data each belongs to."""

import csv
from dataclasses import dataclass

import numpy as np
import pytest
from small import SHAPE, recipe, stacks
from wells import DAPI, MAP2, NFH, well

from gvtnets_tf.data.in_silico_labeling import file_names
from gvtnets_tf.data.training_pairs import TrainingPair, open_pairs, split_pairs
from gvtnets_tf.images import writers
from gvtnets_tf.images.formats import png
from gvtnets_tf.images.image import Image

GAP = 16  # voxels: one patch along X


def flat(size, axes="ZYX", name="flat"):
    """An image of zeros, each of whose axes has `size` voxels or what a mapping says."""
    sizes = {letter: 4 for letter in axes} | size
    return Image(np.zeros([sizes[a] for a in axes], np.float32), axes, name=name)


def pair(width, split=""):
    image = flat({"X": width})
    return TrainingPair(image, image, split=split)


def widths(samples):
    return [s.input.sizes["X"] for s in samples]


def data_of(folder):
    return recipe(folder)["data"]


# Opening.


def test_pairs_come_from_globs_in_natural_order(tmp_path):
    found = open_pairs(data_of(stacks(tmp_path)))
    assert [(s.input.name, s.target.name) for s in found] == [("0", "0"), ("1", "1")]
    assert {s.split for s in found} == {""}
    assert {s.input.shape for s in found} == {SHAPE}


def test_pairs_and_their_parts_come_from_a_table(tmp_path):
    stacks(tmp_path, 3)
    parts = ("train", "validation", "test")
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = [(f"in/{i}.tif", f"gt/{i}.tif", part) for i, part in enumerate(parts)]
        csv.writer(file).writerows([("input", "target", "split"), *rows])
    found = open_pairs({"root": str(tmp_path), "csv": "pairs.csv"})
    assert [s.split for s in found] == list(parts)
    train, select = split_pairs(found, 0.1, GAP)
    assert ([s.input.name for s in train], [s.input.name for s in select]) == (["0"], ["1"])


def test_pairs_come_from_npz(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "care.npz", X=rng.random((3, 1, 4, 8, 8)), Y=rng.random((3, 2, 4, 8, 8)),
        axes="SCZYX",
    )  # fmt: skip
    found = open_pairs({"root": str(tmp_path), "npz": "care.npz"})
    assert [s.input.name for s in found] == ["care_0", "care_1", "care_2"]
    assert found[0].target.sizes == {"C": 2, "Z": 4, "Y": 8, "X": 8}


def test_channels_are_chosen_on_each_side(tmp_path):
    array = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    image = Image(array, "ZCYX", channel_names=("light", "dna", "er"))
    writers.write(tmp_path / "a.ome.tif", image)
    data = {"root": str(tmp_path), "inputs": "a.ome.tif", "targets": "a.ome.tif"}
    chosen = {"input_channels": [0], "target_channels": ["er", 1]}
    (found,) = open_pairs(data | chosen)
    np.testing.assert_array_equal(found.input.numpy("CZYX")[0], array[:, 0])
    np.testing.assert_array_equal(found.target.numpy("ZCYX"), array[:, [2, 1]])
    with pytest.raises(ValueError, match=r"has no channel 'rna': it has 3 \(light, dna, er\)"):
        open_pairs(data | {"input_channels": ["rna"]})


def test_regions_cut_parts_out_of_every_image(tmp_path):
    regions = {"train": {"X": [0, 40]}, "validation": {"X": [48, 64], "Y": [0, 16]}}
    data = {**data_of(stacks(tmp_path)), "regions": regions}
    train, select = split_pairs(open_pairs(data), 0.1, GAP)
    assert {s.input.shape for s in train} == {s.target.shape for s in train} == {(8, 32, 40)}
    assert {s.input.shape for s in select} == {(8, 16, 16)}
    assert len(train) == len(select) == 2
    data["regions"] = {"train": {"X": [0, 81]}}
    with pytest.raises(ValueError, match=r"The region X: \[0, 81\] is not inside 0 with axes ZYX"):
        open_pairs(data)


def test_a_projection_has_regions_of_its_stack_along_z(tmp_path):
    data = data_of(stacks(tmp_path, task="projection"))
    data["regions"] = {"train": {"Z": [0, 4], "X": [0, 32]}}
    found = open_pairs(data)
    assert (found[0].input.shape, found[0].target.shape) == ((4, 32, 32), (32, 32))


@pytest.mark.parametrize(
    "data, error, message",
    [
        ({}, ValueError, "must name its files in one way.*Received: none of them"),
        ({"npz": "a", "csv": "b"}, ValueError, "Received: .*csv.*npz"),
        ({"npz": "none.npz"}, FileNotFoundError, r"no file matches .*none\.npz"),
        ({"csv": "none.csv"}, FileNotFoundError, r"No such table of pairs: .*none\.csv"),
        ({"inputs": "in/*", "targets": "xx/*"}, FileNotFoundError, r"no file matches .*xx/\*"),
        ({"inputs": "in/0*", "targets": "gt/*"}, ValueError, r"do not pair up"),
        ({"inputs": "in/*"}, ValueError, r"`inputs` with `targets`. Received: \['inputs'\]"),
    ],
)
def test_data_that_are_not_there_are_named(tmp_path, data, error, message):
    data = {"root": str(stacks(tmp_path)), **data}
    with pytest.raises(error, match=message):
        open_pairs(data)


def test_an_unknown_key_of_the_data_names_the_nearest(tmp_path):
    with pytest.raises(
        ValueError, match=r"`key of data` cannot be 'target'\. Did you mean 'target"
    ):
        open_pairs(data_of(stacks(tmp_path)) | {"target": "gt/*"})


def test_the_data_of_a_typed_recipe_are_opened_where_they_are_given(tmp_path):
    @dataclass
    class Data:
        root: str
        inputs: str = "in/*.tif"
        targets: str = "gt/*.tif"
        pair_by: str | None = None
        regions: dict | None = None
        resize: tuple = ()

    root = str(stacks(tmp_path))
    assert [p.input.name for p in open_pairs(Data(root))] == ["0", "1"]
    assert [p.split for p in open_pairs(Data(root, regions={"test": {"X": (0, 8)}}))] == [
        "test"
    ] * 2


# Validation.


@pytest.mark.parametrize("share, kept", [(0.1, [5]), (0.2, [5]), (0.34, [2, 5]), (0.5, [1, 3, 5])])
def test_from_five_files_on_whole_files_are_kept(share, kept):
    train, select = split_pairs([pair(20 + i) for i in range(6)], share, GAP)
    assert widths(select) == [20 + i for i in kept]
    assert widths(train) == [20 + i for i in range(6) if i not in kept]


def test_below_five_files_the_end_of_x_is_kept_behind_a_gap_of_one_patch():
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32), (4, 4, 100))
    pair = Image(ramp, "ZYX", name="ramp"), Image(-ramp, "ZYX", name="ramp")
    (train,), (select,) = split_pairs([TrainingPair(*pair)], 0.25, GAP)
    np.testing.assert_array_equal(train.input.array[0, 0], np.arange(59))
    np.testing.assert_array_equal(select.input.array[0, 0], np.arange(75, 100))
    np.testing.assert_array_equal(select.target.array, -select.input.array)
    # A share below one patch would leave nothing to look at: one patch is the least.
    (train,), (select,) = split_pairs([TrainingPair(*pair)], 0.01, GAP)
    assert widths([train, select]) == [68, 16]


def test_an_image_too_small_to_be_divided_is_named():
    assert widths(split_pairs([pair(48)], 0.1, GAP)[0]) == [16]
    with pytest.raises(ValueError, match=r"flat has 47 voxels along X: too few to keep 16"):
        split_pairs([pair(47)], 0.1, GAP)


def test_nothing_is_kept_where_no_share_is_asked_for():
    train, select = split_pairs([pair(20)] * 7, 0, GAP)
    assert (len(train), len(select)) == (7, 0)


def test_the_report_part_is_neither_trained_on_nor_chosen_by():
    samples = [pair(20, "train"), pair(21, "test"), pair(22, "validation")]
    train, select = split_pairs(samples, 0, GAP)
    assert (widths(train), widths(select)) == ([20], [22])


def test_frames_of_a_movie_stay_on_one_side():
    movie = flat({"T": 3}, "TZYX", "movie"), flat({"T": 3}, "TZYX", "movie")
    train, select = split_pairs([TrainingPair(*movie) for _ in range(5)], 0.1, GAP)
    assert (len(train), len(select)) == (12, 3)
    assert [s.input.name for s in select] == ["movie[T0]", "movie[T1]", "movie[T2]"]
    assert {s.input.axes for s in train + select} == {"ZYX"}
    stack, plane = flat({"Z": 3}, name="stack"), flat({}, "YX", "plane")
    with pytest.raises(ValueError, match="stack has 3 entries along Z, plane has 1"):
        TrainingPair(stack, plane).split_along("Z")


# Regions.


def test_a_crop_remembers_the_whole_input_and_where_it_lay_in_it():
    ramp = np.arange(40 * 50).reshape(40, 50)
    one = TrainingPair(Image(ramp, "YX"), Image(-ramp, "YX"))
    assert (one.around, one.origin) == (None, {})
    first = one.crop({"Y": (10, 30), "X": (5, 45)})
    second = first.crop({"X": (10, 20)})
    assert (first.origin, second.origin) == ({"Y": 10, "X": 5}, {"Y": 10, "X": 15})
    assert first.around is second.around is one.input
    y, x = second.origin["Y"], second.origin["X"]
    np.testing.assert_array_equal(second.input.array, ramp[y : y + 20, x : x + 10])
    np.testing.assert_array_equal(second.target.array, -second.input.array)


def test_a_region_is_measured_on_the_whole_input_and_its_own_target():
    ramp = np.arange(100.0).reshape(10, 10)
    whole = TrainingPair(Image(ramp, "YX"), Image(-ramp, "YX"))
    part = whole.crop({"Y": (0, 5)}).measure("unit", "unit")
    assert (part.input_affine.offset, part.input_affine.gain) == (49.5, 49.5)
    assert (part.target_affine.offset, part.target_affine.gain) == (-24.5, 24.5)
    alone = TrainingPair(part.input, part.target).measure("unit", "unit")
    assert alone.input_affine.offset == 24.5
    # What is measured stays with every part of it.
    assert part.crop({"X": (0, 5)}).input_affine is part.input_affine


def test_an_unknown_split_names_the_nearest():
    with pytest.raises(ValueError, match=r"`split` cannot be 'valid'\. Did you mean 'validation'"):
        pair(8, "valid")


@pytest.mark.parametrize("letter", ["T", "Z"])
def test_a_frame_of_a_region_lies_in_the_same_frame_of_the_whole(letter):
    series = np.arange(5 * 6 * 8).reshape(5, 6, 8)
    image = Image(series, f"{letter}YX", name="movie")
    one = TrainingPair(image, image).crop({letter: (1, 4), "X": (2, 8)})
    frames = one.split_along(letter)
    assert len(frames) == 3
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.around.array, series[1 + i])
        np.testing.assert_array_equal(frame.input.array, series[1 + i, :, 2:8])
        assert (frame.around.axes, frame.origin["X"]) == ("YX", 2)


def test_a_block_at_the_end_of_x_still_sees_the_whole():
    wide = Image(np.arange(4 * 100.0).reshape(4, 100), "YX", name="wide")
    (train,), (select,) = split_pairs([TrainingPair(wide, wide)], 0.25, GAP)
    assert train.around is select.around is wide
    assert (train.origin, select.origin) == ({"X": 0}, {"X": 75})


def test_an_image_without_an_axis_is_passed_over():
    one = pair(8)
    assert one.split_along("T") == [one]


# Virtual staining.


def test_wells_are_samples_and_those_for_testing_are_reported(tmp_path):
    well(tmp_path / "train" / "Finkbeiner" / "kevan_0_8", labels=[DAPI, MAP2, NFH])
    well(tmp_path / "test" / "Finkbeiner" / "kevan_0_8", "B2", [DAPI])
    found = open_pairs({"root": str(tmp_path), "wells": "."})
    assert [(s.input.name[-2:], s.split) for s in found] == [("A4", ""), ("B2", "test")]
    assert {s.input.axes for s in found} == {"CYX"}
    assert found[0].target.channel_names == file_names.LABELS
    assert [sum(s.target.missing) for s in found] == [5, 7]

    chosen = open_pairs(
        {"root": str(tmp_path), "wells": ".", "split": "train", "labels": [NFH, MAP2]}
    )
    assert [s.target.channel_names for s in chosen] == [(NFH, MAP2)]
    assert not any(chosen[0].target.missing)
    with pytest.raises(ValueError, match="conditions='E'"):
        open_pairs({"root": str(tmp_path), "wells": ".", "conditions": "E"})
    with pytest.raises(FileNotFoundError, match=r"No such folder: .*none"):
        open_pairs({"root": str(tmp_path), "wells": "none"})


def test_planes_and_regions_of_wells_are_chosen_without_decoding_the_rest(tmp_path, monkeypatch):
    well(tmp_path, planes=5)
    seen, read = [], png.read
    monkeypatch.setattr(png, "read", lambda path: seen.append(path.name) or read(path))
    data = {
        "root": str(tmp_path), "wells": ".", "labels": [DAPI], "input_channels": [1, 2],
        "regions": {"train": {"X": [0, 40]}, "validation": {"X": [40, 64]}},
    }  # fmt: skip
    train, select = open_pairs(data)
    assert (train.split, select.split) == ("train", "validation")
    assert seen == []
    np.testing.assert_array_equal(select.input.numpy(), select.around.numpy()[..., 40:])
    assert train.input.channel_names == ("z1", "z2")
    assert {name.split("z_depth-")[1][:1] for name in seen} == {"1", "2"}


def test_keys_of_the_wells_beside_other_files_are_refused(tmp_path):
    values = data_of(stacks(tmp_path)) | {"labels": [DAPI], "conditions": "B"}
    text = "`conditions`, `labels` are of the in-silico labeling data .*Received: 'inputs'"
    with pytest.raises(ValueError, match=text):
        open_pairs(values)


def test_a_pair_is_resized_once_it_was_measured(tmp_path):
    values = data_of(stacks(tmp_path)) | {"resize": [1, 0.5, 2]}
    first = open_pairs(values)[0]
    assert first.input.shape == SHAPE
    z, y, x = SHAPE
    resized = first.resize_to_network()
    assert resized.input.shape == resized.target.shape == (z, round(y / 2), 2 * x)
    assert resized.resize_to_network() is resized
    measured = first.measure("unit", "unit")
    assert measured.resize_to_network().input_affine is measured.input_affine
    # Its whole input has voxels of another size.
    cut = first.crop({"X": (0, 32)}).resize_to_network()
    assert (cut.input.shape, cut.around, cut.origin) == ((z, round(y / 2), 64), None, {})
    sized = TrainingPair(*(flat({}, "YX"),) * 2, resize=(2, 0.5))
    with_size = Image(np.zeros((4, 4), np.float32), "YX", {"Y": 1.0, "X": 0.5})
    again = TrainingPair(with_size, with_size, resize=sized.resize).resize_to_network()
    assert (again.input.shape, again.input.voxel_size) == ((8, 2), {"Y": 0.5, "X": 1.0})


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"resize": [1, 0, 1]}, r"`resize` has a factor above zero .*Received: \[1, 0, 1\]"),
        ({"resize": [1]}, r"`resize` has a factor above zero for Z, Y and X"),
        ({"resize": [1, 1, 1], "regions": {"train": {"X": [0, 4]}}}, "use only one"),
    ],
)
def test_a_resize_that_cannot_be_is_refused(tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        open_pairs(data_of(stacks(tmp_path)) | changes)
