import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gvtnets_tf.checks import (
    check_at_least,
    check_choice,
    check_divisible,
    check_same_settings,
    cut,
    describe_type,
    format_table,
    import_optional,
    nearest_name,
    parse_json,
    quote,
    read_csv,
    read_dataclass,
    read_json,
    wrong_type,
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


def test_a_run_that_shares_no_setting_is_told_shortly():
    with pytest.raises(ValueError, match=r"settings: 0 was None, is 1; .*; and 15 more\. Stop\.$"):
        check_same_settings(dict.fromkeys(range(20), 1), {}, "The run", "Stop.")


def test_a_table_aligns_numbers_to_the_right_and_text_to_the_left():
    rows = [["DNA", "1,234", "-"], ["membranes", "7.5", "n too small"]]
    assert format_table(rows, ["stain", "n", "p"]).splitlines() == [
        "stain          n  p",
        "DNA        1,234  -",
        "membranes    7.5  n too small",
    ]
    assert format_table(rows[:1]) == "DNA  1,234  -"


# Values from files.


@dataclass(frozen=True)
class Lens:
    power: float = 20.0
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Microscope:
    name: str
    lens: Lens | None = None
    shape: tuple[int, ...] = (8, 8)
    extra: Mapping[str, int] = field(default_factory=dict)


def test_nested_mappings_and_lists_become_what_the_fields_say():
    values = {"name": "a", "lens": {"power": 40, "names": ["x"]}, "shape": [1, 2]}
    assert read_dataclass(Microscope, values) == Microscope("a", Lens(40.0, ("x",)), (1, 2))
    made = read_dataclass(Microscope, {"name": "a", "lens": Lens(1.0), "extra": {"b": 2}})
    assert made == Microscope("a", Lens(1.0), extra={"b": 2})
    assert read_dataclass(Microscope, {"name": "a", "lens": None}).lens is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"lens": {"power": "20"}}, "`scope.lens.power` must be a number. Received: '20'. Leave "),
        ({"lens": {"powr": 1}}, "`key of scope.lens` cannot be 'powr'. Did you mean 'power'?"),
        ({"lens": 3}, "`scope.lens` must be a mapping of power, names. Received: 3."),
        ({"lens": {"names": "x"}}, "`scope.lens.names` must be a list of texts. Received: 'x'."),
        ({"lens": {"names": [1]}}, "`scope.lens.names` must be a list of texts. Received: [1]."),
        ({"lens": {"power": 10**400}}, "`scope.lens.power` must be a number. Received: 1000"),
        ({"lens": {"power": float("inf")}}, "`scope.lens.power` must be a number. Received: inf."),
        ({"shape": [2**63]}, "`scope.shape` must be a list of whole numbers. Received: [9223"),
        ({"shape": {1: 2}}, "`scope.shape` must be a list of whole numbers. Received: {1: 2}."),
        ({"shape": [True]}, "`scope.shape` must be a list of whole numbers. Received: [True]."),
        ({"shape": None}, "`scope.shape` must be a list of whole numbers. Received: None."),
        ({"extra": {"b": "c"}}, "`scope.extra` must be a mapping. Received: {'b': 'c'}."),
        ({"name": b"a"}, "`scope.name` must be text. Received: b'a'."),
    ],
)
def test_a_wrong_value_is_named_with_its_path(changes, message):
    with pytest.raises(ValueError) as error:
        read_dataclass(Microscope, {"name": "a", **changes}, "scope")
    assert message in str(error.value)


def test_a_field_that_is_lacking_is_named():
    with pytest.raises(ValueError, match=r"`scope\.name` is missing: it must be text\."):
        read_dataclass(Microscope, {}, "scope")


@pytest.mark.parametrize(
    "text, advice",
    [
        ("1e-4", "write 1.0e-4."),
        ("1e4", "write 1.0e+4."),
        ("-2.50E03", "write -2.50e+3."),
        ("1000", "Leave out the quotes: 1000."),
        ("a1e4", "Received: 'a1e4'."),
        ("1e-4\n", "Received: '1e-4\\n'."),
    ],
)
def test_text_that_looks_like_a_number_comes_with_its_spelling(text, advice):
    import yaml

    message = str(wrong_type("rate", text, "a number"))
    assert message.endswith(advice)
    assert message.startswith(f"`rate` must be a number. Received: {text!r}.")
    if "write" in advice:
        spelling = advice.removeprefix("write ").removesuffix(".")
        assert yaml.safe_load(spelling) == float(text)
        assert isinstance(yaml.safe_load(text), str)


