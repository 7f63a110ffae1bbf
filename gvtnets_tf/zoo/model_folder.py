"""The model folder: architecture, weights and what must be known to use them.

`model.json` and `weights.h5`; where a network was trained here, also `recipe.yaml`,
`history.csv` and `resume/`. JSON and arrays only: nothing in it can run.
"""

import json
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from gvtnets_tf.atomic_files import atomic_rewrite, atomic_write
from gvtnets_tf.checks import check_at_least, check_choice, cut, read_json, read_value
from gvtnets_tf.download import compute_digest
from gvtnets_tf.layers.base import arguments
from gvtnets_tf.models.argument_checks import check_arguments
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import MODELS
from gvtnets_tf.zoo.card import Card

FORMAT = 3
# Keys of format 1, and their names since format 2.
FORMAT_1 = {
    "input": "input_normalizer", "target": "target_normalizer", "undo": "denormalize",
    "licence": "license",
}  # fmt: skip
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
MODEL, WEIGHTS = "model.json", "weights.h5"
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
    """Put `model.json` and `weights.h5` into an existing folder, each whole or not at all.

    `model.json` holds the SHA-256 of the weights, and of those they replace: it is written first,
    and a run that is killed before the second is renamed leaves a folder that loads.
    """
    check_choice("class", type(model).__name__, MODELS)
    description = {
        "format": FORMAT,
        "class": type(model).__name__,
        "arguments": arguments(model),
        "channels": model.get_build_config()["input_shape"][-1],
        **card.to_dict(),
    }
    file = Path(folder) / WEIGHTS
    replaced = [_digest(file)] if file.is_file() else []
    with atomic_rewrite(file) as weights:
        _store(weights, named_weights(model))
        description["sha256"] = list(dict.fromkeys([_digest(weights), *replaced]))
        with atomic_rewrite(file.with_name(MODEL)) as beside:
            beside.write_text(json.dumps(description, indent=2) + "\n")


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
        digests = read_value(tuple[str, ...], description.pop("sha256", ()), "sha256")
        model_class = MODELS[check_choice("class", description.pop("class"), MODELS)]
        config = read_value(Mapping[str, Any], description.pop("arguments"), "arguments")
        check_arguments("arguments", model_class, config)
        channels = read_value(int, description.pop("channels"), "channels")
        check_at_least("channels", channels, 1)
        card = Card.from_dict(description)
        _check_size(path / WEIGHTS, model_class, config, channels)
        model = _build(model_class, config, channels, POLICIES[precision])
    except Exception as error:  # also of Keras, for numbers that do not fit together
        raise ValueError(f"{path / MODEL} does not describe a network: {cut(error)}") from error
    if digests and _digest(path / WEIGHTS) not in digests:
        raise ValueError(
            f"{path / WEIGHTS} is not the file that {MODEL} was written for: its SHA-256 is not "
            f"among `sha256` there. It was damaged or replaced: copy or fetch the folder again. If "
            f"you changed the weights yourself, remove `sha256`."
        )
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


def _digest(file):
    return compute_digest(file).removeprefix("sha256:")


def write_weights(file: str | Path, named: Mapping) -> None:
    """Write variables by name into a flat HDF5 file, whole or not at all.

    `ValueError` names a variable that is not finite, as those of a training that has diverged.
    """
    with atomic_rewrite(file) as beside:
        _store(beside, named)


def _store(file, named):
    with h5py.File(file, "w") as store:
        for name, variable in named.items():
            value = np.asarray(variable)
            if fault := _find_value({name: value}):
                raise ValueError(f"The weights are not written: {fault}. Lower `learning_rate`.")
            store[name] = value


def read_weights(file: str | Path, named: Mapping) -> None:
    """Assign the arrays of a file of `write_weights`, float32 or float16, by name.

    Nothing is assigned before all were checked: every array has a place, and every place one.
    `ValueError` names the file and its fault.
    """
    try:
        with h5py.File(file, "r") as store:
            arrays = _list_arrays(store, named)
            fault = _find_fault(arrays, named)
            values = {} if fault else {name: arrays[name][()] for name in named}
            fault = fault or _find_value(values, ": ")
    except Exception as error:  # of damaged files: OSError, RuntimeError, KeyError, TypeError...
        raise ValueError(
            f"{file} cannot be read as HDF5: it is truncated or damaged ({cut(error)}). Copy or "
            f"fetch it again."
        ) from error
    if fault:
        raise ValueError(f"{file}{fault}.")
    for name, variable in named.items():
        variable.assign(values[name])


def _list_arrays(store, named, path=""):
    """List what a group holds by name; other groups than those of `named` are not looked into."""
    arrays = {}
    for key in store:
        name = f"{path}{key}"
        if store.get(key, getclass=True, getlink=True) is not h5py.HardLink:
            continue  # such as a link into another file
        elif any(other.startswith(f"{name}/") for other in named):
            arrays |= _list_arrays(store[key], named, f"{name}/")
        else:
            arrays[name] = store[key]
    return arrays


def _find_fault(arrays, named):
    """Say how arrays differ from variables in names, shapes and types; empty where they do not."""
    missing, left = sorted(named.keys() - arrays.keys()), sorted(arrays.keys() - named.keys())
    if missing or left:
        return (
            f" does not belong to this network: {len(missing)} weights are missing "
            f"({cut(', '.join(missing[:3]))}), {len(left)} have no place "
            f"({cut(', '.join(left[:3]))})"
        )
    for name, variable in named.items():
        data, needed = arrays[name], tuple(variable.shape)
        if not isinstance(data, h5py.Dataset):
            return f": {name} is no array, but the network needs {needed} numbers"
        numbers = data.dtype.kind in "fiu" and data.dtype.itemsize <= 8
        if data.shape != needed or not numbers:
            return (
                f": {name} has shape {data.shape} and type {cut(data.dtype)}, but the network "
                f"needs {needed} numbers"
            )
        if data.external or data.is_virtual:
            return f": {name} points into another file, which is not read"
    return ""


def _find_value(values, start=""):
    """Say which array holds values that are no numbers; empty where none does."""
    for name, value in values.items():
        if bad := value.size - np.count_nonzero(np.isfinite(value)):
            return f"{start}{name} holds {bad} values that are NaN or infinite, out of {value.size}"
    return ""


def _read_description(file):
    """Read `model.json` with the keys of the present format, without `format` itself."""
    description = read_json(file)
    version = description.pop("format", None)
    if version not in (1, 2, FORMAT):
        raise ValueError(
            f"{file} is not of format 1 to {FORMAT}, which this version reads: update "
            f"gvtnets_tf, or train or convert the model again."
        )
    renamed = FORMAT_1 if version == 1 else {}
    description = {renamed.get(key, key): value for key, value in description.items()}
    if version < FORMAT and isinstance(values := description.get("arguments"), Mapping):
        description["arguments"] = _rename_arguments(values)
    return description


def _rename_arguments(values):
    """Return arguments of a network of formats 1 and 2 as format 3 has them."""
    values = {k: _rename_arguments(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    if "batch_norm" in values:
        values["norm"] = "batch" if values.pop("batch_norm") else None
    if "softmax" in values:
        values["attention_normalization"] = "softmax" if values.pop("softmax") else "none"
    if "attention_dropout" in values:  # of a `GlobalPixelTransformerNet`
        form = {k: values.pop(k) for k in ("scaled", "attention_dropout", "project") if k in values}
        form["dropout"] = form.pop("attention_dropout")
        values["transformer"] = form if any(form.values()) else "paper"
    return values
