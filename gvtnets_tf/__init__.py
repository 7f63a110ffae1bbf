"""Augmented microscopy in Keras: predict fluorescence, restore and project stacks.

Each name is loaded when it is first touched, so that `import gvtnets_tf` and
`gvtnets --help` cost no TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "layers": (
        "DenseBlock", "GVTO", "GlobalAttention", "GlobalDownTransformer",
        "GlobalSameTransformer", "GlobalUpTransformer", "ResidualBlock",
    ),
    "models.fnet": ("FNet",),
    "models.gpt": ("GlobalPixelTransformerNet",),
    "models.gvtnet": ("GVTNet",),
    "models.projection": ("ProjectionGVTNet",),
    "models.presets": ("preset",),
    "images.readers": ("read",),
    "images.writers": ("write",),
    "training.recipe": ("Recipe",),
    "training.fitting": ("train",),
    "prediction.files": ("predict",),
    "prediction.options": ("PredictionOptions",),
    "prediction.predictor": ("Predictor",),
    "evaluation.scoring": ("evaluate",),
    "prediction.loading": ("load",),
    "exporting.exporter": ("export",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *__all__})
