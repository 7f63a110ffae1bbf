import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from gvtnets_tf.data.pairing import Row, check_pairs, expand, from_csv, match
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write

STEMS = st.text("abz019_- ", min_size=1, max_size=6).map(lambda s: f"x{s}x")


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(paths):
    return [path.name for path in paths]


# Which files.


def test_a_folder_and_a_glob_give_images_in_natural_order(tmp_path):
    touch(tmp_path, "z10.tif", "z2.tif", "z1.ome.tif", "notes.txt", ".hidden.tif")
    touch(tmp_path / "b.zarr", "zarr.json")
    assert names(expand(tmp_path)) == ["b.zarr", "z1.ome.tif", "z2.tif", "z10.tif"]
    assert names(expand(f"{tmp_path}/z*.tif")) == ["z1.ome.tif", "z2.tif", "z10.tif"]
    assert names(expand(tmp_path / "b.zarr")) == ["b.zarr"]
    assert names(expand([tmp_path / "z10.tif", f"{tmp_path}/z1*"])) == [
        "z10.tif",
        "z1.ome.tif",
        "z10.tif",
    ]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    touch(tmp_path, "a[1].tif", "a1.tif")
    assert names(expand(tmp_path / "a[1].tif")) == ["a[1].tif"]


def test_nothing_found_names_the_pattern(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file matches .*none\*\.tif \(quote"):
        expand(f"{tmp_path}/none*.tif")
    with pytest.raises(FileNotFoundError, match="no image in the folder"):
        expand(touch(tmp_path / "empty", "notes.txt"))
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        expand([tmp_path / "none.tif"])


# Which with which.


@given(stems=st.lists(STEMS, min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_pairing_by_name_is_a_bijection_whatever_the_order(tmp_path_factory, stems, seed):
    folder = tmp_path_factory.mktemp("pairs")
    inputs = [touch(folder / "in", f"{s}.tif") / f"{s}.tif" for s in stems]
    targets = [touch(folder / "gt", f"{s}.ome.tif") / f"{s}.ome.tif" for s in stems]
    shuffle = random.Random(seed).shuffle
    shuffle(inputs)
    shuffle(targets)
    pairs = match(inputs, targets)
    assert [x for x, _ in pairs] == inputs
    assert sorted(y for _, y in pairs) == sorted(targets)
    assert all(x.name.split(".")[0] == y.name.split(".")[0] for x, y in pairs)
    assert sorted(pairs) == sorted(match(folder / "in", folder / "gt"))


@pytest.mark.parametrize(
    "inputs, targets, files",
    [
        ("in/img_*.tif", "gt/mask_*.tif", ["in/img_{}.tif", "gt/mask_{}.tif"]),
        ("*_ch1.tif", "*_ch2.tif", ["{}_ch1.tif", "{}_ch2.tif"]),
        ("*/input.tif", "*/target.tif", ["{}/input.tif", "{}/target.tif"]),
        ("**/x-*.tif", "**/y-*.tif", ["deep/er/x-{}.tif", "deep/er/y-{}.tif"]),
        ("w[1-9]?/a.tif", "w[!0]?/b.tif", ["w1{}/a.tif", "w1{}/b.tif"]),
    ],
)
def test_pairing_by_what_the_wildcards_match(tmp_path, inputs, targets, files):
    expected = []
    for key in "312":
        pair = [tmp_path / name.format(key) for name in files]
        for path in pair:
            touch(path.parent, path.name)
        expected.append(tuple(pair))
    assert match(f"{tmp_path}/{inputs}", f"{tmp_path}/{targets}") == sorted(expected)


def test_globs_of_different_shape_fall_back_to_names(tmp_path):
    touch(tmp_path / "in", "a_1.tif", "a_2.tif")
    touch(tmp_path / "gt", "a_1.png", "a_2.png")
    pairs = match(f"{tmp_path}/in/*_*.tif", f"{tmp_path}/gt/*.png")
    assert [names(pair) for pair in pairs] == [["a_1.tif", "a_1.png"], ["a_2.tif", "a_2.png"]]


def test_leftovers_on_either_side_are_listed(tmp_path):
    touch(tmp_path / "in", "a.tif", "b.tif", "c.tif")
    touch(tmp_path / "gt", "c.tif", "d.tif")
    with pytest.raises(
        ValueError, match=r"No target for .*a\.tif, .*b\.tif\. No input for .*d\.tif"
    ):
        match(tmp_path / "in", tmp_path / "gt")


def test_a_name_that_occurs_twice_is_an_error(tmp_path):
    touch(tmp_path / "in", "a.tif", "a.png")
    touch(tmp_path / "gt", "a.tif")
    with pytest.raises(ValueError, match=r"Which one is meant, of .*a\.png, .*a\.tif\?"):
        match(tmp_path / "in", tmp_path / "gt")
    with pytest.raises(ValueError, match=r"Which one is meant"):
        match(tmp_path / "gt", tmp_path / "in")


def test_order_pairs_only_on_request_and_only_equal_counts(tmp_path):
    touch(tmp_path / "in", "a2.tif", "a10.tif")
    touch(tmp_path / "gt", "x3.tif", "x20.tif")
    with pytest.raises(ValueError, match="do not pair up"):
        match(tmp_path / "in", tmp_path / "gt")
    pairs = match(tmp_path / "in", tmp_path / "gt", pair_by="order")
    assert [names(pair) for pair in pairs] == [["a2.tif", "x3.tif"], ["a10.tif", "x20.tif"]]
    touch(tmp_path / "gt", "x4.tif")
    with pytest.raises(ValueError, match="2 inputs and 3 targets"):
        match(tmp_path / "in", tmp_path / "gt", pair_by="order")
    with pytest.raises(ValueError, match=r"`pair_by` cannot be 'nmae'\. Did you mean 'name'"):
        match(tmp_path / "in", tmp_path / "gt", pair_by="nmae")


def test_two_named_files_are_a_pair_whatever_their_names(tmp_path):
    touch(tmp_path, "a.tif", "b.tif")
    touch(tmp_path / "c.zarr", "zarr.json")
    a, b, c = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.zarr"
    assert match(a, str(b)) == [(a, b)]
    assert match([str(a)], c) == [(a, c)]
    # A glob or a folder is a search: what it happens to find must have the same name.
    for inputs, targets in (
        (f"{tmp_path}/a*.tif", b),
        ([a, b], b),
        (a, tmp_path / "c.zarr" / ".."),
    ):
        with pytest.raises(ValueError, match="do not pair up"):
            match(inputs, targets)


# Tables.


def table(folder, text):
    touch(folder, "a.tif", "b.tif", "c.czi")
    (folder / "pairs.csv").write_text(text)
    return folder / "pairs.csv"


@pytest.mark.parametrize(
    "text, row",
    [
        ("input,target\na.tif,b.tif\n", Row(Path("a.tif"), Path("b.tif"))),
        (
            "split,target,input\nvalidation,b.tif,a.tif\n",
            Row(Path("a.tif"), Path("b.tif"), "validation"),
        ),
        ("\ufeffpath_signal, path_target\na.tif,b.tif\n", Row(Path("a.tif"), Path("b.tif"))),
        (
            "structure,path_czi,channel_signal,channel_target\ndna,c.czi,6,3\n",
            Row(Path("c.czi"), Path("c.czi"), "train", 6, 3),
        ),
    ],
)
def test_tables_in_use_are_read_relative_to_their_folder(tmp_path, text, row):
    (found,) = from_csv(table(tmp_path, text))
    expected = Row(
        tmp_path / row.input,
        tmp_path / row.target,
        row.split,
        row.input_channel,
        row.target_channel,
    )
    assert found == expected


def test_a_root_replaces_the_folder_of_the_table(tmp_path):
    touch(tmp_path / "data", "a.tif", "b.tif")
    path = touch(tmp_path / "tables") / "pairs.csv"
    path.write_text("input,target\na.tif,b.tif\n")
    assert from_csv(path, root=tmp_path / "data")[0].input == tmp_path / "data" / "a.tif"


@pytest.mark.parametrize(
    "text, error, message",
    [
        (
            "signal,target\na.tif,b.tif\n",
            ValueError,
            "must have the columns input,target or .*signal",
        ),
        ("path_czi\nc.czi\n", ValueError, "must have the columns.*Received: path_czi"),
        ("", ValueError, "Received: nothing"),
        ("input,target\n", ValueError, "a header and no rows"),
        ("input,target\na.tif,b.tif\na.tif\n", ValueError, "row 2 has nothing under target"),
        ("input,target\na.tif,x.tif\n", FileNotFoundError, r"row 1 names a file .*x\.tif"),
        ("input,target,split\na.tif,b.tif,tarin\n", ValueError, "row 1.*Did you mean 'train'"),
        (
            "path_czi,channel_signal,channel_target\nc.czi,-1,two\n",
            ValueError,
            "row 1: channels are counted 0, 1, 2",
        ),
    ],
)
def test_a_table_says_which_row_is_wrong(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        from_csv(table(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such table of pairs: .*none\.csv"):
        from_csv(tmp_path / "none.csv")


# Do they belong together?


def cells(seed=0, shape=(6, 96, 112), blur=3):
    """Blobs and, for a second modality, their inverse on another scale."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=shape), (1, blur, blur)) > 0.02
    soft = gaussian_filter(blobs.astype(float), (0.5, 1, 1))
    noise = rng.normal(size=(2, *shape))
    return np.uint16(1000 + 500 * soft + 20 * noise[0]), np.uint16(900 - 300 * soft + 20 * noise[1])


def saved(folder, name, pixels, axes="ZYX"):
    path = folder / f"{name}.tif"
    return write(path, Image(pixels, axes[-pixels.ndim :]))


def check(tmp_path, x, y, **kwargs):
    pair = saved(tmp_path, "x", x), saved(tmp_path, "y", y)
    return pair, check_pairs([pair], **kwargs)


@pytest.mark.parametrize("seed", range(3))
def test_a_good_pair_of_two_modalities_is_silent(tmp_path, seed):
    assert check(tmp_path, *cells(seed))[1] == []


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_images_are_not_called_shifted(tmp_path, seed):
    assert check(tmp_path, cells(seed)[0], cells(seed + 50)[1])[1] == []


@pytest.mark.parametrize("dy, dx", [(5, -7), (-4, 0), (0, 3), (12, 10)])
def test_a_known_shift_is_found_and_undone(tmp_path, dy, dx):
    x, y = cells(shape=(6, 140, 140))
    a = x[:, 20:120, 20:120]
    b = y[:, 20 + dy : 120 + dy, 20 + dx : 120 + dx]
    pair, (finding,) = check(tmp_path, a, b)
    assert (finding.pair, finding.level) == (pair, "warning")
    assert f"moving it by {dy} pixels along Y and {dx} along X" in finding.message


def test_a_shift_of_a_projection_is_found_too(tmp_path):
    x, _ = cells(shape=(4, 140, 140), blur=5)
    assert check(tmp_path, x, x.max(0))[1] == []
    b = np.roll(x.max(0), (-6, 8), (0, 1))
    (finding,) = check_pairs([(tmp_path / "x.tif", saved(tmp_path, "shifted", b))])
    assert "moving it by 6 pixels along Y and -8 along X" in finding.message


def spoiled(kind):
    x, y = cells()
    if kind == "size":
        y = y[:, :, :-1]
    elif kind == "depth":
        y = y[:-1]
    elif kind == "constant":
        y = np.full_like(y, 7)
    elif kind == "saturated":
        y = np.where(np.random.default_rng(0).random(y.shape) < 0.05, 65535, y).astype("uint16")
    elif kind == "nan":
        y = y.astype("float32")
        y[0, 0, :3] = np.nan
    elif kind == "complex":
        y = y.astype("complex64")
    return x, y


@pytest.mark.parametrize(
    "kind, level, message",
    [
        ("size", "error", "Sizes differ along X: input ZYX (6, 96, 112), target ZYX (6, 96, 111)."),
        (
            "depth",
            "error",
            "Sizes differ along Z: input ZYX (6, 96, 112), target ZYX (5, 96, 112).",
        ),
        ("constant", "error", "The target is constant: all values are 7."),
        ("saturated", "warning", "The target is saturated: 5.0% of its voxels are 65535."),
        ("nan", "error", f"The target holds 3 NaN or infinite values of {6 * 96 * 112}."),
        ("complex", "error", "The target is of complex64, which cannot be trained on."),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(tmp_path, kind, level, message):
    pair, findings = check(tmp_path, *spoiled(kind))
    assert [(f.pair, f.level, f.message) for f in findings] == [(pair, level, message)]


def test_a_broken_file_is_a_finding_and_the_others_are_still_checked(tmp_path):
    x, y = cells()
    good = saved(tmp_path, "x", x), saved(tmp_path, "y", y)
    broken = saved(tmp_path, "x2", x), touch(tmp_path, "y2.tif") / "y2.tif"
    constant = good[0], saved(tmp_path, "y3", np.zeros_like(y))
    findings = check_pairs([broken, good, constant])
    assert [(f.pair, f.level) for f in findings] == [(broken, "error"), (constant, "error")]
    assert "y2.tif is empty (0 bytes)" in findings[0].message


def test_a_file_of_another_dtype_than_its_fellows_is_named(tmp_path):
    pairs = []
    for i in range(3):
        x, y = cells(i)
        y = y.astype("float32") if i == 1 else y
        pairs.append((saved(tmp_path, f"x{i}", x), saved(tmp_path, f"y{i}", y)))
    (finding,) = check_pairs(pairs)
    assert finding.pair == pairs[1]
    assert finding.message == "The target is of float32, most others are of uint16."


def test_only_the_chosen_channels_are_looked_at(tmp_path):
    x, y = cells()
    both = np.stack([x, np.zeros_like(x), y])
    path = saved(tmp_path, "both", both, axes="CZYX")
    pair = (path, path)
    assert check_pairs([pair], input_channels=[0], target_channels=[2]) == []
    findings = check_pairs([pair], input_channels=[0], target_channels=[0, 1])
    assert [f.message for f in findings] == [
        "The target, channel 1, is constant: all values are 0."
    ]
    (finding,) = check_pairs([pair], input_channels=[5])
    assert "has no channel 5" in finding.message


def test_axes_of_the_input_serve_a_target_without_z(tmp_path):
    x, _ = cells()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x.max(0))
    assert check_pairs([(tmp_path / "x.npy", tmp_path / "y.npy")], axes="zyx") == []


@pytest.mark.shared
def test_registered_real_pairs_are_silent_and_shifted_ones_are_not(microscopy, tmp_path):
    from gvtnets_tf.images.readers import read

    folder = microscopy / "w2s-8bit"
    pairs = match(f"{folder}/train_*_avg1.tif", f"{folder}/train_*_avg400.tif")[:3]
    assert not [f for f in check_pairs(pairs) if "shifted" in f.message]
    for i, (noisy, clean) in enumerate(pairs):
        x, y = read(noisy).numpy()[0], read(clean).numpy()[0]
        pair = (
            saved(tmp_path, f"x{i}", x[20:-20, 20:-20]),
            saved(tmp_path, f"y{i}", y[26:-14, 20:-20]),
        )
        assert "moving it by 6 pixels along Y and 0" in check_pairs([pair])[-1].message
