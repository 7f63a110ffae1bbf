"""What every network shares: saved with its arguments, built by one dry run, stoppable."""

import keras

from gvtnets_tf.checks import check_choice, check_divisible
from gvtnets_tf.layers.base import arguments


class ImageModel(keras.Model):
    """A network from images to images.

    A subclass says in `forward_steps` how features travel; everything else follows.

    Attributes:
        rank: int. Number of spatial axes of the input.
        divisor: tuple of int. What each spatial axis must be a multiple of.
        operators: mapping from name to `GVTO`, in the order they are met: the places
            where the network looks at the whole image at once.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized.
        summaries: mapping from operator name to what its `summarize` gave, summed
            over the whole volume of which `images` is a part. An operator without
            one looks at `images` alone.
        stop_at: name of an operator, to get the features that enter it instead of the
            result: what its `summarize` wants.

    Raises:
        ValueError: for a grid that is not a multiple of `divisor`, or an unknown
            operator.
    """

    def __init__(self, **kwargs):
        # Summaries are sums over a whole volume, kept in float32 also where the
        # network computes in float16; inputs are cast by the first layer.
        super().__init__(autocast=False, **kwargs)

    def forward_steps(self, images, training, summaries):
        """Yield `(operator name, features entering it)` before each operator, and at
        last `(None, result)`."""
        raise TypeError(f"{type(self).__name__} must say how features travel, in `forward_steps`.")

    def call(self, images, training=False, summaries=None, stop_at=None):
        images = keras.ops.cast(images, "float32")
        check_divisible(images.shape[1:-1], self.divisor)
        for name in [*(summaries or {}), *filter(None, [stop_at])]:
            check_choice("operator", name, self.operators)
        for name, x in self.forward_steps(images, training, summaries or {}):
            if name == stop_at:
                return x

    def build(self, images_shape):
        # Keras would mark a subclassed model as built while it has no weights.
        self.call(keras.KerasTensor(images_shape, dtype="float32"))
        self.built = True

    def get_config(self):
        return {**super().get_config(), **arguments(self)}


def named_weights(layer, prefix=""):
    """Name every weight by its role, whatever Keras calls the layers.

    The name is the path of attributes, e.g. `up.1.query/kernel`; these are the names
    in a model folder, frozen by a test.

    Args:
        layer: a built layer or model.
        prefix: str. What to put before each name.

    Returns:
        Dict from name to variable, in the order the network was put together.
    """
    found = {}
    # torch keeps the layers among the attributes in a dict of its own.
    for name, value in {**vars(layer), **vars(layer).get("_modules", {})}.items():
        if not name.startswith("_"):
            found.update(_named(value, f"{prefix}{name}"))
    own = {f"{prefix.rstrip('.')}/{w.name}": w for w in layer.weights}
    return found or own


def _named(value, path):
    if isinstance(value, keras.layers.Layer):
        return named_weights(value, path + ".")
    if isinstance(value, (list, tuple)):
        pairs = (_named(v, f"{path}.{i}") for i, v in enumerate(value))
        return {name: w for found in pairs for name, w in found.items()}
    return {}
