"""Files as the programs of microscopes write them."""

import numpy as np
import pytest

from gvtnets_tf.images.image import Image

NAMES = ("DNA", "ER", "µ-tubulin")
COLORS = ("#0000ff", "#00ff10", "#ff8000")
METADATA = {"mode": "whole", "tile": [16, 64, 64], "unit": "µm"}
STEPS = {"Z": 0.29, "Y": 0.108, "X": 0.11}


def czi(path, pixels, names=(), um=(), axes="TCZ"):
    """Write a CZI with the library of its maker; `pixels` end in Y, X."""
    writer = pytest.importorskip("pylibCZIrw.czi")
    scale = {f"scale_{k.lower()}": v * 1e-6 for k, v in dict(um).items()}
    with writer.create_czi(str(path)) as file:
        for index in np.ndindex(pixels.shape[: len(axes)]):
            plane = pixels[index]
            file.write(plane if plane.ndim == 3 else plane[..., None], plane=dict(zip(axes, index)))
        file.write_metadata(
            document_name="a", channel_names=dict(enumerate(names)) or None, **scale
        )
    return path


def counts(*shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(1, 4000, shape).astype(dtype)


def stack():
    return Image(counts(3, 4, 30, 20), "CZYX", STEPS, NAMES, "cells")


def png(path, pixels):
    from PIL import Image as Pillow

    Pillow.fromarray(pixels).save(path)
