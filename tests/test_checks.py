import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.checks import (
    check_at_least,
    check_choice,
    check_divisible,
    check_same_settings,
    format_table,
    import_optional,
    nearest_name,
)


def test_a_size_that_does_not_divide_is_named_with_sizes_that_do():
    with pytest.raises(ValueError) as error:
        check_divisible((14, 16, 16), 4)
    assert str(error.value) == (
        "`images` has 14 voxels along Z, which is not a multiple of 4: crop to 12 or pad to 16, "
        "or use `gvtnets_tf.predict`, which pads for you. Received: spatial shape (14, 16, 16)."
    )


def test_a_size_below_the_factor_can_only_be_padded():
    with pytest.raises(ValueError, match=r"`tile` has 3 voxels along X.*of 8: pad to 8, or use"):
        check_divisible((8, 3), (2, 8), name="tile")


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 8)), min_size=2, max_size=3))
@settings(deadline=None, max_examples=50)
def test_sizes_pass_exactly_where_each_is_a_multiple(pairs):
    sizes, factors = zip(*pairs)
    if any(size % factor for size, factor in pairs):
        with pytest.raises(ValueError, match="is not a multiple of"):
            check_divisible(sizes, factors)
    else:
        check_divisible(sizes, factors)


def test_an_unknown_size_passes():
    check_divisible((None, 8, None), 8)


def test_a_choice_is_returned_and_a_near_miss_named():
    assert check_choice("loss", "mse", ["mse", "mae"]) == "mse"
    with pytest.raises(ValueError) as error:
        check_choice("loss", "laplase", ["mse", "laplace"])
    assert str(error.value) == "`loss` cannot be 'laplase'. Did you mean 'laplace'?"


def test_a_choice_far_from_all_names_all():
    with pytest.raises(ValueError) as error:
        check_choice("version", 7, (1, 2))
    assert str(error.value) == "`version` cannot be 7. Choose one of ['1', '2']."


def test_a_number_too_small_is_named():
    assert check_at_least("batch", 1, 1) == 1
    for value in (0, float("nan")):
        with pytest.raises(ValueError, match=f"`batch` must be at least 1. .*batch={value}"):
            check_at_least("batch", value, 1)


def test_an_optional_module_is_imported_or_its_extra_named():
    assert import_optional("json", "none") is json
    text = r"needs `no_such_module`, which is not installed: pip install 'gvtnets_tf\[zarr\]'"
    with pytest.raises(ModuleNotFoundError, match=text):
        import_optional("no_such_module", "zarr")


def test_the_nearest_name_is_found_or_none():
    assert nearest_name("label-free", ["fnet", "label_free"]) == "label_free"
    assert nearest_name("zzz", ["fnet", "label_free"]) is None


def test_settings_that_differ_are_named_with_both_values():
    check_same_settings({"steps": 5}, {"steps": 5}, "The run in a", "Start anew.")
    with pytest.raises(ValueError) as error:
        check_same_settings({"steps": 5, "seed": 1}, {"steps": 6}, "The run in a", "Start anew.")
    assert str(error.value) == (
        "The run in a was started with other settings: steps was 6, is 5; seed was None, is 1. "
        "Start anew."
    )


def test_a_table_aligns_numbers_to_the_right_and_text_to_the_left():
    rows = [["DNA", "1,234", "-"], ["membranes", "7.5", "n too small"]]
    assert format_table(rows, ["stain", "n", "p"]).splitlines() == [
        "stain          n  p",
        "DNA        1,234  -",
        "membranes    7.5  n too small",
    ]
    assert format_table(rows[:1]) == "DNA  1,234  -"
