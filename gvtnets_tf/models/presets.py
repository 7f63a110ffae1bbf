"""Presets: the networks with the numbers of `presets.yaml`, which has the source of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

import keras
import yaml

from gvtnets_tf.checks import check_choice
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.models.gpt import GlobalPixelTransformerNet
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.projection import ProjectionGVTNet

# All network classes that a recipe or a model folder may name.
MODELS = {
    "GVTNet": GVTNet,
    "ProjectionGVTNet": ProjectionGVTNet,
    "FNet": FNet,
    "GlobalPixelTransformerNet": GlobalPixelTransformerNet,
}


@dataclass(frozen=True)
class Preset:
    """A network class with the numbers of a publication; no weights.

    Attributes:
        model: model class, called as `model(**config)`.
        source: str. Publication or code that the numbers come from.
        config: mapping. Keyword arguments of `model`.
        axes, output_axes: str. Spatial axes of one input and of its result.
        training: mapping. The recipe, keys as in `Recipe`, published but for the units.
        published: mapping. Keys of `training` that the publication has otherwise.

    Examples:
        >>> from gvtnets_tf.models import GVTNet, Preset
        >>> shallow = Preset(GVTNet, source="a smaller network", config={"depth": 2})
        >>> shallow.build(filters=8).divisor
        (2, 2, 2)
    """

    model: type
    source: str
    config: Mapping = field(default_factory=dict)
    axes: str = "ZYX"
    output_axes: str = "ZYX"
    training: Mapping = field(default_factory=dict)
    published: Mapping = field(default_factory=dict)

    def build(self, **changes) -> keras.Model:
        """Build the network, with some of its arguments changed."""
        return self.model(**{**self.config, **changes})


def _read_presets():
    text = resources.files(__package__).joinpath("presets.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text)["presets"].items()
    return {name: Preset(**{**row, "model": MODELS[row["model"]]}) for name, row in rows}


PRESETS = _read_presets()


def preset(name: str, **changes) -> keras.Model:
    """Build a network with the numbers of its publication.

    Args:
        name: `"label_free"`, `"denoising"`, `"projection"`, `"unet"`, `"fnet"`,
            `"gpt_virtual_staining"`, `"gpt_dense_unet"` or `"gpt_unet"`.
        changes: arguments of the network to change, e.g. `filters=16`.

    Returns:
        `keras.Model`, without trained weights.

    Raises:
        ValueError: for an unknown name, with the nearest one.

    Examples:
        >>> from gvtnets_tf import preset
        >>> model = preset("label_free", filters=4)
        >>> model.build((None, 32, 64, 64, 1))
        >>> model.count_params()
        97433
    """
    return PRESETS[check_choice("preset", name, PRESETS)].build(**changes)
