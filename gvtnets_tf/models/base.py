"""The base of all networks, and the names of their weights."""

from collections.abc import Mapping

import keras

from gvtnets_tf.checks import check_choice, check_divisible
from gvtnets_tf.layers.base import arguments


class ImageModel(keras.Model):
    """Base of the networks from images to images.

    A subclass defines `rank`, `divisor`, `operators` and, in `forward_steps`, the order of
    its layers. It keeps its constructor arguments as attributes, is saved with them, and
    is built by one symbolic call.

    Attributes:
        rank: int. Number of spatial axes of the input.
        divisor: tuple of int. Each spatial axis must be a multiple of its entry.
        operators: mapping from name to `GVTO`, in the order of the forward pass: the
            layers that read the whole image at once.

    Call arguments:
        images: float tensor `(batch, *grid, channels)`, normalized.
        summaries: mapping from operator name to the result of its `summarize`, summed
            over the whole volume of which `images` is a part. Operators without a
            summary read `images` alone.
        stop_at: str or `None`. Name of an operator: the features that enter it are
            returned instead of the result, as its `summarize` needs them.

    Raises:
        ValueError: for a grid that is not a multiple of `divisor`, or an unknown
            operator.

    Examples:
        >>> from gvtnets_tf import GVTNet
        >>> model, image = GVTNet(rank=2, filters=2, depth=2), keras.ops.ones((1, 8, 8, 1))
        >>> summary = model.operators["bottoms.0"].summarize(model(image, stop_at="bottoms.0"))
        >>> tuple(model(image[:, :4], summaries={"bottoms.0": summary}).shape)
        (1, 4, 8, 1)
    """

    def __init__(self, **kwargs):
        # Summaries are sums over a whole volume and stay in float32 also where the
        # network computes in float16; the first layer casts the images.
        super().__init__(autocast=False, **kwargs)

    def forward_steps(self, images, training, summaries):
        """Yield `(name, input)` before each operator, and `(None, result)` at the end."""
        raise TypeError(f"{type(self).__name__} must define `forward_steps`, its forward pass.")

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


def layer_dtype(arguments: Mapping) -> dict:
    """Return the dtype policy of a network, out of its arguments, as an argument of its layers.

    Layers are made before the network is initialized, so its `dtype_policy` is not there yet.
    """
    dtype = arguments.get("dtype") or keras.config.dtype_policy()
    return {"dtype": keras.dtype_policies.get(dtype)}


def named_weights(layer: keras.layers.Layer, prefix: str = "") -> dict[str, keras.Variable]:
    """Name every weight by its role, independent of the names that Keras gives to layers.

    The name is the path of attributes, e.g. `ups.1.query/kernel`; these are the names
    in a model folder.

    Args:
        layer: a built layer or model.
        prefix: str. Text before each name.

    Returns:
        Dict from name to variable, in the order of the attributes.

    Examples:
        >>> from gvtnets_tf.layers import GlobalAttention
        >>> attention = GlobalAttention(key_dim=2, value_dim=2)
        >>> attention.build((None, 4, 4, 2), (None, 8, 8, 3))
        >>> list(named_weights(attention))
        ['key/kernel', 'key/bias', 'value/kernel', 'value/bias']
    """
    named = {}
    # torch keeps the layers among the attributes in a dict of its own.
    for name, value in {**vars(layer), **vars(layer).get("_modules", {})}.items():
        if name.startswith("_"):
            continue
        for path, part in keras.tree.flatten_with_path({name: value}):
            if isinstance(part, keras.layers.Layer):
                named.update(named_weights(part, f"{prefix}{'.'.join(map(str, path))}."))
    return named or {f"{prefix.rstrip('.')}/{w.name}": w for w in layer.weights}
