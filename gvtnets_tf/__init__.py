"""Augmented microscopy in Keras: predict fluorescence, restore and project stacks.

Each name of `__init__.pyi` is loaded when it is first used, so that `import gvtnets_tf`
and `gvtnets --help` load no TensorFlow. A network saved by Keras needs this import
before it is loaded:

    import gvtnets_tf
    import keras

    model = keras.saving.load_model("model.keras")
"""

import lazy_loader as lazy
import wrapt

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)

# `keras.saving.load_model` finds a class by its name once the module of the class is imported.
wrapt.register_post_import_hook("gvtnets_tf.models.registration:register", "keras")
