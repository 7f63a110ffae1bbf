"""The state of a torch network, read as names and arrays: no file is asked to run code."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gvtnets_tf.checks import check_choice, cut, import_optional

LARGEST = 2**31  # bytes; the largest published file, with its optimizer's memory, has 0.3e9


def read_state(file: str | Path) -> dict[str, np.ndarray]:
    """Read arrays by name, axes in the order of torch; formats and errors as `convert_fnet`."""
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}.")
    reader = READERS[check_choice("format", file.suffix.lower(), READERS)]
    check_size(file, file.stat().st_size)
    return reader(file)


def check_size(file: str | Path, size: int) -> None:
    """Raise `ValueError` for a file that is larger than any published one, before it is read."""
    if size > LARGEST:
        raise ValueError(
            f"{file} holds {size} bytes, more than the {LARGEST} that are read: it is not a "
            f"published network."
        )


def _read_npz(file):
    try:
        with zipfile.ZipFile(file) as members:
            size = sum(member.file_size for member in members.infolist())
    except Exception as error:  # also struct.error, NotImplementedError
        raise _describe_damage(file, error) from error
    check_size(file, size)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except ValueError as error:
        raise ValueError(
            f"{file} must hold plain arrays, as numpy.savez writes them ({cut(error)})."
        ) from error
    except Exception as error:  # of zipfile, zlib and tokenize, and what they do not catch
        raise _describe_damage(file, error) from error


def _read_safetensors(file):
    numpy = import_optional("safetensors.numpy", "safetensors")
    try:
        return numpy.load_file(file)
    except Exception as error:  # SafetensorError, KeyError or TypeError for a type unknown to NumPy
        raise _describe_damage(file, error) from error


def _read_torch(file):
    torch = import_optional("torch", "torch")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of its own, of zip files, and of what it refuses to run
        raise ValueError(
            f"{file} cannot be read as arrays alone: it is damaged, or would have to run code, "
            f"which is never done here. If you trust it, write its arrays with torch: "
            f"state = torch.load('{file.name}', weights_only=False)['nn_state']; "
            f"numpy.savez('state.npz', **{{k: v.cpu().numpy() for k, v in state.items()}}); and "
            f"convert state.npz. ({type(error).__name__}: {str(error).partition('. ')[0]})"
        ) from error
    state = state.get("nn_state", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise ValueError(
            f"{file} must hold a mapping from names to tensors, by itself or under 'nn_state'. "
            f"Received: {type(state).__name__}."
        )
    return {name: value.detach().float().numpy() for name, value in state.items()}


def _describe_damage(file, error):
    return ValueError(f"{file} cannot be read: it is truncated or damaged ({cut(error)}).")


READERS = {".npz": _read_npz, ".safetensors": _read_safetensors}
READERS |= dict.fromkeys((".pt", ".pth", ".p"), _read_torch)
