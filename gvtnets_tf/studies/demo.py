"""The main job on what ships with the package: restore a noisy stack, and check it."""

from dataclasses import replace

import numpy as np

from gvtnets_tf.atomic_files import atomic_write, write_csv
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.images import writers
from gvtnets_tf.prediction.loading import load

MODEL = "simulated_denoiser"
SHAPE = (32, 128, 128)
SEED, TUNING_SEED = 90_001, 90_002  # far from those the denoiser was trained on
SIGMAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
SCORES = ("r", "psnr", "ssim", "mae")


def demo(out="gvtnets-demo", force=False):
    """Denoise a simulated stack with the shipped denoiser, beside plain baselines.

    The specimen is one that the denoiser has not seen. The Gaussian filter has the
    width that is best on yet another specimen.

    Args:
        out: folder to write: `input.tif`, `truth.tif`, `prediction.tif`, `gaussian.tif`,
            `comparison.png`, `scores.csv`. It appears whole or not at all.
        force: bool. Whether an existing folder is replaced.

    Returns:
        Mapping from method (`noisy`, `gaussian`, the model's name) to its scores, data
        range 1 (the simulated structures reach about 1).

    Raises:
        FileExistsError: if `out` exists and `force` is `False`.
    """
    with atomic_write(out, force) as folder:
        folder.mkdir()
        noisy, truth = cells.pair("denoising", SHAPE, SEED)
        prediction, info = load(MODEL).predict(noisy, progress=True)
        smooth = _smoothed(noisy.numpy(), _best_sigma())
        images = {
            "input": noisy,
            "truth": truth,
            "gaussian": replace(noisy, array=smooth),
            "prediction": prediction,
        }
        for name, image in images.items():
            about = info if name == "prediction" else None
            writers.write(folder / f"{name}.tif", image, metadata=about)
        shown = {name: image.numpy() for name, image in images.items()}
        plots.comparison(folder / "comparison.png", shown, axes="ZYX")
        methods = {"noisy": "input", "gaussian": "gaussian", MODEL: "prediction"}
        table = {m: _scores(truth.numpy(), shown[name]) for m, name in methods.items()}
        rows = [{"method": m, **{k: f"{s[k]:.4f}" for k in SCORES}} for m, s in table.items()]
        write_csv(folder / "scores.csv", rows)
    return table


def show(table):
    """The scores as text, a line per method."""
    lines = [f"{'':22}" + "".join(f"{s:>9}" for s in SCORES)]
    for method, scores in table.items():
        lines.append(f"{method:22}" + "".join(f"{scores[s]:9.3f}" for s in SCORES))
    return "\n".join(lines)


def _best_sigma():
    noisy, truth = (i.numpy() for i in cells.pair("denoising", SHAPE, TUNING_SEED))
    return min(SIGMAS, key=lambda s: metrics.mse(truth, _smoothed(noisy, s)))


def _smoothed(noisy, sigma):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(noisy, sigma).astype(np.float32)


def _scores(truth, image):
    return {
        "r": metrics.pearson(truth, image),
        "psnr": metrics.psnr(truth, image, data_range=1.0),
        "ssim": metrics.ssim(truth, image, data_range=1.0),
        "mae": metrics.mae(truth, image),
    }
