"""Patches per second that `data.pipeline` feeds to a network.

    python benchmarks/pipeline.py [--json FILE]

Batches of 4 patches of 16 x 64 x 64, input and target, normalized, from arrays in memory and
from memory-mapped TIFF files, by `tf.data` and by `PyDataset`. Two things are measured beside them
in the same run: plain NumPy (the same patches cut, normalized and stacked in a loop), which the
ratios refer to, and the same loop behind `tf.data.Dataset.from_generator`, the other way to write
the pipeline. The best of several rounds counts, the ways taking turns, so that a busy machine harms
all alike.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from gvtnets_tf.data.batches import TrainingBatches
from gvtnets_tf.data.pipeline import to_py_dataset, training_dataset
from gvtnets_tf.data.training_pairs import TrainingPair
from gvtnets_tf.images.image import Image

PATCH, BATCH = (16, 64, 64), 4


def stacks(folder, count=4, shape=(48, 384, 384)):
    """Write random 16-bit stacks; return pairs of memory-mapped images."""
    rng, images = np.random.default_rng(0), []
    for i in range(2 * count):
        path = Path(folder) / f"{i}.tif"
        tifffile.imwrite(path, rng.integers(0, 4096, shape, np.uint16), photometric="minisblack")
        images.append(Image(tifffile.memmap(path, mode="r"), "ZYX", name=path.stem))
    return [TrainingPair(*pair).measure() for pair in zip(images[::2], images[1::2])]


def in_memory(pair):
    """The same pair, read."""
    whole = [Image(image.numpy(), image.axes) for image in (pair.input, pair.target)]
    return TrainingPair(*whole, pair.input_affine, pair.target_affine)


def plain(pairs, steps):
    """Cut, normalize and stack uniform patches with NumPy alone."""
    rng = np.random.default_rng(0)
    for _ in range(steps):
        xs, ys = [], []
        for _ in range(BATCH):
            pair = pairs[rng.integers(len(pairs))]
            starts = rng.integers(np.subtract(pair.input.shape, PATCH) + 1)
            cut = tuple(slice(s, s + p) for s, p in zip(starts, PATCH))
            xs.append(pair.input_affine.apply(pair.input.array[cut][..., None]))
            ys.append(pair.target_affine.apply(pair.target.array[cut][..., None]))
        yield np.stack(xs), np.stack(ys)


def generator(pairs, steps):
    """The loop of `plain` as a data set."""
    import tensorflow as tf

    spec = tf.TensorSpec((BATCH, *PATCH, 1), tf.float32)
    dataset = tf.data.Dataset.from_generator(
        lambda: plain(pairs, steps), output_signature=(spec, spec)
    )
    return dataset.prefetch(2)


def rate(batches, steps):
    """Patches per second of one pass."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return steps * BATCH / (time.perf_counter() - start)


def measure(pairs, steps, rounds):
    """Patches per second, the best of all rounds, of each way."""
    datasets = {
        "pipeline": training_dataset(pairs, PATCH, BATCH, steps),
        "pipeline_augmented": training_dataset(pairs, PATCH, BATCH, steps, flip=True, rotate=True),
        "py_dataset": to_py_dataset(TrainingBatches(pairs, PATCH, BATCH, steps)),
        "generator": generator(pairs, steps),
    }
    ways = {"numpy": lambda: plain(pairs, steps)} | {k: d.__iter__ for k, d in datasets.items()}
    rates = [{name: rate(way(), steps) for name, way in ways.items()} for _ in range(rounds)]
    best = {name: round(max(r[name] for r in rates), 1) for name in ways}
    ratios = {f"{name}_to_numpy": round(best[name] / best["numpy"], 3) for name in datasets}
    ratios["py_dataset_to_pipeline"] = round(best["py_dataset"] / best["pipeline"], 3)
    return {"patches_per_second": best, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--steps", type=int, default=100, help="batches per round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        mapped = stacks(folder)
        sources = {"memory": [in_memory(pair) for pair in mapped], "mapped_tiff": mapped}
        result = {"patch": PATCH, "batch": BATCH} | {
            name: measure(pairs, args.steps, args.rounds) for name, pairs in sources.items()
        }
    text = json.dumps(result, indent=2)
    if args.json:
        args.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
