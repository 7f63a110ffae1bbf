"""File names of the in-silico labeling data set, in both spellings."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wells import DAPI, PLANE, bucket_name, sample_name

from gvtnets_tf.data.in_silico_labeling.file_names import (
    CONDITIONS,
    LABELS,
    NEURITE,
    TRANSMITTED,
    FileName,
    find_split,
    is_dataset,
    list_folders,
    parse_name,
)

LETTERS = {name: letter for letter, names in CONDITIONS.items() for name in names}


def names():
    """Any name that the data set could hold."""

    def build(folder, date, well, z, label, transmitted, predicted, mask):
        lab, condition = folder.lower().split("/")
        channel = label if z is None else transmitted
        return FileName(lab, condition, LETTERS[folder], date, well, z, channel, predicted, mask)

    return st.builds(
        build,
        st.sampled_from(sorted(LETTERS)),
        st.dates(datetime.date(2000, 1, 1)),
        st.from_regex(r"[A-H]([1-9]|1[0-2])", fullmatch=True),
        st.none() | st.integers(0, 40),
        st.sampled_from((*LABELS, NEURITE)),
        st.sampled_from(TRANSMITTED),
        st.booleans(),
        st.booleans(),
    )


@settings(deadline=None, max_examples=100)
@given(names(), st.booleans(), st.booleans())
def test_a_name_is_read_back_from_either_spelling(name, minute, tile):
    assert parse_name(sample_name(name, minute, tile)) == name
    assert parse_name(bucket_name(name)) == name
    assert parse_name(f"some/folder/{bucket_name(name).upper()}") == name


def test_names_as_the_authors_publish_them():
    label = parse_name(
        "lab-Finkbeiner,condition-kevan_0_8,acquisition_date,year-2015,month-9,day-28,well-A4,"
        "depth_computation,value-MAXPROJECT,channel,value-DAPI_CONFOCAL,statistic,value-MEDIAN,"
        "kind,value-PREDICTED.png"
    )
    assert label == FileName(
        "finkbeiner", "kevan_0_8", "B", datetime.date(2015, 9, 28), "A4", None, DAPI, predicted=True
    )
    assert label.series == "finkbeiner_kevan_0_8_2015-09-28_A4"


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("channel-PHASE_CONTRAST", "channel-PHASE_CONTRST", "`channel`.*mean 'PHASE_CONTRAST'"),
        ("z_depth-0", "depth_computation-MAXPROJECT", "lacks z_depth"),
        (
            "z_depth-0,channel-PHASE_CONTRAST",
            "channel-DAPI_CONFOKAL",
            "`label`.*mean 'DAPI_CONFOCAL'",
        ),
        ("KEVAN_0_8", "KEVAN_0_6", "`condition`.*mean 'finkbeiner/kevan_0_"),
        ("FINKBEINER", "FINKBINER", "`condition`.*mean 'finkbeiner/kevan_0_8'"),
        ("well-A4,", "", "lacks well"),
        ("well-A4", "well-", "lacks well"),
        ("z_depth-0", "z_depth-one", "z_depth must be a whole number.*'ONE'"),
        ("month-10", "month-13", "month must be in 1..12"),
        ("is_mask-false", "is_mask-maybe", "`is_mask` cannot be 'MAYBE'"),
        ("channel-PHASE_CONTRAST,", "", "lacks channel.*several channels.*not read"),
    ],
)
def test_a_name_that_says_something_else_is_refused_with_the_file(old, new, told):
    name = sample_name(PLANE)
    assert old in name
    with pytest.raises(ValueError, match=f"^some/lab-.*{told}"):
        parse_name("some/" + name.replace(old, new))


def test_a_condition_is_a_letter_or_a_name():
    assert list_folders("A") == ("Rubin/scott_1_0",)
    assert list_folders(["e", "kevan_0_10"]) == ("GLS/2015_06_26", "Finkbeiner/kevan_0_10")
    assert len(list_folders()) == 8


@pytest.mark.parametrize(
    "path, split",
    [
        ("data/train/lab/a.png", "train"),
        ("data/TEST/a.png", "test"),
        ("data/train/test/a.png", "test"),
        ("data/test_single_channel_images/lab/a.png", "test"),
        ("data/lab/train.png", None),
    ],
)
def test_the_nearest_folder_names_the_split(path, split):
    assert find_split(Path(path), Path("data")) == split


def test_a_data_set_is_known_by_its_names(tmp_path):
    deep = tmp_path / "train" / "Finkbeiner" / "kevan_0_8"
    assert not is_dataset(tmp_path / "nothing")
    deep.mkdir(parents=True)
    (deep / "z0.png").touch()
    (deep / bucket_name(replace(PLANE, z=None, channel=DAPI))).touch()
    (deep / bucket_name(replace(PLANE, predicted=True))).touch()
    assert not is_dataset(tmp_path)
    path = deep / sample_name(PLANE)
    path.touch()
    assert is_dataset(tmp_path) and is_dataset(str(deep))
    assert not is_dataset(path)
    assert not is_dataset(tmp_path, most=0)
