"""The model folder: architecture, weights and what must be known to use them.

`model.json` and `weights.h5`; where a network was trained here, also `recipe.yaml`,
`history.csv` and `resume/`. JSON and arrays only: nothing in it can run.
"""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import keras
import numpy as np

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.base import arguments
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import MODELS
from gvtnets_tf.zoo.card import Card

FORMAT = 2
# What the keys of format 1 are called now.
FORMAT_1 = {
    "input": "input_normalizer", "target": "target_normalizer", "undo": "denormalize",
    "licence": "license",
}  # fmt: skip
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
MODEL, WEIGHTS = "model.json", "weights.h5"
LARGEST_JSON = 2**20  # bytes; a real one has a few thousand
HARMLESS = 2**24  # weights that a network may have whatever its file holds: 64 MiB


def write(path, model, card, force=False):
    """Write a model folder.

    Args:
        path: folder to make.
        model: a built network of one of `MODELS`.
        card: `Card`.
        force: bool. Whether an existing folder is replaced.

    Returns:
        `Path` of the folder.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        ValueError: for a network of another class.
    """
    with atomic_write(path, force) as folder:
        folder.mkdir()
        save(folder, model, card)
    return Path(path)


def save(folder, model, card):
    """Put `model.json` and `weights.h5` into an existing folder, each whole or not at all."""
    check_choice("class", type(model).__name__, MODELS)
    about = {
        "format": FORMAT,
        "class": type(model).__name__,
        "arguments": arguments(model),
        "channels": _channels(model),
        **card.to_dict(),
    }
    folder = Path(folder)
    write_weights(folder / WEIGHTS, named_weights(model))
    with atomic_write(folder / MODEL, force=True) as file:
        file.write_text(json.dumps(about, indent=2) + "\n")


def read(path, precision="float32"):
    """Read a model folder.

    Args:
        path: folder with `model.json` and `weights.h5`.
        precision: `"float32"`, or `"bfloat16"`: layers compute in it, weights stay float32.

    Returns:
        The network, built and with its weights, and its `Card`.

    Raises:
        FileNotFoundError: if the folder or one of the two files is missing.
        ValueError: naming the file and what is wrong with it: a newer format, an
            unknown class, a truncated file, weights that do not fit.
    """
    path = Path(path)
    check_choice("precision", precision, POLICIES)
    for name in (MODEL, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(f"{path} is not a model folder: it has no {name}.")
    about = _read_json(path / MODEL)
    written = about.pop("format", None)
    if written not in (1, FORMAT):
        raise ValueError(
            f"{path / MODEL} is not of format 1 or {FORMAT}, which this version reads: update "
            f"gvtnets_tf, or train or convert the model again."
        )
    if written == 1:
        about = {FORMAT_1.get(key, key): value for key, value in about.items()}
    try:
        made = MODELS[check_choice("class", about.pop("class"), MODELS)]
        arguments, channels = about.pop("arguments"), about.pop("channels")
        _check_size(path, _count(made, arguments, channels))
        model = _built(made, arguments, channels, POLICIES[precision])
        card = Card.from_dict(about)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / MODEL} does not describe a network: {error}") from error
    read_weights(path / WEIGHTS, named_weights(model))
    return model, card


def _built(made, arguments, channels, dtype=None):
    model = made(**arguments, dtype=dtype)
    model.build((None, *(None,) * model.rank, channels))
    return model


def _count(made, arguments, channels):
    """How many numbers the weights of a network would be; no room is made for them."""

    def draft():
        # In this scope Keras notes shapes only, and makes the weights as it is left; here it
        # ends with its thread instead.
        keras.StatelessScope().__enter__()
        return sum(math.prod(w.shape) for w in _built(made, arguments, channels).weights)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(draft).result()


def _check_size(path, count):
    """Refuse a network that its file cannot hold, before the memory for it is asked for."""
    size = (path / WEIGHTS).stat().st_size
    if count > HARMLESS and count * np.dtype(np.float16).itemsize > size:
        raise ValueError(
            f"it asks for {count} weights, and {WEIGHTS} has {size} bytes. Is it truncated, or of "
            f"another network?"
        )


def write_weights(file, named):
    """Write variables by name into a flat HDF5 file, whole or not at all."""
    with atomic_write(file, force=True) as beside, h5py.File(beside, "w") as store:
        for name, variable in named.items():
            store[name] = np.asarray(variable)


def read_weights(file, named):
    """Read variables by name; every one in the file has a place, and every place is filled.

    Args:
        file: HDF5 file that `write_weights` wrote, float32 or float16.
        named: mapping from name to variable, assigned in place once all were checked.

    Raises:
        ValueError: naming the file, and the weights that are missing, left over, of
            another shape, or not plain arrays inside the file.
    """
    try:
        with h5py.File(file, "r") as store:
            found = {}
            store.visititems(lambda name, item: _visit(found, name, item))
            _check_weights(file, found, named)
            values = {name: found[name][()] for name in named}
    except OSError as error:
        raise ValueError(
            f"{file} cannot be read as HDF5: it is truncated or damaged ({error}). Copy or "
            f"fetch it again."
        ) from error
    for name, variable in named.items():
        variable.assign(values[name])


def _visit(found, name, item):
    if isinstance(item, h5py.Dataset):
        found[name] = item


def _check_weights(file, found, named):
    missing, left = sorted(named.keys() - found.keys()), sorted(found.keys() - named.keys())
    if missing or left:
        raise ValueError(
            f"{file} does not belong to this network: {len(missing)} weights are missing "
            f"({', '.join(missing[:3])}), {len(left)} have no place ({', '.join(left[:3])})."
        )
    for name, variable in named.items():
        data = found[name]
        numbers = data.dtype.kind in "fiu" and data.dtype.itemsize <= 8
        if data.shape != tuple(variable.shape) or not numbers:
            raise ValueError(
                f"{file}: {name} has shape {data.shape} and type {data.dtype}, but the network "
                f"needs {tuple(variable.shape)} numbers."
            )
        if data.external or data.is_virtual:
            raise ValueError(f"{file}: {name} points into another file, which is not read.")


def _read_json(file):
    if file.stat().st_size > LARGEST_JSON:
        raise ValueError(f"{file} is larger than {LARGEST_JSON} bytes: it is not a model.json.")
    try:
        about = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: it is truncated or damaged ({error}).") from error
    if not isinstance(about, dict):
        raise ValueError(f"{file} must hold a JSON object. Received: {type(about).__name__}.")
    return about


def _channels(model):
    return int(named_weights(model)[FIRST[type(model).__name__]].shape[-2])


# The weight whose last axis but one is the channels of the input.
FIRST = {
    "GVTNet": "stem/kernel",
    "ProjectionGVTNet": "project.downs.0/kernel",
    "FNet": "encoder.0.0.conv/kernel",
    "GlobalPixelTransformerNet": "stem/kernel",
}
