"""Names of trained networks and what is known of each: data, read without any network library."""

import difflib
import json
from importlib import resources

SHIPPED, PUBLISHED = "registry.json", "published.json"
COLUMNS = ("task", "state", "license")
# What `card` shows, in its order, and what to call it.
SHOWN = {
    "task": "task", "state": "weights", "license": "license", "preset": "preset",
    "input": "input", "output": "output", "axes": "axes", "output_axes": "axes of the result",
    "voxel_size_um": "voxel size (micrometers)", "normalize": "normalization",
    "trained_on": "trained on", "scores": "scores", "converted_from": "converted from",
    "paper": "paper", "source": "source", "bytes": "bytes of the source",
}  # fmt: skip


def read_registry():
    """Everything that has a name: a mapping from name to what is known of it."""
    held = _read(PUBLISHED)
    families = {name: {**held["all"], **family} for name, family in held["families"].items()}
    published = {n: {**families[one["family"]], **one} for n, one in held["models"].items()}
    for one in published.values():
        one["path"] = one["path"].format(one.pop("folder"))
        one["source"] = f"{one['url']}/{one['path']}.*"
    return {**_read(SHIPPED), **published}


def about(name):
    """What is known of one name.

    Raises:
        ValueError: for an unknown name, with the nearest one.
    """
    known = read_registry()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) or [n for n in known if name in n]
        hint = f"Did you mean {near[0]!r}? " if name and near else ""
        raise ValueError(
            f"{name!r} is neither a model folder nor a name in the zoo. {hint}"
            f"`gvtnets zoo list` shows all names."
        )
    return known[name]


def table(known):
    """A line for each of a mapping from name to what is known of it."""
    rows = [(name, *(one[key] for key in COLUMNS)) for name, one in known.items()]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )


def card(name, known):
    """What is known of one name, a line for each thing."""
    lines = [f"{label}: {_words(known[key])}" for key, label in SHOWN.items() if known.get(key)]
    return "\n".join([name, *lines])


def _words(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(file):
    return json.loads(resources.files(__package__).joinpath(file).read_text(encoding="utf-8"))
