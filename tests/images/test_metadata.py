import json
import re

import numpy as np
import pytest

from gvtnets_tf.images import writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.metadata import convert_step, name_file_in_errors, parse_record
from gvtnets_tf.images.readers import read, read_metadata


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
def test_steps_are_micrometers_and_seconds(letter, value, unit, size):
    assert convert_step(letter, value, unit) == (size and pytest.approx(size))


def test_a_record_is_parsed_and_what_is_not_of_it_left_out():
    values = {"axes": "ZYX", "voxel_size": {"Z": 1}, "channel_names": ["a"], "metadata": {"b": []}}
    record = parse_record(json.dumps({**values, "more": 3}))
    assert record == {**values, "channel_names": ("a",)}
    assert parse_record(None) == parse_record("{}") == {}


@pytest.mark.parametrize(
    "text, reason",
    [
        ('{"axes": "ZYX', "Unterminated string starting at"),
        ("[1]", r"`the record` must be a mapping\. Received: \[1\]\."),
        ("[" * 200_000, "mappings and lists lie inside each other, more than 32 deep"),
        ('{"axes": 3}', r"`axes` must be text\. Received: 3\."),
        ('{"axes": "ZZ"}', "`axes` must be distinct letters"),
        ('{"voxel_size": [1]}', r"`voxel_size` must be a mapping\. Received: \[1\]\."),
        ('{"voxel_size": {"Z": "a"}}', r"`voxel_size` must be a mapping\. Received: {'Z': 'a'}\."),
        ('{"voxel_size": {"Z": NaN}}', r"`voxel_size` must be a mapping\. Received: {'Z': nan}\."),
        ('{"channel_names": 1}', r"`channel_names` must be a list of texts\. Received: 1\."),
        ('{"metadata": "x"}', r"`metadata` must be a mapping\. Received: 'x'\."),
    ],
)
def test_a_damaged_record_is_refused(text, reason):
    with pytest.raises(ValueError, match=f"its record of gvtnets_tf was damaged: {reason}"):
        parse_record(text)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ome.tif", ".zarr"])
def test_a_file_whose_record_was_damaged_is_named_in_one_line(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(writers, "describe_image", lambda image, metadata: {"metadata": 3})
    path = writers.write(tmp_path / f"a{suffix}", Image(np.zeros((9, 8), "uint8"), "YX"))
    message = rf"a{re.escape(suffix)} cannot be read as .*`(metadata|gvtnets)` must be a mapping"
    for function in (read_metadata, read):
        with pytest.raises(ValueError, match=message) as error:
            function(path)
        assert "\n" not in str(error.value)


def test_a_long_reason_of_a_decoder_is_cut():
    with (
        pytest.raises(
            ValueError, match=r"^a\.zarr cannot be read as Zarr.*Reason: Got \[0, "
        ) as said,
        name_file_in_errors("a.zarr", "Zarr"),
    ):
        raise TypeError(f"Got {[0] * 10_000}")
    assert len(str(said.value)) < 600
