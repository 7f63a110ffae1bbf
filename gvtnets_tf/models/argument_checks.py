"""Arguments of a network that come from a file: names, types, and how many layers they ask for."""

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from gvtnets_tf.checks import check_choice, check_fits, read_value
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.projection import SurfaceProjection

PARTS = {"projection": SurfaceProjection, "restoration": GVTNet}  # of a `ProjectionGVTNet`
# Arguments that count layers, of each level or in all; the published networks have up to 32.
PER_LEVEL, IN_ALL = (
    ("encoder_blocks", "decoder_blocks"),
    ("depth", "bottom", "bottom_depth", "encoder_depths", "decoder_depths"),
)
MOST_LAYERS = 128


def check_arguments(path: str, cls: type, values: Mapping[str, Any]) -> None:
    """Raise `ValueError` for arguments that a network does not have, of another type or too many.

    Each layer takes time to build, whatever its size, so their number is bounded before. `path`
    is the key of the arguments in their file.

    Examples:
        >>> check_arguments("model", GVTNet, {"depth": 3000})
        Traceback (most recent call last):
            ...
        ValueError: `model` asks for 9001 levels and blocks of layers: at most 128 are built.
    """
    parameters, hints = inspect.signature(cls).parameters, get_type_hints(cls.__init__)
    known = parameters.keys() - {"kwargs"}
    for key, value in values.items():
        # `class` is not an argument, but what is meant by `clas`.
        check_choice(f"key of {path}", key, ["class", *known] if path == "model" else known)
        place = f"{path}.{key}"
        if key in PARTS and value is not None:
            check_fits(isinstance(value, Mapping), place, value, "a mapping")
            check_arguments(place, PARTS[key], value)
        else:
            read_value(hints[key], value, place)
    count = _count_layers({name: p.default for name, p in parameters.items()} | dict(values))
    if count > MOST_LAYERS:
        raise ValueError(
            f"`{path}` asks for {count} levels and blocks of layers: at most {MOST_LAYERS} are "
            f"built."
        )


def _count_layers(values):
    def count(value, levels=1):
        if isinstance(value, list | tuple):
            return sum(count(item) for item in value)
        return max(value, 0) * levels if isinstance(value, int) else 1

    per_level = (count(values.get(name, 0), values.get("depth", 1)) for name in PER_LEVEL)
    return sum(per_level) + sum(count(values.get(name, 0)) for name in IN_ALL)
