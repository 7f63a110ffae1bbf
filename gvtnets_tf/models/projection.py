"""Surface projection: a 3-D network that finds the surface, a 2-D one that restores it.

Wang, Xie & Ji (2021), section 4.5.3 and Supplementary Fig. 10; numbers of the released
training graph (divelab/GVTNets @ 66e1007).
"""

import math
from collections.abc import Mapping

import keras
from keras import ops

from gvtnets_tf.checks import check_choice
from gvtnets_tf.layers.base import PACKAGE
from gvtnets_tf.layers.blocks import PlanePooling
from gvtnets_tf.layers.transformers import GVTO, UP4
from gvtnets_tf.models.base import ImageModel
from gvtnets_tf.models.gvtnet import GVTNet

LEVELS = 2


@keras.saving.register_keras_serializable(package=PACKAGE)
class SurfaceProjection(ImageModel):
    """Multiply every voxel of a stack by a predicted weight, and take the mean over z.

    Args:
        filters: int. Channels of all layers.
        num_heads: int. Attention heads.
        collapse: `"mean"`, as released: the predicted weights without softmax or sigmoid,
            and the mean over z, so that intensities scale as one over the number of
            planes; or `"softmax"`: a softmax over z and the sum, as in CARE.

    Call arguments:
        images: float tensor `(batch, z, y, x, channels)`; y and x multiples of 16.

    Returns:
        Float32 tensor `(batch, y, x, channels)`.
    """

    def __init__(self, filters: int = 8, num_heads: int = 2, collapse: str = "mean", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.num_heads = filters, num_heads
        self.collapse = check_choice("collapse", collapse, ("mean", "softmax"))
        policy = {"dtype": self.dtype_policy}
        attention = {"num_heads": num_heads, "norm": None, **policy}

        def make_conv(filters, kernel=(3, 5, 5), **kwargs):
            return keras.layers.Conv3D(filters, kernel, padding="same", **{**policy, **kwargs})

        self.downs = [make_conv(filters) for _ in range(LEVELS)]
        self.pool = PlanePooling(UP4, **policy)
        self.bottom = GVTO(3, "same", **attention)
        self.bottom_conv = make_conv(filters)
        self.ups = [GVTO(3, "up4", **attention) for _ in range(LEVELS)]
        self.up_convs = [make_conv(filters) for _ in range(LEVELS)]
        self.weigh = make_conv(1, (5, 5, 5), dtype="float32")

    rank = 3
    divisor = (1, UP4**LEVELS, UP4**LEVELS)

    @property
    def operators(self):
        ups = {f"ups.{i}": self.ups[i] for i in reversed(range(LEVELS))}
        return {"bottom": self.bottom, **ups}

    def forward_steps(self, images, training, summaries):
        x = ops.cast(images, self.compute_dtype)
        for level, conv in enumerate(self.downs):
            x = self.pool(conv(ops.relu6(x) if level else x))
        yield "bottom", x
        near = self.bottom_conv(ops.relu6(x))
        x = self.bottom(x, training=training, summary=summaries.get("bottom")) + near
        for level in reversed(range(LEVELS)):
            name = f"ups.{level}"
            yield name, x
            x = self.ups[level](x, training=training, summary=summaries.get(name))
            x = self.up_convs[level](ops.relu6(x))
        weight = self.weigh(ops.relu6(x))
        if self.collapse == "softmax":
            yield None, ops.sum(ops.softmax(weight, axis=1) * images, axis=1)
        else:
            yield None, ops.mean(weight * images, axis=1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class ProjectionGVTNet(ImageModel):
    """Project a stack onto its surface, then restore the projection.

    The published system is two networks in a row, and its second one is a `GVTNet` with
    all its options; so this class is made of the two, not of their layers.

    Args:
        projection: mapping of arguments of `SurfaceProjection`.
        restoration: mapping of arguments of the 2-D `GVTNet`.

    Call arguments:
        images: float tensor `(batch, z, y, x, channels)`, normalized. z is never padded:
            a further plane would change the result.

    Returns:
        Float32 tensor `(batch, y, x, channels)`.

    Reference:
        Wang, Xie & Ji (2021), section 4.5.3 and Supplementary Fig. 10.
        https://doi.org/10.1038/s42256-020-00283-x

    Examples:
        >>> model = ProjectionGVTNet({"filters": 2}, {"filters": 2, "depth": 2})
        >>> tuple(model(keras.ops.ones((1, 3, 16, 16, 1))).shape)
        (1, 16, 16, 1)
    """

    rank = 3

    def __init__(
        self, projection: Mapping | None = None, restoration: Mapping | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        self.projection, self.restoration = dict(projection or {}), dict(restoration or {})
        policy = {"dtype": self.dtype_policy}
        self.project = SurfaceProjection(**self.projection, **policy)
        self.restore = GVTNet(**{**self.restoration, "rank": 2}, **policy)

    @property
    def divisor(self):
        return (1, *map(math.lcm, self.project.divisor[1:], self.restore.divisor))

    @property
    def operators(self):
        return {
            f"{part}.{name}": operator
            for part in ("project", "restore")
            for name, operator in getattr(self, part).operators.items()
        }

    @property
    def scale_head(self):
        return self.restore.scale_head

    def build(self, images_shape):
        super().build(images_shape)
        # Running their layers built these, and Keras must know it of the models too.
        self.project.built = self.restore.built = True

    def forward_steps(self, images, training, summaries):
        x = images
        for part in ("project", "restore"):
            network, prefix = getattr(self, part), f"{part}."
            own = {k.removeprefix(prefix): s for k, s in summaries.items() if k.startswith(prefix)}
            for name, features in network.forward_steps(x, training, own):
                if name is not None:
                    yield prefix + name, features
            x = features
        yield None, x
