"""Parts that all layers and models share: saving with arguments, convolutions by rank."""

import inspect
import math

import keras

from gvtnets_tf.checks import check_choice

PACKAGE = "gvtnets_tf"
INITIAL_STDDEV = 0.02  # of the kernels of fnet around 0, and of gamma around 1
CONV = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
CONV_TRANSPOSE = {2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}


def arguments(layer) -> dict:
    """Return the constructor arguments of a layer that keeps each under its own name.

    Keras would save the *default* arguments of a subclassed model (`Model.__new__`
    drops its arguments), so every layer and model here keeps its arguments as attributes.
    """
    names = inspect.signature(type(layer).__init__).parameters.keys() - {"self", "kwargs"}
    return {name: getattr(layer, name) for name in sorted(names)}


class SavedLayer(keras.layers.Layer):
    """A layer that is saved with the arguments of its constructor."""

    def get_config(self):
        return {**super().get_config(), **arguments(self)}


def check_rank(rank: int) -> int:
    """Return `rank` if it is 2 or 3."""
    if rank not in CONV:
        raise ValueError(f"`rank` must be 2 (images) or 3 (stacks). Received: rank={rank!r}.")
    return rank


class GroupNorm(keras.layers.GroupNormalization):
    """Group normalization of 8 groups of channels, or of fewer that divide them."""

    def build(self, shape):
        self.groups = math.gcd(shape[-1], 8)
        super().build(shape)


NORMS = {
    "batch": keras.layers.BatchNormalization,
    "group": GroupNorm,
    "layer": keras.layers.LayerNormalization,
}


def make_norm(kind, momentum=0.997, **kwargs):
    """Return a normalization of one of the kinds `NORMS`, or `None`.

    The numbers of batch normalization are those of the GVTNets paper (section 4.5.1). Layer
    normalization is over the channels of each voxel; group normalization also over the grid, so
    it answers differently in tiles.
    """
    if check_choice("norm", kind, (None, *NORMS)) is None:
        return None
    options = {"momentum": momentum} if kind == "batch" else {}
    return NORMS[kind](epsilon=1e-5, **options, **kwargs)


def rescale(rank, filters, scale, **kwargs):
    """Return the convolution that keeps (`same`), halves (`down`) or doubles (`up`) a grid."""
    if scale == "same":
        # A dense layer over the last axis is a 1x1 convolution of any rank.
        return keras.layers.Dense(filters, **kwargs)
    layers = CONV if scale == "down" else CONV_TRANSPOSE
    return layers[rank](filters, 3, strides=2, padding="same", **kwargs)


def normal_initializer(mean):
    """Return a new initializer of pytorch_fnet, N(mean, 0.02).

    One initializer for several layers would give those of one shape equal kernels.
    """
    return keras.initializers.RandomNormal(mean, INITIAL_STDDEV)
