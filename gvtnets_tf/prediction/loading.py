"""Load trained networks, by name or from model folders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.zoo import model_folder
from gvtnets_tf.zoo.cache import find_folder


def load(model: str | Path, precision: str = "float32") -> Predictor:
    """Load a predictor by name or from a model folder.

    Args:
        model: name in the registry, or a model folder; a folder wins.
        precision: `"float32"`, or `"bfloat16"` for faster, less exact layers.

    Raises:
        FileNotFoundError: if it looks like a folder and is not there, or if the weights of
            a name were not fetched yet (with the command that does).
        ValueError: for an unknown name (with the nearest one), or a damaged folder.

    Examples:
        >>> load("simulated_denoiser").card.axes
        'ZYX'
    """
    path = Path(model)
    if not path.is_dir():
        if len(path.parts) > 1 or path.is_absolute():
            raise FileNotFoundError(f"There is no model folder at {path}.")
        path = find_folder(str(model))
    return Predictor(*model_folder.read_model(path, precision))


def name_models(models: str | Path | Predictor | Sequence | Mapping) -> dict:
    """Return the models that `predict` takes as a mapping from their names.

    One model has the name that it was given by (a `Predictor` none); several have the last part
    of their paths, or all of it where that is not enough.
    """
    models = models if isinstance(models, (Mapping, list, tuple)) else [models]
    if not models:
        raise ValueError("There is no model to predict with: name at least one.")
    if isinstance(models, Mapping):
        return dict(models)
    if len(models) == 1:
        return {"" if isinstance(models[0], Predictor) else str(models[0]): models[0]}
    paths = [m if isinstance(m, (str, Path)) else f"model {i}" for i, m in enumerate(models)]
    short = Counter(Path(path).name for path in paths)
    names = [str(path) if short[Path(path).name] > 1 else Path(path).name for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"The model {twice[0]} is given twice: name each model once.")
    return dict(zip(names, models))


def load_models(models: Mapping, precision: str) -> dict[str, Predictor]:
    """Load each model of a run once; refuse models whose results do not fit into one image."""
    predictors = {
        name: model if isinstance(model, Predictor) else load(model, precision=precision)
        for name, model in models.items()
    }
    (first, one), *others = ((name, p.card) for name, p in predictors.items())
    for other, card in others:
        if set(one.axes) - set(one.output_axes) != set(card.axes) - set(card.output_axes):
            raise ValueError(
                f"The models do not go into one image, because the axes of their results differ: "
                f"{first} predicts {one.output_axes} from {one.axes}, "
                f"{other} {card.output_axes} from {card.axes}. Predict them apart."
            )
    return predictors
