"""The prepared pairs, and scores per light level, for the scripts of this folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.data.pairing import read_pairs_csv
from gvtnets_tf.evaluation import metrics

SCORES = {
    "psnr": lambda true, prediction: metrics.psnr(true, prediction, data_range=1),
    "ssim": lambda true, prediction: metrics.ssim(true, prediction, data_range=1),
    "r": metrics.pearson,
}


@dataclass(frozen=True)
class Stack:
    """A noisy stack `(z, y, x)` and its truth, both in normalized units.

    Attributes:
        name: str. Stem of the noisy file, e.g. `"Emb10_t151_p05"`.
        noisy, clean: float32 arrays of one shape.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray

    @property
    def level(self):
        """Photons where the clean stack is 1."""
        return int(self.name.rsplit("_p")[-1])

    def score(self, method, prediction):
        """Return one row of scores; the data range is 1."""
        scores = {name: score(self.clean, prediction) for name, score in SCORES.items()}
        return {"method": method, "photons": self.level, "stack": self.name, **scores}


def read(folder, split):
    """Read the pairs of one split, `train`, `validation` or `test`, that `prepare.py` wrote."""
    rows = [row for row in read_pairs_csv(Path(folder) / "pairs.csv") if row.split == split]
    return [
        Stack(row.input.stem, tifffile.imread(row.input), tifffile.imread(row.target))
        for row in rows
    ]


def write_scores(path, rows):
    """Write one row per stack, and print the means per method and light level."""
    write_csv(path, rows)
    print(f"{'method':<14} photons  {'  '.join(f'{name:>6}' for name in SCORES)}")
    for method, photons in dict.fromkeys((row["method"], row["photons"]) for row in rows):
        group = [r for r in rows if (r["method"], r["photons"]) == (method, photons)]
        means = [np.mean([r[name] for r in group]) for name in SCORES]
        print(f"{method:<14} {photons:7}  {'  '.join(f'{mean:6.3f}' for mean in means)}")
