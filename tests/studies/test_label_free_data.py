"""The label-free data set: rows, channels, resizing and cropping as published."""

import numpy as np
import pytest
import tifffile

from gvtnets_tf.data import pairing
from gvtnets_tf.evaluation import metrics
from gvtnets_tf.images import readers
from gvtnets_tf.images.image import Image
from gvtnets_tf.studies import label_free_data, label_free_volumes

PIXEL = {"PhysicalSizeX": 0.108, "PhysicalSizeY": 0.108, "PhysicalSizeZ": 0.29}
NAMES = ["light", "DNA", "ER"]


def volume(path, shape=(3, 4, 20, 24), seed=0, words=PIXEL, names=NAMES):
    """Write an OME-TIFF of three channels; return its pixels."""
    pixels = np.random.default_rng(seed).integers(100, 4000, shape).astype("uint16")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"axes": "CZYX", **words, **({"Channel": {"Name": names}} if names else {})}
    tifffile.imwrite(path, pixels, metadata=metadata)
    return pixels


def data_set(root, name="dna", train=3, test=2, channels=(0, 1), folder="tom20", **how):
    """Write a data set of one structure, its columns in another order than usual."""
    head, count = "channel_target,path_czi,plate,channel_signal", 0
    for table, rows in (("train", train), ("test", test)):
        lines = [head]
        for _ in range(rows):
            path = f"{folder}/{count}.ome.tif"
            volume(root / path, seed=count, **how)
            lines.append(f"{channels[1]},{path},3500,{channels[0]}")
            count += 1
        (root / name).mkdir(exist_ok=True)
        (root / name / f"{table}.csv").write_text("\n".join(lines) + "\n")
    return root


def written(path, *args, **kwargs):
    """Choose volumes, write the table, and give the factors."""
    table = label_free_data.choose_volumes(*args, **kwargs)
    table.write(path)
    return table.resize


def counted(train=2, select=1, report=2):
    return {"train": train, "validation": select, "test": report}


def test_the_rows_that_are_asked_for_become_a_table_of_pairs(tmp_path):
    root = data_set(tmp_path / "data")
    resize = written(tmp_path / "dna.csv", "dna", root, counted())
    assert resize == (1, 0.37241, 0.37241)
    rows = pairing.read_pairs_csv(tmp_path / "dna.csv", root)
    assert [row.split for row in rows] == ["train", "train", "validation", "test", "test"]
    assert [row.input.name for row in rows] == [f"{i}.ome.tif" for i in range(5)]
    assert {(row.input_channel, row.target_channel) for row in rows} == {(0, 1)}
    with pytest.raises(FileExistsError, match="--force"):
        written(tmp_path / "dna.csv", "dna", root, counted())


def test_tables_with_fewer_rows_than_published_are_taken_whole(tmp_path):
    root = data_set(tmp_path / "data")
    written(tmp_path / "dna.csv", "dna", root)
    rows = pairing.read_pairs_csv(tmp_path / "dna.csv", root)
    assert [row.split for row in rows] == ["train"] * 3 + ["test"] * 2
    with pytest.raises(ValueError, match=r"train\.csv has 3 rows: too few to train on 3 and to"):
        written(tmp_path / "b.csv", "dna", root, counted(train=3))


def test_files_of_rows_that_are_not_asked_for_need_not_be_there(tmp_path):
    root = data_set(tmp_path / "data")
    (root / "tom20" / "2.ome.tif").unlink()
    written(tmp_path / "dna.csv", "dna", root, counted(select=0))
    with pytest.raises(
        FileNotFoundError, match=r"dna.train\.csv, row 3: No such file.*2\.ome\.tif"
    ):
        written(tmp_path / "b.csv", "dna", root, counted())
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize("given, expected", [((0, "ER"), (0, 2)), (("DNA", "0"), (1, 0))])
def test_channels_are_chosen_by_number_or_name(tmp_path, given, expected):
    root = data_set(tmp_path / "data", channels=("light", "DNA"))
    written(tmp_path / "a.csv", "dna", root, counted())
    written(tmp_path / "b.csv", "dna", root, counted(), channels=given)
    for name, channels in (("a", (0, 1)), ("b", expected)):
        rows = pairing.read_pairs_csv(tmp_path / f"{name}.csv", root)
        assert {(row.input_channel, row.target_channel) for row in rows} == {channels}


def test_a_missing_channel_names_the_row_the_channels_and_the_published_ones(tmp_path):
    root = data_set(tmp_path / "data", channels=(6, 5))
    message = (
        r"train\.csv, row 1: 0 has no channel 6: it has 3 \(light, DNA, ER\).*"
        r"The published tables say 6 and 5 or 3 and 2"
    )
    with pytest.raises(ValueError, match=message):
        written(tmp_path / "a.csv", "dna", root)
    with pytest.raises(ValueError, match=r"row 1: 0 has no channel 'GFP'"):
        written(tmp_path / "a.csv", "dna", root, channels=("light", "GFP"))


