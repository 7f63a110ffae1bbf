"""Predict five stains from bright-field by ridge regression, the baseline of a network.

    python examples/cellpaint/baseline.py --out runs/cellpaint/ridge

Every pixel is described by its brightness, edges and texture around it, at scales of 1 to
16 pixels, and each stain is a weighted sum of these. Weights are fitted on columns 0-439 of
the field, the penalty is chosen on columns 440-539, and only columns 540-719 are scored.
The folder it writes holds the prediction (CYX, the whole field, camera counts) under the name
of the field, and `scores.csv` (one row per stain).
"""

import argparse
import os
from pathlib import Path

import numpy as np
import tifffile

from gvtnets_tf.atomic_files import atomic_write, write_csv
from gvtnets_tf.evaluation import metrics

FIELD = "cellpaint-brightfield-6ch/r03c03f03_left_CYX.tif"
STAINS = {"DNA": 4, "ER": 1, "AGP": 2, "mito": 3, "RNA": 5}  # channel 0 is bright-field
TRAIN, VALIDATION, TEST = slice(0, 440), slice(440, 540), slice(540, 720)


def compute_features(image):
    """Return standardized features `(y, x, feature)` of an image `(y, x)`, and a last one of ones.

    Mean and standard deviation are those of the training columns.
    """
    from skimage.feature import multiscale_basic_features

    features = multiscale_basic_features(image, sigma_min=1, sigma_max=16).astype(np.float64)
    train = features[:, TRAIN]
    features = (features - train.mean((0, 1))) / train.std((0, 1))
    return np.concatenate([features, np.ones((*image.shape, 1))], -1)


def fit_ridge(features, targets, alpha):
    """Solve the normal equations; the constant, which comes last, is not penalized.

    Args:
        features: float array `(..., feature)`.
        targets: float array `(..., stain)`.
        alpha: float. Penalty on the squared weights, in units of pixels.

    Returns:
        Weights `(feature, stain)`.
    """
    x, y = (a.reshape(-1, a.shape[-1]) for a in (features, targets))
    penalty = np.diag([alpha] * (x.shape[1] - 1) + [0.0])
    return np.linalg.solve(x.T @ x + penalty, x.T @ y)


def score(true, prediction):
    """Return one row of scores per stain, from arrays `(y, x, stain)`."""
    pairs = ((true[..., i], prediction[..., i]) for i in range(len(STAINS)))
    return [
        {"stain": stain, "r": metrics.pearson(*pair), "nrmse_fit": metrics.nrmse_fit(*pair)}
        for stain, pair in zip(STAINS, pairs)
    ]


def main(args):
    field = tifffile.imread(args.data / FIELD).astype(np.float64)
    features = compute_features(field[0])
    stains = np.moveaxis(field[list(STAINS.values())], 0, -1)

    predictions = {}
    for alpha in args.alpha:
        predictions[alpha] = features @ fit_ridge(features[:, TRAIN], stains[:, TRAIN], alpha)
    mean_r = {
        alpha: np.mean(
            [row["r"] for row in score(stains[:, VALIDATION], prediction[:, VALIDATION])]
        )
        for alpha, prediction in predictions.items()
    }
    for alpha, value in mean_r.items():
        print(f"alpha {alpha:g}: mean r {value:.4f} on the validation columns")
    best = predictions[max(mean_r, key=mean_r.get)]
    rows = score(stains[:, TEST], best[:, TEST])

    with atomic_write(args.out, args.force) as out:
        out.mkdir()
        prediction = np.moveaxis(best, -1, 0).astype(np.float32)
        tifffile.imwrite(out / Path(FIELD).name, prediction, metadata={"axes": "CYX"})
        write_csv(out / "scores.csv", rows)
    for row in rows:
        print("{stain:5} r {r:.3f}  nrmse_fit {nrmse_fit:.4f}".format(**row))


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, default=os.environ.get("GVTNETS_DATA", "../shared/data"))
    p.add_argument("--alpha", type=float, nargs="+", default=[10.0**i for i in range(8)])
    p.add_argument("--out", type=Path, default="runs/cellpaint/ridge")
    p.add_argument("--force", action="store_true", help="replace an existing folder")
    main(p.parse_args())
