"""Layers of the published systems, on keras.ops: any backend, 2-D and 3-D."""

from gvtnets_tf.layers.attention import GlobalAttention
from gvtnets_tf.layers.blocks import DenseBlock, ResidualBlock
from gvtnets_tf.layers.transformers import (
    GVTO,
    GlobalDownTransformer,
    GlobalSameTransformer,
    GlobalUpTransformer,
)

__all__ = [
    "GVTO",
    "DenseBlock",
    "GlobalAttention",
    "GlobalDownTransformer",
    "GlobalSameTransformer",
    "GlobalUpTransformer",
    "ResidualBlock",
]
