"""Score the noisy embryo stacks, and a Gaussian filter tuned for each light level.

    python examples/embryo/baseline.py --pairs runs/embryo/data --out runs/embryo/gaussian

The width along z and the one along y and x are those with the best mean PSNR on the
validation split; scores are those of the test split. The folder it writes holds the filtered
test stacks and `scores.csv`, one row per stack.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter
from stacks import SCORES, read, write_scores

from gvtnets_tf.atomic_files import atomic_write

SIGMA_Z = np.arange(0, 2.6, 0.25)  # voxels
SIGMA_YX = np.arange(0, 3.1, 0.25)


def tune(stacks):
    """Return the widths `(z, y, x)`, in voxels, with the best mean PSNR over `stacks`."""

    def mean_psnr(sigma):
        filtered = (gaussian_filter(stack.noisy, sigma) for stack in stacks)
        return np.mean([SCORES["psnr"](s.clean, f) for s, f in zip(stacks, filtered)])

    grid = ((z, yx, yx) for z, yx in itertools.product(SIGMA_Z, SIGMA_YX))
    return max(grid, key=mean_psnr)


def main(args):
    validation, test = read(args.pairs, "validation"), read(args.pairs, "test")
    levels = sorted({stack.level for stack in validation})
    sigmas = {level: tune([s for s in validation if s.level == level]) for level in levels}
    for level, sigma in sigmas.items():
        print(f"{level} photons: Gaussian of {sigma[0]} (z) and {sigma[1]} (y, x)")

    with atomic_write(args.out, args.force) as out:
        out.mkdir()
        rows = [stack.score("noisy", stack.noisy) for stack in test]
        for stack in test:
            filtered = gaussian_filter(stack.noisy, sigmas[stack.level])
            tifffile.imwrite(out / f"{stack.name}.tif", filtered, metadata={"axes": "ZYX"})
            rows.append(stack.score("gaussian", filtered))
        write_scores(out / "scores.csv", rows)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pairs", type=Path, default="runs/embryo/data", help="folder from prepare.py")
    p.add_argument("--out", type=Path, default="runs/embryo/gaussian")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    main(p.parse_args())
