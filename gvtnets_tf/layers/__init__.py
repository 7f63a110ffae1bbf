"""Layers of the published systems, on `keras.ops`: any backend, 2-D and 3-D."""

# First: the hook of `gvtnets_tf` then finds no module of this folder half imported.
import keras  # noqa: F401
import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
