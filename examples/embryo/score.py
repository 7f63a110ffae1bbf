"""Score predictions of the test stacks as the baselines are scored.

    python examples/embryo/score.py runs/embryo/gvtnet runs/embryo/unet --out runs/embryo/scores.csv

Each folder holds the predictions of one method under the names of the noisy stacks, in
normalized units, as `gvtnets predict` and `care.py` write them. The data range is 1, as in the
other scripts; `gvtnets evaluate` would take that of each truth.
"""

import argparse
from pathlib import Path

import tifffile
from stacks import read, write_scores

from gvtnets_tf.atomic_files import atomic_write


def main(args):
    test = read(args.pairs, "test")
    rows = [
        stack.score(folder.name, tifffile.imread(folder / f"{stack.name}.tif"))
        for folder in args.predictions
        for stack in test
    ]
    with atomic_write(args.out) as out:
        write_scores(out, rows)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("predictions", type=Path, nargs="+", help="folder, one per method")
    p.add_argument("--pairs", type=Path, default="runs/embryo/data", help="folder from prepare.py")
    p.add_argument("--out", type=Path, default="runs/embryo/scores.csv")
    main(p.parse_args())
