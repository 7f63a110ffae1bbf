"""Leave out of the full parity files what their seeds give back; every answer stays whole.

cd tests && python -m parity.reduce FOLDER
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
from parity.weights import CASES, draw

HERE = Path(__file__).parent
LISTS = ("published_checkpoints.json", "published_fnet_state_dict.json")


def reduce(full, out=HERE):
    """Write the parity files without inputs and targets.

    Args:
        full: `Path` of the folder with `<case>.npz`, inputs and targets included, and `LISTS`.
        out: `Path` of the folder to write to.

    Raises:
        ValueError: if an input or a target differs in any bit from what its seed gives.
    """
    for case in CASES:
        with np.load(full / f"{case}.npz") as found:
            held = dict(found)
        for name, drawn in draw(case).items():
            array = held.pop(name, None)
            if not np.array_equal(array, drawn):
                shape = None if array is None else array.shape
                raise ValueError(
                    f"`{name}` of {full / case}.npz is not what its seed gives, and would be "
                    f"lost: give the folder with the full files, and a seed in `CASES` that "
                    f"draws it. Received: shape {shape}; drawn: shape {drawn.shape}."
                )
        np.savez_compressed(out / f"{case}.npz", **held)
    for name in LISTS:
        shutil.copyfile(full / name, out / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("full", type=Path, metavar="FOLDER", help="folder with the full files")
    reduce(parser.parse_args().full)
