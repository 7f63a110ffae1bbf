"""Register the classes of the package with Keras, which finds them by name in saved networks."""

import importlib


def register(keras) -> None:
    """Import all networks and losses; `import gvtnets_tf` asks for this once Keras is imported.

    Args:
        keras: the module, as `wrapt` passes it; not used.
    """
    for name in ("losses", "presets"):
        importlib.import_module(f"gvtnets_tf.models.{name}")
