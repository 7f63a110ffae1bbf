"""Names of trained networks, and the way from a name to a predictor."""

import difflib
import json
from importlib import resources
from pathlib import Path

from gvtnets_tf import folder
from gvtnets_tf.prediction.predictor import Predictor


def registry():
    """Everything that has a name: a mapping from name to what is known of it."""
    return json.loads(resources.files(__name__).joinpath("registry.json").read_text())


def load(model, precision="float32"):
    """Get a predictor by name or from a model folder.

    Args:
        model: name in the registry, or a model folder; a folder wins.
        precision: `"float32"`, or `"bfloat16"` for faster, less exact layers.

    Returns:
        `Predictor`.

    Raises:
        FileNotFoundError: if it looks like a folder and is not there.
        ValueError: for an unknown name (with the nearest one), or a damaged folder.
    """
    path = Path(model)
    if path.is_dir():
        return Predictor(*folder.read(path, precision))
    if len(path.parts) > 1 or path.is_absolute():
        raise FileNotFoundError(f"There is no model folder at {path}.")
    name = str(model)
    if name not in registry():
        known = difflib.get_close_matches(name, registry(), n=1) or sorted(registry())
        raise ValueError(
            f"{name!r} is neither a model folder nor a name in the zoo. Did you mean "
            f"{' or '.join(map(repr, known))}, or the path of a folder?"
        )
    with resources.as_file(_shipped() / name) as shipped:
        return Predictor(*folder.read(shipped, precision))


def _shipped():
    """Where the shipped model folders lie."""
    try:
        return resources.files("gvtnets_tf.pretrained")
    except ModuleNotFoundError:
        # In the folder of a clone that was not installed to be edited, Python finds the
        # sources first, and there the models lie beside the package.
        return Path(__file__).resolve().parents[2] / "pretrained"
