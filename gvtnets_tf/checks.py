"""Checks of arguments, strict reading of values from files, tables of text.

Errors name the argument or key, what came in and a remedy.
"""

import csv
import difflib
import importlib
import json
import numbers
import os
import re
import reprlib
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

LONGEST = 200  # characters of what came in, in a message
LISTED = 5  # settings that differ, in a message
LARGEST_JSON = 2**20  # bytes; a real model.json has a few thousand
LARGEST_TABLE = 2**26
DEEPEST = 32  # mappings and lists inside each other, in a file
# Nothing below its level or behind its count is visited: a file may nest, and repeat, for ever.
REPR = reprlib.Repr()
REPR.maxlevel = 4
REPR.maxlist = REPR.maxtuple = REPR.maxdict = REPR.maxset = REPR.maxfrozenset = 20
REPR.maxstring = REPR.maxlong = REPR.maxother = 2 * LONGEST
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
    try:
        if value in options:
            return value
    except TypeError:  # a list or a mapping cannot be looked up
        pass
    near = nearest_name(value, options)
    hint = f"Did you mean {near!r}?" if near else f"Choose one of {sorted(map(str, options))}."
    raise ValueError(f"`{name}` cannot be {quote(value)}. {hint}")


def quote(value: Any) -> str:
    """Return what came in for a message: its `repr`, one line of at most 200 characters.

    Examples:
        >>> quote({"steps": "many"}), len(quote("x" * 10_000))
        ("{'steps': 'many'}", 200)
    """
    try:
        return cut(REPR.repr(value))
    except (RecursionError, ValueError):  # Python writes no number of more than 4300 digits
        return f"{type(value).__name__} too large to show"


def cut(text: Any, longest: int = LONGEST) -> str:
    """Return text, such as that of another program's error, as one line of 200 characters."""
    text = " ".join(line.strip() for line in str(text).splitlines())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def nearest_name(name: Any, names: Iterable) -> str | None:
    """Return the entry of `names` with the spelling nearest to `name`, or `None`."""
    text = cut(name) if isinstance(name, str) else quote(name)
    near = difflib.get_close_matches(text, map(str, names), n=1)
    return near[0] if near else None


def check_same_settings(now: Mapping, before: Mapping, run: str, advice: str) -> None:
    """Raise if the stopped run `run` (a name) would be continued with other settings.

    `now` and `before` map settings to values; `advice` is a sentence that says what to do.
    """
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        changes = "; ".join(
            f"{cut(key)} was {quote(before.get(key))}, is {quote(now.get(key))}"
            for key in differ[:LISTED]
        )
        more = f"; and {len(differ) - LISTED} more" if differ[LISTED:] else ""
        raise ValueError(f"{run} was started with other settings: {changes}{more}. {advice}")


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
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={quote(value)}.")
    return value


def import_optional(module: str, extra: str) -> types.ModuleType:
    """Import a module of an extra; the error has the command that installs the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"This needs `{module}`, which is not installed: pip install 'gvtnets_tf[{extra}]'."
        ) from error


def read_json(
    file: str | Path, hint: Any = Mapping[str, Any], largest: int = LARGEST_JSON
) -> Any:  # fmt: skip
    """Read a JSON file of at most `largest` bytes as a mapping or a dataclass, as `read_value`.

    Errors are `ValueError` and name the file.
    """
    check_file_size(file, largest)
    try:
        values = parse_json(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{file} is not JSON: it is truncated or damaged ({cut(error)})."
        ) from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold a JSON object. Received: {type(values).__name__}.")
    try:
        return read_dataclass(hint, values, whole="it") if is_dataclass(hint) else values
    except ValueError as error:
        raise ValueError(f"{file} is not as it was written: {error}") from error


def parse_json(text: str) -> Any:
    """Parse JSON; `ValueError` also where it nests deeper than 32 levels."""
    try:
        values = json.loads(text)
    except RecursionError:
        deep = True
    else:
        deep = _is_deeper(values, DEEPEST)
    if deep:
        raise ValueError(f"mappings and lists lie inside each other, more than {DEEPEST} deep")
    return values


def _is_deeper(value, levels):
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)


def read_csv(path: str | Path) -> tuple[list[str], list[dict]]:
    """Read the column names and the rows of a table, CSV in UTF-8 with a header.

    Raises:
        ValueError: naming the file, if it is not such a table.
    """
    check_file_size(path, LARGEST_TABLE)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            reader.fieldnames = names = [name.strip() for name in reader.fieldnames or ()]
            return names, list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is not a table: it must be CSV in UTF-8, with a header ({cut(error)})."
        ) from error


def check_file_size(file: str | Path, largest: int) -> None:
    """Raise if a file has more than `largest` bytes, before it is read."""
    if (size := os.stat(file).st_size) > largest:
        raise ValueError(
            f"{file} is larger than {largest} bytes, the most that is read of such a file. "
            f"Received: {size} bytes."
        )


def read_dataclass(cls: type, values: Any, path: str = "", whole: str = "recipe") -> Any:
    """Build a dataclass, and those nested in it, from a mapping at the key `path`.

    Lists become tuples where the field is a tuple. A whole number is a number; `True` is
    neither, and text is never converted. Errors have one line, with the path of the key;
    `whole` is what they call the outermost mapping.
    """
    if isinstance(values, cls):
        return values
    check_fits(isinstance(values, Mapping), path or whole, values, describe_type(cls))
    hints = get_type_hints(cls)
    for key in values:
        check_choice(f"key of {path or whole}", key, hints)
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
    elif origin in (tuple, Sequence) and isinstance(value, list | tuple):
        return tuple(_convert(parts[0], item) for item in value)
    elif origin is Mapping and isinstance(value, Mapping):
        return {_convert(parts[0], key): _convert(parts[1], item) for key, item in value.items()}
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
    hint = ""
    if isinstance(value, str) and len(value) < LONGEST and "number" in fits:
        if match := EXPONENT.fullmatch(value):
            digits, decimals, exponent = match.groups()
            number = f"{digits}.{decimals or 0}e{int(exponent):+d}"
            hint = f" YAML reads this as text: write {number}."
        elif re.fullmatch(r"[-+]?\d+(\.\d*)?", value):
            hint = f" Leave out the quotes: {value}."
    return ValueError(f"`{path}` must be {fits}. Received: {quote(value)}.{hint}")


def describe_type(hint: Any, several: bool = False) -> str:
    """Name what a type hint lets through, in the words of a YAML file."""
    if get_origin(hint) in UNIONS:
        parts = " or ".join(describe_type(part, several) for part in get_args(hint))
        return parts.replace(" or a mapping of", ", or a mapping of")
    if get_origin(hint) in (tuple, Sequence):
        return f"a list of {describe_type(get_args(hint)[0], several=True)}"
    if is_dataclass(hint):
        return f"a mapping of {', '.join(get_type_hints(hint))}"
    return NAMES[hint][several] if hint in NAMES else "a mapping"
