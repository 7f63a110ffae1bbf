"""The U-Net: the order of its parts, which each network makes for itself."""

from keras import ops

from gvtnets_tf.layers.transformers import GVTO
from gvtnets_tf.models.base import ImageModel


class UNet(ImageModel):
    """Encoder, bottom and decoder with one skip connection per level.

    The published networks differ in their parts. Level 0 is the finest.

    Args:
        rank: int. 2 for images, 3 for stacks.
        stem: layer from image channels to the first width.
        encoder: list over levels of lists of layers that keep the grid.
        downs: list of layers, each halving the grid; `downs[0]` leaves level 0.
        bottoms: list of layers that keep the coarsest grid.
        ups: list of layers, each doubling the grid; `ups[0]` enters level 0.
        merges: list of layers of `[features, skip]`, as many as `ups`.
        decoder: list over levels of lists of layers, as many as `ups`.
        head: layer from `(features, images)` to the result.

    Reference:
        Ronneberger, Fischer & Brox (2015), U-Net; Cicek et al. (2016), 3D U-Net.
    """

    def __init__(self, rank, stem, encoder, downs, bottoms, ups, merges, decoder, head, **kwargs):
        super().__init__(**kwargs)
        self.rank = rank
        self.stem, self.encoder, self.downs = stem, encoder, downs
        self.bottoms, self.ups, self.merges = bottoms, ups, merges
        self.decoder, self.head = decoder, head

    @property
    def divisor(self):
        return (2 ** len(self.downs),) * self.rank

    @property
    def operators(self):
        parts = {f"downs.{i}": layer for i, layer in enumerate(self.downs)}
        parts |= {f"bottoms.{i}": layer for i, layer in enumerate(self.bottoms)}
        parts |= {f"ups.{i}": self.ups[i] for i in reversed(range(len(self.ups)))}
        return {name: layer for name, layer in parts.items() if isinstance(layer, GVTO)}

    def forward_steps(self, images, training, summaries):
        def apply(name, layer, x):
            if name not in operators:
                return layer(x, training=training)
            yield name, x
            return layer(x, training=training, summary=summaries.get(name))

        operators = self.operators
        x, skips = self.stem(ops.cast(images, self.compute_dtype)), []
        for level, blocks in enumerate(self.encoder):
            if level:
                # A skip is the input of its down-sampling.
                skips.append(x)
                x = yield from apply(f"downs.{level - 1}", self.downs[level - 1], x)
            for block in blocks:
                x = block(x, training=training)
        for i, layer in enumerate(self.bottoms):
            x = yield from apply(f"bottoms.{i}", layer, x)
        for level in reversed(range(len(self.ups))):
            x = yield from apply(f"ups.{level}", self.ups[level], x)
            x = self.merges[level]([x, skips.pop()])
            for block in self.decoder[level]:
                x = block(x, training=training)
        yield None, self.head(x, images, training=training)
