"""The folders of shipped and fetched networks, and the check that fetched ones are unchanged."""

import json
import os
from importlib import resources
from pathlib import Path

import pooch

from gvtnets_tf.checks import parse_json
from gvtnets_tf.download import compute_digest
from gvtnets_tf.zoo.registry import read_entry

FILES = ("model.json", "weights.h5")
DIGESTS = "sha256.json"  # beside them: the digest of each
LARGEST_DIGESTS = 2**14  # bytes; a real one has two hundred


def cache_folder() -> Path:
    """Return the folder of fetched networks: `$GVTNETS_CACHE`, or the user's cache."""
    folder = os.environ.get("GVTNETS_CACHE")
    return Path(folder).expanduser() if folder else pooch.os_cache("gvtnets_tf")


def shipped_folder() -> Path:
    """Return the folder of the shipped networks."""
    try:
        return Path(resources.files("gvtnets_tf.pretrained"))
    except ModuleNotFoundError:
        # In the folder of a clone that was not installed to be edited, Python finds the
        # sources first, and there the models lie beside the package.
        return Path(__file__).resolve().parents[2] / "pretrained"


def read_state(name: str) -> str:
    """Return `"shipped"`, `"cached"` or `"download"`, for the place of a network's weights."""
    where = read_entry(name)["where"]
    cached = where == "download" and (cache_folder() / name).is_dir()
    return "cached" if cached else where


def find_folder(name: str) -> Path:
    """Find the model folder of a name; raise if it was not fetched, or was changed since."""
    entry = read_entry(name)
    if entry["where"] == "shipped":
        return shipped_folder() / name
    folder = cache_folder() / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name!r} is not on this machine yet ({folder}): fetch it once with "
            f"`gvtnets zoo fetch {name}`. License: {entry['license']}."
        )
    if fault := find_fault(folder):
        raise ValueError(
            f"{folder} is not as it was fetched: {fault}. It is not read. Fetch it again with "
            f"`gvtnets zoo fetch {name}`."
        )
    return folder


def write_digests(folder: Path) -> None:
    """Write the digest of each file of a model folder beside them."""
    digests = {name: compute_digest(folder / name) for name in FILES}
    (folder / DIGESTS).write_text(json.dumps(digests, indent=2) + "\n")


def find_fault(folder: Path) -> str:
    """Say how a fetched folder differs from its digests; empty where it does not."""
    for name in (*FILES, DIGESTS):
        if not (folder / name).is_file():
            return f"it has no {name}"
    if (folder / DIGESTS).stat().st_size > LARGEST_DIGESTS:
        return f"{DIGESTS} is larger than {LARGEST_DIGESTS} bytes"
    try:
        digests = parse_json((folder / DIGESTS).read_text())
    except ValueError:
        return f"{DIGESTS} is not JSON"
    for name in FILES:
        if not isinstance(digests, dict) or digests.get(name) != compute_digest(folder / name):
            return f"{name} has another SHA-256 than {DIGESTS} says"
    return ""
