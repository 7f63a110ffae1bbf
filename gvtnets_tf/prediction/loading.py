"""From the name of a trained network to a predictor."""

from pathlib import Path

from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.cache import find_folder


def load(model, precision="float32"):
    """Get a predictor by name or from a model folder.

    Args:
        model: name in the registry, or a model folder; a folder wins.
        precision: `"float32"`, or `"bfloat16"` for faster, less exact layers.

    Returns:
        `Predictor`.

    Raises:
        FileNotFoundError: if it looks like a folder and is not there, or if the weights of
            a name were not fetched yet (with the command that does).
        ValueError: for an unknown name (with the nearest one), or a damaged folder.
    """
    path = Path(model)
    if path.is_dir():
        return _predictor(path, precision)
    if len(path.parts) > 1 or path.is_absolute():
        raise FileNotFoundError(f"There is no model folder at {path}.")
    return _predictor(find_folder(str(model)), precision)


def _predictor(path, precision):
    return Predictor(*model_folder.read_model(path, precision))
