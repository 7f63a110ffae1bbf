"""Register the classes of the package with Keras, which finds them by name in saved networks."""

import importlib


def register(keras) -> None:
    """Import all networks and losses; `wrapt` calls this with Keras once that is imported."""
    for name in ("losses", "presets"):
        importlib.import_module(f"gvtnets_tf.models.{name}")
