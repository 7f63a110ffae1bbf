"""The model folder: architecture, weights and what must be known to use them.

`model.json` and `weights.h5`; where a network was trained here, also `recipe.yaml`,
`history.csv` and `resume/`. JSON and arrays only: nothing in it can run.
"""

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np

from gvtnets_tf.atomic_files import atomic_rewrite, atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.base import arguments
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import MODELS
from gvtnets_tf.zoo.card import Card

FORMAT = 2
# Keys of format 1, and their names in format 2.
FORMAT_1 = {
    "input": "input_normalizer", "target": "target_normalizer", "undo": "denormalize",
    "licence": "license",
}  # fmt: skip
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
MODEL, WEIGHTS = "model.json", "weights.h5"
LARGEST_JSON = 2**20  # bytes; a real one has a few thousand
HARMLESS = 2**24  # weights that a network may have whatever its file holds: 64 MiB


def write_model(path: str | Path, model: keras.Model, card: Card, force: bool = False) -> Path:
    """Write a model folder of a built network of one of `MODELS`; return its path.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        ValueError: for a network of another class.

    Examples:
        >>> import tempfile
        >>> from gvtnets_tf import GVTNet
        >>> model = GVTNet(rank=2, filters=2, depth=2)
        >>> model.build((None, None, None, 1))
        >>> write_model(f"{tempfile.mkdtemp()}/flat", model, Card("YX", "YX")).name
        'flat'
    """
    with atomic_write(path, force) as folder:
        folder.mkdir()
        save_model(folder, model, card)
    return Path(path)


def save_model(folder: str | Path, model: keras.Model, card: Card) -> None:
    """Put `model.json` and `weights.h5` into an existing folder, each whole or not at all."""
    check_choice("class", type(model).__name__, MODELS)
    description = {
        "format": FORMAT,
        "class": type(model).__name__,
        "arguments": arguments(model),
        "channels": model.get_build_config()["input_shape"][-1],
        **card.to_dict(),
    }
    folder = Path(folder)
    write_weights(folder / WEIGHTS, named_weights(model))
    with atomic_rewrite(folder / MODEL) as file:
        file.write_text(json.dumps(description, indent=2) + "\n")


def read_model(path: str | Path, precision: str = "float32") -> tuple[keras.Model, Card]:
    """Read a model folder: the network, built and with its weights, and its `Card`.

    Args:
        path: folder with `model.json` and `weights.h5`.
        precision: `"float32"`, or `"bfloat16"`: layers compute in it, weights stay float32.

    Raises:
        FileNotFoundError, ValueError: naming the file and its fault: it is missing, truncated, of a
            newer format or an unknown class, or its weights do not fit.

    Examples:
        >>> from gvtnets_tf.zoo import fetch
        >>> model, card = read_model(fetch("simulated_denoiser"))
        >>> model.filters, card.input_channels
        (16, ('noisy',))
    """
    path = Path(path)
    check_choice("precision", precision, POLICIES)
    for name in (MODEL, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is not a model folder: it has no {name}.")
    description = _read_description(path / MODEL)
    try:
        model_class = MODELS[check_choice("class", description.pop("class"), MODELS)]
        config, channels = description.pop("arguments"), description.pop("channels")
        _check_size(path / WEIGHTS, model_class, config, channels)
        model = _build(model_class, config, channels, POLICIES[precision])
        card = Card.from_dict(description)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / MODEL} does not describe a network: {error}") from error
    read_weights(path / WEIGHTS, named_weights(model))
    return model, card


def _build(model_class, config, channels, dtype=None):
    model = model_class(**config, dtype=dtype)
    model.build((None, *(None,) * model.rank, channels))
    return model


def _check_size(file, model_class, config, channels):
    """Refuse a network that its file cannot hold, before the memory for it is asked for."""

    def count_weights():
        # In this scope Keras notes shapes only, and makes the weights as it is left; here it
        # ends with its thread instead.
        keras.StatelessScope().__enter__()
        return sum(math.prod(w.shape) for w in _build(model_class, config, channels).weights)

    with ThreadPoolExecutor(1) as thread:
        count = thread.submit(count_weights).result()
    size = file.stat().st_size
    if count > HARMLESS and count * np.dtype(np.float16).itemsize > size:
        raise ValueError(
            f"it asks for {count} weights, and {WEIGHTS} has {size} bytes. Is it truncated, or of "
            f"another network?"
        )


def write_weights(file: str | Path, named: Mapping) -> None:
    """Write variables by name into a flat HDF5 file, whole or not at all."""
    with atomic_rewrite(file) as beside, h5py.File(beside, "w") as store:
        for name, variable in named.items():
            store[name] = np.asarray(variable)


def read_weights(file: str | Path, named: Mapping) -> None:
    """Assign the arrays of a file of `write_weights`, float32 or float16, by name.

    Nothing is assigned before all were checked: every array has a place, and every place one.
    """
    try:
        with h5py.File(file, "r") as store:
            names = []
            store.visit(names.append)
            datasets = {n: store[n] for n in names if isinstance(store[n], h5py.Dataset)}
            _check_weights(file, datasets, named)
            values = {name: datasets[name][()] for name in named}
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read as HDF5: it is truncated or damaged ({error}). Copy or "
            f"fetch it again."
        ) from error
    for name, variable in named.items():
        variable.assign(values[name])


def _check_weights(file, datasets, named):
    missing = sorted(named.keys() - datasets.keys())
    left = sorted(datasets.keys() - named.keys())
    if missing or left:
        raise ValueError(
            f"{file} does not belong to this network: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}), {len(left)} have no place ({', '.join(left[:3])})."
        )
    for name, variable in named.items():
        data = datasets[name]
        numbers = data.dtype.kind in "fiu" and data.dtype.itemsize <= 8
        if data.shape != tuple(variable.shape) or not numbers:
            raise ValueError(
                f"{file}: {name} has shape {data.shape} and type {data.dtype}, but the network "
                f"needs {tuple(variable.shape)} numbers."
            )
        if data.external or data.is_virtual:
            raise ValueError(f"{file}: {name} points into another file, which is not read.")


def _read_description(file):
    """Read `model.json` with the keys of the present format, without `format` itself."""
    if file.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{file} is larger than {LARGEST_JSON} bytes: it is not a model.json.")
    try:
        description = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: it is truncated or damaged ({error}).") from error
    if not isinstance(description, dict):
        raise ValueError(f"{file} must hold a JSON object. Received: {type(description).__name__}.")
    version = description.pop("format", None)
    if version not in (1, FORMAT):
        raise ValueError(
            f"{file} is not of format 1 or {FORMAT}, which this version reads: update "
            f"gvtnets_tf, or train or convert the model again."
        )
    renamed = FORMAT_1 if version == 1 else {}
    return {renamed.get(key, key): value for key, value in description.items()}
