"""Train csbdeep's CARE on the embryo pairs, and predict the test stacks.

    python examples/embryo/care.py --loss mae --steps 600 --out runs/embryo/care_mae

CARE is csbdeep's own network, losses and schedule with its 3-D defaults; only the patches are
ours, so that it sees those that the networks of this package see, in the same order, if
`--seed`, `--every` and the patch agree. The weights kept are those with the best loss on
a fixed set of patches of the validation split, evaluated each `--every` steps. The folder it
writes holds the predicted test stacks, `scores.csv`, `history.csv`, and csbdeep's folder `model`.
"""

import argparse
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
VALIDATION_PATCHES = 64  # the default of a recipe


def pairs(stacks):
    """Make training pairs without normalization, which `prepare.py` has done."""
    as_is = Normalizer("none")
    images = [(Image(s.noisy, "ZYX", name=s.name), Image(s.clean, "ZYX")) for s in stacks]
    return [TrainingPair(*pair).measure(as_is, as_is) for pair in images]


def make_network(loss, folder):
    """Return CARE with csbdeep's defaults; `laplace` is its probabilistic form."""
    models = import_optional("csbdeep.models", "care")
    options = {"probabilistic": loss == "laplace", "train_loss": loss, "train_tensorboard": False}
    config = models.Config("ZYX", n_channel_in=1, n_channel_out=1, **options)
    return models.CARE(config, "model", basedir=str(folder))


def train(care, train_set, validation_set, epochs, history):
    """Fit, as csbdeep's own `train` does, and load the best weights.

    Returns:
        Seconds that it took.
    """
    care.prepare_for_training()
    start = time.perf_counter()
    care.keras_model.fit(
        train_set,
        validation_data=validation_set,
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
    care = make_network(args.loss, out)
    training, validation = (pairs(read(args.pairs, part)) for part in ("train", "validation"))
    train_set = training_dataset(training, PATCH, BATCH, args.every, seed=args.seed)
    validation_set = validation_dataset(
        validation, PATCH, BATCH, validation_patches=VALIDATION_PATCHES
    )
    epochs = args.steps // args.every
    seconds = train(care, train_set, validation_set, epochs, out / "history.csv")
    print(f"{care.keras_model.count_params()} parameters, {seconds:.0f} s")

    rows = []
    for stack in read(args.pairs, "test"):
        prediction = care.predict(stack.noisy, "ZYX", normalizer=None).astype(np.float32)
        tifffile.imwrite(out / f"{stack.name}.tif", prediction, metadata={"axes": "ZYX"})
        rows.append(stack.score(f"care_{args.loss}", prediction))
    write_scores(out / "scores.csv", rows)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pairs", type=Path, default="runs/embryo/data", help="folder from prepare.py")
    p.add_argument("--loss", choices=["mae", "laplace"], default="mae")
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--every", type=int, default=100, help="steps between validations")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default="runs/embryo/care")
    p.add_argument("--force", action="store_true", help="write into an existing folder")
    main(p.parse_args())
