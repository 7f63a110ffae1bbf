"""Argument checks whose errors name the argument, its value and a remedy; tables of text."""

import difflib
import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any


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
    """Raise if the array `name` has an axis that the down-sampling of a network does not divide.

    `spatial` is its shape `(z, y, x)` or `(y, x)`, of which `None` is not checked; `factor` is of
    all axes, or one per axis.
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


def import_optional(module: str, extra: str) -> ModuleType:
    """Import a module of an extra; the error has the command that installs the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"This needs `{module}`, which is not installed: pip install 'gvtnets_tf[{extra}]'."
        ) from error
