"""Denoise a simulated stack with the network that comes with the package."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import atomic_write, write_csv
from gvtnets_tf.checks import format_table
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.images import writers
from gvtnets_tf.prediction.loading import load

MODEL = "simulated_denoiser"
SHAPE = (32, 128, 128)
SEED, TUNING_SEED = 90_001, 90_002  # far from those the denoiser was trained on
SIGMAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
SCORES = ("r", "psnr", "ssim", "mae")


def run_demo(out: str | Path = "gvtnets-demo", force: bool = False) -> dict[str, dict[str, float]]:
    """Denoise a simulated stack with the shipped denoiser, which has not seen the specimen.

    The Gaussian filter beside it has the width that is best on yet another specimen.

    Args:
        out: folder for the images, `comparison.png` and `scores.csv`; whole or not there at all.
        force: bool. Replace an existing folder; without it that is a `FileExistsError`.

    Returns:
        Mapping from method (`noisy`, `gaussian`, the model's name) to its scores, data
        range 1 (the simulated structures reach about 1).

    Examples:
        >>> print(format_scores(run_demo("demo")))  # doctest: +SKIP
    """
    with atomic_write(out, force) as folder:
        folder.mkdir()
        noisy, truth = cells.simulate_pair("denoising", SHAPE, SEED)
        prediction, info = load(MODEL).predict(noisy, progress=True)
        smooth = _smooth(noisy.numpy(), _tune_sigma())
        images = {
            "input": noisy,
            "truth": truth,
            "gaussian": replace(noisy, array=smooth),
            "prediction": prediction,
        }
        for name, image in images.items():
            metadata = info if name == "prediction" else None
            writers.write(folder / f"{name}.tif", image, metadata=metadata)
        arrays = {name: image.numpy() for name, image in images.items()}
        plots.comparison(folder / "comparison.png", arrays, axes="ZYX")
        table = {}
        for method, name in {"noisy": "input", "gaussian": "gaussian", MODEL: "prediction"}.items():
            scores = metrics.all_metrics(arrays["truth"], arrays[name], data_range=1.0)
            table[method] = {score: scores[score] for score in SCORES}
        rows = [{"method": m, **{k: f"{s[k]:.4f}" for k in s}} for m, s in table.items()]
        write_csv(folder / "scores.csv", rows)
    return table


def format_scores(table: Mapping[str, Mapping[str, float]]) -> str:
    """Format scores as text, a line per method."""
    rows = [[method, *(f"{scores[s]:.3f}" for s in SCORES)] for method, scores in table.items()]
    return format_table(rows, ["", *SCORES])


def _tune_sigma():
    noisy, truth = (i.numpy() for i in cells.simulate_pair("denoising", SHAPE, TUNING_SEED))
    return min(SIGMAS, key=lambda s: metrics.mse(truth, _smooth(noisy, s)))


def _smooth(noisy, sigma):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(noisy, sigma).astype(np.float32)
