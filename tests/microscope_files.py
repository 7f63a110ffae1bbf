"""Files as the programs of microscopes write them."""

import numpy as np
import pytest


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


def counts(*shape, dtype="uint16"):
    return np.random.default_rng(0).integers(1, 4000, shape).astype(dtype)
