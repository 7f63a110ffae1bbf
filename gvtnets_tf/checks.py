"""Argument checks that say what was wrong, what came in and what to do."""

import difflib
import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence


def check_choice(name: str, value, options: Collection):
    """Return `value` if it is one of `options`; name the nearest one if not.

    Raises:
        ValueError: with the nearest option, or all of them.
    """
    if value in options:
        return value
    near = nearest_name(value, options)
    hint = f"Did you mean {near!r}?" if near else f"Choose one of {sorted(map(str, options))}."
    raise ValueError(f"`{name}` cannot be {value!r}. {hint}")


def nearest_name(name, known: Iterable) -> str | None:
    """Return the known name that is spelled most like `name`, or `None` if none is close."""
    near = difflib.get_close_matches(str(name), [str(one) for one in known], n=1)
    return near[0] if near else None


def check_same_settings(now: Mapping, before: Mapping, run: str, advice: str) -> None:
    """Refuse to continue a run that was started with other settings.

    Args:
        now, before: mappings from setting to its value, of this run and of the stopped one.
        run: str. What to call the stopped run.
        advice: str. A sentence on what can be done instead.

    Raises:
        ValueError: naming each setting that differs, and both values.
    """
    differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if differ:
        changes = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differ)
        raise ValueError(f"{run} was started with other settings: {changes}. {advice}")


def format_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> str:
    """Lay out rows of text in columns of equal width; columns of numbers are right-aligned.

    Args:
        rows: sequence of rows, each a sequence of str, all equally long.
        header: sequence of str, one per column; empty for none.

    Returns:
        str, one line per row.

    Examples:
        >>> print(format_table([["DNA", "0.91"], ["ER", "10.5"]], header=["stain", "r"]))
        stain     r
        DNA    0.91
        ER     10.5
    """
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


def check_divisible(spatial, factor, name="images"):
    """Refuse a shape that a network cannot halve cleanly.

    Args:
        spatial: tuple of int or `None`. Spatial shape in voxels, `(z, y, x)` or `(y, x)`.
        factor: int or tuple of int. What each axis must be a multiple of.
        name: str. What the caller calls this array.

    Raises:
        ValueError: naming the axis, its size and the nearest sizes that work.
    """
    factors = (factor,) * len(spatial) if isinstance(factor, int) else tuple(factor)
    letters = "ZYX"[-len(spatial) :]
    for letter, size, f in zip(letters, spatial, factors):
        if size is not None and size % f:
            low, high = size - size % f, size + (-size) % f
            crop = f"crop to {low} or " if low else ""
            raise ValueError(
                f"`{name}` has {size} voxels along {letter}, which is not a multiple of {f}: "
                f"{crop}pad to {high}, or use `gvtnets_tf.predict`, which pads for you. "
                f"Received: spatial shape {tuple(spatial)}."
            )


def check_at_least(name, value, least):
    """Return `value` if it is at least `least`.

    Raises:
        ValueError: naming the argument and what came in.
    """
    if not value >= least:
        raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value!r}.")
    return value


def optional(module, extra):
    """Import a module that belongs to an extra.

    Args:
        module: str. Name of the module.
        extra: str. The extra that brings it.

    Raises:
        ModuleNotFoundError: with the command that installs the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"This needs `{module}`, which is not installed: pip install 'gvtnets_tf[{extra}]'."
        ) from error
