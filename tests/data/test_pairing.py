import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wells import well

from gvtnets_tf.data.pairing import PairPaths, match_pairs, read_pairs_csv

STEMS = st.text("abz019_- ", min_size=1, max_size=6).map(lambda s: f"x{s}x")


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def names(paths):
    return [path.name for path in paths]


# Files.


@given(stems=st.lists(STEMS, min_size=1, max_size=6, unique=True), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_pairing_by_name_is_a_bijection_whatever_the_order(tmp_path_factory, stems, seed):
    folder = tmp_path_factory.mktemp("pairs")
    inputs = [touch(folder / "in", f"{s}.tif") / f"{s}.tif" for s in stems]
    targets = [touch(folder / "gt", f"{s}.ome.tif") / f"{s}.ome.tif" for s in stems]
    shuffle = random.Random(seed).shuffle
    shuffle(inputs)
    shuffle(targets)
    pairs = match_pairs(inputs, targets)
    assert [x for x, _ in pairs] == inputs
    assert sorted(y for _, y in pairs) == sorted(targets)
    assert all(x.name.split(".")[0] == y.name.split(".")[0] for x, y in pairs)
    assert sorted(pairs) == sorted(match_pairs(folder / "in", folder / "gt"))


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
    assert match_pairs(f"{tmp_path}/{inputs}", f"{tmp_path}/{targets}") == sorted(expected)


def test_globs_of_different_shape_fall_back_to_names(tmp_path):
    touch(tmp_path / "in", "a_1.tif", "a_2.tif")
    touch(tmp_path / "gt", "a_1.png", "a_2.png")
    pairs = match_pairs(f"{tmp_path}/in/*_*.tif", f"{tmp_path}/gt/*.png")
    assert [names(pair) for pair in pairs] == [["a_1.tif", "a_1.png"], ["a_2.tif", "a_2.png"]]


def test_leftovers_on_either_side_are_listed(tmp_path):
    touch(tmp_path / "in", "a.tif", "b.tif", "c.tif")
    touch(tmp_path / "gt", "c.tif", "d.tif")
    with pytest.raises(
        ValueError, match=r"No target for .*a\.tif, .*b\.tif\. No input for .*d\.tif"
    ):
        match_pairs(tmp_path / "in", tmp_path / "gt")


def test_a_name_that_occurs_twice_is_an_error(tmp_path):
    touch(tmp_path / "in", "a.tif", "a.png")
    touch(tmp_path / "gt", "a.tif")
    with pytest.raises(ValueError, match=r"Which one is meant, of .*a\.png, .*a\.tif\?"):
        match_pairs(tmp_path / "in", tmp_path / "gt")
    with pytest.raises(ValueError, match=r"Which one is meant"):
        match_pairs(tmp_path / "gt", tmp_path / "in")


def test_order_pairs_only_on_request_and_only_equal_counts(tmp_path):
    touch(tmp_path / "in", "a2.tif", "a10.tif")
    touch(tmp_path / "gt", "x3.tif", "x20.tif")
    with pytest.raises(ValueError, match="do not pair up"):
        match_pairs(tmp_path / "in", tmp_path / "gt")
    pairs = match_pairs(tmp_path / "in", tmp_path / "gt", pair_by="order")
    assert [names(pair) for pair in pairs] == [["a2.tif", "x3.tif"], ["a10.tif", "x20.tif"]]
    touch(tmp_path / "gt", "x4.tif")
    with pytest.raises(ValueError, match="2 inputs and 3 targets"):
        match_pairs(tmp_path / "in", tmp_path / "gt", pair_by="order")
    with pytest.raises(ValueError, match=r"`pair_by` cannot be 'nmae'\. Did you mean 'name'"):
        match_pairs(tmp_path / "in", tmp_path / "gt", pair_by="nmae")


def test_two_named_files_are_a_pair_whatever_their_names(tmp_path):
    touch(tmp_path, "a.tif", "b.tif")
    touch(tmp_path / "c.zarr", "zarr.json")
    a, b, c = tmp_path / "a.tif", tmp_path / "b.tif", tmp_path / "c.zarr"
    assert match_pairs(a, str(b)) == [(a, b)]
    assert match_pairs([str(a)], c) == [(a, c)]
    # A glob or a folder is a search: what it happens to find must have the same name.
    for inputs, targets in (
        (f"{tmp_path}/a*.tif", b),
        ([a, b], b),
        (a, tmp_path / "c.zarr" / ".."),
    ):
        with pytest.raises(ValueError, match="do not pair up"):
            match_pairs(inputs, targets)


def test_wells_are_not_matched_as_files(tmp_path):
    well(tmp_path / "wells")
    touch(tmp_path, "a.tif")
    with pytest.raises(ValueError, match=r"wells of the in-silico labeling .* use `find_wells`"):
        match_pairs(tmp_path / "wells", tmp_path / "a.tif")


# Tables.


def table(folder, text):
    touch(folder, "a.tif", "b.tif", "c.czi")
    (folder / "pairs.csv").write_text(text)
    return folder / "pairs.csv"


@pytest.mark.parametrize(
    "text, row",
    [
        ("input,target\na.tif,b.tif\n", PairPaths(Path("a.tif"), Path("b.tif"))),
        (
            "split,target,input\nvalidation,b.tif,a.tif\n",
            PairPaths(Path("a.tif"), Path("b.tif"), "validation"),
        ),
        ("\ufeffpath_signal, path_target\na.tif,b.tif\n", PairPaths(Path("a.tif"), Path("b.tif"))),
        (
            "structure,path_czi,channel_signal,channel_target\ndna,c.czi,6,3\n",
            PairPaths(Path("c.czi"), Path("c.czi"), "train", 6, 3),
        ),
    ],
)
def test_tables_in_use_are_read_relative_to_their_folder(tmp_path, text, row):
    (found,) = read_pairs_csv(table(tmp_path, text))
    expected = PairPaths(
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
    assert read_pairs_csv(path, root=tmp_path / "data")[0].input == tmp_path / "data" / "a.tif"


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
        read_pairs_csv(table(tmp_path, text))


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such table of pairs: .*none\.csv"):
        read_pairs_csv(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("input,target\n" + "x" * 200_000, ValueError, r"is not a table: .*field larger than"),
        ('input,target\na.tif,"b.tif\n', ValueError, r"is not a table: .*unexpected end of data"),
        ("input,target\na.tif," + "x" * 9_999, FileNotFoundError, "row 1 names a file that is not"),
        ("input,target\na.tif,b\0.tif", FileNotFoundError, "row 1 names a file that is not there"),
        ("x" * 99_999 + "\n1\n", ValueError, r"must have the columns .*Received: xxx.*xxx\.\.\."),
        (
            "path_czi,channel_signal,channel_target\nc.czi,1," + "1" * 5000,
            ValueError,
            r"row 1: channels are counted 0, 1, 2\.\.\. Received: '111",
        ),
    ],
    ids=["field", "quote", "path", "null", "columns", "channel"],
)
def test_a_table_of_anything_is_one_short_line(tmp_path, text, error, message):
    with pytest.raises(error, match=message) as said:
        read_pairs_csv(table(tmp_path, text))
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 500


def test_a_table_in_another_encoding_is_said_to_be_so(tmp_path):
    table(tmp_path, "").write_bytes(b"input,target\n\xff\xfe.tif,b.tif\n")
    with pytest.raises(ValueError, match=r"pairs\.csv is not a table: it must be CSV in UTF-8"):
        read_pairs_csv(tmp_path / "pairs.csv")
