"""Where the model folders of the zoo lie, and whether they are as they were left."""

import contextlib
import json
import os
import sys
from importlib import resources
from pathlib import Path

from gvtnets_tf.download import digest_of
from gvtnets_tf.zoo.registry import about

FILES = ("model.json", "weights.h5")
SEAL = "sha256.json"  # beside them: the digest of each
LARGEST_SEAL = 2**14  # bytes; a real one has two hundred


def cache_folder():
    """Folder of what was fetched: `$GVTNETS_CACHE`, or the place that the system has for such."""
    if given := os.environ.get("GVTNETS_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gvtnets_tf"
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache") / "gvtnets_tf"


def shipped_folder():
    """Where the shipped model folders lie."""
    try:
        return resources.files("gvtnets_tf.pretrained")
    except ModuleNotFoundError:
        # In the folder of a clone that was not installed to be edited, Python finds the
        # sources first, and there the models lie beside the package.
        return Path(__file__).resolve().parents[2] / "pretrained"


def known(name):
    """What is known of a name, and its `state`: `"shipped"`, `"cached"` or `"download"`."""
    one = about(name)
    cached = one["where"] == "download" and (cache_folder() / name).is_dir()
    return {**one, "state": "cached" if cached else one["where"]}


@contextlib.contextmanager
def folder_of(name):
    """Find the model folder of a name.

    Yields:
        `Path`, of files that are as they were when they were fetched.

    Raises:
        FileNotFoundError: if it was not fetched yet.
        ValueError: for an unknown name, or a folder that was changed.
    """
    if about(name)["where"] == "shipped":
        with resources.as_file(shipped_folder() / name) as folder:
            yield folder
        return
    folder = cache_folder() / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{name!r} is not on this machine yet ({folder}): fetch it once with "
            f"`gvtnets zoo fetch {name}`. License: {about(name)['license']}."
        )
    if fault := broken(folder):
        raise ValueError(
            f"{folder} is not as it was fetched: {fault}. It is not read. Fetch it again with "
            f"`gvtnets zoo fetch {name}`."
        )
    yield folder


def seal(folder):
    """Write down the digest of each file of a model folder."""
    digests = {name: digest_of(folder / name) for name in FILES}
    (folder / SEAL).write_text(json.dumps(digests, indent=2) + "\n")


def broken(folder):
    """What is wrong with a sealed folder, or nothing."""
    for name in (*FILES, SEAL):
        if not (folder / name).is_file():
            return f"it has no {name}"
    if (folder / SEAL).stat().st_size > LARGEST_SEAL:
        return f"{SEAL} is larger than {LARGEST_SEAL} bytes"
    try:
        digests = json.loads((folder / SEAL).read_text())
    except ValueError:
        return f"{SEAL} is not JSON"
    for name in FILES:
        if not isinstance(digests, dict) or digests.get(name) != digest_of(folder / name):
            return f"{name} has another SHA-256 than {SEAL} says"
    return ""
