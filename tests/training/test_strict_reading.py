"""Mappings become dataclasses: the right types only, and nothing that is not a field."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from gvtnets_tf.training.strict_reading import describe_type, read_dataclass, wrong_type


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
    assert len(message) < 150
    assert message.endswith("xxx....")


def test_types_have_words():
    assert describe_type(tuple[int | str, ...] | None) == "a list of whole numbers or texts or null"
    assert describe_type(float) == "a number"
    assert describe_type(Mapping[str, int]) == "a mapping"
