"""Presets: the numbers of the published networks, with their sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import keras

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
GRAPHS = "divelab/GVTNets @ 66e1007, released training graphs"


@dataclass(frozen=True)
class Preset:
    """A network class with the numbers of a publication; no weights.

    Attributes:
        model: model class, called as `model(**config)`.
        source: str. Publication or code that the numbers come from.
        config: mapping. Keyword arguments of `model`.
        axes, output_axes: str. Spatial axes of one input and of its result.
        training: mapping. The published recipe, keys as in `Recipe`.

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

    def build(self, **changes) -> keras.Model:
        """Build the network, with some of its arguments changed."""
        return self.model(**{**self.config, **changes})


_DENOISING = {
    "filters": 32, "depth": 3, "encoder_blocks": (1, 1, 0), "decoder_blocks": 1,
    "down": "convolution", "up": "gvto_v2", "bottom": ("gvto",), "skip": "concatenate",
    "batch_norm": False, "head_kernel": 1, "head_bias": False, "input_residual": True,
    "num_heads": 2,
}  # fmt: skip

_LABEL_FREE = {
    "loss": "mse",
    "normalize": {"input": "zscore", "target": "zscore", "denormalize": "none"},
    "optimizer": {"beta_1": 0.5, "beta_2": 0.999, "epsilon": 1e-8},
    "learning_rate": 1e-3,
    "patch_size": [32, 64, 64],
}
_ADAM = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
_RESTORATION = {
    "loss": "mae",
    "normalize": {"input": "percentile", "target": "percentile", "denormalize": "input"},
    "optimizer": _ADAM,
    "learning_rate": {"initial": 4e-4, "decay_rate": 0.7, "decay_steps": 10_000},
    "patch_size": [16, 64, 64],
    "batch_size": 16,
    # 50 epochs of the 17,005 Planaria patches in batches of 16.
    "steps": 53_100,
}
_STAINING = {
    "loss": "masked_crossentropy",
    # The paper does not say how its inputs are scaled; its labels are pixel / largest value.
    "normalize": {
        "input": "zscore",
        "target": {"kind": "percentile", "low": 0.1, "high": 99.9, "scope": "dataset"},
        "denormalize": "stored",
    },
    "optimizer": _ADAM,
    # The release: 1e-4.
    "learning_rate": 1e-5,
    "scales": [1, 2, 0.5],
    "patch_size": [128, 128],
    "batch_size": 4,
    # Not printed.
    "steps": 100_000,
}


def _make_staining_preset(source, block, resample):
    config = {
        "rank": 2, "out_channels": 8, "classes": 256, "filters": 32, "growth": 16,
        "encoder_depths": (2, 4, 8), "bottom_depth": 8, "decoder_depths": (1, 2, 4),
        "dropout": 0.5, "chunk": 2048, "block": block, "resample": resample,
    }  # fmt: skip
    source = f"Liu, Yuan, Wang & Ji (2020), {source}"
    return Preset(GlobalPixelTransformerNet, source, config, "YX", "YX", training=_STAINING)


PRESETS = {
    "label_free": Preset(
        GVTNet,
        f"Wang, Xie & Ji (2021), sections 4.5.1 and 4.2, Supplementary Fig. 2; {GRAPHS}",
        {
            "rank": 3, "filters": 32, "depth": 4, "encoder_blocks": (1, 0, 0, 0),
            "decoder_blocks": 1, "down": "residual", "up": "convolution", "bottom": ("gvto",),
            "skip": "add", "batch_norm": True, "num_heads": 1,
        },
        training={**_LABEL_FREE, "batch_size": 16, "steps": 100_000},
    ),
    "denoising": Preset(
        GVTNet,
        f"Wang, Xie & Ji (2021), section 4.5.2, Supplementary Fig. 4; {GRAPHS}",
        {"rank": 3, **_DENOISING, "scale_head": True},
        training={**_RESTORATION, "loss": "laplace"},
    ),
    "projection": Preset(
        ProjectionGVTNet,
        f"Wang, Xie & Ji (2021), section 4.5.3, Supplementary Fig. 10; {GRAPHS}",
        {"projection": {"filters": 8, "num_heads": 2}, "restoration": _DENOISING},
        output_axes="YX",
        # Its schedule is that of paper and script; the released graph: x 0.5 every 20,000.
        # 50 epochs of the 16,891 Flywing patches in batches of 16.
        training={**_RESTORATION, "patch_size": [50, 64, 64], "steps": 52_800},
    ),
    "unet": Preset(
        GVTNet,
        "baseline: `denoising` with convolutions in place of its operators",
        {
            "rank": 3, **{k: v for k, v in _DENOISING.items() if k != "num_heads"},
            "up": "convolution", "bottom": ("residual",),
        },
        training=_RESTORATION,
    ),
    "fnet": Preset(
        FNet,
        "Ounkomol et al. (2017), Fig. 2 and section 2.3; AllenCellModeling/pytorch_fnet, "
        "class fnet_nn_3d_params.Net(depth=4, mult_chan=32)",
        {"rank": 3, "filters": 32, "depth": 5},
        # Batches as the paper; the release's template: 28.
        training={**_LABEL_FREE, "batch_size": 24, "steps": 50_000},
    ),
    "gpt_virtual_staining": _make_staining_preset(
        "Table II (168 channels by its own rule, where 165 is printed) and section IV-B",
        block="dense", resample="transformer",
    ),
    "gpt_dense_unet": _make_staining_preset(
        "Table IV, 'Multi-scale U-Nets with DBs'; that its "
        "convolutions are 2x2 of stride 2 is a choice of this package",
        block="dense", resample="convolution",
    ),
    "gpt_unet": _make_staining_preset(
        "Table IV, 'Multi-scale U-Nets'; widths of Table II "
        "and two convolutions per level are a choice of this package",
        block="convolution", resample="convolution",
    ),
}  # fmt: skip


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
