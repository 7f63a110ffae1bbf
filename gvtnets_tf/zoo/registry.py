"""The registry of trained networks, read without any network library."""

import json
from collections.abc import Mapping
from importlib import resources

from gvtnets_tf.checks import format_table, nearest_name

# Keys that `format_entry` shows, in its order, and their labels.
LABELS = {
    "task": "task", "state": "weights", "license": "license", "preset": "preset",
    "input": "input", "output": "output", "axes": "axes", "output_axes": "axes of the result",
    "voxel_size_um": "voxel size (micrometers)", "normalize": "normalization",
    "trained_on": "trained on", "scores": "scores", "converted_from": "converted from",
    "paper": "paper", "source": "source", "bytes": "bytes of the source",
}  # fmt: skip


def read_registry() -> dict[str, dict]:
    """Read the entries of all named networks, by name.

    An entry has the task, where its weights are (`"shipped"` or `"download"`), license, axes,
    channels and, where downloaded, address and git blob ids.

    Examples:
        >>> read_registry()["simulated_denoiser"]["license"]
        'BSD-3-Clause'
    """
    registry, published = _read("registry.json"), _read("published.json")
    for name, model in published["models"].items():
        entry = {**published["all"], **published["families"][model["family"]], **model}
        entry["path"] = entry["path"].format(entry.pop("folder"))
        registry[name] = {**entry, "source": f"{entry['url']}/{entry['path']}.*"}
    return registry


def read_entry(name: str) -> dict:
    """Read the entry of one name; `ValueError` with the nearest one for an unknown name."""
    registry = read_registry()
    if name not in registry:
        near = nearest_name(name, registry) or next((n for n in registry if name in n), None)
        hint = f"Did you mean {near!r}? " if name and near else ""
        raise ValueError(
            f"{name!r} is neither a model folder nor a name in the zoo. {hint}"
            f"`gvtnets zoo list` shows all names."
        )
    return registry[name]


def format_entries(entries: Mapping[str, Mapping]) -> str:
    """Lay out a line for each of a mapping from name to entry, with its `state`."""
    return format_table([(n, e["task"], e["state"], e["license"]) for n, e in entries.items()])


def format_entry(name: str, entry: Mapping) -> str:
    """Lay out one entry, a line for each key that it has."""
    lines = [f"{label}: {_format(entry[key])}" for key, label in LABELS.items() if entry.get(key)]
    return "\n".join([name, *lines])


def _format(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_format(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _read(file):
    return json.loads(resources.files(__package__).joinpath(file).read_text(encoding="utf-8"))
