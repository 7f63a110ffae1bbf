"""Make noisy and clean pairs of mouse embryo stacks, for the denoising example.

    python examples/embryo/prepare.py --out runs/embryo/data

Each stack is normalized by its percentiles 2 and 99.8, without clipping, and imaged once at
each of three light levels: 5, 15 or 50 photons where the normalized stack is 1, on top of a
background of 2 photons that is taken off again, with a read noise of 1.5 photons. The noise
depends on the file name and the level alone, so every run makes the same pairs. Embryos 01-07
train, 08 and 09 validate, 10 and 11 test. It writes, in float32 and in normalized units,

    pairs.csv                              input, target, split, one row per noisy stack
    train/noisy/Emb01_t051_p05.tif ...     (z, y, x), 5 photons
    train/clean/Emb01_t051.tif ...
    validation/..., test/...

There are 22 stacks of 11 embryos, of 51 planes of 120-139 x 120-140 pixels, hence 66 pairs
and 290 MB; the size of a voxel is not recorded in the files.
"""

import argparse
import os
import re
import zlib
from pathlib import Path

import numpy as np
import tifffile

from gvtnets_tf.atomic_files import atomic_write, write_csv
from gvtnets_tf.data.synthetic.optics import add_camera_noise
from gvtnets_tf.images.normalization import Normalizer

FOLDER = "bbbc050-mouse-embryo-3d"
SPLITS = {"train": range(1, 8), "validation": range(8, 10), "test": range(10, 12)}  # embryos
LEVELS = (5, 15, 50)  # photons where the normalized stack is 1
READ_NOISE = 1.5  # photons


def get_split(name):
    """Return the split of a stack called `EmbNN_tTTT`."""
    embryo = int(re.search(r"Emb(\d+)", name)[1])
    return next(part for part, embryos in SPLITS.items() if embryo in embryos)


def expose(clean, photons, background, name):
    """Image a normalized stack once.

    Args:
        clean: float array `(z, y, x)`.
        photons: int. Photons where `clean` is 1.
        background: float. Photons that every voxel receives besides, and that are taken off.
        name: str. Seed of the noise.

    Returns:
        float32 `(z, y, x)`, in the units of `clean`.
    """
    dark = background / photons
    # A percentile leaves some voxels below 0, and no light is less than none.
    light = np.maximum(clean + dark, 0)
    return add_camera_noise(
        light, photons, READ_NOISE, seed=zlib.crc32(name.encode())
    ) - np.float32(dark)


def write(path, stack):
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, stack.astype(np.float32), metadata={"axes": "ZYX"})


def main(args):
    files = {path.stem.split("-")[-1]: path for path in (args.data / FOLDER).glob("*.tif")}
    if not files:
        raise FileNotFoundError(f"No TIFF in {args.data / FOLDER}: give the data with --data.")
    rows = []
    with atomic_write(args.out, args.force) as out:
        for name, path in sorted(files.items()):
            part = get_split(name)
            raw = tifffile.imread(path)[..., None]
            clean = Normalizer("percentile").measure(raw, path.name).apply(raw)[..., 0]
            target = f"{part}/clean/{name}.tif"
            write(out / target, clean)
            for photons in LEVELS:
                noisy = f"{name}_p{photons:02d}"
                source = f"{part}/noisy/{noisy}.tif"
                write(out / source, expose(clean, photons, args.background, noisy))
                rows.append({"input": source, "target": target, "split": part})
        write_csv(out / "pairs.csv", rows)
    for part in SPLITS:
        print(part, sum(row["split"] == part for row in rows), "pairs")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, default=os.environ.get("GVTNETS_DATA", "../shared/data"))
    p.add_argument("--background", type=float, default=2.0, help="photons in every voxel besides")
    p.add_argument("--out", type=Path, default="runs/embryo/data")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    main(p.parse_args())