def test_a_long_value_is_cut():
    message = str(wrong_type("rate", "x" * 1000, "a number"))
    assert len(message) < 250
    assert message.endswith("xxx....")


def alias_bomb(width=9, depth=9):
    """A list of `width ** depth` entries, which a file of a few lines can hold."""
    value = ["x"] * width
    for _ in range(depth - 1):
        value = [value] * width
    return value


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, text",
    [
        ("a", "'a'"),
        ({"b": [1, 2.5, None]}, "{'b': [1, 2.5, None]}"),
        ("two\nlines", "'two\\nlines'"),
        (10**5000, "int too large to show"),
        (nested(5000), "[[[[[...]]]]]"),
    ],
    ids=["text", "mapping", "lines", "number", "nested"],
)
def test_what_came_in_is_quoted_in_one_line(value, text):
    assert quote(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, [10**9 + i for i in range(10**5)], b"x" * 10**5, alias_bomb()],
    ids=["text", "list", "bytes", "aliases"],
)
def test_a_quotation_is_short_and_soon_made(value):
    text = quote(value)
    assert len(text) == 200
    assert text.endswith("...")
    with pytest.raises(ValueError, match="`loss` cannot be ") as error:
        check_choice("loss", value, ["mse", "mae"])
    assert len(str(error.value)) < 300
    with pytest.raises(ValueError, match="other settings: a was 1, is ") as error:
        check_same_settings({"a": value}, {"a": 1}, "The run", "Stop.")
    assert len(str(error.value)) < 300


def test_the_text_of_an_error_becomes_one_short_line():
    assert cut(ValueError("first\n    second")) == "first second"
    assert cut("x" * 201) == "x" * 197 + "..."


def test_a_choice_that_cannot_be_looked_up_is_named():
    with pytest.raises(ValueError, match=r"`loss` cannot be \['mse'\]\. Did you mean 'mse'"):
        check_choice("loss", ["mse"], {"mae": 1, "mse": 2}.keys())


# Files.


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"name": "a", "shape": [1', "is not JSON: it is truncated or damaged (Expecting"),
        ("[]", "must hold a JSON object. Received: list."),
        ("[" * 200_000, "is not JSON: it is truncated or damaged (mappings and lists lie inside"),
        ('{"name": 3}', "is not as it was written: `name` must be text. Received: 3."),
        ('{"nam": "a"}', "is not as it was written: `key of it` cannot be 'nam'. Did you mean"),
        ("{}", "is not as it was written: `name` is missing: it must be text."),
        (" " * 2**20 + "{}", "is larger than 1048576 bytes, the most that is read of such a file."),
        ("1" * 5000, "is not JSON: it is truncated or damaged (Exceeds the limit"),
    ],
)
def test_a_json_file_is_read_strictly_or_named(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError) as error:
        read_json(tmp_path / "a.json", Microscope)
    assert str(error.value).startswith(f"{tmp_path / 'a.json'} {message}")
    assert "\n" not in str(error.value)


def test_a_json_file_becomes_a_mapping_or_a_dataclass(tmp_path):
    (tmp_path / "a.json").write_text('{"name": "a", "shape": [1, 2]}')
    assert read_json(tmp_path / "a.json") == {"name": "a", "shape": [1, 2]}
    assert read_json(tmp_path / "a.json", Microscope) == Microscope("a", shape=(1, 2))


@pytest.mark.parametrize("depth, fits", [(32, True), (33, False)])
def test_json_may_nest_32_deep(depth, fits):
    text = '{"a":' * (depth - 1) + "[]" + "}" * (depth - 1)
    if fits:
        assert parse_json(text)
    else:
        with pytest.raises(ValueError, match="lie inside each other, more than 32 deep"):
            parse_json(text)


def test_a_table_is_read_with_its_names(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeffinput, split\n"a, b.tif", test\n')
    assert read_csv(tmp_path / "a.csv") == (
        ["input", "split"],
        [{"input": "a, b.tif", "split": "test"}],
    )


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"a,b\n" + b"x" * 200_000, "field larger than field limit"),
        (b'a,b\n"open,2\nc,3\n', "unexpected end of data"),
        (b"a,b\n\xff,2\n", "'utf-8' codec can't decode"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, data, reason):
    (tmp_path / "a.csv").write_bytes(data)
    message = r"a\.csv is not a table: it must be CSV in UTF-8, with a header \(" + reason
    with pytest.raises(ValueError, match=message) as error:
        read_csv(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


def test_types_have_words():
    assert describe_type(tuple[int | str, ...] | None) == "a list of whole numbers or texts or null"
    assert describe_type(float) == "a number"
    assert describe_type(Mapping[str, int]) == "a mapping"