def test_an_unknown_structure_names_the_nearest(tmp_path):
    root = data_set(tmp_path / "data", name="tom_20")
    with pytest.raises(ValueError, match=r"`structure` cannot be 'tom_20'.*'tom20'"):
        written(tmp_path / "a.csv", "tom_20", root)
    with pytest.raises(ValueError, match="Did you mean 'zo1'"):
        label_free_data.make_recipe("zo-1", "fnet", root, tmp_path / "a.csv")
    with pytest.raises(FileNotFoundError, match=r"There is no table .*zo1.train\.csv"):
        written(tmp_path / "a.csv", "zo1", root)


@pytest.mark.parametrize("words", [{}, {**PIXEL, "PhysicalSizeY": 0.0}])
def test_a_voxel_size_of_zero_or_none_is_named_and_can_be_given(tmp_path, words):
    root = data_set(tmp_path / "data", words=words)
    message = r"row 1: 0 has no voxel size along (Z, Y, X|Y), or one of zero.*--resize 1 0\.37241"
    with pytest.raises(ValueError, match=message):
        written(tmp_path / "a.csv", "dna", root)
    resize = (1, 0.5, 0.5)
    assert written(tmp_path / "a.csv", "dna", root, resize=resize) == resize


def test_a_voxel_size_of_its_own_decides_by_how_much_a_volume_is_resized(tmp_path):
    root = data_set(tmp_path / "data", words={**PIXEL, "PhysicalSizeX": 0.145})
    resize = written(tmp_path / "a.csv", "dna", root)
    assert resize == pytest.approx((1, 0.108 / 0.29, 0.5))
    volume(root / "tom20" / "1.ome.tif", words=PIXEL)
    with pytest.raises(
        ValueError, match=r"of dna have different voxel sizes.*4 by .*1 by \(1, 0\."
    ):
        written(tmp_path / "b.csv", "dna", root)


def test_an_incomplete_row_an_empty_table_and_a_time_series_are_named(tmp_path):
    root = data_set(tmp_path / "data")
    table = root / "dna" / "train.csv"
    table.write_text("path_czi,channel_signal\na.tif,3\n")
    with pytest.raises(ValueError, match=r"train\.csv, row 1 has nothing under channel_target"):
        written(tmp_path / "a.csv", "dna", root)
    table.write_text("path_czi,channel_signal,channel_target\n")
    with pytest.raises(ValueError, match=r"train\.csv has no rows"):
        written(tmp_path / "a.csv", "dna", root)
    pixels = np.ones((2, 3, 4, 8, 8), "uint16")
    tifffile.imwrite(root / "t.ome.tif", pixels, metadata={"axes": "TCZYX"})
    table.write_text("path_czi,channel_signal,channel_target\nt.ome.tif,0,1\n")
    with pytest.raises(ValueError, match=r"row 1: .*t\.ome\.tif is a time series of 2 frames"):
        written(tmp_path / "a.csv", "dna", root)


def test_a_czi_is_prepared_like_any_other(tmp_path):
    from microscope_files import counts, czi

    pixels = counts(2, 4, 40, 44)
    path = czi(
        tmp_path / "a.czi", pixels, ["light", "DNA"], {"X": 0.108, "Y": 0.108, "Z": 0.29}, "CZ"
    )
    (tmp_path / "dna").mkdir()
    for name in ("train", "test"):
        table = "path_czi,channel_signal,channel_target\na.czi,0,DNA\n"
        (tmp_path / "dna" / f"{name}.csv").write_text(table)
    resize = written(tmp_path / "t.csv", "dna", tmp_path)
    row = pairing.read_pairs_csv(tmp_path / "t.csv", tmp_path)[0]
    assert (row.input, row.target_channel, resize[1]) == (path, 1, 0.37241)
    signal, target = label_free_volumes.prepare_pair(row, (1, 1, 1))
    assert metrics.pearson(target.array, pixels[1]) == pytest.approx(1)
    assert signal.array.mean() == pytest.approx(0, abs=1e-5)


def test_thirteen_structures_are_known_by_numbers_that_agree():
    assert len(label_free_data.STRUCTURES) == 13
    for known in label_free_data.STRUCTURES.values():
        leads_to = [known.voxel_size[a] / label_free_data.CUBE for a in "ZYX"]
        assert known.resize == pytest.approx(leads_to, rel=1e-3)
        assert known.label
    factors = {name: s.resize[1] for name, s in label_free_data.STRUCTURES.items()}
    assert (factors["dna"], factors["dic_lamin_b1"]) == (0.37241, 0.5931)
    assert factors["membrane_caax_63x"] == 0.29655
    image = Image(np.zeros((2, 2, 2)), "ZYX", {"Z": 0.29, "Y": 0.1081, "X": 0.1079}, name="a")
    assert label_free_data.compute_resize(image, "dna") == (1, 0.37241, 0.37241)


def test_the_files_of_a_table_can_be_read_by_a_recipe(tmp_path):
    root = data_set(tmp_path / "data")
    written(tmp_path / "dna.csv", "dna", root, counted())
    row = pairing.read_pairs_csv(tmp_path / "dna.csv", root)[0]
    image = readers.read(row.input).select_channels([row.input_channel])
    assert (image.channel_names, image.axes) == (("light",), "CZYX")
