"""Write simulated noisy and clean stacks for `denoiser.yaml`.

    python examples/simulated/prepare.py --out runs/simulated/data

Every stack is another specimen, at one of three levels of light in turn (10, 20 and 40 photons
at brightness 1, read noise of 1.5 photons), so that one network serves them all.
"""

import argparse
from pathlib import Path

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.images import writers

SHAPE = (24, 128, 128)
PHOTONS = (10, 20, 40)
PARTS = {"train": 30, "validation": 6}


def main(args):
    with atomic_write(args.out, args.force) as out:
        rows, seed = ["input,target,split"], 0
        for part, count in PARTS.items():
            for _ in range(count):
                photons = PHOTONS[seed % len(PHOTONS)]
                noisy, clean = cells.simulate_pair("denoising", SHAPE, seed, photons=photons)
                for folder, image in (("noisy", noisy), ("clean", clean)):
                    writers.write(out / folder / f"{seed:03d}.tif", image)
                rows.append(f"noisy/{seed:03d}.tif,clean/{seed:03d}.tif,{part}")
                seed += 1
        (out / "pairs.csv").write_text("\n".join(rows) + "\n")
    print(args.out)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--out", type=Path, default="runs/simulated/data")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    main(p.parse_args())
