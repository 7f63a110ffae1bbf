"""Build dataclasses from mappings as YAML holds them; refuse unknown keys and wrong types."""

import numbers
import os
import re
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import dacite

from gvtnets_tf.checks import check_choice

LONGEST = 80  # characters of a value in a message
LARGEST, INFINITE = 2**63, 1e100  # whole numbers and numbers stay below
NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    Any: ("a value", "values"),
    type(None): ("null", "null"),
}
# A number that YAML 1.1 reads as text, such as 1e-4: it asks for a point and a signed exponent.
EXPONENT = re.compile(r"([-+]?\d+)(?:\.(\d*))?[eE]([-+]?\d+)")


def read_dataclass(cls: type, values: Mapping, path: str = "") -> Any:
    """Build a dataclass, and those nested in it, from a mapping.

    Lists become tuples where the field is a tuple. A whole number is a number; `True` is
    neither, and text is never converted.

    Args:
        cls: dataclass with type hints.
        values: mapping from the names of fields to values, or to mappings for nested dataclasses.
        path: str. Keys that lead to `values`, with points between them, for messages.

    Returns:
        Instance of `cls`.

    Raises:
        ValueError: in one line, naming the key with its path, what came in and what fits; for an
            unknown key the nearest known one.
    """
    check_type(path or "recipe", values, cls)
    hints = get_type_hints(cls)
    for key in values:
        check_choice(f"key of {path or 'recipe'}", key, hints)
    built = {k: _build(hints[k], v, _join(path, k)) for k, v in values.items()}
    try:
        return dacite.from_dict(cls, built, CONFIG)
    except dacite.DaciteFieldError as error:
        key = error.field_path
        if key not in values:
            missing = f"`{_join(path, key)}` is missing: it must be {describe_type(hints[key])}."
            raise ValueError(missing) from None
        raise wrong_type(_join(path, key), values[key], describe_type(hints[key])) from None


def check_type(path: str, value: Any, hint: Any) -> None:
    """Raise `ValueError` where a mapping or a list is expected and `value` is none."""
    origin = Mapping if is_dataclass(hint) else get_origin(hint)
    if origin in (tuple, Mapping) and not isinstance(value, origin):
        raise wrong_type(path, value, describe_type(hint))


def wrong_type(path: str, value: Any, fits: str) -> ValueError:
    """Make the error that says, in one line, what a key must be and what came in.

    Args:
        path: str. The key with all keys that lead to it.
        value: what came in.
        fits: str. What the value must be, e.g. `"a whole number"`.

    Returns:
        `ValueError`, to be raised. Text that looks like a number comes with the spelling
        that YAML reads as one.

    Examples:
        >>> print(wrong_type("learning_rate", "1e-4", "a number"))
        `learning_rate` must be a number. Received: '1e-4'. YAML reads this as text: write 1.0e-4.
    """
    text = repr(value)
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    hint = ""
    if isinstance(value, str) and "number" in fits:
        if match := EXPONENT.fullmatch(value):
            digits, decimals, exponent = match.groups()
            number = f"{digits}.{decimals or 0}e{int(exponent):+d}"
            hint = f" YAML reads this as text: write {number}."
        elif re.fullmatch(r"[-+]?\d+(\.\d*)?", value):
            hint = f" Leave out the quotes: {value}."
    return ValueError(f"`{path}` must be {fits}. Received: {text}.{hint}")


def describe_type(hint: Any, several: bool = False) -> str:
    """Name what a type hint lets through, in the words of a YAML file.

    Args:
        hint: type, or a union, `tuple[X, ...]` or `Mapping[...]` of types.
        several: bool. Whether to name many of them.

    Examples:
        >>> describe_type(tuple[int, ...] | None)
        'a list of whole numbers or null'
    """
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(describe_type(part, several) for part in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of {describe_type(get_args(hint)[0], several=True)}"
    if is_dataclass(hint):
        return f"a mapping of {', '.join(get_type_hints(hint))}"
    return NAMES[hint][several] if hint in NAMES else "a mapping"


def _build(hint, value, path):
    """Bring a value into the form that `dacite` compares with the hint."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, os.PathLike) and str in kinds:
        return os.fspath(value)
    if is_dataclass(kinds[0]):
        known = isinstance(value, kinds[0])
        return value if known else read_dataclass(kinds[0], value, path)
    if get_origin(kinds[0]) is tuple and isinstance(value, list):
        return tuple(value)
    check_type(path, value, kinds[0])
    return value


def _join(path, key):
    return f"{path}.{key}" if path else key


def _whole(value):
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or abs(value) >= LARGEST:
        raise dacite.WrongTypeError(int, value)
    return int(value)


def _number(value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise dacite.WrongTypeError(float, value)
    # A whole number may be too large for a float.
    number = value if isinstance(value, int) else float(value)
    if not abs(number) < INFINITE:  # NaN is not below it either
        raise dacite.WrongTypeError(float, value)
    return float(number)


CONFIG = dacite.Config(type_hooks={int: _whole, float: _number})
