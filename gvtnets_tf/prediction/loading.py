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

    Returns:
        `Predictor`.

    Raises:
        FileNotFoundError: if it looks like a folder and is not there, or if the weights of
            a name were not fetched yet (with the command that does).
        ValueError: for an unknown name (with the nearest one), or a damaged folder.

    Examples:
        >>> load("simulated_denoiser").card.axes
        'ZYX'
    """
    path = Path(model)
    if path.is_dir():
        return Predictor(*model_folder.read_model(path, precision))
    if len(path.parts) > 1 or path.is_absolute():
        raise FileNotFoundError(f"There is no model folder at {path}.")
    return Predictor(*model_folder.read_model(find_folder(str(model)), precision))


def name_models(models: str | Path | Predictor | Sequence | Mapping) -> dict:
    """Name the models of a run.

    Args:
        models: a zoo name, model folder or `Predictor`; a list of these; or a mapping to
            these from their names.

    Returns:
        Mapping from name to model. One model has the name that it was given by (a
        `Predictor` none); several have the last part of their paths, or all of it where
        that is not enough.

    Raises:
        ValueError: if there is no model, or one is given twice.

    Examples:
        >>> list(name_models(["runs/dna", "runs/actin"]))
        ['dna', 'actin']
    """
    if isinstance(models, Mapping):
        named = dict(models)
    elif not isinstance(models, (list, tuple)):
        named = {"" if isinstance(models, Predictor) else str(models): models}
    elif len(models) == 1:
        return name_models(models[0])
    else:
        named = _name_several(models)
    if not named:
        raise ValueError("There is no model to predict with: name at least one.")
    return named


def load_models(models: Mapping, precision: str = "float32") -> dict[str, Predictor]:
    """Load each model of a run once.

    Args:
        models: mapping from name to zoo name, model folder or `Predictor`.
        precision: as in `load`.

    Returns:
        Mapping from name to `Predictor`, in memory for the whole run.

    Raises:
        FileNotFoundError, ValueError: as `load`, and for results that one image cannot hold.
    """
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


def _name_several(models):
    paths = [m if isinstance(m, (str, Path)) else f"model {i}" for i, m in enumerate(models)]
    short = Counter(Path(path).name for path in paths)
    names = [str(path) if short[Path(path).name] > 1 else Path(path).name for path in paths]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"The model {twice[0]} is given twice: name each model once.")
    return dict(zip(names, models))
