"""Predict three labels from phase contrast by ridge regression, the baseline of a network.

    python examples/staining/baseline.py --out runs/staining/ridge

Every pixel is described, in each of the 13 planes, by the brightness around it and by the
energy around it (the same of the squared, standardized plane), blurred by Gaussians of 2, 5
and 10 pixels; each label is a weighted sum of these. Weights are fitted on columns 0-447, the
penalty is chosen on columns 448-575. The folder it writes holds the prediction under the name
of the well (CYX, the whole field, in the units of the labels).
"""

import argparse
import os
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from gvtnets_tf import write
from gvtnets_tf.data.in_silico_labeling import wells
from gvtnets_tf.evaluation import metrics
from gvtnets_tf.images.image import Image

WELL, LABELS = "isl-condition-b-A4", ("DAPI_CONFOCAL", "MAP2_CONFOCAL", "NFH_CONFOCAL")
SIGMAS = (2, 5, 10)
TRAIN, VALIDATION = slice(0, 448), slice(448, 576)


def compute_features(planes):
    """Return features `(y, x, feature)` of planes `(z, y, x)`, standardized on `TRAIN`."""
    mean, spread = (f(planes[..., TRAIN], axis=(1, 2), keepdims=True) for f in (np.mean, np.std))
    planes = (planes - mean) / spread
    features = [
        gaussian_filter(image, sigma)
        for plane in planes
        for image in (plane, plane**2)
        for sigma in SIGMAS
    ]
    features = np.stack(features, axis=-1)
    train = features[:, TRAIN]
    return (features - train.mean((0, 1))) / train.std((0, 1))


def fit_ridge(x, y, alpha):
    """Return weights `(feature, label)`, penalized, and offsets of a linear map."""
    x, y = (a.reshape(-1, a.shape[-1]) for a in (x, y))
    offset = y.mean(0)  # the features have a mean of zero
    return np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (y - offset)), offset


def score(true, prediction):
    return [metrics.pearson(true[..., i], prediction[..., i]) for i in range(len(LABELS))]


def main(args):
    (well,) = wells.find_wells(args.data / WELL)
    features = compute_features(well.input().numpy("CYX").astype(np.float64))
    labels = np.moveaxis(well.target(LABELS).numpy("CYX").astype(np.float64), 0, -1)

    predictions, r = {}, {}
    for alpha in args.alpha:
        weights, offset = fit_ridge(features[:, TRAIN], labels[:, TRAIN], alpha)
        predictions[alpha] = features @ weights + offset
        r[alpha] = score(labels[:, VALIDATION], predictions[alpha][:, VALIDATION])
        print(f"alpha {alpha:g}, validation columns: r {np.round(r[alpha], 3)}")
    best = max(r, key=lambda alpha: np.mean(r[alpha]))
    result = np.moveaxis(predictions[best], -1, 0).astype(np.float32)
    out = args.out / f"{well.name}.tif"
    write(out, Image(result, "CYX", channel_names=LABELS, name=well.name), force=args.force)
    print(f"alpha {best:g}", out)


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, default=os.environ.get("GVTNETS_DATA", "../shared/data"))
    p.add_argument("--alpha", type=float, nargs="+", default=[10.0**i for i in range(7)])
    p.add_argument("--out", type=Path, default=Path("runs/staining/ridge"))
    p.add_argument("--force", action="store_true", help="replace an existing file")
    main(p.parse_args())
