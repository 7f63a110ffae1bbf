"""Train csbdeep's CARE on the embryo pairs, and predict the report stacks.

    python examples/embryo/care.py --loss mae --steps 600 --out runs/embryo/care_mae

CARE is csbdeep's own network, losses and schedule with its 3-D defaults; only the patches are
ours, so that it sees those that the networks of this package see, in the same order, if
`--seed`, `--every` and the patch agree. The weights kept are those with the best loss on
a fixed set of patches of the select part, looked at each `--every` steps. The folder it writes
holds the predicted report stacks, `scores.csv`, `history.csv`, and csbdeep's folder `model`.
"""

import argparse
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tifffile
from stacks import read, write_scores

from gvtnets_tf.atomic_files import check_writable
from gvtnets_tf.checks import import_optional
from gvtnets_tf.data.pipeline import training_dataset, validation_dataset
from gvtnets_tf.data.training_pairs import TrainingPair
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Normalizer

PATCH, BATCH = (16, 64, 64), 4
SELECT_PATCHES = 64  # as many as a recipe looks at


def pairs(stacks):
    """Pairs as they are: what `prepare.py` wrote is normalized already."""
    as_is = Normalizer("none")
    images = [(Image(s.noisy, "ZYX", name=s.name), Image(s.clean, "ZYX")) for s in stacks]
    return [TrainingPair(*pair).measure(as_is, as_is) for pair in images]


def network(loss, folder):
    """Return CARE with csbdeep's defaults; `laplace` is its probabilistic form."""
    models = import_optional("csbdeep.models", "care")
    config = models.Config(
        "ZYX",
        n_channel_in=1,
        n_channel_out=1,
        probabilistic=loss == "laplace",
        train_loss=loss,
        train_tensorboard=False,
    )
    return models.CARE(config, "model", basedir=str(folder))


def train(care, train_set, select_set, epochs, history):
    """Fit, as csbdeep's own `train` does, and load the best weights.

    Returns:
        Seconds that it took.
    """
    care.prepare_for_training()
    start = time.perf_counter()
    care.keras_model.fit(
        train_set,
        validation_data=select_set,
        epochs=epochs,
        callbacks=[*care.callbacks, keras.callbacks.CSVLogger(history)],
        shuffle=False,  # the data set has its own order
        verbose=2,
    )
    care.load_weights("weights_best.h5")
    return time.perf_counter() - start


def main(args):
    if args.steps % args.every:
        raise ValueError(
            f"`--steps` must be a multiple of `--every`. Received: {args.steps} and {args.every}."
        )
    out = check_writable(args.out, args.force)
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    care = network(args.loss, out)
    seconds = train(
        care,
        training_dataset(
            pairs(read(args.pairs, "train")), PATCH, BATCH, args.every, seed=args.seed
        ),
        validation_dataset(
            pairs(read(args.pairs, "validation")), PATCH, BATCH, validation_patches=SELECT_PATCHES
        ),
        args.steps // args.every,
        out / "history.csv",
    )
    print(f"{care.keras_model.count_params()} parameters, {seconds:.0f} s", file=sys.stderr)

    rows = []
    for stack in read(args.pairs, "test"):
        prediction = care.predict(stack.noisy, "ZYX", normalizer=None).astype(np.float32)
        tifffile.imwrite(out / f"{stack.name}.tif", prediction, metadata={"axes": "ZYX"})
        rows.append(stack.score(f"care_{args.loss}", prediction))
    write_scores(out / "scores.csv", rows)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pairs", type=Path, default="runs/embryo/data", help="what prepare.py wrote")
    p.add_argument("--loss", choices=["mae", "laplace"], default="mae")
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--every", type=int, default=100, help="steps between looks at the select part")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default="runs/embryo/care")
    p.add_argument("--force", action="store_true", help="write into an existing folder")
    main(p.parse_args())
