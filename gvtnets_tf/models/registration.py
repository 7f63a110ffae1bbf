"""Register the classes of the package with Keras, which finds them by name in saved networks."""

import importlib


def register(keras) -> None:
    """Import networks, losses and metrics; `wrapt` calls this with Keras once it is imported."""
    for name in ("losses", "metrics", "presets"):
        importlib.import_module(f"gvtnets_tf.models.{name}")
