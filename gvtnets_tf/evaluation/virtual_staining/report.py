"""The scores of virtual staining, as tables and as files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import write_csv
from gvtnets_tf.checks import format_table
from gvtnets_tf.evaluation.statistics import summarize
from gvtnets_tf.evaluation.virtual_staining import figures

BINS = 10
CONSTANT = "constant"  # the model that puts every pixel into the most frequent true bin


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label; models are `"prediction"` and, where given, `"baseline"`."""

    images: int  # that have the label
    available: int  # pixels of all of them
    pixels: int  # of these, drawn each time
    range: tuple[float, float]  # the values of the images that were sent to 0 and 1
    r: Mapping[str, np.ndarray]  # per model, Pearson correlations, one per repeat
    counts: Mapping[str, np.ndarray]  # (10, 10) per model: by true bin (row) and predicted bin
    crops: list = field(default_factory=list)  # see `figures.crops`

    def correlations(self) -> dict[str, dict]:
        """Return `summarize` over the repeats, of each model.

        With a baseline, `"difference"` is prediction minus baseline, on the same pixels each time.
        """
        scores = {model: summarize(r) for model, r in self.r.items()}
        if "baseline" in self.r:
            scores["difference"] = summarize(self.r["prediction"] - self.r["baseline"])
        return scores

    def accuracies(self) -> dict[str, tuple[list[float], float]]:
        """Return, per model, the share of pixels in the right bin: by true bin, and of all.

        The share of an empty bin is `nan`. The model `CONSTANT` comes last.
        """
        true = next(iter(self.counts.values())).sum(1)
        right = {model: np.diag(counts) for model, counts in self.counts.items()}
        right[CONSTANT] = np.where(np.arange(BINS) == true.argmax(), true, 0)
        pixels, total = np.where(true, true, np.nan), true.sum()
        return {m: ((x / pixels).tolist(), float(x.sum() / total)) for m, x in right.items()}

    def per_thousand(self) -> dict[str, np.ndarray]:
        """Return the counts of each model per 1,000 pixels."""
        return {model: counts * (1000 / counts.sum()) for model, counts in self.counts.items()}

    def summary(self) -> dict:
        """Return the scores as mappings and lists, for JSON."""
        return {
            "images": self.images,
            "available": self.available,
            "pixels": self.pixels,
            "range": list(self.range),
            "pearson": self.correlations(),
            "accuracy": {
                model: {"bins": bins, "overall": overall}
                for model, (bins, overall) in self.accuracies().items()
            },
            "confusion": {model: x.tolist() for model, x in self.per_thousand().items()},
        }


@dataclass(frozen=True)
class StainingReport:
    """The scores of all labels; `print` shows them as tables."""

    labels: Mapping[str, LabelScores]

    def write(self, folder: str | Path) -> None:
        """Write three tables and, per label, two figures into an existing folder.

        `pearson.csv` has a row per label, `bins.csv` one per label and model,
        `confusion.csv` one per label, model and true bin (counts per 1,000 pixels).
        """
        folder = Path(folder)
        write_csv(folder / "pearson.csv", self._pearson_rows())
        write_csv(folder / "bins.csv", self._bin_rows())
        write_csv(folder / "confusion.csv", self._confusion_rows())
        for label, scores in self.labels.items():
            name = label.replace("/", "_").replace("\\", "_")
            overall = {model: share for model, (_, share) in scores.accuracies().items()}
            path = folder / f"confusion_{name}.png"
            figures.confusion(path, scores.per_thousand(), overall, label)
            figures.crops(folder / f"crops_{name}.png", scores.crops, scores.range, label)

    def summary(self) -> dict[str, dict]:
        """Return the scores as mappings and lists, for JSON."""
        return {label: scores.summary() for label, scores in self.labels.items()}

    def __str__(self):
        return "\n\n".join(_format_label(*item) for item in self.labels.items())

    def _pearson_rows(self):
        rows = []
        for label, scores in self.labels.items():
            row = {"label": label, "images": scores.images, "available": scores.available}
            row |= {"pixels": scores.pixels, "repeats": len(scores.r["prediction"])}
            for model, r in scores.correlations().items():
                prefix = "" if model == "prediction" else f"{model}_"
                row |= {f"{prefix}r": r["mean"], f"{prefix}sd": r["sd"]}
            rows.append(row)
        return rows

    def _bin_rows(self):
        return [
            {"label": label, "model": model, "low": scores.range[0], "high": scores.range[1]}
            | {f"bin_{i}": share for i, share in enumerate(bins)}
            | {"overall": overall}
            for label, scores in self.labels.items()
            for model, (bins, overall) in scores.accuracies().items()
        ]

    def _confusion_rows(self):
        return [
            {"label": label, "model": model, "true_bin": i}
            | {f"predicted_{j}": float(share) for j, share in enumerate(row)}
            for label, scores in self.labels.items()
            for model, shares in scores.per_thousand().items()
            for i, row in enumerate(shares)
        ]


def _format_label(label, scores):
    """Return the scores of one label as lines of text, in the manner of Tables III and V."""
    pixels = f"all {scores.available} pixels"
    if scores.pixels < scores.available:
        pixels = f"{len(scores.r['prediction'])} x {scores.pixels} of {scores.available} pixels"
    header = ["", "r", "sd", "overall", *(f"bin {i}" for i in range(BINS))]
    correlations, accuracies, rows = scores.correlations(), scores.accuracies(), []
    for model in dict.fromkeys([*correlations, *accuracies]):
        r = correlations.get(model)
        row = [model, *((f"{r['mean']:.4f}", _format_number(r["sd"], 4)) if r else ("", ""))]
        shares, overall = accuracies.get(model, ([], None))
        row += ["" if overall is None else f"{overall:.3f}"]
        rows.append(row + [_format_number(x, 3) for x in shares] + [""] * (BINS - len(shares)))
    title = f"staining {label}: {pixels}, images: {scores.images}"
    return f"{title}\n{format_table(rows, header)}"


def _format_number(value, digits):
    return "-" if np.isnan(value) else f"{value:.{digits}f}"
