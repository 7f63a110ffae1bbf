"""Checks of arguments, strict reading of values from files, tables of text.

Errors name the argument or key, what came in and a remedy.
"""

import difflib
import importlib
import numbers
import os
import re
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

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


def check_choice(name: str, value: Any, options: Collection) -> Any:
    """Return `value` if it is one of `options`; the error has the nearest spelling, or all."""
    if value in options:
        return value
    near = nearest_name(value, options)
    hint = f"Did you mean {near!r}?" if near else f"Choose one of {sorted(map(str, options))}."
    raise ValueError(f"`{name}` cannot be {value!r}. {hint}")


def nearest_name(name: Any, names: Iterable) -> str | None:
    """Return the entry of `names` with the spelling nearest to `name`, or `None`."""
    near = difflib.get_close_matches(str(name), map(str, names), n=1)
    return near[0] if near else None


def check_same_settings(now: Mapping, before: Mapping, run: str, advice: str) -> None:
    """Raise if the stopped run `run` (a name) would be continued with other settings.

    `now` and `before` map settings to values; `advice` is a sentence that says what to do.
    """
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differ)
        raise ValueError(f"{run} was started with other settings: {changes}. {advice}")


def format_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Format rows of text, all equally long, as a table; columns of numbers are right-aligned."""
    lines = [list(header), *rows] if header else list(rows)
    widths = [max(map(len, column)) for column in zip(*lines)]
    right = [all(map(_is_number, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right)
        ).rstrip()
        for line in lines
    )


def _is_number(cell):
    try:
        float(cell.replace(",", "") or "nan")
    except ValueError:
        return cell == "-"
    return True


def check_divisible(
    spatial: Sequence[int | None], factor: int | Sequence[int], name: str = "images"
) -> None:
    """Raise if an axis of the array `name` is no multiple of the down-sampling of a network.

    `spatial` is its shape `(z, y, x)` or `(y, x)` in voxels; `None` is not checked. `factor` is
    that of all axes, or one per axis.
    """
    factors = (factor,) * len(spatial) if isinstance(factor, int) else factor
    for letter, size, f in zip("ZYX"[-len(spatial) :], spatial, factors):
        if size is not None and size % f:
            low, high = size - size % f, size + (-size) % f
            crop = f"crop to {low} or " if low else ""
            raise ValueError(
                f"`{name}` has {size} voxels along {letter}, which is not a multiple of {f}: "
                f"{crop}pad to {high}, or use `gvtnets_tf.predict`, which pads for you. "
                f"Received: spatial shape {tuple(spatial)}."
            )


def check_at_least(name: str, value: float, least: float) -> float:
    """Return `value` if it is at least `least`."""
    if not value >= least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value!r}.")
    return value


def import_optional(module: str, extra: str) -> types.ModuleType:
    """Import a module of an extra; the error has the command that installs the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"This needs `{module}`, which is not installed: pip install 'gvtnets_tf[{extra}]'."
        ) from error


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
