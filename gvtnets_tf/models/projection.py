"""Surface projection: a 3-D network that finds the surface, a 2-D one that restores it.

Wang, Xie & Ji (2021), section 4.5.3 and Supplementary Fig. 10; numbers of the released
training graph (divelab/GVTNets @ 66e1007).
"""

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
    """Weigh every voxel of a stack, and take the mean over z.

    Args:
        filters: int. Channels everywhere.
        num_heads: int. Attention heads.
        collapse: `"mean"`, as released: weights as the network says them, without softmax
            or sigmoid, and the mean over z, so that intensities scale as one over the
            number of planes; or `"softmax"` over z and the sum, as CARE does.

    Call arguments:
        images: float tensor `(batch, z, y, x, channels)`; y and x multiples of 16.

    Returns:
        Float32 tensor `(batch, y, x, channels)`.
    """

    def __init__(self, filters=8, num_heads=2, collapse="mean", **kwargs):
        super().__init__(**kwargs)
        self.filters, self.num_heads = filters, num_heads
        self.collapse = check_choice("collapse", collapse, ("mean", "softmax"))
        policy = {"dtype": self.dtype_policy}
        attention = {"num_heads": num_heads, "batch_norm": False, **policy}

        def conv(filters, kernel=(3, 5, 5), **kwargs):
            return keras.layers.Conv3D(filters, kernel, padding="same", **{**policy, **kwargs})

        self.downs = [conv(filters) for _ in range(LEVELS)]
        self.pool = PlanePooling(UP4, **policy)
        self.bottom = GVTO(3, "same", **attention)
        self.bottom_conv = conv(filters)
        self.ups = [GVTO(3, "up4", **attention) for _ in range(LEVELS)]
        self.up_convs = [conv(filters) for _ in range(LEVELS)]
        self.weigh = conv(1, (5, 5, 5), dtype="float32")

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
        x = self.bottom(x, training=training, summary=summaries.get("bottom")) + self.bottom_conv(
            ops.relu6(x)
        )
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

    Args:
        projection: mapping of arguments of `SurfaceProjection`.
        restoration: mapping of arguments of the 2-D `GVTNet`.

    Call arguments:
        images: float tensor `(batch, z, y, x, channels)`, normalized. z is used as it
            is: a padded plane would change the result.

    Returns:
        Float32 tensor `(batch, y, x, channels)`.
    """

    rank = 3

    def __init__(self, projection=None, restoration=None, **kwargs):
        super().__init__(**kwargs)
        self.projection, self.restoration = dict(projection or {}), dict(restoration or {})
        policy = {"dtype": self.dtype_policy}
        self.project = SurfaceProjection(**self.projection, **policy)
        self.restore = GVTNet(**{**self.restoration, "rank": 2}, **policy)

    @property
    def divisor(self):
        pairs = zip(self.project.divisor[1:], self.restore.divisor)
        return (1, *(max(a, b) if max(a, b) % min(a, b) == 0 else a * b for a, b in pairs))

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
        # Their layers were built in passing; Keras wants to hear it of the models too.
        self.project.built = self.restore.built = True

    def forward_steps(self, images, training, summaries):
        x = images
        for part in ("project", "restore"):
            known = {
                name.removeprefix(part + "."): summary
                for name, summary in summaries.items()
                if name.startswith(part + ".")
            }
            for name, features in getattr(self, part).forward_steps(x, training, known):
                if name is not None:
                    yield f"{part}.{name}", features
            x = features
        yield None, x
