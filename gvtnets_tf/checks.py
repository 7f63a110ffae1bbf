"""Argument checks that say what was wrong, what came in and what to do."""

import difflib
import importlib


def check_choice(name, value, options):
    """Return `value` if it is one of `options`; name the nearest one if not.

    Raises:
        ValueError: with the nearest option, or all of them.
    """
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), [str(option) for option in options], n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Choose one of {sorted(map(str, options))}."
    raise ValueError(f"`{name}` cannot be {value!r}. {hint}")


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
