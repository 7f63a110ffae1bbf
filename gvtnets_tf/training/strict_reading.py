"""Build dataclasses from mappings as YAML holds them; refuse unknown keys and wrong types."""

import numbers
import os
import re
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from gvtnets_tf.checks import check_choice

LONGEST = 80  # characters of a value in a message
UNIONS = (Union, types.UnionType)
# What counts as a number of either type, and the size it stays below.
NUMBERS = {int: (numbers.Integral, 2**63), float: (numbers.Real, 1e100)}
NAMES = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("text", "texts"),
    type(None): ("null", "null"),
}
# A number that YAML 1.1 reads as text, such as 1e-4: it asks for a point and a signed exponent.
EXPONENT = re.compile(r"([-+]?\d+)(?:\.(\d*))?[eE]([-+]?\d+)")


def read_dataclass(cls: type, values: Any, path: str = "") -> Any:
    """Build a dataclass, and those nested in it, from a mapping at the key `path`.

    Lists become tuples where the field is a tuple. A whole number is a number; `True` is
    neither, and text is never converted. Errors have one line, with the path of the key.
    """
    if isinstance(values, cls):
        return values
    check_fits(isinstance(values, Mapping), path or "recipe", values, describe_type(cls))
    hints = get_type_hints(cls)
    for key in values:
        check_choice(f"key of {path or 'recipe'}", key, hints)
    start = f"{path}." if path else ""
    for f in fields(cls):
        if f.name not in values and f.default is f.default_factory is MISSING:
            fits = describe_type(hints[f.name])
            raise ValueError(f"`{start}{f.name}` is missing: it must be {fits}.")
    built = {key: read_value(hints[key], value, start + key) for key, value in values.items()}
    try:
        return cls(**built)
    except ValueError as error:  # what a dataclass of another room says has no path
        raise error if path in str(error) else ValueError(f"`{path}`: {error}") from None


def read_value(hint: Any, value: Any, path: str) -> Any:
    """Convert a value to the type of a field, as `read_dataclass` does."""
    kinds = get_args(hint) or (hint,)
    nested = [kind for kind in kinds if is_dataclass(kind)]
    only_mapping = {*kinds} <= {*nested, type(None)} and value is not None
    if nested and (only_mapping or isinstance(value, Mapping)):
        return read_dataclass(nested[0], value, path)
    try:
        return _convert(hint, value)
    except TypeError:
        raise wrong_type(path, value, describe_type(hint)) from None


def _convert(hint, value):
    origin, parts = get_origin(hint), get_args(hint)
    if origin in UNIONS:
        for part in parts:
            with suppress(TypeError):
                return _convert(part, value)
    elif origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(parts[0], item) for item in value)
    elif origin is Mapping and isinstance(value, Mapping):
        return {key: _convert(parts[1], item) for key, item in value.items()}
    elif hint in NUMBERS:
        kind, limit = NUMBERS[hint]
        if isinstance(value, kind) and not isinstance(value, bool):
            # A whole number may be too large for a float, and NaN is below nothing.
            number = value if isinstance(value, int) else hint(value)
            if abs(number) < limit:
                return hint(number)
    elif hint is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    elif hint is Any or (origin is None and isinstance(value, hint)):
        return value
    raise TypeError


def check_fits(condition: bool, path: str, value: Any, fits: str) -> None:
    """Raise the error of `wrong_type` unless the condition holds."""
    if not condition:
        raise wrong_type(path, value, fits)


def wrong_type(path: str, value: Any, fits: str) -> ValueError:
    """Make the error for a key; text that looks like a number comes with YAML's spelling of it."""
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
    """Name what a type hint lets through, in the words of a YAML file."""
    if get_origin(hint) in UNIONS:
        parts = " or ".join(describe_type(part, several) for part in get_args(hint))
        return parts.replace(" or a mapping of", ", or a mapping of")
    if get_origin(hint) is tuple:
        return f"a list of {describe_type(get_args(hint)[0], several=True)}"
    if is_dataclass(hint):
        return f"a mapping of {', '.join(get_type_hints(hint))}"
    return NAMES[hint][several] if hint in NAMES else "a mapping"
